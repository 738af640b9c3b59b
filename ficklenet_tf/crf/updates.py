"""The mean-field update that the backends inside the graph share (Kraehenbuehl & Koltun 2011, algorithm 1)."""

import tensorflow as tf


def iterate(logits, message, iterations):
    """Repeats Q <- softmax(logits + message(Q)) from Q = softmax(logits).

    Args:
      logits: list of `[..., classes]`, minus the unary energies: the pixels, in parts.
      message: function from such a list, of probabilities, to the like: what the other
        pixels say, weighted.
      iterations: an int, or an int32 scalar, or an int32 tensor that broadcasts to each
        of `logits`: rows that have had theirs keep their answer.

    Returns:
      Probabilities, like `logits`.
    """
    fixed = isinstance(iterations, int)
    common = fixed or iterations.shape.rank == 0
    last = iterations if common else tf.reduce_max(iterations)

    def update(step, probs):
        refined = [softmax(unary + term) for unary, term in zip(logits, message(probs), strict=True)]
        if not common:
            refined = [tf.where(step < iterations, new, old) for new, old in zip(refined, probs, strict=True)]
        return step + 1, refined

    # XLA differentiates a loop only where its length is known beforehand.
    _, probs = tf.while_loop(lambda step, _: step < last, update,
                             (tf.constant(0), [softmax(unary) for unary in logits]),
                             maximum_iterations=iterations if fixed else None)
    return probs


def softmax(scores):
    """Softmax over the last axis; for a few classes and many pixels, CPUs run `tf.nn.softmax` at half this speed.

    Args:
      scores: `[..., classes]` float32 or float64, finite.

    Returns:
      Probabilities, like `scores`.
    """
    # The greatest score cancels out, in the gradient too.
    powers = tf.exp(scores - tf.stop_gradient(tf.reduce_max(scores, axis=-1, keepdims=True)))
    return powers / tf.reduce_sum(powers, axis=-1, keepdims=True)
