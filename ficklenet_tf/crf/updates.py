"""The mean-field update that the backends inside the graph share (Kraehenbuehl & Koltun 2011, algorithm 1)."""

from collections.abc import Callable, Sequence

import tensorflow as tf


def iterate(logits: list[tf.Tensor], message: Callable[[Sequence[tf.Tensor]], list[tf.Tensor]],
            iterations: int | tf.Tensor) -> list[tf.Tensor]:
    """Repeats Q <- softmax(logits + message(Q)) from Q = softmax(logits).

    Args:
      logits: list of `[..., classes]`, minus the unary energies: the pixels, in parts.
      message: function from such a list of probabilities to a list of the same shapes: what the
        other pixels say, weighted.
      iterations: an int, or an int32 scalar, or an int32 tensor that broadcasts to each
        of `logits`: rows that have had theirs keep their answer.

    Returns:
      Probabilities, of the shapes of `logits`.
    """
    same_for_all = isinstance(iterations, int) or iterations.shape.rank == 0
    most = iterations if same_for_all else tf.reduce_max(iterations)

    def update(step: tf.Tensor, probs: list[tf.Tensor]) -> tuple[tf.Tensor, list[tf.Tensor]]:
        refined = [softmax(unary + term) for unary, term in zip(logits, message(probs), strict=True)]
        if not same_for_all:
            refined = [tf.where(step < iterations, new, old) for new, old in zip(refined, probs, strict=True)]
        return step + 1, refined

    # XLA differentiates a loop only where its length is known beforehand.
    _, probs = tf.while_loop(lambda step, _: step < most, update,
                             (tf.constant(0), [softmax(unary) for unary in logits]),
                             maximum_iterations=iterations if isinstance(iterations, int) else None)
    return probs


def softmax(scores: tf.Tensor) -> tf.Tensor:
    """Softmax over the last axis; for a few classes and many pixels twice as fast as `tf.nn.softmax` on CPUs.

    Args:
      scores: `[..., classes]` float32 or float64, finite.

    Returns:
      Probabilities, of the shape and type of `scores`.
    """
    # The greatest score cancels out, in the gradient too.
    powers = tf.exp(scores - tf.stop_gradient(tf.reduce_max(scores, axis=-1, keepdims=True)))
    return powers / tf.reduce_sum(powers, axis=-1, keepdims=True)
