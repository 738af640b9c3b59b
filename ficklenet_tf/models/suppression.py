"""Discriminative region suppression: no unit stands far above the others of its channel (DRS, Kim et al., AAAI 2021).

With its non-learnable controller, y[u, k] = min(ReLU(x[u, k]), delta * max_v ReLU(x[v, k])) of each image and channel
k: the most discriminative positions are cut to a share of the maximum, so that the others count for more in the
average below the loss, and in the map. As in the authors' code the maximum carries a gradient: what comes down to a
position that was cut goes, times delta, to where the maximum is.
"""

import tensorflow as tf


def suppress(x: tf.Tensor, delta: float) -> tf.Tensor:
    """Cuts rectified units to a share of their maximum over the positions.

    Args:
      x: `[b, h, w, k]`, not negative.
      delta: the share, 0..1; 1 changes nothing.

    Returns:
      As `x`.
    """
    if delta == 1:
        return x
    return tf.minimum(x, delta * tf.reduce_max(x, axis=(1, 2), keepdims=True))
