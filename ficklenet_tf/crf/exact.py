"""The dense CRF with its kernels written out: one [pixels, pixels] matrix per image.

Kraehenbuehl & Koltun 2011 without their approximation of the filter.
"""

from collections.abc import Callable

import tensorflow as tf

from ficklenet_tf.crf import updates
from ficklenet_tf.crf.spec import REFERENCE, CRFSpec


def mean_field(images: tf.Tensor, logits: tf.Tensor, spec: CRFSpec, iterations: int | tf.Tensor) -> tf.Tensor:
    """Runs mean field with dense kernels; see `ficklenet_tf.crf.mean_field`.

    Args:
      images: `[batch, height, width, 3]` RGB 0..255, any number type.
      logits: `[batch, height, width, classes]` float32 or float64.
      spec: a `CRFSpec`.
      iterations: an int, or `[batch]` int32.

    Returns:
      `[batch, height, width, classes]` probabilities.
    """
    batch = (images, logits) if isinstance(iterations, int) else (images, logits, iterations)
    height, width = tf.unstack(tf.shape(images)[1:3])
    positions = _position_terms(height, width, spec, logits.dtype)

    def refine(images: tf.Tensor, logits: tf.Tensor, counts: int | tf.Tensor = iterations) -> tf.Tensor:
        message = pairwise_filter(images, positions, spec)
        counts = counts if isinstance(counts, int) else counts[:, None, None, None]
        return updates.iterate([logits], lambda probs: [message(probs[0])], counts)[0]

    if tf.config.list_logical_devices("GPU"):
        return refine(*batch)
    # A CPU takes one image after another: its kernel then stays in the cache over the updates.
    return tf.map_fn(lambda example: refine(*(tensor[None] for tensor in example))[0], batch,
                     fn_output_signature=tf.TensorSpec(logits.shape[1:], logits.dtype))


def pairwise_filter(images: tf.Tensor, positions: tuple[tf.Tensor, tf.Tensor, tf.Tensor],
                    spec: CRFSpec) -> Callable[[tf.Tensor], tf.Tensor]:
    """Builds the sum of both kernels, each weighted and symmetrically normalised, as a function of probabilities.

    Args:
      images: `[batch, height, width, 3]` RGB 0..255.
      positions: see `_position_terms`.
      spec: a `CRFSpec`.

    Returns:
      A function from `[batch, height, width, classes]` probabilities to their filtered values, less those of
      the last class: the softmax that follows does not see the difference, and there is one class less to multiply.
    """
    exponent, along_y, along_x = positions
    height, width, num_pixels = tf.shape(along_y)[0], tf.shape(along_x)[0], tf.shape(exponent)[0]
    colour_distances = _squared_colour_distances(tf.cast(images, exponent.dtype))
    bilateral = tf.exp(exponent - colour_distances * (0.5 / spec.bilateral_sigma_rgb**2))
    scale = spec.bilateral_weight**0.5 * tf.math.rsqrt(tf.reduce_sum(bilateral, axis=-1, keepdims=True))

    def filtered(probs: tf.Tensor) -> tf.Tensor:
        values = probs[..., :-1] - probs[..., -1:]
        shape = tf.shape(values)
        flat = tf.reshape(values, [shape[0], num_pixels, shape[3]])
        by_colour = scale * tf.matmul(bilateral, scale * flat)
        by_position = tf.matmul(along_y, tf.reshape(values, [shape[0], height, width * shape[3]]))
        by_position = tf.matmul(along_x, tf.reshape(by_position, shape))
        message = tf.reshape(by_colour, shape) + spec.gaussian_weight * by_position
        return tf.pad(message, [[0, 0], [0, 0], [0, 0], [0, 1]])

    return filtered


def _position_terms(height: tf.Tensor, width: tf.Tensor, spec: CRFSpec,
                    dtype: tf.DType) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """What depends on positions alone.

    Returns:
      (the positions' part of the bilateral kernel's exponent, `[pixels, pixels]`; the position-only kernel along y,
      `[height, height]`, and along x, `[width, width]`).
    """
    pixel = REFERENCE / tf.cast(tf.maximum(height, width), dtype) if spec.relative else 1.0
    rows, columns = (pixel**2 * _squared_distances(side, dtype) for side in (height, width))
    distances = tf.reshape(rows[:, None, :, None] + columns[None, :, None, :], [height * width, height * width])
    # The position-only kernel is the product of one along columns and one along rows.
    along_y, along_x = (_normalized(tf.exp(line * (-0.5 / spec.gaussian_sigma_xy**2))) for line in (rows, columns))
    return distances * (-0.5 / spec.bilateral_sigma_xy**2), along_y, along_x


def _squared_colour_distances(images: tf.Tensor) -> tf.Tensor:
    """Returns the squared distances of the colours, `[batch, pixels, pixels]`."""
    colours = tf.reshape(tf.stop_gradient(images), [tf.shape(images)[0], -1, 3]) - 128
    # |a - b|^2 = |a|^2 + |b|^2 - 2 a.b in one product. The squares come in two parts of eight bits each, so that
    # integer colours are exact, on GPUs too, which multiply in TF32.
    squares, ones = tf.reduce_sum(tf.square(colours), axis=-1, keepdims=True), tf.ones_like(colours[..., :1])
    high = tf.floor(squares / 256) * 256
    low = squares - high
    return tf.matmul(tf.concat([-2 * colours, high, low, ones, ones], axis=-1),
                     tf.concat([colours, ones, ones, high, low], axis=-1), transpose_b=True)


def _squared_distances(size: tf.Tensor, dtype: tf.DType) -> tf.Tensor:
    """Returns the squared distances between the positions of a line, `[size, size]`."""
    positions = tf.cast(tf.range(size), dtype)
    return tf.square(positions[:, None] - positions[None, :])


def _normalized(kernel: tf.Tensor) -> tf.Tensor:
    """Returns D^-1/2 K D^-1/2 of a line; that of the grid is the Kronecker product of its lines'."""
    scale = tf.math.rsqrt(tf.reduce_sum(kernel, axis=-1))
    return kernel * scale[:, None] * scale[None, :]
