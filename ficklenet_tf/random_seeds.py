"""Random numbers that are the same by TensorFlow, by XLA and on every machine.

They agree on whole numbers from seeds without a sign, and on nothing else: not on negative seeds, not on float32.
"""

import tensorflow as tf

SEED_BITS = 0x7FFFFFFF


def fold_in(seed: tf.Tensor, number: int | tf.Tensor) -> tf.Tensor:
    """Returns a new seed, `[2]` without signs, that is a function of `seed`, `[2]` integers, and a number."""
    return tf.random.fold_in(seed & SEED_BITS, number) & SEED_BITS


def uniform(seed: tf.Tensor, count: int) -> tf.Tensor:
    """Returns `[count]` float32, uniform in 0 <= x < 1 in steps of 2^-24, from a seed, `[2]` integers."""
    words = tf.random.stateless_uniform([count], seed & SEED_BITS, None, None, tf.uint64)
    return tf.cast(tf.bitwise.right_shift(words, tf.constant(40, tf.uint64)), tf.float32) * 2.0**-24
