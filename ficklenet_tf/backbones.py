"""Fully convolutional backbones of stride 8: dilated VGG-16, ResNet-50/101, and a small one for the demo.

VGG-16 as in DeepLab-LargeFOV: all pools 3 x 3 with padding 1, the last two of
stride 1, the last block dilated by 2, so 321 x 321 gives 41 x 41 x 512
(FickleNet, Section 4.1). ResNets as in DeepLab-v2: conv4 dilated by 2, conv5 by 4.
"""

import contextlib
import pathlib

import keras
import numpy as np
import tensorflow as tf
from keras import layers

from ficklenet_tf import images

STRIDE = 8
NAMES = ("vgg16", "resnet50", "resnet101", "small")
PRECISIONS = ("float32", "bfloat16", "float16")
_VGG_BLOCKS = ((64, 2, 1), (128, 2, 1), (256, 3, 1), (512, 3, 1), (512, 3, 2))  # channels, convolutions, dilation
_RESNET_DEPTHS = {"resnet50": (3, 4, 6, 3), "resnet101": (3, 4, 23, 3)}


@keras.saving.register_keras_serializable("ficklenet")
class DilatedConv2D(layers.Conv2D):
    """Conv2D by the kernel's own dilation: Keras goes through space-to-batch on a CPU, several times slower."""

    def convolution_op(self, inputs, kernel):
        """Convolves; see `keras.layers.Conv2D`."""
        return tf.nn.conv2d(inputs, kernel, self.strides, self.padding.upper(), dilations=self.dilation_rate)


def _vgg16(x):
    for block, (channels, count, dilation) in enumerate(_VGG_BLOCKS, 1):
        if block > 1:
            x = layers.MaxPooling2D(3, strides=2 if block < 5 else 1, padding="same", name=f"block{block - 1}_pool")(x)
        for k in range(1, count + 1):
            x = DilatedConv2D(channels, 3, padding="same", dilation_rate=dilation, activation="relu",
                              name=f"block{block}_conv{k}")(x)
    return x


def _small(x):
    """Six 3 x 3 convolutions with batch norm, trained from nothing in minutes.

    A unit sees 43 pixels: less than the demo's objects and more than their parts.
    """
    replicas = tf.distribute.get_strategy().num_replicas_in_sync  # several look at the whole batch's mean and variance
    for block, (channels, stride) in enumerate(((24, 2), (32, 1), (48, 2), (64, 1), (96, 2), (128, 1)), 1):
        x = DilatedConv2D(channels, 3, strides=stride, padding="same", use_bias=False, name=f"block{block}_conv")(x)
        x = layers.BatchNormalization(synchronized=replicas > 1, name=f"block{block}_bn")(x)
        x = layers.ReLU(name=f"block{block}_relu")(x)
    return x


def _bottleneck(x, channels, stride, dilation, project, name):
    """Residual bottleneck of the Keras ResNets (stride on the first 1 x 1), with a dilated 3 x 3."""
    def unit(x, channels, size, number, **options):
        x = DilatedConv2D(channels, size, padding="same", name=f"{name}_{number}_conv", **options)(x)
        return layers.BatchNormalization(epsilon=1.001e-5, name=f"{name}_{number}_bn")(x)

    shortcut = unit(x, 4 * channels, 1, 0, strides=stride) if project else x
    x = layers.ReLU(name=f"{name}_1_relu")(unit(x, channels, 1, 1, strides=stride))
    x = layers.ReLU(name=f"{name}_2_relu")(unit(x, channels, 3, 2, dilation_rate=dilation))
    x = unit(x, 4 * channels, 1, 3)
    return layers.ReLU(name=f"{name}_out")(layers.Add(name=f"{name}_add")([shortcut, x]))


def _resnet(x, depths):
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


@contextlib.contextmanager
def precision_policy(precision):
    """Layers made inside compute in `precision` and keep float32 variables.

    Args:
      precision: one of `PRECISIONS`.

    Raises:
      ValueError: unknown precision.
    """
    if precision not in PRECISIONS:
        raise ValueError(f"precision: expected one of {', '.join(PRECISIONS)}, found {precision!r}")
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("float32" if precision == "float32" else f"mixed_{precision}")
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)


def build(name, trainable="all", precision="float32"):
    """Builds a backbone.

    Args:
      name: one of `NAMES`.
      trainable: "all", "last_block" (VGG's block5, ResNet's conv5, the small one's last two), or "none".
        Batch norm of a pretrained ResNet stays frozen in all of them (DeepLab-v2).
      precision: of the computation, see `precision_policy`.

    Returns:
      A functional `keras.Model`: `[batch, height, width, 3]` normalised float32 ->
      `[batch, ceil(height / 8), ceil(width / 8), channels]` rectified features.

    Raises:
      ValueError: unknown name or `trainable`.
    """
    if name not in NAMES:
        raise ValueError(f"backbone: expected one of {', '.join(NAMES)}, found {name!r}")
    inputs = keras.Input((None, None, 3), name="image")
    with precision_policy(precision):
        if name == "vgg16":
            outputs, last = _vgg16(inputs), ("block5",)
        elif name == "small":
            outputs, last = _small(inputs), ("block5", "block6")
        else:
            outputs, last = _resnet(inputs, _RESNET_DEPTHS[name]), ("conv5",)
    model = keras.Model(inputs, outputs, name=name)
    if trainable not in ("all", "last_block", "none"):
        raise ValueError(f"trainable: expected all, last_block or none, found {trainable!r}")
    for layer in model.layers:
        layer.trainable = trainable == "all" or (trainable == "last_block" and layer.name.startswith(last))
        if name.startswith("resnet") and isinstance(layer, layers.BatchNormalization):
            layer.trainable = False
    return model


def normalization_of(weights):
    """Returns the `images.Normalization` that weights were trained with.

    Args:
      weights: "imagenet" or a Keras .h5 file (Caffe's, as keras.applications'), an
        .npz of torchvision's or "" (torchvision's).
    """
    return images.CAFFE if weights == "imagenet" or weights.endswith(".h5") else images.TORCH


def load_weights(model, weights):
    """Loads pretrained weights into a backbone.

    Args:
      model: what `build` returned.
      weights: "" (nothing), "imagenet" (keras.applications downloads them), a
        path to `.weights.h5` (this model's own), `.h5` (keras.applications'
        "notop" file), or `.npz` (arrays `conv{block}_{k}/W` as height, width, in, out,
        and `conv{block}_{k}/b`).

    Raises:
      FileNotFoundError: the file is absent.
      ValueError: a layer is missing or has another shape, or a download failed.
    """
    if not weights:
        return
    if weights != "imagenet" and not pathlib.Path(weights).is_file():
        raise FileNotFoundError(f"{weights}: expected a file of weights, found none")
    if weights.endswith(".npz"):
        _load_npz(model, weights)
    elif weights.endswith(".weights.h5"):
        try:
            model.load_weights(weights)
        except Exception as error:
            raise ValueError(f"{weights}: expected weights of {model.name}, found {error}") from error
    elif weights == "imagenet" or weights.endswith(".h5"):
        _load_applications(model, weights)
    else:
        raise ValueError(f"{weights}: expected imagenet, .npz, .weights.h5 or .h5")


def _load_applications(model, weights):
    source = {"vgg16": keras.applications.VGG16, "resnet50": keras.applications.ResNet50,
              "resnet101": keras.applications.ResNet101}.get(model.name)
    if source is None:
        raise ValueError(f"{weights}: keras.applications has no weights for {model.name}")
    try:
        pretrained = source(include_top=False, weights=weights)
    except Exception as error:
        raise ValueError(f"{weights}: cannot load {model.name} of keras.applications ({error}); without a network, "
                         "fetch its «notop» .h5 file elsewhere and name its path") from error
    for layer in model.layers:
        if layer.weights:
            layer.set_weights(pretrained.get_layer(layer.name).get_weights())


def _load_npz(model, path):
    if model.name != "vgg16":
        raise ValueError(f"{path}: .npz weights are VGG-16's, the backbone is {model.name}")
    with np.load(path) as arrays:
        for layer in model.layers:
            if not layer.weights:
                continue
            key = layer.name.replace("block", "conv").replace("_conv", "_")
            values = []
            for suffix, variable in zip(("W", "b"), layer.weights, strict=True):
                if f"{key}/{suffix}" not in arrays:
                    raise ValueError(f"{path}: expected an array {key}/{suffix}, found none")
                value = arrays[f"{key}/{suffix}"].astype(np.float32)
                if value.shape != tuple(variable.shape):
                    raise ValueError(f"{path}: expected {key}/{suffix} of shape {tuple(variable.shape)}, "
                                     f"found {value.shape}")
                values.append(value)
            layer.set_weights(values)
