"""Weights in the course of a classifier's training, each kept as a finished classifier of its own.

A snapshot is a function of the training's settings and its step: a training that was killed and goes on writes those
that it has passed since its last checkpoint again, the same.
"""

import functools
import pathlib
from collections.abc import Callable, Sequence
from typing import Any

from ficklenet_tf.errors import UserError
from ficklenet_tf.models.classifier import Classifier
from ficklenet_tf.runs import artifacts, layout, restart, stage


def steps_of(count: int, steps: int) -> list[int]:
    """Returns the steps after which weights are kept: `count` of them, evenly spaced, the last one at the end.

    Args:
      count: `presets.ClassifierConfig.snapshots`.
      steps: of the training.

    Raises:
      UserError: there are fewer steps than that.
    """
    if count > steps:
        raise UserError(f"snapshots: expected at most the {steps} steps of the training, found {count}")
    return [steps * number // count for number in range(1, count + 1)]


def names(directory: pathlib.Path, steps: Sequence[int]) -> dict[str, int]:
    """Returns {name of the snapshot's directory, beside the training's: step}."""
    return {layout.at_step(directory.name, step): step for step in steps}


def keepers(directory: pathlib.Path, model: Classifier, settings: dict[str, Any], facts: dict[str, Any],
            steps: Sequence[int], anew: bool = False) -> dict[int, Callable[[], None]]:
    """Begins the snapshots' directories, and returns step -> the function that writes one, for `loop.Learner`.

    Args:
      directory: of the training.
      model: what is trained, whole.
      settings: of the training.
      facts: for run.json, what `classifier.load` reads.
      steps: as of `steps_of`.
      anew: those of an earlier training are removed, as that is.

    Raises:
      UserError: an earlier training with other settings has left its own there.
    """
    places = names(directory, steps)
    if anew:
        restart.request(directory.parent, places, followers=False)
    for name, step in places.items():
        stage.begin_stage(directory.parent / name, _settings(settings, directory, step))
    return {step: functools.partial(_keep, directory.parent / name, model,
                                    {**_settings(settings, directory, step), **facts})
            for name, step in places.items()}


def _settings(settings: dict[str, Any], directory: pathlib.Path, step: int) -> dict[str, Any]:
    return {**settings, "snapshot_of": directory.name, "step": step}


def _keep(directory: pathlib.Path, model: Classifier, run: dict[str, Any]) -> None:
    artifacts.save_weights(model, directory / layout.WEIGHTS)
    finished = (artifacts.read_run(directory) or {}).get("finished")  # made again, it is the same
    artifacts.write_run(directory, finished, **run)
