"""Refines maps by a random walk over affinities of neighbouring pixels (Ahn & Kwak, CVPR 2018, Section 3.3).

IRN (Ahn et al., CVPR 2019, Section 5) walks alike; what differs is in `models.affinity.Kind`.
"""

import pathlib

import numpy as np
import tensorflow as tf

from ficklenet_tf.data import datasets, images
from ficklenet_tf.models import affinity, neighbours
from ficklenet_tf.runs import layout

STEPS = 256


def transitions(output: tf.Tensor, kind: affinity.Kind) -> tf.sparse.SparseTensor:
    """Returns the transition matrix of one image's positions, `[h * w, h * w]`, each row summing to 1.

    A position stays (affinity 1) or goes to a neighbour within the radius, in proportion to affinity ** beta.

    Args:
      output: of the network of affinities, `[h, w, k]` float32, static shape.
      kind: of the network.
    """
    height, width = output.shape[:2]
    number = np.arange(height * width).reshape(1, height, width)
    rows, columns = [number.ravel()], [number.ravel()]
    values = [tf.ones([height * width])]
    for offset, pair in zip(neighbours.offsets(), kind.affinities(output[None]), strict=True):
        one, other = (part.ravel() for part in neighbours.pairs(number, offset))
        weight = tf.reshape(pair, [-1]) ** kind.beta
        rows, columns, values = rows + [one, other], columns + [other, one], values + [weight, weight]
    indices = np.stack([np.concatenate(rows), np.concatenate(columns)], -1)
    order = np.lexsort((indices[:, 1], indices[:, 0]))
    weights = tf.gather(tf.concat(values, 0), order)
    totals = tf.math.segment_sum(weights, indices[order, 0])
    weights /= tf.gather(totals, indices[order, 0])
    return tf.sparse.SparseTensor(indices[order].astype(np.int64), weights, [height * width] * 2)


def walk(matrix: tf.sparse.SparseTensor, maps: tf.Tensor, steps: int = STEPS) -> tf.Tensor:
    """Returns the maps `[h, w, c]` after `steps` steps: each position's mean over where it gets to."""
    shape = [matrix.shape[0], maps.shape[-1]]

    def step(k: tf.Tensor, x: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        return k + 1, tf.ensure_shape(tf.sparse.sparse_dense_matmul(matrix, x), shape)

    flat = tf.ensure_shape(tf.reshape(maps, [-1, tf.shape(maps)[-1]]), shape)
    return tf.reshape(tf.while_loop(lambda k, x: k < steps, step, (0, flat))[1], tf.shape(maps))


class Walker:
    """Walks the maps of a run's photographs by its trained affinity network.

    Args:
      run_dir: the run's directory.
      name: directory of the network below it.

    Attributes:
      run: run.json of the network's training.
    """

    def __init__(self, run_dir: str | pathlib.Path, name: str = layout.AFFINITY) -> None:
        self._below, self._network, self._kind, self.run = affinity.load(run_dir, name)
        self._walk = tf.function(self._graph, autograph=False, reduce_retracing=True)

    def _graph(self, x: tf.Tensor, maps: tf.Tensor) -> tf.Tensor:
        output = self._network(self._below.model(x[None], training=False), training=False)[0]
        if self._kind.joint:  # IRN's code stretches each map to 1 first; one map of one view has that maximum anyway
            maps = tf.math.divide_no_nan(maps, tf.reduce_max(maps, (0, 1), keepdims=True))
        if self._kind.inside is not None:
            maps *= self._kind.inside(output)
        walked = walk(transitions(output, self._kind), maps)
        axes = (0, 1, 2) if self._kind.joint else (0, 1)
        return tf.math.divide_no_nan(walked, tf.reduce_max(walked, axes, keepdims=True))

    def fill(self, split: datasets.Split) -> None:
        """Computes what the cache of frozen features lacks of a split, before the maps of its images are walked."""
        self._below.fill(split)

    def __call__(self, image_id: str, image: np.ndarray, maps: np.ndarray) -> np.ndarray:
        """Walks the maps of a photograph.

        Args:
          image_id: of the photograph.
          image: `[height, width, 3]` uint8.
          maps: `[h, w, c]` float32, 0..1.

        Returns:
          `[h', w', c]` float32 at the features' size, over their maximum: each map's, or all maps', see `Kind`.
        """
        maps = images.resize_maps(maps, self._below.model.outputs[-1].shape[1:3])
        return self._walk(self._below.network_input(image_id, image), tf.constant(maps)).numpy()
