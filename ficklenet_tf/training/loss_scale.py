"""Dynamic loss scaling for float16: small gradients are lifted above its 6e-8 (Micikevicius et al. 2018, Section 3.2).

Our own, because Keras' LossScaleOptimizer looks at one replica's gradients before they are summed:
another replica's overflow would reach the weights.
"""

from collections.abc import Callable, Sequence

import tensorflow as tf

_GROW_AFTER = 2000  # finite steps until the scale is doubled


class LossScale:
    """A scale that is halved when a gradient overflows (that step is left out) and doubled after 2000 good steps.

    Args:
      initial: too high costs a few steps at the start, too low loses gradients.
    """

    def __init__(self, initial: float = 2.0**15) -> None:
        self.scale = tf.Variable(initial, dtype=tf.float32, trainable=False)
        self.good_steps = tf.Variable(0, dtype=tf.int64, trainable=False)
        self.variables = [self.scale, self.good_steps]

    def scaled(self, loss: tf.Tensor) -> tf.Tensor:
        """Returns the loss whose gradient is to be taken."""
        return loss * self.scale

    def unscaled(self, gradients: Sequence[tf.Tensor]) -> list[tf.Tensor]:
        """Returns the gradients of the loss itself."""
        return [g / self.scale for g in gradients]

    def apply(self, finite: tf.Tensor, update: Callable[[], None]) -> tf.Tensor:
        """Calls `update` if the gradients were finite, and moves the scale; returns the scale of this step.

        Args:
          finite: scalar bool tensor.
          update: a function without arguments that applies the gradients.
        """
        before = tf.identity(self.scale)

        def grow() -> tf.Tensor:
            update()
            enough = self.good_steps + 1 >= _GROW_AFTER
            self.scale.assign(tf.where(enough, before * 2, before))
            self.good_steps.assign(tf.where(enough, tf.zeros_like(self.good_steps), self.good_steps + 1))
            return tf.constant(0)

        def shrink() -> tf.Tensor:
            self.scale.assign(before / 2)
            self.good_steps.assign(0)
            return tf.constant(0)

        with tf.control_dependencies([before]):
            tf.cond(finite, grow, shrink)
        return before


def count_not_finite(tensors: Sequence[tf.Tensor]) -> tf.Tensor:
    """Returns a float32 scalar: how many of a list of tensors have an entry that is not finite."""
    return tf.add_n([tf.cast(~tf.reduce_all(tf.math.is_finite(t)), tf.float32) for t in tensors])
