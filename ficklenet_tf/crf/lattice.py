"""The permutohedral lattice of Adams, Baek & Davis (Eurographics 2010) in stock TensorFlow ops.

Points of d dimensions lie in simplices of d + 1 vertices each. Filtering a signal with a
Gaussian of unit width is three linear steps: splat the points' values to the vertices, blur
along the lattice's d + 1 axes, slice the vertices' values back to the points. A vertex is
known by its first d coordinates, as one mixed-radix int64 key: neighbours then differ by a
constant.
"""

import dataclasses
import math
from collections.abc import Sequence

import numpy as np
import tensorflow as tf


@dataclasses.dataclass(frozen=True)
class Lattice:
    """The vertices around some points. Row 0 of the vertices is empty: it is the neighbour of those that have none.

    Attributes:
      vertices: `[points, d + 1]` int32, 1..size - 1, the corners of each point's simplex.
      weights: `[points, d + 1]` float32, 0..1, barycentric, each point's sum to 1.
      neighbours: `[size]` int32 pairs, one per axis: the vertices before and after; 0 where there is none.
      size: scalar int32, number of vertices, with the empty one.
    """

    vertices: tf.Tensor
    weights: tf.Tensor
    neighbours: list[tuple[tf.Tensor, tf.Tensor]]
    size: tf.Tensor


def build(features: Sequence[tf.Tensor]) -> Lattice:
    """Builds the lattice around some points.

    Args:
      features: d vectors `[points]` float32, in units of the Gaussian's width.

    Returns:
      A `Lattice`.
    """
    points = tf.size(features[0])
    # pydensecrf works on four points at a time and fills up with zeros. Those weigh nothing, but
    # their vertices take part in the blur, which shows in small maps: 41 x 41 is one of them.
    centres, weights = _embed([tf.pad(feature, [[0, -points % 4]]) for feature in features])
    strides, sizes, keys = _mixed_radix(centres, len(features) + 1)
    # Far fewer simplices than points, so their corners are worked out once.
    simplices, simplex_of_point = tf.unique(keys)
    corners = _corners(simplices, strides, sizes)
    vertices, corner_ids = tf.unique(tf.reshape(corners, [-1]))
    corner_ids = tf.reshape(corner_ids + 1, tf.shape(corners))
    return Lattice(tf.gather(corner_ids, simplex_of_point[:points]), weights[:points],
                   _neighbours(vertices, strides), tf.size(vertices) + 1)


def blur(lattice: Lattice, values: tf.Tensor, backwards: bool = False) -> tf.Tensor:
    """Blurs along all axes in turn, each with (1/2, 1, 1/2); at the rim the order matters.

    Args:
      lattice: a `Lattice`.
      values: `[size, channels]`, row 0 zero.
      backwards: last axis first, which is the transposed map.

    Returns:
      `[size, channels]`, row 0 zero.
    """
    for before, after in lattice.neighbours[::-1] if backwards else lattice.neighbours:
        values += 0.5 * (tf.gather(values, before) + tf.gather(values, after))
    return values


def times(values: tf.Tensor, factor: float | np.floating | tf.Tensor) -> tf.Tensor:
    """Returns float32 `values * factor`, rounded once: in float64, as graph optimisers merge float32 factors."""
    factor = factor if tf.is_tensor(factor) else tf.constant(float(factor), tf.float64)
    return tf.cast(tf.cast(values, tf.float64) * factor, tf.float32)


def _embed(features: Sequence[tf.Tensor]) -> tuple[list[tf.Tensor], tf.Tensor]:
    """Finds each point's simplex: d sums of corners / (d + 1), less a constant, and barycentric weights.

    The sum over a simplex's corners of coordinate i is (d + 1) (base_i - rank_i) and a constant:
    base - rank, d integers, identifies the simplex.
    """
    d = len(features)
    # Rounded as in pydensecrf, so that points on a simplex's rim fall on the same side.
    width, shrink = np.float32(math.sqrt(2 / 3) * (d + 1)), np.float32(1 / (d + 1))
    lifted: list[tf.Tensor] = []
    partial_sum = tf.zeros_like(features[0])
    for i in range(d, 0, -1):
        scaled = times(features[i - 1], np.float32(float(width) / math.sqrt(i * (i + 1))))
        lifted.insert(0, partial_sum - times(scaled, i))
        partial_sum += scaled
    lifted.insert(0, partial_sum)
    rounded = [tf.round(value * shrink) for value in lifted]
    offsets = [value - (d + 1) * multiple for value, multiple in zip(lifted, rounded, strict=True)]
    rounded = [tf.cast(multiple, tf.int32) for multiple in rounded]
    ranks = [tf.add_n(rounded)] * (d + 1)
    for i in range(d + 1):
        for j in range(i + 1, d + 1):
            smaller = tf.cast(offsets[i] < offsets[j], tf.int32)
            ranks[i] += smaller
            ranks[j] += 1 - smaller
    # Ranks beyond 0..d move the base by d + 1 and wrap around: base - rank stays, the offset does not.
    wraps = [tf.cast(rank < 0, tf.float32) - tf.cast(rank > d, tf.float32) for rank in ranks]
    offsets = _descending([offset * shrink - wrap for offset, wrap in zip(offsets, wraps, strict=True)])
    weights = [1 + offsets[d] - offsets[0]] + [offsets[d - p] - offsets[d - p + 1] for p in range(1, d + 1)]
    return [(d + 1) * rounded[i] - ranks[i] for i in range(d)], tf.transpose(tf.stack(weights))


def _descending(values: Sequence[tf.Tensor]) -> list[tf.Tensor]:
    """Sorts equally shaped tensors elementwise, greatest first; six of them faster than `tf.sort` sorts rows."""
    values = list(values)
    for last in range(len(values) - 1, 0, -1):
        for i in range(last):
            values[i], values[i + 1] = tf.maximum(values[i], values[i + 1]), tf.minimum(values[i], values[i + 1])
    return values


def _mixed_radix(digits: Sequence[tf.Tensor], margin: int) -> tuple[list[tf.Tensor], list[tf.Tensor], tf.Tensor]:
    """Packs integers into one int64 key, with room of 2 `margin` around each.

    Returns:
      (strides, sizes, both lowest first; the keys).
    """
    strides: list[tf.Tensor] = []
    sizes: list[tf.Tensor] = []
    key, stride = 0, tf.constant(1, tf.int64)
    for digit in digits:
        low, high = (tf.cast(bound, tf.int64) for bound in (tf.reduce_min(digit), tf.reduce_max(digit)))
        low = (low // margin - 2) * margin  # a multiple of d + 1, which `_corners` relies on
        strides.append(stride)
        sizes.append(high - low + 2 * margin)
        key += (tf.cast(digit, tf.int64) - low) * stride
        stride *= sizes[-1]
    return strides, sizes, key


def _corners(simplices: tf.Tensor, strides: list[tf.Tensor], sizes: list[tf.Tensor]) -> tf.Tensor:
    """Returns keys `[simplices, d + 1]` of the corners: from each to the next all coordinates step by 1, one by -d."""
    d = len(strides)
    base, steps = tf.zeros_like(simplices), [tf.zeros_like(simplices)] * d
    for stride, size in zip(strides, sizes, strict=True):
        digit = simplices // stride % size
        rank = -digit % (d + 1)
        base += (digit + rank) * stride
        steps = [tf.where(rank == d - p, stride, step) for p, step in enumerate(steps)]
    corners = [base]
    for step in steps:
        corners.append(corners[-1] + tf.add_n(strides) - (d + 1) * step)
    return tf.stack(corners, axis=-1)


def _neighbours(vertices: tf.Tensor, strides: list[tf.Tensor]) -> list[tuple[tf.Tensor, tf.Tensor]]:
    """Returns pairs of `[vertices + 1]` ids, one per axis; along axis j all coordinates step by 1, the j-th by -d."""
    size = tf.size(vertices)
    neighbours = []
    for stride in [*strides, 0]:
        step = tf.add_n(strides) - (len(strides) + 1) * stride
        _, ids = tf.unique(tf.concat([vertices, vertices + step], axis=0))
        after = tf.where(ids[size:] < size, ids[size:] + 1, 0)
        # What comes before is the inverse map; those without a next one all land in row 0, cleared again.
        before = tf.tensor_scatter_nd_update(tf.zeros([size + 1], tf.int32), after[:, None], tf.range(1, size + 1))
        neighbours.append((tf.concat([[0], before[1:]], axis=0), tf.concat([[0], after], axis=0)))
    return neighbours
