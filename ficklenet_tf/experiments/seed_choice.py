"""The number of a seed rule that suits a system's maps best, by the masks of some training images.

Maps of one kind want another background score, or theta, than those of another: with one number for all, a comparison
would be of the numbers.
"""

import dataclasses
import pathlib
from collections.abc import Callable
from typing import Any

import numpy as np

from ficklenet_tf import presets
from ficklenet_tf.data import datasets, images, labels
from ficklenet_tf.evaluation import metrics
from ficklenet_tf.experiments import map_scores
from ficklenet_tf.maps.image_maps import ImageMaps
from ficklenet_tf.runs import artifacts, layout, progress, stage
from ficklenet_tf.seeds import extraction
from ficklenet_tf.seeds.evidence import Evidence


def choose(run_dir: pathlib.Path, scored: datasets.Split, config: presets.SeedsConfig, options: extraction.Options, *,
           maps: str, name: str) -> presets.SeedsConfig:
    """Scores the seeds of every one of `map_scores.rules`; what is finished is not done again.

    Args:
      run_dir: the run's directory.
      scored: `datasets.Split` of training images that have masks.
      config: `presets.SeedsConfig` whose number is chosen.
      options: what the seeds need beside maps.
      maps: directory below run_dir with finished maps of these images.
      name: directory below run_dir for the scores.

    Returns:
      The `presets.SeedsConfig` of the highest mIoU.
    """
    rules = map_scores.rules(config)
    if len(rules) == 1:
        return rules[0]
    map_settings = artifacts.read_json(run_dir / maps / layout.SETTINGS)
    settings = {**extraction.settings_of(scored, config, options, map_settings), "stage": "seed choice",
                "rules": [dataclasses.asdict(rule) for rule in rules]}

    def work() -> Callable[[], dict[str, Any]]:
        matrices = np.sum([_confusions(run_dir / maps, scored[i], rules, options, len(scored.class_names))
                           for i in progress.bar(range(len(scored)), desc=name, unit="img")], 0)
        scores = [metrics.scores(matrix) for matrix in matrices]
        return lambda: {"images": len(scored),
                        "seeds": {key: [score[key] for score in scores] for key in map_scores.KEYS}}

    return rules[map_scores.best_rule(stage.run(run_dir / name, settings, work))]


def _confusions(map_dir: pathlib.Path, example: dict[str, Any], rules: list[presets.SeedsConfig],
                options: extraction.Options, num_classes: int) -> np.ndarray:
    """Returns the confusion matrices `[rules, classes, classes + 1]` of one image."""
    maps = ImageMaps.read(layout.map_file(map_dir, example["image_id"]))
    image, target = images.decode_image(example["image"]), labels.decode_label(example["label"])
    evidence = Evidence(example["image_id"], image, maps, rules[0], options.saliency_dir, options.walker)
    walker = None
    if options.walker is not None and len(maps.tag_ids):
        walked = evidence.walked  # the same for all rules

        def walker(*_: Any) -> np.ndarray:
            return walked

    return np.stack([metrics.confusion(target, extraction.make_seed(dataclasses.replace(
        evidence, config=rule, walker=walker)), num_classes) for rule in rules])
