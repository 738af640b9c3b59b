"""The mean-field update that the backends inside the graph share (Kraehenbuehl & Koltun 2011, algorithm 1)."""

import tensorflow as tf


def iterate(logits, message, iterations):
    """Repeats Q <- softmax(logits + message(Q)) from Q = softmax(logits).

    Args:
      logits: `[..., classes]`, minus the unary energies.
      message: function of the probabilities, like `logits`, returning what the other
        pixels say, weighted, like `logits`.
      iterations: an int, or an int32 tensor that broadcasts to `logits`: rows that have
        had theirs keep their answer.

    Returns:
      Probabilities, like `logits`.
    """
    fixed = isinstance(iterations, int)
    last = iterations if fixed else tf.reduce_max(iterations)

    def update(step, probs):
        refined = tf.nn.softmax(logits + message(probs))
        return step + 1, refined if fixed else tf.where(step < iterations, refined, probs)

    # XLA differentiates a loop only where its length is known beforehand.
    _, probs = tf.while_loop(lambda step, _: step < last, update, (tf.constant(0), tf.nn.softmax(logits)),
                             maximum_iterations=iterations if fixed else None)
    return probs
