"""The dense CRF with its kernels written out: one [pixels, pixels] matrix an image.

Kraehenbuehl & Koltun 2011 without their approximation of the filter.
"""

import tensorflow as tf

from ficklenet_tf.crf import updates


def mean_field(images, logits, spec, iterations):
    """Runs mean field with dense kernels; see `ficklenet_tf.crf.mean_field`.

    Args:
      images: `[batch, height, width, 3]` RGB 0..255, any number type.
      logits: `[batch, height, width, classes]` float32 or float64.
      spec: a `CRFSpec`.
      iterations: an int, or `[batch]` int32.

    Returns:
      `[batch, height, width, classes]` probabilities.
    """
    message = pairwise_filter(images, spec, logits.dtype)
    if not isinstance(iterations, int):
        iterations = iterations[:, None, None, None]
    [probs] = updates.iterate([logits], lambda parts: [message(parts[0])], iterations)
    return probs


def pairwise_filter(images, spec, dtype):
    """Builds the sum of both kernels, each weighted and symmetrically normalised, as a linear function.

    Args:
      images: `[batch, height, width, 3]` RGB 0..255.
      spec: a `CRFSpec`.
      dtype: type of the values to filter.

    Returns:
      A function from `[batch, height, width, classes]` values to the like.
    """
    shape = tf.shape(images)
    height, width, n = shape[1], shape[2], shape[1] * shape[2]
    bilateral = _bilateral_kernel(tf.cast(images, dtype), spec)
    scale = tf.math.rsqrt(tf.reduce_sum(bilateral, axis=-1, keepdims=True))
    # The position-only kernel is the product of one along columns and one along rows.
    along_y, along_x = (_normalized(tf.exp(-0.5 * _squares(size, dtype) / spec.gaussian_sigma_xy**2))
                        for size in (height, width))

    def filtered(values):
        shape = tf.shape(values)
        flat = tf.reshape(values, [shape[0], n, shape[3]])
        by_colour = spec.bilateral_weight * scale * tf.matmul(bilateral, scale * flat)
        by_place = tf.matmul(along_y, tf.reshape(values, [shape[0], height, width * shape[3]]))
        by_place = tf.matmul(along_x, tf.reshape(by_place, shape))
        return tf.reshape(by_colour, shape) + spec.gaussian_weight * by_place

    return filtered


def _bilateral_kernel(images, spec):
    """[batch, n, n] exp(-distance^2 / 2) of positions and colours."""
    shape = tf.shape(images)
    colours = tf.reshape(tf.stop_gradient(images), [shape[0], shape[1] * shape[2], 3]) - 128
    # |a - b|^2 / 2 = |a|^2 / 2 + |b|^2 / 2 - a.b in one product: of whole colours float32 gets it exactly.
    halves, ones = -0.5 * tf.reduce_sum(tf.square(colours), axis=-1, keepdims=True), tf.ones_like(colours[..., :1])
    unlikeness = tf.matmul(tf.concat([colours, halves, ones], axis=-1), tf.concat([colours, ones, halves], axis=-1),
                           transpose_b=True)
    rows, columns = (_squares(size, images.dtype) for size in (shape[1], shape[2]))
    apart = tf.reshape(rows[:, None, :, None] + columns[None, :, None, :], [1, tf.shape(colours)[1], -1])
    return tf.exp(unlikeness / spec.bilateral_sigma_rgb**2 - apart * (0.5 / spec.bilateral_sigma_xy**2))


def _squares(size, dtype):
    """[size, size] squared distances between the positions of a line."""
    line = tf.cast(tf.range(size), dtype)
    return tf.square(line[:, None] - line[None, :])


def _normalized(kernel):
    """D^-1/2 K D^-1/2 of one line; the grid's is the Kronecker product of its lines'."""
    scale = tf.math.rsqrt(tf.reduce_sum(kernel, axis=-1))
    return kernel * scale[:, None] * scale[None, :]
