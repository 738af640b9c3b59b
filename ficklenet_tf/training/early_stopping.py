"""Ending a classifier's training where it begins to learn its photographs by heart (early stopping).

A tenth of the photographs, two hundred at most, evenly spaced, is not learned from. Every so many steps the loss of
their tags is taken; after three looks that were no better than the best before, the training ends, and the best
weights are taken back. Nothing of the held-out split is used, so its scores stay clean.
"""

import math
import pathlib
from collections.abc import Callable

import keras
import numpy as np
import tensorflow as tf

from ficklenet_tf import distribution
from ficklenet_tf.data import datasets
from ficklenet_tf.errors import UserError
from ficklenet_tf.runs import artifacts, layout, progress

PATIENCE = 3
_MOST = 200


def divide(split: datasets.Split) -> tuple[datasets.Split, datasets.Split]:
    """Returns the photographs that are learned from and those that are watched.

    Args:
      split: `datasets.Split` to train on.

    Raises:
      UserError: there are fewer than two.
    """
    if len(split) < 2:
        raise UserError(f"early_stopping: expected at least 2 photographs, one to learn and one to watch, found "
                        f"{len(split)}")
    count = min(max(1, len(split) // 10), _MOST)
    watched = {(2 * i + 1) * len(split) // (2 * count) for i in range(count)}
    return split.select([i for i in range(len(split)) if i not in watched]), split.select(sorted(watched))


class EarlyStopping:
    """What `loop.fit` asks whether to go on. Losses are finite; a step's is a function of the training and the step.

    Attributes:
      every: steps between two looks.
      looks: (step, loss) of every look so far.
    """

    def __init__(self, directory: str | pathlib.Path, every: int, loss: Callable[[], float],
                 network: keras.Model) -> None:
        """Watches a training.

        Args:
          directory: of the training; gets the looks and the best weights.
          every: steps between two looks, from 1.
          loss: takes the loss of what is watched.
          network: what is trained: its weights are kept and taken back.

        Raises:
          UserError: under workers, which might not agree.
        """
        if distribution.has_workers():
            raise UserError("early_stopping: expected one machine; leave --distribute=multi_worker or "
                            "--early_stopping out")
        self.every, self.looks = every, list[tuple[int, float]]()
        self._directory, self._loss, self._network = pathlib.Path(directory), loss, network

    @property
    def best(self) -> tuple[int, float]:
        """Step and loss of the best look, the first one of equals; (0, inf) before any."""
        return min(self.looks, key=lambda look: look[1], default=(0, math.inf))

    @property
    def over(self) -> bool:
        """Whether the last looks were no better than one before them."""
        return len(self.looks) > PATIENCE and self.best not in self.looks[-PATIENCE:]

    def begin(self, done: int) -> None:
        """Recalls the looks of an earlier run up to step `done`: what came after the checkpoint is made again."""
        path = self._directory / layout.LOOKS
        rows = artifacts.read_numbers(path) if done and path.exists() else []
        self.looks = [(int(row["step"]), row["loss"]) for row in rows if row["step"] <= done]

    def look(self, done: int) -> None:
        """Takes the loss after step `done`; keeps the weights where it is the best so far."""
        distribution.on_chief(self._look, done)  # where no strategy is in force: a network cannot be called there

    def _look(self, done: int) -> None:
        before = self.best
        self.looks.append((done, self._loss()))
        if self.best != before:
            artifacts.save_weights(self._network, self._directory / layout.BEST)
        artifacts.write_numbers(self._directory / layout.LOOKS,
                                [{"step": step, "loss": loss} for step, loss in self.looks])

    def end(self) -> None:
        """Takes the best weights back."""
        if self.looks:
            distribution.on_chief(artifacts.load_weights, self._network, self._directory / layout.BEST)
            step, loss = self.best
            progress.say(f"{self._directory.name}: weights of step {step}, where the watched photographs' loss was "
                         f"least ({loss:.4f})")


def of_tags(directory: str | pathlib.Path, every: int, tags: np.ndarray, logits: Callable[[], np.ndarray],
            network: keras.Model) -> EarlyStopping:
    """Returns the `EarlyStopping` by the mean sigmoid cross-entropy of tags.

    Args:
      directory: see `EarlyStopping`; so are `every` and `network`.
      every: see there.
      tags: `[n, tags]`, 0 or 1, of what is watched.
      logits: predicts them, `[n, tags]`.
      network: see there.
    """
    expected = tags.astype(np.float32)
    return EarlyStopping(directory, every, lambda: float(tf.reduce_mean(
        tf.nn.sigmoid_cross_entropy_with_logits(expected, logits()))), network)
