"""DeepLab: LargeFOV on VGG-16 (Chen et al. 2015), DSRG's four branches, ASPP on ResNets (Chen et al. 2017)."""

import pathlib

import keras
import tensorflow as tf
from keras import layers

from ficklenet_tf import presets
from ficklenet_tf.data import images
from ficklenet_tf.errors import UserError
from ficklenet_tf.models import backbones, pretrained
from ficklenet_tf.models.dilated_convolution import DilatedConv2D
from ficklenet_tf.models.precision import policy
from ficklenet_tf.runs import artifacts, layout

INITIALIZERS = ("normal", "he_normal")


def _convolution(x, channels, size, dilation, name, activation=None, initializer="normal"):
    # Made here: an initializer draws its seed when it is made, and at import nothing has set the run's seed yet.
    start = keras.initializers.RandomNormal(stddev=0.01) if initializer == "normal" else initializer
    return DilatedConv2D(channels, size, padding="same", dilation_rate=dilation, activation=activation,
                         kernel_initializer=start, name=name)(x)


def _largefov_branches(x, config, num_classes, dilations):
    pooled = layers.AveragePooling2D(3, strides=1, padding="same", name="pool5a")(
        layers.MaxPooling2D(3, strides=1, padding="same", name="pool5")(x))
    outputs = []
    for d in dilations:
        x = _convolution(pooled, config.channels, 3, d, f"fc6_{d}", "relu", config.initializer)
        x = layers.Dropout(config.dropout, name=f"drop6_{d}")(x)
        x = _convolution(x, config.channels, 1, 1, f"fc7_{d}", "relu", config.initializer)
        x = layers.Dropout(config.dropout, name=f"drop7_{d}")(x)
        outputs.append(_convolution(x, num_classes, 1, 1, f"fc8_{d}"))
    return outputs


def _largefov(x, config, num_classes):
    """Average pool, fc6 (3 x 3, dilated), fc7 (1 x 1), fc8, dropout after fc6 and fc7."""
    return _largefov_branches(x, config, num_classes, (config.dilation,))


def _largefov4(x, config, num_classes):
    """DSRG's four such branches."""
    return _largefov_branches(x, config, num_classes, (6, 12, 18, 24))


def _aspp(x, config, num_classes):
    """DeepLab-v2's four 3 x 3 convolutions straight to the classes."""
    return [_convolution(x, num_classes, 3, d, f"fc8_{d}") for d in (6, 12, 18, 24)]


# By the word in --head: (features, `presets.SegmenterConfig`, number of classes) -> the branches, which are summed.
HEADS = {"largefov": _largefov, "largefov4": _largefov4, "aspp": _aspp}


def build_head(config, feature_shape, num_classes):
    """Builds what stands above the backbone.

    Args:
      config: `presets.SegmenterConfig`: head, channels, dilation, dropout, initializer, precision.
      feature_shape: (height, width, channels), height and width may be None.
      num_classes: with the background.

    Returns:
      A functional keras.Model: `[b, h, w, k]` features -> `[b, h, w, classes]` float32 logits.

    Raises:
      UserError: unknown head, initializer or precision.
    """
    for field, legal in (("head", HEADS), ("initializer", INITIALIZERS)):
        if getattr(config, field) not in legal:
            raise UserError(f"{field}: expected one of {', '.join(legal)}, found {getattr(config, field)!r}")
    inputs = keras.Input(feature_shape, name="features")
    with policy(config.precision):
        outputs = HEADS[config.head](inputs, config, num_classes)
        x = layers.Add(name="sum")(outputs) if len(outputs) > 1 else outputs[0]
        x = layers.Activation("linear", dtype="float32", name="logits")(x)
    return keras.Model(inputs, x, name=config.head)


def connect(backbone, head):
    """Returns the whole network, `[b, height, width, 3]` normalised -> logits of stride 8; both parts keep weights."""
    inputs = keras.Input((None, None, 3), name="image")
    return keras.Model(inputs, head(backbone(inputs)), name="segmenter")


def build(config, num_classes, backbone_name, weights=""):
    """Builds a segmenter; returns (whole network, backbone, head, normalization).

    Args:
      config: `presets.SegmenterConfig`.
      num_classes: with the background.
      backbone_name: see `backbones.build`.
      weights: of the backbone, see `pretrained.load_weights`.
    """
    trainable = "none" if config.trainable_layers == "head" else config.trainable_layers
    backbone = backbones.build(backbone_name, trainable, config.precision)
    pretrained.load_weights(backbone, weights)
    head = build_head(config, (None, None, backbone.output_shape[-1]), num_classes)
    return connect(backbone, head), backbone, head, pretrained.normalization_of(weights)


def load(directory):
    """Loads what `tools.train_segmenter` finished in `directory`.

    Returns:
      (whole network, images.Normalization, run.json as a dict, presets.SegmenterConfig).

    Raises:
      FileNotFoundError: the stage has not finished there.
    """
    run = artifacts.finished_run(directory, "segmenter", "tools.train_segmenter")
    config = presets.SegmenterConfig(**run["config"])
    network, *_ = build(config, len(run["class_names"]), run["backbone"])
    network.load_weights(pathlib.Path(directory) / layout.WEIGHTS)
    return network, images.Normalization(**run["normalization"]), run, config


def views(images_, sizes, normalization):
    """Warps `[..., h, w, 3]` RGB 0..255 to each of `sizes`: a tuple of `[..., s, s, 3]` float32, normalised."""
    return tuple(images.normalize(tf.image.resize(tf.cast(images_, tf.float32), (size, size)), normalization)
                 for size in sizes)


def grids(network, views_, flip):
    """Runs the network: a tuple of `[b, s / 8, s / 8, classes]` probabilities, with `flip` two per view."""
    result = []
    for x in views_:
        result.append(tf.nn.softmax(network(x, training=False)))
        if flip:
            result.append(tf.reverse(tf.nn.softmax(network(tf.reverse(x, [2]), training=False)), [2]))
    return tuple(result)


def merge(grids_, shape):
    """Averages what `grids` returns at `shape`: probabilities `[..., height, width, classes]` that sum to 1."""
    total = tf.add_n([tf.image.resize(grid, shape) for grid in grids_])
    return total / tf.reduce_sum(total, -1, keepdims=True)


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
    return merge(grids(network, views(image, sizes, normalization), flip), tf.shape(image)[1:3])
