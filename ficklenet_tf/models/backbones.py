"""Fully convolutional backbones of stride 8: dilated VGG-16, ResNet-50/101, and a small one for the demo.

VGG-16 as in DeepLab-LargeFOV: all pools 3 x 3 with padding 1, the last two of
stride 1, the last block dilated by 2, so 321 x 321 gives 41 x 41 x 512
(FickleNet, Section 4.1). ResNets as in DeepLab-v2: conv4 dilated by 2, conv5 by 4.
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import keras
import tensorflow as tf
from keras import layers

from ficklenet_tf.errors import UserError
from ficklenet_tf.models.dilated_convolution import DilatedConv2D
from ficklenet_tf.models.precision import policy

STRIDE = 8
_VGG_BLOCKS = ((64, 2, 1), (128, 2, 1), (256, 3, 1), (512, 3, 1), (512, 3, 2))  # channels, convolutions, dilation


def _vgg16(x: keras.KerasTensor) -> keras.KerasTensor:
    for block, (channels, depth, dilation) in enumerate(_VGG_BLOCKS, 1):
        if block > 1:
            x = layers.MaxPooling2D(3, strides=2 if block < 5 else 1, padding="same", name=f"block{block - 1}_pool")(x)
        for k in range(1, depth + 1):
            x = DilatedConv2D(channels, 3, padding="same", dilation_rate=dilation, activation="relu",
                              name=f"block{block}_conv{k}")(x)
    return x


def _small(x: keras.KerasTensor) -> keras.KerasTensor:
    """Six 3 x 3 convolutions with batch norm, trained from nothing in minutes.

    A unit sees 43 pixels: less than the demo's objects and more than their parts.
    """
    # With several replicas batch norm uses the mean and variance of the whole batch.
    num_replicas = tf.distribute.get_strategy().num_replicas_in_sync
    for block, (channels, stride) in enumerate(((24, 2), (32, 1), (48, 2), (64, 1), (96, 2), (128, 1)), 1):
        x = DilatedConv2D(channels, 3, strides=stride, padding="same", use_bias=False, name=f"block{block}_conv")(x)
        x = layers.BatchNormalization(synchronized=num_replicas > 1, name=f"block{block}_bn")(x)
        x = layers.ReLU(name=f"block{block}_relu")(x)
    return x


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


def _resnet(x: keras.KerasTensor, depths: Sequence[int]) -> keras.KerasTensor:
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


@dataclasses.dataclass(frozen=True)
class Backbone:
    """How a backbone is built.

    Attributes:
      layers: normalised `[b, height, width, 3]` symbolic tensor -> rectified features of stride 8.
      last_block: prefixes of the layers' names that "last_block" trains.
      frozen_norm: whether batch norm stays as it is, with pretrained weights (DeepLab-v2).
    """

    layers: Callable[[keras.KerasTensor], keras.KerasTensor]
    last_block: tuple[str, ...]
    frozen_norm: bool = False


# By the name in --backbone. pretrained.py knows under which names keras.applications has their weights.
BACKBONES = {
    "vgg16": Backbone(_vgg16, ("block5",)),
    "resnet50": Backbone(lambda x: _resnet(x, (3, 4, 6, 3)), ("conv5",), frozen_norm=True),
    "resnet101": Backbone(lambda x: _resnet(x, (3, 4, 23, 3)), ("conv5",), frozen_norm=True),
    "small": Backbone(_small, ("block5", "block6")),
}


def build(name: str, trainable: str = "all", precision: str = "float32") -> keras.Model:
    """Builds a backbone.

    Args:
      name: a key of `BACKBONES`.
      trainable: "all", "last_block" (VGG's block5, ResNet's conv5, the last two of "small"), or "none".
        Batch norm of a pretrained ResNet stays frozen in all of them (DeepLab-v2).
      precision: of the computation, see `precision.policy`.

    Returns:
      A functional `keras.Model`: `[batch, height, width, 3]` normalised float32 ->
      `[batch, ceil(height / 8), ceil(width / 8), channels]` rectified features.

    Raises:
      UserError: unknown name or `trainable`.
    """
    if name not in BACKBONES:
        raise UserError(f"backbone: expected one of {', '.join(BACKBONES)}, found {name!r}")
    if trainable not in ("all", "last_block", "none"):
        raise UserError(f"trainable: expected all, last_block or none, found {trainable!r}")
    backbone, inputs = BACKBONES[name], keras.Input((None, None, 3), name="image")
    with policy(precision):
        model = keras.Model(inputs, backbone.layers(inputs), name=name)
    for layer in model.layers:
        layer.trainable = trainable == "all" or (trainable == "last_block"
                                                 and layer.name.startswith(backbone.last_block))
        if backbone.frozen_norm and isinstance(layer, layers.BatchNormalization):
            layer.trainable = False
    return model
