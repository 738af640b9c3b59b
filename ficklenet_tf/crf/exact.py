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
    rows = (images, logits) if isinstance(iterations, int) else (images, logits, iterations)
    places = _places(*tf.unstack(tf.shape(images)[1:3]), spec, logits.dtype)

    def refine(images, logits, counts=iterations):
        message = pairwise_filter(images, places, spec)
        counts = counts if isinstance(counts, int) else counts[:, None, None, None]
        return updates.iterate([logits], lambda parts: [message(parts[0])], counts)[0]

    if tf.config.list_logical_devices("GPU"):
        return refine(*rows)
    # A processor takes one image after another: over the updates the image's kernel then stays in the cache.
    return tf.map_fn(lambda row: refine(*(part[None] for part in row))[0], rows,
                     fn_output_signature=tf.TensorSpec(logits.shape[1:], logits.dtype))


def pairwise_filter(images, places, spec):
    """Builds the sum of both kernels, each weighted and symmetrically normalised, as a function of probabilities.

    Args:
      images: `[batch, height, width, 3]` RGB 0..255.
      places: see `_places`.
      spec: a `CRFSpec`.

    Returns:
      A function from `[batch, height, width, classes]` probabilities to their filtered values, less those of
      the last class: the softmax that follows does not see the difference, and a class less is multiplied.
    """
    apart, along_y, along_x = places
    height, width, n = tf.shape(along_y)[0], tf.shape(along_x)[0], tf.shape(apart)[0]
    bilateral = tf.exp(apart - _unlikeness(tf.cast(images, apart.dtype)) * (0.5 / spec.bilateral_sigma_rgb**2))
    scale = spec.bilateral_weight**0.5 * tf.math.rsqrt(tf.reduce_sum(bilateral, axis=-1, keepdims=True))

    def filtered(probs):
        values = probs[..., :-1] - probs[..., -1:]
        shape = tf.shape(values)
        flat = tf.reshape(values, [shape[0], n, shape[3]])
        by_colour = scale * tf.matmul(bilateral, scale * flat)
        by_place = tf.matmul(along_y, tf.reshape(values, [shape[0], height, width * shape[3]]))
        by_place = tf.matmul(along_x, tf.reshape(by_place, shape))
        message = tf.reshape(by_colour, shape) + spec.gaussian_weight * by_place
        return tf.pad(message, [[0, 0], [0, 0], [0, 0], [0, 1]])

    return filtered


def _places(height, width, spec, dtype):
    """What positions alone tell: the bilateral kernel's exponent `[n, n]`, the other kernel along y and along x."""
    rows, columns = _squares(height, dtype), _squares(width, dtype)
    apart = tf.reshape(rows[:, None, :, None] + columns[None, :, None, :], [height * width, height * width])
    # The position-only kernel is the product of one along columns and one along rows.
    lines = [_normalized(tf.exp(squares * (-0.5 / spec.gaussian_sigma_xy**2))) for squares in (rows, columns)]
    return apart * (-0.5 / spec.bilateral_sigma_xy**2), *lines


def _unlikeness(images):
    """[batch, n, n] squared distances of the colours."""
    colours = tf.reshape(tf.stop_gradient(images), [tf.shape(images)[0], -1, 3]) - 128
    # |a - b|^2 = |a|^2 + |b|^2 - 2 a.b in one product. Squares in two parts of eight bits each: so whole colours come
    # out exactly, on GPUs too, which multiply in TF32.
    squares, one = tf.reduce_sum(tf.square(colours), axis=-1, keepdims=True), tf.ones_like(colours[..., :1])
    high = tf.floor(squares / 256) * 256
    low = squares - high
    return tf.matmul(tf.concat([-2 * colours, high, low, one, one], axis=-1),
                     tf.concat([colours, one, one, high, low], axis=-1), transpose_b=True)


def _squares(size, dtype):
    """[size, size] squared distances between the positions of a line."""
    line = tf.cast(tf.range(size), dtype)
    return tf.square(line[:, None] - line[None, :])


def _normalized(kernel):
    """D^-1/2 K D^-1/2 of one line; the grid's is the Kronecker product of its lines'."""
    scale = tf.math.rsqrt(tf.reduce_sum(kernel, axis=-1))
    return kernel * scale[:, None] * scale[None, :]
