"""What the aggregate of N maps tends to as N grows, and how far a given N is from it (FickleNet, Section 3.3).

Exact, without drawing: the mean and the spread of the linear response L[u] = sum_d t[u, d] Y[u, d] (its terms are
independent, t is 1 with probability 1 - p and the centre always), and the limit of the maximum. That limit is the
greatest value that any selection gives, since each has a positive probability: positions are drawn apart, so at u the
best selection keeps what speaks for u and elsewhere what speaks against. It is 1 nearly everywhere an object has any
support, so `max_i M_c[i] > theta` depends on N however great N is; no affordable N comes near the limit.

Not exact: the mean of the maps themselves. The ReLU and the division by each map's own maximum leave no closed form.
`normal` treats the responses as independent normal variables and the maximum of a map as independent of each of its
values; the large N is the reference, with its own standard error.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from ficklenet_tf.maps import aggregation, grad_cam
from ficklenet_tf.models.stochastic import StochasticHead

LARGE = 20_000


def exact(head: StochasticHead, features: tf.Tensor, tag_ids: tf.Tensor) -> dict[str, tf.Tensor]:
    """Returns what has a closed form.

    Args:
      head: a built `stochastic.StochasticHead`.
      features: `[h, w, k]` float32, static shape.
      tag_ids: `[c]` int32.

    Returns:
      dict of `[h, w, c]` float32: "response_mean" and "response_std" of the linear response before ReLU and
      normalisation, and "max_limit", what the maximum of the normalised maps tends to, 0..1.
    """
    y = grad_cam.responses(head, features, tag_ids)
    middle = head.kernel_size**2 // 2
    centre = y[:, middle]
    others = y * (1 - tf.one_hot(middle, head.kernel_size**2))[:, None]
    keep = 1 - head.rate
    mean = centre + keep * tf.reduce_sum(others, 1)
    spread = tf.sqrt(keep * head.rate * tf.reduce_sum(others**2, 1))
    if 0 < head.rate < 1:
        best = tf.nn.relu(centre + tf.reduce_sum(tf.nn.relu(others), 1))
        worst = tf.nn.relu(centre - tf.reduce_sum(tf.nn.relu(-others), 1))
    else:
        best = worst = tf.nn.relu(mean)  # one selection only
    limit = tf.math.divide_no_nan(best, tf.maximum(best, tf.reduce_max(worst, 0)))  # where worst is highest, 1
    shape = [*features.shape[:2], -1]
    return {name: tf.reshape(value, shape) for name, value in (("response_mean", mean), ("response_std", spread),
                                                               ("max_limit", limit))}


def normal(response_mean: tf.Tensor, response_std: tf.Tensor, points: int = 512) -> tf.Tensor:
    """Approximates the mean of the normalised maps by E[ReLU(L)] E[1 / max L], all L normal and independent.

    Args:
      response_mean: `[h, w, c]`, see `exact`.
      response_std: `[h, w, c]`.
      points: of the grid on which the distribution of a map's maximum is taken.

    Returns:
      `[h, w, c]` float32.
    """
    mean, std = (tf.reshape(value, [-1, value.shape[-1]]) for value in (response_mean, response_std))
    std = tf.maximum(std, 1e-12)
    rectified = mean * _below(mean / std) + std * tf.exp(-0.5 * (mean / std)**2) / np.sqrt(2 * np.pi)
    top = tf.reduce_max(mean + 6 * std, 0)
    grid = tf.linspace(tf.zeros_like(top), top, points + 1)  # [points + 1, c]
    below = tf.exp(tf.map_fn(lambda at: tf.reduce_sum(tf.math.log(tf.maximum(_below((at - mean) / std), 1e-30)), 0),
                             grid))
    inverse = tf.reduce_sum((below[1:] - below[:-1]) / tf.maximum((grid[1:] + grid[:-1]) / 2, 1e-30), 0)
    return tf.reshape(rectified * inverse, response_mean.shape)


def _below(z: tf.Tensor) -> tf.Tensor:
    """Returns the probability that a standard normal variable is below z."""
    return 0.5 * tf.math.erfc(-z / np.sqrt(2))


def reference(head: StochasticHead, features: tf.Tensor, tag_ids: tf.Tensor, seed: tf.Tensor,
              num_maps: int = LARGE) -> dict[str, tf.Tensor]:
    """Returns the reference of an image: `exact`, "normal" and, by a large N, "mean", "max", "std", "mean_error".

    Args:
      head: a built `stochastic.StochasticHead`.
      features: `[h, w, k]` float32, static shape.
      tag_ids: `[c]` int32.
      seed: `[2]` int32; take another one than for the maps to be judged.
      num_maps: the large N. "mean_error" is the standard error of its mean.
    """
    localize = tf.function(aggregation.localize, autograph=False)
    large = localize(head, features, tag_ids, seed, aggregation.Options(num_maps=num_maps))
    closed = exact(head, features, tag_ids)
    return {**closed, "normal": normal(closed["response_mean"], closed["response_std"]), "mean": large["mean"],
            "max": large["max"], "std": large["std"], "mean_error": large["std"] / np.sqrt(num_maps)}


def distance(maps: Mapping[str, Any], target: Mapping[str, Any], theta: float) -> dict[str, float]:
    """Returns how far the aggregate of N maps is from a reference.

    Args:
      maps: an answer of `aggregation.localize`, or the fields of `ImageMaps`.
      target: an answer of `reference` (or another one of `localize`).
      theta: the threshold of the labels.

    Returns:
      dict of floats: "mean" and "max", mean absolute differences of the maps over positions and classes; "labels", the
      share of positions whose label by the paper's rule is another one; "unclaimed", the share that only the
      reference allots.
    """
    labels, target_labels = (_labels(np.asarray(aggregates["max"]), np.asarray(aggregates["mean"]), theta)
                             for aggregates in (maps, target))
    return {"mean": float(tf.reduce_mean(tf.abs(maps["mean"] - target["mean"]))),
            "max": float(tf.reduce_mean(tf.abs(maps["max"] - target["max"]))),
            "labels": float(np.mean(labels != target_labels)),
            "unclaimed": float(np.mean((labels < 0) & (target_labels >= 0)))}


def _labels(highest: np.ndarray, mean: np.ndarray, theta: float) -> np.ndarray:
    """Returns the index of the class by the paper's rule, `[h, w]` int, -1 for none."""
    claimed = highest > theta
    return np.where(claimed.any(-1), np.where(claimed, mean, -1.0).argmax(-1), -1)
