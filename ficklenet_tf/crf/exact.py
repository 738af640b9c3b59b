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
    shape = tf.shape(logits)
    flat = tf.reshape(logits, [shape[0], shape[1] * shape[2], shape[3]])
    kernel = pairwise_kernel(images, spec, logits.dtype)
    if not isinstance(iterations, int):
        iterations = iterations[:, None, None]
    [probs] = updates.iterate([flat], lambda parts: [tf.matmul(kernel, parts[0])], iterations)
    return tf.reshape(probs, shape)


def pairwise_kernel(images, spec, dtype):
    """Returns both kernels, each weighted and symmetrically normalised, summed.

    Args:
      images: `[batch, height, width, 3]` RGB 0..255.
      spec: a `CRFSpec`.
      dtype: type of the answer.

    Returns:
      `[batch, height * width, height * width]`, symmetric.
    """
    shape = tf.shape(images)
    batch, height, width, n = shape[0], shape[1], shape[2], shape[1] * shape[2]
    colours = tf.reshape(tf.stop_gradient(tf.cast(images, dtype)), [batch, n, 3]) / spec.bilateral_sigma_rgb
    distance = tf.zeros([], dtype)
    for channel in tf.unstack(colours, axis=-1):
        distance += tf.square(channel[:, :, None] - channel[:, None, :])
    positions = _grid(_squares(height, dtype), _squares(width, dtype), tf.add)
    bilateral = tf.exp(-0.5 * (distance + positions / spec.bilateral_sigma_xy**2))
    scale = tf.math.rsqrt(tf.reduce_sum(bilateral, axis=-1))
    bilateral *= spec.bilateral_weight * scale[:, :, None] * scale[:, None, :]
    rows, columns = (_normalized(tf.exp(-0.5 * _squares(size, dtype) / spec.gaussian_sigma_xy**2))
                     for size in (height, width))
    return bilateral + spec.gaussian_weight * _grid(rows, columns, tf.multiply)


def _squares(size, dtype):
    """[size, size] squared distances between the positions of a line."""
    line = tf.cast(tf.range(size), dtype)
    return tf.square(line[:, None] - line[None, :])


def _normalized(kernel):
    """D^-1/2 K D^-1/2 of one line; the grid's is the Kronecker product of its lines'."""
    scale = tf.math.rsqrt(tf.reduce_sum(kernel, axis=-1))
    return kernel * scale[:, None] * scale[None, :]


def _grid(rows, columns, combine):
    """[h, h] and [w, w] to [1, h * w, h * w]: entry (y x, y' x') is combine(rows[y, y'], columns[x, x'])."""
    n = tf.shape(rows)[0] * tf.shape(columns)[0]
    return tf.reshape(combine(rows[:, None, :, None], columns[None, :, None, :]), [1, n, n])
