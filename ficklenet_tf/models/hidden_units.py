"""Stochastic hidden unit selection: which position of the features each window sees (FickleNet, Section 3.1, 3.2).

A selection says, for every position u of the feature map and every offset d of
the s x s kernel, whether the window centred at u - (d - s // 2) sees u through
its weight d. The paper writes it as a mask over the expanded feature map, one
s x s block per window; `windows_of` turns one form into the other. One selection
serves all channels, and the centre of every window is always kept.
"""

from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from ficklenet_tf.random_seeds import SEED_BITS

_ONES = 0x0101010101010101  # a byte repeated over a word
_WORDS = 8  # per group: its 64 entries share the low bits of their numbers


def keep_bits(seed: tf.Tensor, shape: Sequence[int], rate: float) -> tf.Tensor:
    """Draws booleans that are True with probability 1 - rate, exact to 3e-8, from 8 1/4 random bits each.

    A number of 24 bits decides about each entry: eight bits of its own, and sixteen that it shares with 63 others.
    Those matter only where its own bits hit the one value on the border, so that any two of the 64 have a
    correlation of at most 2^-18 / (rate * (1 - rate)), 4e-5 at 0.9; all else is independent.

    Args:
      seed: `[2]` integer tensor; signs do not count.
      shape: static shape of the answer.
      rate: probability of False, 0..1.

    Returns:
      Bool tensor of `shape`, a function of `seed`, `shape` and `rate` alone.
    """
    count = int(np.prod(shape))
    # Own bytes above `least_byte` are kept, and those equal to it where the shared bits reach `low_bits`.
    least_byte, low_bits = divmod(round(rate * 2**24), 2**16)
    if least_byte > 255:
        return tf.zeros(shape, tf.bool)
    # So that least_byte + 1 fits into a byte.
    compare, offset = (tf.greater_equal, 0) if least_byte < 255 else (tf.greater, 1)
    groups = -(-count // (8 * _WORDS))  # a group: the bytes of the words j, j + groups, j + 2 * groups, ...
    words = tf.random.stateless_uniform([_WORDS * groups - (-groups // 4)], seed & SEED_BITS, None, None, tf.uint64)
    own_words, shared_words = words[:_WORDS * groups], words[_WORDS * groups:]
    shared_bits = tf.reshape(tf.bitcast(shared_words, tf.uint16), [-1])[:groups]
    limit = tf.where(shared_bits < tf.constant(low_bits, tf.uint16),
                     tf.constant((least_byte + 1 - offset) * _ONES, tf.uint64),
                     tf.constant((least_byte - offset) * _ONES, tf.uint64))
    keep = compare(tf.bitcast(own_words, tf.uint8), tf.bitcast(tf.concat([limit] * _WORDS, 0), tf.uint8))
    return tf.reshape(tf.reshape(keep, [-1])[:count], shape)


def inside(height: int, width: int, kernel_size: int) -> np.ndarray:
    """Returns `[height * width, s * s]` bool: whether u - (d - s // 2) lies on the map."""
    reach = np.arange(kernel_size) - kernel_size // 2
    rows = np.arange(height)[:, None] - reach
    columns = np.arange(width)[:, None] - reach
    row_inside, column_inside = (rows >= 0) & (rows < height), (columns >= 0) & (columns < width)
    both_inside = row_inside[:, None, :, None] & column_inside[None, :, None, :]
    return both_inside.reshape(height * width, kernel_size**2)


def weights_of(keep: tf.Tensor, height: int, width: int, kernel_size: int, rate: float, rescale: bool) -> tf.Tensor:
    """Completes drawn bits to a selection: the centre kept, zero beyond the border, scaled if asked.

    Args:
      keep: bool `[..., height * width, s * s]` as `keep_bits` drew them.
      height: of the feature map.
      width: of the feature map.
      kernel_size: s, odd.
      rate: the dropout rate p.
      rescale: whether survivors other than the centre are scaled by 1 / (1 - p).

    Returns:
      float32 `[..., height * width, s * s]`: t[u, d] of the contracted form.
    """
    centre = np.zeros(kernel_size**2, bool)
    centre[kernel_size**2 // 2] = True
    scale = np.where(centre | (not rescale) | (rate >= 1), 1.0, 1 / max(1 - rate, 1e-9)).astype(np.float32)
    scale = scale * inside(height, width, kernel_size)
    return tf.where(keep | centre, scale, 0.0)


def windows_of(selection: tf.Tensor, height: int, width: int, kernel_size: int) -> tf.Tensor:
    """Turns t[u, d] into the paper's m[v, d], the mask of the window centred at v.

    Args:
      selection: `[batch, height * width, s * s]`, t.
      height: of the feature map.
      width: of the feature map.
      kernel_size: s.

    Returns:
      `[batch, height * width, s * s]`: m[v, d] = t[v + d - s // 2, d], zero beyond the border.
    """
    s = kernel_size
    rows, columns, dy, dx = np.meshgrid(*map(np.arange, (height, width, s, s)), indexing="ij")
    rows, columns = rows + dy - s // 2, columns + dx - s // 2
    valid = (rows >= 0) & (rows < height) & (columns >= 0) & (columns < width)
    indices = (np.clip(rows, 0, height - 1) * width + np.clip(columns, 0, width - 1)) * s * s + dy * s + dx
    flat_selection = tf.reshape(selection, [-1, height * width * s * s])
    windows = tf.gather(flat_selection, indices.reshape(-1), axis=1) * valid.reshape(-1).astype(np.float32)
    return tf.reshape(windows, [-1, height * width, s * s])


def draw(seeds: tf.Tensor, height: int, width: int, kernel_size: int, rate: float, rescale: bool) -> tf.Tensor:
    """Draws one selection per image: `[b, 2]` int32 seeds -> float32 `[b, height * width, s * s]`, t[u, d]."""
    shape = (height * width, kernel_size**2)
    keep = tf.map_fn(lambda seed: keep_bits(seed, shape, rate), seeds,
                     fn_output_signature=tf.TensorSpec(shape, tf.bool))
    return weights_of(keep, height, width, kernel_size, rate, rescale)


def general_mask(seeds: tf.Tensor, shape: Sequence[int], rate: float) -> tf.Tensor:
    """Draws ordinary dropout's masks (the paper's "general"): float32 `[b, *shape]`, survivors 1 / (1 - p)."""
    keep = tf.map_fn(lambda seed: keep_bits(seed, shape, rate), seeds,
                     fn_output_signature=tf.TensorSpec(shape, tf.bool))
    return tf.where(keep, np.float32(1 / max(1 - rate, 1e-9)), 0.0)
