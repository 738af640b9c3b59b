"""Stochastic hidden unit selection: which position of the features each window sees (FickleNet, Section 3.1, 3.2).

A selection says, for every position u of the feature map and every offset d of
the s x s kernel, whether the window centred at u - (d - s // 2) sees u through
its weight d. The paper writes it as a mask over the expanded feature map, one
s x s block a window; `windows_of` turns one form into the other. One selection
serves all channels, and the centre of every window is always kept.
"""

import numpy as np
import tensorflow as tf

_LEVELS = 65536  # a rate is rounded to 1/65536: off by at most 7.7e-6


def keep_bits(seed, shape, rate):
    """Draws independent booleans that are True with probability 1 - rate.

    Sixteen random bits an entry, four entries a draw, so `rate` is kept to 7.7e-6.

    Args:
      seed: `[2]` integer tensor.
      shape: static shape of the answer.
      rate: probability of False, 0..1.

    Returns:
      Bool tensor of `shape`, a function of `seed`, `shape` and `rate` alone.
    """
    count = int(np.prod(shape))
    threshold = round(rate * _LEVELS)
    if threshold >= _LEVELS:
        return tf.zeros(shape, tf.bool)
    bits = tf.random.stateless_uniform([-(-count // 4)], seed, None, None, tf.uint64)
    bits = tf.reshape(tf.bitcast(bits, tf.uint16), [-1])[:count]
    return tf.reshape(bits >= tf.constant(threshold, tf.uint16), shape)


def inside(height, width, kernel_size):
    """Returns `[height * width, s * s]` bool: whether u - (d - s // 2) lies on the map."""
    reach = np.arange(kernel_size) - kernel_size // 2
    rows = np.arange(height)[:, None] - reach
    columns = np.arange(width)[:, None] - reach
    rows, columns = (rows >= 0) & (rows < height), (columns >= 0) & (columns < width)
    both = rows[:, None, :, None] & columns[None, :, None, :]
    return both.reshape(height * width, kernel_size**2)


def weights_of(keep, height, width, kernel_size, rate, rescale):
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


def windows_of(selection, height, width, kernel_size):
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
    index = (np.clip(rows, 0, height - 1) * width + np.clip(columns, 0, width - 1)) * s * s + dy * s + dx
    flat = tf.reshape(selection, [-1, height * width * s * s])
    moved = tf.gather(flat, index.reshape(-1), axis=1) * valid.reshape(-1).astype(np.float32)
    return tf.reshape(moved, [-1, height * width, s * s])


def draw(seeds, height, width, kernel_size, rate, rescale):
    """Draws one selection an image: `[b, 2]` int32 seeds -> float32 `[b, height * width, s * s]`, t[u, d]."""
    shape = (height * width, kernel_size**2)
    keep = tf.map_fn(lambda seed: keep_bits(seed, shape, rate), seeds,
                     fn_output_signature=tf.TensorSpec(shape, tf.bool))
    return weights_of(keep, height, width, kernel_size, rate, rescale)


def general_mask(seeds, shape, rate):
    """Ordinary dropout's mask (the paper's «general»): one `shape` float32 mask an image, survivors 1 / (1 - p)."""
    keep = tf.map_fn(lambda seed: keep_bits(seed, shape, rate), seeds,
                     fn_output_signature=tf.TensorSpec(shape, tf.bool))
    return tf.where(keep, np.float32(1 / max(1 - rate, 1e-9)), 0.0)
