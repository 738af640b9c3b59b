"""ResNets of stride 8 as in DeepLab-v2: conv4 dilated by 2, conv5 by 4; names and strides of the Keras ResNets."""

from collections.abc import Sequence
from typing import Any

import keras
from keras import layers

from ficklenet_tf.models.dilated_convolution import DilatedConv2D


def _bottleneck(x: keras.KerasTensor, channels: int, stride: int, dilation: int, project: bool,
                name: str) -> keras.KerasTensor:
    """Residual bottleneck of the Keras ResNets (stride on the first 1 x 1), with a dilated 3 x 3."""
    def conv_norm(x: keras.KerasTensor, channels: int, size: int, number: int, **options: Any) -> keras.KerasTensor:
        x = DilatedConv2D(channels, size, padding="same", name=f"{name}_{number}_conv", **options)(x)
        return layers.BatchNormalization(epsilon=1.001e-5, name=f"{name}_{number}_bn")(x)

    shortcut = conv_norm(x, 4 * channels, 1, 0, strides=stride) if project else x
    x = layers.ReLU(name=f"{name}_1_relu")(conv_norm(x, channels, 1, 1, strides=stride))
    x = layers.ReLU(name=f"{name}_2_relu")(conv_norm(x, channels, 3, 2, dilation_rate=dilation))
    x = conv_norm(x, 4 * channels, 1, 3)
    return layers.ReLU(name=f"{name}_out")(layers.Add(name=f"{name}_add")([shortcut, x]))


def layers_of(x: keras.KerasTensor, depths: Sequence[int]) -> keras.KerasTensor:
    """Returns the features `[b, h / 8, w / 8, 2048]` of a normalised photograph.

    Args:
      x: symbolic `[b, h, w, 3]`.
      depths: how many bottlenecks conv2 to conv5 have: (3, 4, 6, 3) of ResNet-50.
    """
    x = layers.ZeroPadding2D(3, name="conv1_pad")(x)
    x = layers.Conv2D(64, 7, strides=2, name="conv1_conv")(x)
    x = layers.ReLU(name="conv1_relu")(layers.BatchNormalization(epsilon=1.001e-5, name="conv1_bn")(x))
    x = layers.MaxPooling2D(3, strides=2, name="pool1_pool")(layers.ZeroPadding2D(1, name="pool1_pad")(x))
    for stage, (depth, channels, stride, dilation) in enumerate(
            zip(depths, (64, 128, 256, 512), (1, 2, 1, 1), (1, 1, 2, 4), strict=True), 2):
        for block in range(1, depth + 1):
            name = f"conv{stage}_block{block}"
            x = _bottleneck(x, channels, stride if block == 1 else 1, dilation, block == 1, name)
    return x
