"""The stage of seeds: maps -> seeds/<image id>.png; from maps on disk or in one go with them, resumable, in shards."""

import concurrent.futures
import dataclasses
import functools
import pathlib
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from ficklenet_tf.data import datasets, images, labels
from ficklenet_tf.errors import UserError
from ficklenet_tf.evaluation import scoring
from ficklenet_tf.maps import erased, image_maps, merging
from ficklenet_tf.maps import extraction as map_extraction
from ficklenet_tf.maps.image_maps import ImageMaps
from ficklenet_tf.maps.localizer import AUTO
from ficklenet_tf.presets import MapsConfig, SeedsConfig
from ficklenet_tf.runs import artifacts, layout, record, shards, stage
from ficklenet_tf.seeds import affinity, background_score, cues, needed, refinement, rule
from ficklenet_tf.seeds.evidence import Evidence


@dataclasses.dataclass(frozen=True)
class Options:
    """What seeds need and what is written beside them, apart from what `presets.SeedsConfig` says.

    Attributes:
      saliency_dir: directory with `<image id>.png`; None: the run's own saliency/, where that is needed.
      affinity_name: directory below the run's of the affinity network, for the refinement "affinity".
      walker: an `affinity.Walker`; None: it is made of that network, where it is needed.
      uncertainty: also write `<name>_uncertainty/<image id>.png`, grey, see `rule.uncertainty`.
      keep_maps: `extract` also writes the maps, from which `make` makes other seeds; with N "auto" it always does.
    """

    saliency_dir: str | pathlib.Path | None = None
    affinity_name: str = layout.AFFINITY
    walker: affinity.Walker | None = None
    uncertainty: bool = False
    keep_maps: bool = False


def make(run_dir: str | pathlib.Path, split: datasets.Split, config: SeedsConfig, options: Options = Options(), *,
         maps: str = layout.MAPS, name: str = layout.SEEDS, shard: shards.Shard = shards.WHOLE) -> dict[str, Any]:
    """Makes seeds of the maps that a run has on disk, without a network: one label image per photograph.

    Args:
      run_dir: the run's directory.
      split: `datasets.Split`; its masks, if any, serve the report only.
      config: `presets.SeedsConfig`.
      options: `Options`.
      maps: directory below run_dir with the finished maps of the split.
      name: directory below run_dir for the seeds.
      shard: (index, count): only every count-th image, see shards.py.

    Returns:
      As `extract`; the seeds are the same, too.

    Raises:
      UserError: the maps are of another split, or what the seeds need is not there.
    """
    map_dir = pathlib.Path(run_dir) / maps
    map_settings = image_maps.finished_settings(map_dir, split)
    _check_classifier(pathlib.Path(run_dir), map_dir, map_settings)
    options = with_needed(run_dir, split, config, options, map_settings["classifier"])
    needed.check(config, options.saliency_dir, gradient=map_settings["config"]["gradient"])
    if config.refine_low == background_score.AUTO and config.refine == "crf":
        config = _with_score(run_dir, split, config, map_settings, shard)
    directory, maps_config = pathlib.Path(run_dir) / name, MapsConfig(**map_settings["config"])
    settings = settings_of(split, config, options, map_settings)

    def facts(each: pathlib.Path) -> dict[str, Any]:
        return {} if each != directory else {**map_extraction.counts(map_dir, split, maps_config),
                                             **_metrics(directory, split)}

    return stage.run_per_image(
        _settings_by_directory(directory, settings, options), split, facts=facts, shard=shard,
        files=lambda image_id: _files(directory, image_id, options),
        work=lambda pending: _from_disk(directory, map_dir, split, pending, config, options))


def extract(run_dir: str | pathlib.Path, split: datasets.Split, maps_config: MapsConfig, config: SeedsConfig,
            map_options: map_extraction.Options = map_extraction.Options(), options: Options = Options(), *,
            name: str = layout.SEEDS, shard: shards.Shard = shards.WHOLE) -> dict[str, Any]:
    """Extracts maps and makes seeds of them in one go: one label image per photograph, at its size.

    The answer for an image is a function of (classifier, both configs, mode, seed, image id), not of batch,
    order or shard. Files that are there are not made again.

    Args:
      run_dir: the run's directory.
      split: `datasets.Split`; its masks, if any, serve the report only.
      maps_config: `presets.MapsConfig`.
      config: `presets.SeedsConfig`.
      map_options: `maps.extraction.Options`.
      options: `Options`.
      name: directory below run_dir for the seeds; the maps go to `layout.maps_of(name)`.
      shard: (index, count): only every count-th image, see shards.py.

    Returns:
      The content of run.json (of a shard: the settings). With N "auto" it has the median and the greatest number of
      maps that an image took.

    Raises:
      UserError: see `needed.check` and `maps.extraction.open_localizer`.
    """
    maps_config, run_dir = needed.with_gradient(maps_config, config), pathlib.Path(run_dir)
    needed.check(config, needed.saliency_of(run_dir, config, options.saliency_dir), gradient=maps_config.gradient)
    localizer, map_settings = map_extraction.open_localizer(run_dir, split, maps_config, map_options)
    options = with_needed(run_dir, split, config, options, map_settings["classifier"])
    config = background_score.settled(run_dir, split, config, localizer, map_settings, map_options.seed, shard)
    directory, map_dir = run_dir / name, run_dir / layout.maps_of(name)
    keep = options.keep_maps or maps_config.num_maps == AUTO

    def write_both(example: dict[str, Any], image_maps: ImageMaps) -> None:
        if keep:
            image_maps.write(layout.map_file(map_dir, example["image_id"]))
        write(directory, example["image_id"], example["image"].numpy(), image_maps, config, options)

    def work(pending: list[int]) -> Iterator[Any]:
        localized = {i for i in pending if keep and record.has_size(layout.map_file(map_dir, split.image_ids[i]))}
        yield from _from_disk(directory, map_dir, split, sorted(localized), config, options)
        rest = [i for i in pending if i not in localized]
        yield from map_extraction.stream(localizer, split, rest, map_options.seed, write_both)

    def files(image_id: str) -> list[pathlib.Path]:
        return [*_files(directory, image_id, options), *([layout.map_file(map_dir, image_id)] if keep else [])]

    @functools.cache  # of two directories, one reading of the maps
    def counted() -> dict[str, Any]:
        return map_extraction.counts(map_dir, split, maps_config)

    def facts(each: pathlib.Path) -> dict[str, Any] | None:
        if each == map_dir:
            return None if artifacts.read_run(map_dir) else counted()
        return {**counted(), **_metrics(directory, split)} if each == directory else {}

    settings = {**_settings_by_directory(directory, settings_of(split, config, options, map_settings), options),
                **({map_dir: map_settings} if keep else {})}
    return stage.run_per_image(settings, split, files=files, work=work, facts=facts, shard=shard)


def with_needed(run_dir: str | pathlib.Path, split: datasets.Split, config: SeedsConfig, options: Options,
                classifier: str) -> Options:
    """Returns the `Options` with what a run has of its own and `config` asks for: saliency maps, the affinity network.

    Args:
      run_dir: the run's directory.
      split: `datasets.Split`.
      config: `presets.SeedsConfig`.
      options: `Options`.
      classifier: when the classifier of the maps was finished, see `needed.open_walker`.

    Raises:
      FileNotFoundError: the affinity network has not been trained.
      UserError: it stands on another classifier, or a photograph has no saliency map.
    """
    saliency_dir, walker = needed.saliency_of(run_dir, config, options.saliency_dir), options.walker
    if saliency_dir is not None and needed.saliency(config):
        needed.check_saliency(saliency_dir, split)
    if config.refine == "affinity":
        walker = walker or needed.open_walker(run_dir, options.affinity_name, classifier)
        walker.fill(split)
    return dataclasses.replace(options, saliency_dir=saliency_dir, walker=walker)


def _with_score(run_dir: str | pathlib.Path, split: datasets.Split, config: SeedsConfig,
                map_settings: dict[str, Any], shard: shards.Shard) -> SeedsConfig:
    """As `background_score.settled`, with the classifier of maps that are on disk."""
    options = map_extraction.options_of(map_settings)
    localizer, _ = map_extraction.open_localizer(run_dir, split, MapsConfig(**map_settings["config"]), options)
    return background_score.settled(run_dir, split, config, localizer, map_settings, options.seed, shard)


def settings_of(split: datasets.Split, config: SeedsConfig, options: Options,
                map_settings: dict[str, Any]) -> dict[str, Any]:
    """Returns the settings that seeds are a function of, whether or not the maps went by way of the disk."""
    map_settings = {key: value for key, value in map_settings.items() if key != "format"}
    return {"stage": "seeds", "config": dataclasses.asdict(config), "maps": map_settings, "dataset": split.dataset,
            "split": split.name, "fingerprint": split.fingerprint,
            **needed.saliency_settings(config, options.saliency_dir, split),
            **({"affinity": options.walker.run["finished"]} if options.walker else {})}


def _check_classifier(run_dir: pathlib.Path, map_dir: pathlib.Path, map_settings: dict[str, Any]) -> None:
    """Raises UserError where the classifier that maps were made by has been trained again since, or a part of them."""
    for name, settings in merging.parts_of(map_settings).items():
        merging.check_part(run_dir, map_dir, name, settings)
        _check_classifier(run_dir, run_dir / name, settings)
    erased.check_same(run_dir, map_settings.get("erased", {}), map_dir)
    run = artifacts.read_run(run_dir / map_settings["classifier_name"])
    if run is not None and run["finished"] != map_settings["classifier"]:
        raise UserError(f"{map_dir}: expected maps of {run_dir / map_settings['classifier_name']}, found those of an "
                        f"earlier classifier there; extract them again into another directory, or remove {map_dir}")


def _from_disk(directory: pathlib.Path, map_dir: pathlib.Path, split: datasets.Split, indices: Iterable[int],
               config: SeedsConfig, options: Options) -> Iterator[None]:
    """Makes the seeds of images whose maps are on disk; yields for each that is done."""
    def make_one(index: int) -> None:
        example = split[index]
        image_maps = ImageMaps.read(layout.map_file(map_dir, example["image_id"]))
        image = images.decode_image_op(example["image"]).numpy()
        write(directory, example["image_id"], image, image_maps, config, options)

    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        yield from pool.map(make_one, indices)


def _settings_by_directory(directory: pathlib.Path, settings: dict[str, Any],
                           options: Options) -> dict[pathlib.Path, dict[str, Any]]:
    """Returns {directory: settings} of the seeds, and of their uncertainty where it is wanted."""
    return {directory: settings, **({_uncertainty_dir(directory): {**settings, "stage": "uncertainty"}}
                                    if options.uncertainty else {})}


def _files(directory: pathlib.Path, image_id: str, options: Options) -> list[pathlib.Path]:
    return [layout.label_image(directory, image_id),
            *([layout.label_image(_uncertainty_dir(directory), image_id)] if options.uncertainty else [])]


def _metrics(directory: pathlib.Path, split: datasets.Split) -> dict[str, Any]:
    return {"metrics": scoring.score_directory(directory, split) if split.has_labels else None}


def make_seed(evidence: Evidence) -> np.ndarray:
    """Returns a photograph's seeds, `[h, w]` uint8: 0 background, tag id + 1, 255 where nothing is allotted."""
    return _seed_and_uncertainty(evidence)[0]


def _seed_and_uncertainty(evidence: Evidence, uncertainty: bool = False) -> tuple[np.ndarray, np.ndarray | None]:
    """Returns the seed image and, where wanted or needed, the uncertainty of all seeds before any is left out."""
    maps, config = evidence.maps, evidence.config
    label = refinement.REFINEMENTS[config.refine](evidence, lambda: _by_rule(evidence))
    if not uncertainty and not config.max_uncertainty < 1:
        return label, None
    uncertain = rule.uncertainty(maps.std, maps.mean, maps.tag_ids, label)
    if config.max_uncertainty < 1:
        label = rule.leave_out(label, uncertain, config.max_uncertainty)
    return label, uncertain


def _by_rule(evidence: Evidence) -> np.ndarray:
    """The labels by theta and background cue."""
    maps, config = evidence.maps, evidence.config
    mean, highest = (images.resize_maps(values, evidence.shape) for values in (maps.mean, maps.max))
    label = rule.allot(highest, mean, maps.tag_ids, config.theta)
    return rule.add_background(label, cues.CUES[config.background_cue](evidence))


def write(directory: pathlib.Path, image_id: str, image: np.ndarray, maps: ImageMaps, config: SeedsConfig,
          options: Options) -> None:
    """Makes and writes the seeds of one photograph, and their uncertainty where it is wanted."""
    evidence = Evidence(image_id, image, maps, config, options.saliency_dir, options.walker)
    label, uncertain = _seed_and_uncertainty(evidence, options.uncertainty)
    if options.uncertainty and uncertain is not None:
        images.write_grey(layout.label_image(_uncertainty_dir(directory), image_id), uncertain)
    labels.write_label(layout.label_image(directory, image_id), label)


def _uncertainty_dir(directory: pathlib.Path) -> pathlib.Path:
    return directory.with_name(layout.uncertainty_of(directory.name))
