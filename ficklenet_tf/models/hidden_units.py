"""Stochastic hidden unit selection: which position of the features each window sees (FickleNet, Section 3.1, 3.2).

A selection says, for every position u of the feature map and every offset d of
the s x s kernel, whether the window centred at u - (d - s // 2) sees u through
its weight d. The paper writes it as a mask over the expanded feature map, one
s x s block a window; `windows_of` turns one form into the other. One selection
serves all channels, and the centre of every window is always kept.
"""

import numpy as np
import tensorflow as tf

_ONES = 0x0101010101010101  # a byte repeated over a word
SEED_BITS = 0x7FFFFFFF  # a seed's sign is left out: of a negative one XLA makes other numbers than TensorFlow
_WORDS = 8  # words of eight entries that share the low bits of their numbers


def keep_bits(seed, shape, rate):
    """Draws booleans that are True with probability 1 - rate, exact to 3e-8, from 8 1/4 random bits each.

    A number of 24 bits decides over an entry: eight bits of its own, and sixteen that it shares with 63 others.
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
    least, fine = divmod(round(rate * 2**24), 2**16)  # the least own byte that is kept, or that + 1
    if least > 255:
        return tf.zeros(shape, tf.bool)
    compare, offset = (tf.greater_equal, 0) if least < 255 else (tf.greater, 1)  # so that least + 1 fits into a byte
    groups = -(-count // (8 * _WORDS))  # a group: the bytes of the words j, j + groups, j + 2 * groups, ...
    words = tf.random.stateless_uniform([_WORDS * groups - (-groups // 4)], seed & SEED_BITS, None, None, tf.uint64)
    own, shared = words[:_WORDS * groups], tf.reshape(tf.bitcast(words[_WORDS * groups:], tf.uint16), [-1])[:groups]
    limit = tf.where(shared < tf.constant(fine, tf.uint16), tf.constant((least + 1 - offset) * _ONES, tf.uint64),
                     tf.constant((least - offset) * _ONES, tf.uint64))
    keep = compare(tf.bitcast(own, tf.uint8), tf.bitcast(tf.concat([limit] * _WORDS, 0), tf.uint8))
    return tf.reshape(tf.reshape(keep, [-1])[:count], shape)


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
