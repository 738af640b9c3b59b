"""DeepLab: LargeFOV on VGG-16 (Chen et al. 2015), DSRG's four branches, ASPP on ResNets (Chen et al. 2017)."""

import pathlib

import keras
import tensorflow as tf
from keras import layers

from ficklenet_tf import presets
from ficklenet_tf.data import images
from ficklenet_tf.models import backbones, pretrained
from ficklenet_tf.models.dilated_convolution import DilatedConv2D
from ficklenet_tf.models.precision import policy
from ficklenet_tf.runs import artifacts

HEADS = ("largefov", "largefov4", "aspp")
INITIALIZERS = ("normal", "he_normal")


def _convolution(x, channels, size, dilation, name, activation=None, initializer="normal"):
    # Made here: an initializer draws its seed when it is made, and at import nothing has set the run's seed yet.
    start = keras.initializers.RandomNormal(stddev=0.01) if initializer == "normal" else initializer
    return DilatedConv2D(channels, size, padding="same", dilation_rate=dilation, activation=activation,
                         kernel_initializer=start, name=name)(x)


def build_head(kind, feature_shape, classes, channels=1024, dropout=0.5, precision="float32", dilation=12,
               initializer="normal"):
    """Builds what stands above the backbone.

    Args:
      kind: "largefov": average pool, fc6 (3 x 3, dilated), fc7 (1 x 1), fc8, dropout after fc6 and
        fc7; "largefov4": DSRG's four such branches (dilation 6, 12, 18, 24), summed; "aspp":
        DeepLab-v2's four 3 x 3 convolutions straight to the classes, summed.
      feature_shape: (height, width, channels), height and width may be None.
      classes: with the background.
      channels: of fc6 and fc7.
      dropout: rate after fc6 and fc7.
      precision: of the computation; the logits are float32.
      dilation: of LargeFOV's fc6.
      initializer: of fc6 and fc7, one of `INITIALIZERS`: N(0, 0.01), as all new layers of DeepLab, or he_normal.

    Returns:
      A functional keras.Model: `[b, h, w, k]` features -> `[b, h, w, classes]` float32 logits.
    """
    if kind not in HEADS:
        raise ValueError(f"head: expected one of {', '.join(HEADS)}, found {kind!r}")
    if initializer not in INITIALIZERS:
        raise ValueError(f"initializer: expected one of {', '.join(INITIALIZERS)}, found {initializer!r}")
    inputs = keras.Input(feature_shape, name="features")
    with policy(precision):
        if kind == "aspp":
            outputs = [_convolution(inputs, classes, 3, d, f"fc8_{d}") for d in (6, 12, 18, 24)]
        else:
            pooled = layers.AveragePooling2D(3, strides=1, padding="same", name="pool5a")(
                layers.MaxPooling2D(3, strides=1, padding="same", name="pool5")(inputs))
            outputs = []
            for d in (6, 12, 18, 24) if kind == "largefov4" else (dilation,):
                x = _convolution(pooled, channels, 3, d, f"fc6_{d}", "relu", initializer)
                x = layers.Dropout(dropout, name=f"drop6_{d}")(x)
                x = _convolution(x, channels, 1, 1, f"fc7_{d}", "relu", initializer)
                x = layers.Dropout(dropout, name=f"drop7_{d}")(x)
                outputs.append(_convolution(x, classes, 1, 1, f"fc8_{d}"))
        x = layers.Add(name="sum")(outputs) if len(outputs) > 1 else outputs[0]
        x = layers.Activation("linear", dtype="float32", name="logits")(x)
    return keras.Model(inputs, x, name=kind)


def connect(backbone, head):
    """Returns the whole network, `[b, height, width, 3]` normalised -> logits of stride 8; both parts keep weights."""
    inputs = keras.Input((None, None, 3), name="image")
    return keras.Model(inputs, head(backbone(inputs)), name="segmenter")


def build(preset, classes, backbone_name, weights=""):
    """Builds a segmenter; returns (whole network, backbone, head, normalization).

    Args:
      preset: `presets.Segmenter`.
      classes: with the background.
      backbone_name: see `backbones.build`.
      weights: of the backbone, see `pretrained.load_weights`.
    """
    trainable = "none" if preset.trainable_layers == "head" else preset.trainable_layers
    backbone = backbones.build(backbone_name, trainable, preset.precision)
    pretrained.load_weights(backbone, weights)
    head = build_head(preset.head, (None, None, backbone.output_shape[-1]), classes, preset.channels,
                      preset.dropout, preset.precision, preset.dilation, preset.initializer)
    return connect(backbone, head), backbone, head, pretrained.normalization_of(weights)


def load(directory):
    """Loads what `tools.train_segmenter` finished in `directory`.

    Returns:
      (whole network, images.Normalization, run.json as a dict, presets.Segmenter).

    Raises:
      FileNotFoundError: the stage has not finished there.
    """
    run = artifacts.finished_run(directory, "segmenter", "tools.train_segmenter")
    preset = presets.Segmenter(**run["preset"])
    network, *_ = build(preset, len(run["class_names"]), run["backbone"])
    network.load_weights(pathlib.Path(directory) / "model.weights.h5")
    return network, images.Normalization(**run["normalization"]), run, preset


def predict_probs(network, image, normalization, sizes, flip):
    """Multi-scale, mirrored prediction of photographs at their own size (SEC, DSRG: warped to each size).

    Args:
      network: `[b, s, s, 3]` normalised -> `[b, s / 8, s / 8, classes]` logits.
      image: `[b, h, w, 3]` RGB 0..255.
      normalization: the backbone's.
      sizes: sides in pixels to which the photograph is warped; the probabilities are averaged.
      flip: also the mirror images.

    Returns:
      `[b, h, w, classes]` float32 probabilities.
    """
    shape = tf.shape(image)[1:3]
    total = 0.0
    for size in sizes:
        x = images.normalize(tf.image.resize(tf.cast(image, tf.float32), (size, size)), normalization)
        for mirrored in (False, True) if flip else (False,):
            probs = tf.nn.softmax(network(tf.reverse(x, [2]) if mirrored else x, training=False))
            probs = tf.reverse(probs, [2]) if mirrored else probs
            total += tf.image.resize(probs, shape)
    return total / tf.reduce_sum(total, -1, keepdims=True)
