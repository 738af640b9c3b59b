"""The stage of maps: photographs and tags -> maps/<image id>.npz, resumable and in shards."""

import concurrent.futures
import dataclasses
import pathlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from ficklenet_tf.data import datasets
from ficklenet_tf.data.feature_cache import FeatureCache
from ficklenet_tf.maps import erased
from ficklenet_tf.maps.image_maps import ImageMaps
from ficklenet_tf.maps.localizer import AUTO, Localizer
from ficklenet_tf.models import backbones, classifier
from ficklenet_tf.presets import MapsConfig
from ficklenet_tf.runs import artifacts, layout, shards, stage


@dataclasses.dataclass(frozen=True)
class Options:
    """How maps are drawn, apart from what `presets.MapsConfig` says.

    Attributes:
      classifier: name of the classifier's directory below the run's.
      mode: "stochastic", "general" or "deterministic" (a plain Grad-CAM).
      seed: of the selections.
      jit_compile: compile backbone and maps by XLA, anew for each number of tags.
      erased: names of finished map directories of the split: the classifier gets to see nothing of what they have
        found, in the form of its own training, see erased.py.
    """

    classifier: str = layout.CLASSIFIER
    mode: str = "stochastic"
    seed: int = 0
    jit_compile: bool = False
    erased: tuple[str, ...] = ()


def extract(run_dir: str | pathlib.Path, split: datasets.Split, config: MapsConfig, options: Options = Options(), *,
            name: str = layout.MAPS, shard: shards.Shard = shards.WHOLE) -> dict[str, Any]:
    """Writes the maps of each photograph; what is there is not made again.

    The maps of an image are a function of (classifier, config, mode, seed, image id), not of batch,
    order or shard.

    Args:
      run_dir: the run's directory.
      split: `datasets.Split`.
      config: `presets.MapsConfig`.
      options: `Options`.
      name: directory below run_dir for the maps.
      shard: (index, count): only every count-th image, see shards.py.

    Returns:
      The content of run.json (of a shard: the settings), with "num_maps" by `counts` where N is "auto".

    Raises:
      UserError: see `open_localizer` and `stage.begin_stage`.
    """
    directory = pathlib.Path(run_dir) / name
    localizer, settings = open_localizer(run_dir, split, config, options)

    def write(example: dict[str, Any], maps: ImageMaps) -> None:
        maps.write(layout.map_file(directory, example["image_id"]))

    def work(pending: list[int]) -> Iterator[str]:
        return stream(localizer, split, pending, options.seed, write)

    return stage.run_per_image(
        {directory: settings}, split, files=lambda image_id: [layout.map_file(directory, image_id)], work=work,
        facts=lambda _: counts(directory, split, config), shard=shard)


def open_localizer(run_dir: str | pathlib.Path, split: datasets.Split, config: MapsConfig,
                   options: Options) -> tuple[Localizer, dict[str, Any]]:
    """Returns (`Localizer`, the settings that its maps are a function of).

    Raises:
      UserError: the classifier knows other classes than the split, or what it did not get to see has been found anew;
        see `erased.opened`.
    """
    classifier_dir = pathlib.Path(run_dir) / options.classifier
    trained = classifier.load(classifier_dir)
    datasets.check_classes(split, trained.run["class_names"], classifier_dir)
    erased.check_same(run_dir, trained.run.get("erased", {}), classifier_dir)
    covering = erased.opened(run_dir, options.erased, split, trained.config)
    localizer = make_localizer(trained, config, options.mode, options.jit_compile, covering)
    settings = settings_of(trained.run, split, config, options)
    if covering:
        settings["erased"] = erased.identities(run_dir, options.erased)
    return localizer, settings


def make_localizer(trained: classifier.Trained, config: MapsConfig, mode: str, jit_compile: bool = False,
                   covering: erased.Erased | None = None) -> Localizer:
    """Returns the `Localizer` of a loaded classifier, which takes what the training has cached."""
    model, normalization, run, classifier_config = trained
    features = FeatureCache.of_run(run) if config.sizes[0] == classifier_config.input_size else None
    above = backbones.cut(model.backbone, classifier_config.trainable_layers).above
    return Localizer(model, normalization, config, mode, features, above, jit_compile, covering)


def settings_of(classifier_run: dict[str, Any], split: datasets.Split, config: MapsConfig,
                options: Options) -> dict[str, Any]:
    """Returns the settings that maps are a function of, given the classifier's run.json; see `extract`."""
    return artifacts.as_json({
        "stage": "maps", "config": dataclasses.asdict(config), "mode": options.mode, "seed": options.seed,
        "dataset": split.dataset, "split": split.name, "fingerprint": split.fingerprint,
        "classifier_name": options.classifier, "classifier": classifier_run["finished"]})


def options_of(settings: dict[str, Any]) -> Options:
    """Returns the `Options` that maps of these settings were drawn with; of merged ones those of the first part."""
    return Options(settings["classifier_name"], settings["mode"], settings["seed"],
                   erased=tuple(settings.get("erased", ())))


def stream(localizer: Localizer, examples: datasets.Split | Sequence[dict[str, Any]], indices: Iterable[int],
           seed: int | str, write: Callable[[dict[str, Any], ImageMaps], None]) -> Iterator[str]:
    """Localizes images one after another; meanwhile other threads read the next one and write the last one.

    Args:
      localizer: a `Localizer`.
      examples: a `datasets.Split`, or a list of its examples.
      indices: which of them.
      seed: of the selections.
      write: (what `Localizer.prepare` returned, `ImageMaps`) -> None, called in another thread.

    Yields:
      The id of an image when its maps are there; it is written when the next one comes or all is over.
    """
    with concurrent.futures.ThreadPoolExecutor(1) as reader, concurrent.futures.ThreadPoolExecutor(1) as writer:
        ahead: concurrent.futures.Future[dict[str, Any]] | None = None
        written: concurrent.futures.Future[None] | None = None
        for index in [*indices, None]:
            now = ahead
            ahead = None if index is None else reader.submit(lambda i: localizer.prepare(examples[i]), index)
            if now is None:
                continue
            prepared, maps = now.result(), localizer.localize(now.result(), seed)
            if written is not None:
                written.result()
            written = writer.submit(write, prepared, maps)
            yield prepared["image_id"]
        if written is not None:
            written.result()


def counts(directory: str | pathlib.Path, split: datasets.Split, config: MapsConfig) -> dict[str, Any]:
    """Returns {"num_maps": {"median", "max"}} over a split's maps where N is "auto", else {}."""
    if config.num_maps != AUTO:
        return {}
    taken = [ImageMaps.read(layout.map_file(directory, image_id)).num_maps for image_id in split.image_ids]
    return {"num_maps": {"median": float(np.median(taken)), "max": max(taken)}}
