"""Dilated (atrous) convolution that can be trained wherever TensorFlow runs (DeepLab: Chen et al. 2015, Section 3.1).

TensorFlow itself has no CPU gradient of a convolution with dilations. oneDNN brings one, but it is off on many
processors and absent on others. So the gradient is written here, from operations that every device has.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import keras
import tensorflow as tf
from keras import layers

from ficklenet_tf.errors import UserError


def conv2d(x: tf.Tensor, kernel: tf.Tensor, dilation: tuple[int, int]) -> tf.Tensor:
    """Convolves with stride 1, zero padded to the size of the input; differentiable any number of times.

    The forward pass is `tf.nn.conv2d`, and on a GPU so is the backward pass. On a CPU the gradient of the input is
    a convolution of the same dilation with the kernel rotated by 180 degrees, and that of the kernel is one matrix
    product per tap. Where all taps together have fewer outputs than there are channels, as where ASPP goes straight to
    the classes, outputs are shifted in place of inputs, and one matrix product does for all taps.

    Args:
      x: `[batch, height, width, channels]`, a float type.
      kernel: `[k, k', channels, out]` of the same type, k and k' odd.
      dilation: (vertical, horizontal) distance of neighbouring taps, in pixels.

    Returns:
      `[batch, height, width, out]`, of the type of `x`.
    """
    if _on_gpu():
        return tf.nn.conv2d(x, kernel, 1, "SAME", dilations=dilation)
    few = kernel.shape[0] * kernel.shape[1] * kernel.shape[3] <= kernel.shape[2]
    kernel_gradient = _kernel_gradient_of_few if few else _kernel_gradient

    @tf.custom_gradient
    def convolve(x: tf.Tensor, kernel: tf.Tensor) -> tuple[tf.Tensor, Callable]:
        def gradient(upstream: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            rotated = tf.transpose(tf.reverse(kernel, [0, 1]), [0, 1, 3, 2])
            return conv2d(upstream, rotated, dilation), kernel_gradient(x, upstream, kernel.shape, dilation)

        if few and x.dtype.size >= 4:  # half precision would round every tap's output
            return _product_first(x, kernel, dilation), gradient
        return tf.nn.conv2d(x, kernel, 1, "SAME", dilations=dilation), gradient

    return convolve(x, kernel)


def _on_gpu() -> bool:
    """Whether an operation made here will run on a GPU, as far as can be told while a graph is traced."""
    return bool(tf.config.list_logical_devices("GPU")) and "CPU" not in tf.zeros([]).device


def _product_first(x: tf.Tensor, kernel: tf.Tensor, dilation: tuple[int, int]) -> tf.Tensor:
    """The convolution as a sum of shifted products, one for each tap."""
    taps, channels, out = kernel.shape[0] * kernel.shape[1], kernel.shape[2], kernel.shape[3]
    columns = tf.reshape(tf.transpose(kernel, [2, 0, 1, 3]), [channels, taps * out])
    products = tf.split(tf.tensordot(x, columns, 1), taps, axis=-1)
    shifts = _shifts(tf.shape(x), kernel.shape, dilation)
    return tf.add_n([_moved(product, *shift) for product, shift in zip(products, shifts, strict=True)])


def _kernel_gradient_of_few(x: tf.Tensor, upstream: tf.Tensor, shape: Sequence[int],
                            dilation: tuple[int, int]) -> tf.Tensor:
    """`_kernel_gradient` by one product with the upstream gradients of all taps, each at the positions it saw."""
    shifted = tf.concat([_moved(upstream, to, of) for of, to in _shifts(tf.shape(x), shape, dilation)], -1)
    columns = tf.matmul(tf.reshape(x, [-1, shape[2]]),
                        tf.reshape(shifted, [-1, shape[0] * shape[1] * shape[3]]), transpose_a=True)
    return tf.transpose(tf.reshape(columns, [shape[2], shape[0], shape[1], shape[3]]), [1, 2, 0, 3])


def _kernel_gradient(x: tf.Tensor, upstream: tf.Tensor, shape: Sequence[int], dilation: tuple[int, int]) -> tf.Tensor:
    """The gradient of `conv2d` with respect to the kernel, `[k, k', channels, out]`."""
    tap_gradients = [tf.matmul(tf.reshape(x[:, *of], [-1, shape[2]]), tf.reshape(upstream[:, *to], [-1, shape[3]]),
                               transpose_a=True) for of, to in _shifts(tf.shape(x), shape, dilation)]
    return tf.reshape(tf.stack(tap_gradients), shape)


_Window = tuple[slice, slice]


def _shifts(input_shape: tf.Tensor, kernel_shape: Sequence[int],
            dilation: tuple[int, int]) -> Iterator[tuple[_Window, _Window]]:
    """Yields for each tap, row by row, the window of the input that it sees and that of the output it adds to."""
    sides = input_shape[1], input_shape[2]
    for row in range(-(kernel_shape[0] // 2), kernel_shape[0] // 2 + 1):
        for column in range(-(kernel_shape[1] // 2), kernel_shape[1] // 2 + 1):
            # This tap sees x[u + shift] where the output is at u: only where both lie inside.
            rows, columns = (_overlap(step * distance, side) for step, distance, side in
                             zip((row, column), dilation, sides, strict=True))
            yield (rows[0], columns[0]), (rows[1], columns[1])


def _moved(x: tf.Tensor, of: _Window, to: _Window) -> tf.Tensor:
    """Returns the window `of` of `[b, h, w, channels]` at the place `to`, zeros around it."""
    sides = tf.shape(x)[1], tf.shape(x)[2]
    around = [[part.start, side - part.stop] for part, side in zip(to, sides, strict=True)]
    return tf.pad(x[:, *of], [[0, 0], *around, [0, 0]])


def _overlap(shift: int, side: tf.Tensor) -> tuple[slice, slice]:
    """Slices of two axes of length `side`, the positions u + shift and u, for the u at which both are inside."""
    forward, backward = tf.minimum(max(shift, 0), side), tf.minimum(max(-shift, 0), side)
    return slice(forward, side - backward), slice(backward, side - forward)


@keras.saving.register_keras_serializable("ficklenet")
class DilatedConv2D(layers.Conv2D):
    """`keras.layers.Conv2D` that can be trained with dilation on every device.

    Keras goes through space-to-batch on a CPU, several times slower than `conv2d` of this module. With a dilation the
    kernel's sides must be odd, the padding "same", in one group; and strides 1, as Keras demands. Channels are last.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if self.data_format != "channels_last":
            raise UserError(f"{self.name}: expected channels_last, found {self.data_format}")
        if self._dilated and (self.padding != "same" or self.groups != 1
                              or not all(side % 2 for side in self.kernel_size)):
            raise UserError(f"{self.name}: dilation expects an odd kernel, padding same, one group")

    @property
    def _dilated(self) -> bool:
        return max(self.dilation_rate) > 1

    def convolution_op(self, inputs: tf.Tensor, kernel: keras.Variable | tf.Tensor) -> tf.Tensor:
        """Convolves; see `keras.layers.Conv2D`."""
        if self._dilated:
            return conv2d(inputs, tf.convert_to_tensor(kernel), self.dilation_rate)
        return tf.nn.conv2d(inputs, kernel, self.strides, self.padding.upper())
