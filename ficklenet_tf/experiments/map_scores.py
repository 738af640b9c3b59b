"""Scores localization maps against masks: fifteen thresholds on the mean map in one pass, and seeds by several rules.

A threshold says where the foreground begins; the strongest of the image's maps says which class it is. A rule for
seeds has a number too, and maps of one kind want another one than those of the other: each side of a comparison has
its own best, by the masks of training images, which the tables therefore use for this one number.
"""

import concurrent.futures
import dataclasses
import itertools
import pathlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import keras
import numpy as np

from ficklenet_tf import presets
from ficklenet_tf.data import datasets, images, labels
from ficklenet_tf.errors import UserError
from ficklenet_tf.evaluation import metrics
from ficklenet_tf.maps import extraction as map_extraction
from ficklenet_tf.maps.image_maps import ImageMaps
from ficklenet_tf.models import classifier
from ficklenet_tf.runs import artifacts, progress, stage
from ficklenet_tf.seeds import extraction, needed
from ficklenet_tf.seeds.evidence import Evidence

THRESHOLDS = (0.01, 0.02, 0.03, 0.05, 0.07, 0.1, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8)
KEYS = ("miou", "recall", "precision")
BACKGROUND_SCORES = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1)
THETAS = (0.2, 0.25, 0.3, 0.35, 0.4, 0.5, 0.6)  # SEC's to well above the paper's
# Of a refinement: the fields that are tried, all at one value, and at which values.
NUMBERS: dict[str, tuple[tuple[str, ...], Sequence[Any]]] = {
    "crf": (("refine_low", "refine_high"), BACKGROUND_SCORES),
    "none": (("theta",), THETAS), "srg": (("theta",), THETAS),
    "affinity": (("walked_background",), (0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.4)),
    "saliency": (("saliency_threshold",), (0.02, 0.05, 0.1, 0.2, 0.3, 0.5)),
    "harmonic": (("harmonic_threshold",), (0.1, 0.2, 0.3, 0.4, 0.5)),
    "eps": (("eps_background",), (0.05, 0.1, 0.2, 0.3, "head"))}


def rules(config: presets.SeedsConfig) -> list[presets.SeedsConfig]:
    """Returns a rule for seeds at each number that is tried, see `NUMBERS`; of other refinements their own.

    Args:
      config: `presets.SeedsConfig`; the numbers tried are in place of its own.
    """
    if config.refine not in NUMBERS:
        return [config]
    names, values = NUMBERS[config.refine]
    return [dataclasses.replace(config, **dict.fromkeys(names, value)) for value in values]


def best_rule(run: dict[str, Any]) -> int:
    """Returns the position, in `rules`, of the rule whose seeds have the highest mIoU, of what `score` returned."""
    return int(np.argmax(run["seeds"]["miou"]))


def threshold_confusions(mean: np.ndarray, tag_ids: np.ndarray, target: np.ndarray, num_classes: int,
                         thresholds: Sequence[float] = THRESHOLDS) -> np.ndarray:
    """Returns the confusion matrices of one image's maps at every threshold, by one resize and one histogram.

    Args:
      mean: `[h, w, c]` float32 maps, 0..1.
      tag_ids: `[c]` class of each map, 0 the first foreground class.
      target: `[height, width]` uint8 mask; 255 is left out.
      num_classes: with the background.
      thresholds: rising; a pixel is foreground where its strongest map is above the threshold.

    Returns:
      `[thresholds, num_classes, num_classes + 1]` int64, see `metrics.confusion`.
    """
    labels.check_label(target, num_classes, "mask")
    known = target != labels.IGNORE
    bins = len(thresholds) + 1
    if len(tag_ids):
        resized = images.resize_maps(mean, target.shape)
        strongest = resized.argmax(-1)[known]
        class_ids = np.asarray(tag_ids, np.int64)[strongest] + 1
        passed = np.searchsorted(np.asarray(thresholds, np.float32), resized.max(-1)[known], side="left")
    else:
        class_ids = passed = np.zeros(int(known.sum()), np.int64)
    index = (target[known].astype(np.int64) * num_classes + class_ids) * bins + passed
    counts = np.bincount(index, minlength=num_classes**2 * bins).reshape(num_classes, num_classes, bins)
    matrices = np.zeros((len(thresholds), num_classes, num_classes + 1), np.int64)
    for k in range(len(thresholds)):
        matrices[k, :, :-1] = counts[..., k + 1:].sum(-1)
        matrices[k, :, labels.BACKGROUND] += counts[..., :k + 1].sum((1, 2))
    return matrices


def aggregate(parts: Sequence[ImageMaps]) -> ImageMaps:
    """Joins the maps of one photograph from several draws of selections.

    Args:
      parts: one `ImageMaps` per draw.

    Returns:
      `ImageMaps`: the first part with the statistics over all selections.
    """
    total = sum(part.num_maps for part in parts)
    mean = np.asarray(sum(part.num_maps * part.mean for part in parts) / total)
    squares = sum(part.num_maps * (part.std**2 + part.mean**2) for part in parts) / total
    return dataclasses.replace(parts[0], mean=mean, max=np.max([part.max for part in parts], 0),
                               std=np.sqrt(np.maximum(squares - mean**2, 0)), num_maps=total)


@dataclasses.dataclass(frozen=True)
class Options:
    """How maps are scored.

    Attributes:
      maps: `maps.extraction.Options`: mode and seed of the inference.
      saliency_dir: of seeds that need saliency, or None.
    """

    maps: map_extraction.Options = map_extraction.Options()
    saliency_dir: str | pathlib.Path | None = None


class Draws:
    """Maps of one photograph at several numbers N of maps; the greater ones hold the smaller ones' maps.

    Args:
      stage_dir: a finished classifier's directory.
      config: `presets.MapsConfig`.
      mode: of the inference, see `aggregation.localize`.
      counts: rising numbers of maps, or ("auto",).
    """

    def __init__(self, stage_dir: str | pathlib.Path, config: presets.MapsConfig, mode: str,
                 counts: Sequence[int | str]) -> None:
        keras.backend.clear_session()
        trained = classifier.load(stage_dir)
        self.model = trained.model
        self._steps: list[int | str] = [*counts[:1], *(int(b) - int(a) for a, b in itertools.pairwise(counts))]
        self._localizers = {step: map_extraction.make_localizer(
            trained, dataclasses.replace(config, num_maps=step), mode) for step in self._steps}

    def prepare(self, example: dict[str, Any]) -> dict[str, Any]:
        """Decodes an example and gives it its features: what `__call__` takes."""
        localizer = self._localizers[self._steps[0]]
        prepared = localizer.prepare(example)
        return {**prepared, "features": localizer.features(prepared)}

    def __call__(self, prepared: dict[str, Any], seed: int | str) -> list[ImageMaps]:
        """Returns one `ImageMaps` per count: the parts that `aggregate` joins to the maps at that count."""
        return [self._localizers[step].localize(prepared, seed if k == 0 else f"{seed} part {k}")
                for k, step in enumerate(self._steps)]


def score(directory: str | pathlib.Path, split: datasets.Split, stage_dir: str | pathlib.Path,
          configs: tuple[presets.MapsConfig, presets.SeedsConfig | None], options: Options, *,
          counts: Sequence[int | str] | None = None, draws: Draws | None = None) -> dict[str, Any]:
    """Scores the maps of one classifier on a split; what is finished is not done again.

    Args:
      directory: where run.json goes.
      split: `datasets.Split`; every image needs a mask.
      stage_dir: the classifier's directory.
      configs: (`presets.MapsConfig`, `presets.SeedsConfig`); with None for the latter seeds are not scored.
      options: `Options`.
      counts: rising numbers of maps to score at; default (num_maps,). The maps of a greater number hold those of the
        smaller ones, so all cost no more than the greatest.
      draws: a `Draws` of these settings, where there is one already.

    Returns:
      The content of run.json: "counts", "thresholds", "maps" (one dict per count: key of `KEYS` -> list over the
      thresholds) and "seeds" from the last count's maps (key -> list over `rules`, or None).
    """
    maps_config, seeds_config = configs
    if seeds_config is not None:
        needed.check(seeds_config, options.saliency_dir, gradient=maps_config.gradient)
    directory, counts = pathlib.Path(directory), tuple(counts or (maps_config.num_maps,))
    run = artifacts.finished_run(stage_dir, "classifier", "tools.train_classifier")
    seed_rules = [] if seeds_config is None else rules(seeds_config)
    settings = {**map_extraction.settings_of(run, split, maps_config, options.maps), "stage": "map scores",
                "rules": [dataclasses.asdict(rule) for rule in seed_rules], "counts": counts,
                "thresholds": THRESHOLDS,
                **(needed.saliency_settings(seeds_config, options.saliency_dir, split) if seeds_config else {})}

    def work() -> Callable[[], dict[str, Any]]:
        by_count, by_rule = _work(directory, split, draws or Draws(stage_dir, maps_config, options.maps.mode, counts),
                                  seed_rules, options, counts)
        return lambda: {"images": len(split), "maps": [_scores(matrices) for matrices in by_count],
                        "seeds": _scores(by_rule) if seed_rules else None}

    return stage.run(directory, settings, work)


def _work(directory: pathlib.Path, split: datasets.Split, draws: Draws, seed_rules: Sequence[presets.SeedsConfig],
          options: Options, counts: Sequence[int | str]) -> tuple[np.ndarray, np.ndarray]:
    """Returns the confusion matrices of the maps, `[counts, thresholds, ...]`, and of the seeds, `[rules, ...]`."""
    num_classes = len(split.class_names)

    def measure(example: dict[str, Any], prepared: dict[str, Any],
                parts: list[ImageMaps]) -> tuple[np.ndarray, np.ndarray]:
        target = labels.decode_label_op(example["label"]).numpy()
        by_count = np.zeros((len(counts), len(THRESHOLDS), num_classes, num_classes + 1), np.int64)
        for k in range(len(parts)):
            maps = aggregate(parts[:k + 1])
            by_count[k] = threshold_confusions(maps.mean, maps.tag_ids, target, num_classes)
        by_rule = np.zeros((len(seed_rules), num_classes, num_classes + 1), np.int64)
        for k, rule in enumerate(seed_rules):
            seeds = extraction.make_seed(Evidence(example["image_id"], prepared["image"].numpy(), maps, rule,
                                                  options.saliency_dir))
            by_rule[k] = metrics.confusion(target, seeds, num_classes)
        return by_count, by_rule

    def localized() -> Iterator[tuple[dict[str, Any], dict[str, Any], list[ImageMaps]]]:
        for index in progress.bar(range(len(split)), desc=directory.name, unit="img"):
            example = split[index]
            if not example["has_label"]:
                raise UserError(f"{example['image_id']}: expected a mask to score maps against, found none")
            prepared = draws.prepare(example)
            yield example, prepared, draws(prepared, options.maps.seed)

    return _summed(measure, localized())


def _summed(measure: Callable[..., tuple[np.ndarray, np.ndarray]],
            arguments: Iterable[tuple[Any, ...]]) -> tuple[np.ndarray, np.ndarray]:
    """Sums what `measure` returns over `arguments`, not none; measures an image while the next one is localized."""
    sums, pending = None, None
    with concurrent.futures.ThreadPoolExecutor(1) as worker:
        for image_arguments in arguments:
            future = worker.submit(measure, *image_arguments)
            if pending is not None:
                sums = _added(sums, pending.result())
            pending = future
        assert pending is not None
        return _added(sums, pending.result())


def _added(sums: tuple[np.ndarray, np.ndarray] | None,
           matrices: tuple[np.ndarray, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    return matrices if sums is None else (sums[0] + matrices[0], sums[1] + matrices[1])


def _scores(matrices: np.ndarray) -> dict[str, list[float]]:
    """Returns key -> list over the thresholds or rules of `[n, classes, classes + 1]` confusion matrices."""
    scores = [metrics.scores(matrix) for matrix in matrices]
    return {key: [score[key] for score in scores] for key in KEYS}
