"""Dilated (atrous) convolution that can be trained wherever TensorFlow runs (DeepLab: Chen et al. 2015, Section 3.1).

TensorFlow itself has no CPU gradient of a convolution with dilations. oneDNN brings one, but it is off on many
processors and absent on others. So the gradient is written here, from operations that every device has.
"""

from collections.abc import Callable, Sequence
from typing import Any

import keras
import tensorflow as tf
from keras import layers

from ficklenet_tf.errors import UserError


def conv2d(x: tf.Tensor, kernel: tf.Tensor, dilation: tuple[int, int]) -> tf.Tensor:
    """Convolves with stride 1, zero padded to the size of the input; differentiable any number of times.

    The forward pass is `tf.nn.conv2d`, and on a GPU so is the backward pass. On a CPU the gradient of the input is
    a convolution of the same dilation with the kernel rotated by 180 degrees, and that of the kernel is one matrix
    product per tap. Where the taps' outputs together are fewer than the channels, as where ASPP goes straight to the
    classes, they are computed first, one matrix product for all taps, and shifted then: what is moved is smaller.

    Args:
      x: `[batch, height, width, channels]`, a float type.
      kernel: `[k, k', channels, out]` of the same type, k and k' odd.
      dilation: (vertical, horizontal) distance of neighbouring taps, in pixels.

    Returns:
      `[batch, height, width, out]`, of the type of `x`.
    """
    if _on_gpu():
        return tf.nn.conv2d(x, kernel, 1, "SAME", dilations=dilation)
    taps, channels, out = kernel.shape[0] * kernel.shape[1], kernel.shape[2], kernel.shape[3]
    if taps * out <= channels and x.dtype.size >= 4:  # half precision would round every tap's output
        return _product_first(x, kernel, dilation)

    @tf.custom_gradient
    def convolve(x: tf.Tensor, kernel: tf.Tensor) -> tuple[tf.Tensor, Callable]:
        def gradient(upstream: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            rotated = tf.transpose(tf.reverse(kernel, [0, 1]), [0, 1, 3, 2])
            return conv2d(upstream, rotated, dilation), _kernel_gradient(x, upstream, kernel.shape, dilation)

        return tf.nn.conv2d(x, kernel, 1, "SAME", dilations=dilation), gradient

    return convolve(x, kernel)


def _on_gpu() -> bool:
    """Whether an operation made here will run on a GPU, as far as can be told while a graph is traced."""
    return bool(tf.config.list_logical_devices("GPU")) and "CPU" not in tf.zeros([]).device


def _product_first(x: tf.Tensor, kernel: tf.Tensor, dilation: tuple[int, int]) -> tf.Tensor:
    """`conv2d` as a sum of shifted outputs, one per tap; plain operations, which have gradients."""
    batch, *sides = tf.unstack(tf.shape(x)[:3])
    height, width, channels, out = kernel.shape
    columns = tf.reshape(tf.transpose(kernel, [2, 0, 1, 3]), [channels, -1])
    products = tf.reshape(tf.reshape(x, [-1, channels]) @ columns, [batch, *sides, height * width * out])
    shifted = []
    for tap in range(height * width):
        steps = tap // width - height // 2, tap % width - width // 2
        (x_rows, rows), (x_columns, columns) = (_overlap(step * distance, side) for step, distance, side in
                                                zip(steps, dilation, sides, strict=True))
        around = [[0, 0], *([part.start, side - part.stop] for part, side in
                            zip((rows, columns), sides, strict=True)), [0, 0]]
        shifted.append(tf.pad(products[:, x_rows, x_columns, tap * out:(tap + 1) * out], around))
    return tf.add_n(shifted)


def _kernel_gradient(x: tf.Tensor, upstream: tf.Tensor, shape: Sequence[int], dilation: tuple[int, int]) -> tf.Tensor:
    """The gradient of `conv2d` with respect to the kernel, `[k, k', channels, out]`."""
    sides = tf.shape(x)[1], tf.shape(x)[2]
    tap_gradients = []
    for row in range(-(shape[0] // 2), shape[0] // 2 + 1):
        for column in range(-(shape[1] // 2), shape[1] // 2 + 1):
            # This tap sees x[u + shift] where the output is at u: only where both lie inside.
            (x_rows, rows), (x_columns, columns) = (_overlap(step * distance, side) for step, distance, side in
                                                    zip((row, column), dilation, sides, strict=True))
            tap_gradients.append(tf.matmul(tf.reshape(x[:, x_rows, x_columns], [-1, shape[2]]),
                                           tf.reshape(upstream[:, rows, columns], [-1, shape[3]]), transpose_a=True))
    return tf.reshape(tf.stack(tap_gradients), shape)


def _overlap(shift: int, side: tf.Tensor) -> tuple[slice, slice]:
    """Slices of two axes of length `side`, the positions u + shift and u, for the u at which both are inside."""
    forward, backward = tf.minimum(max(shift, 0), side), tf.minimum(max(-shift, 0), side)
    return slice(forward, side - backward), slice(backward, side - forward)


@keras.saving.register_keras_serializable("ficklenet")
class DilatedConv2D(layers.Conv2D):
    """`keras.layers.Conv2D` that can be trained with dilation on every device.

    Keras goes through space-to-batch on a CPU, several times slower than `conv2d` of this module. With a dilation the
    kernel's sides must be odd, the padding "same", in one group, channels last; and strides 1, as Keras demands.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if self._dilated and (self.padding != "same" or self.groups != 1 or self.data_format != "channels_last"
                              or not all(side % 2 for side in self.kernel_size)):
            raise UserError(f"{self.name}: dilation expects an odd kernel, padding same, one group, channels last")

    @property
    def _dilated(self) -> bool:
        return max(self.dilation_rate) > 1

    def convolution_op(self, inputs: tf.Tensor, kernel: keras.Variable | tf.Tensor) -> tf.Tensor:
        """Convolves; see `keras.layers.Conv2D`."""
        if self._dilated:
            return conv2d(inputs, tf.convert_to_tensor(kernel), self.dilation_rate)
        return tf.nn.conv2d(inputs, kernel, self.strides, self.padding.upper())
