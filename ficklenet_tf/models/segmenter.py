"""DeepLab: LargeFOV on VGG-16 (Chen et al. 2015), DSRG's four branches, ASPP on ResNets (Chen et al. 2017)."""

import pathlib
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf
from keras import layers

from ficklenet_tf import presets
from ficklenet_tf.data import images
from ficklenet_tf.models import backbones, image_prior, pretrained
from ficklenet_tf.models.dilated_convolution import DilatedConv2D
from ficklenet_tf.models.precision import policy
from ficklenet_tf.runs import artifacts, layout


def _convolution(x: keras.KerasTensor, channels: int, size: int, dilation: int, name: str,
                 activation: str | None = None, initializer: str = "normal") -> keras.KerasTensor:
    # Made here: an initializer draws its seed when it is made, and at import nothing has set the run's seed yet.
    kernel_initializer = keras.initializers.RandomNormal(stddev=0.01) if initializer == "normal" else initializer
    return DilatedConv2D(channels, size, padding="same", dilation_rate=dilation, activation=activation,
                         kernel_initializer=kernel_initializer, name=name)(x)


def _largefov_branches(x: keras.KerasTensor, config: presets.SegmenterConfig, num_classes: int,
                       dilations: Sequence[int]) -> list[keras.KerasTensor]:
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


def _largefov(x: keras.KerasTensor, config: presets.SegmenterConfig, num_classes: int) -> list[keras.KerasTensor]:
    """Average pool, fc6 (3 x 3, dilated), fc7 (1 x 1), fc8, dropout after fc6 and fc7."""
    return _largefov_branches(x, config, num_classes, (config.dilation,))


def _largefov4(x: keras.KerasTensor, config: presets.SegmenterConfig, num_classes: int) -> list[keras.KerasTensor]:
    """DSRG's four such branches."""
    return _largefov_branches(x, config, num_classes, (6, 12, 18, 24))


def _aspp(x: keras.KerasTensor, config: presets.SegmenterConfig, num_classes: int) -> list[keras.KerasTensor]:
    """DeepLab-v2's four 3 x 3 convolutions straight to the classes."""
    return [_convolution(x, num_classes, 3, d, f"fc8_{d}") for d in (6, 12, 18, 24)]


# By the name in --head: (features, `presets.SegmenterConfig`, number of classes) -> the branches, which are summed.
HEADS: dict[str, Callable[[keras.KerasTensor, presets.SegmenterConfig, int], list[keras.KerasTensor]]] = {
    "largefov": _largefov, "largefov4": _largefov4, "aspp": _aspp}


def build_head(config: presets.SegmenterConfig, feature_shape: Sequence[int | None], num_classes: int) -> keras.Model:
    """Builds what stands above the backbone.

    Args:
      config: `presets.SegmenterConfig`: head, channels, dilation, dropout, initializer, precision, image prior.
      feature_shape: (height, width, channels), height and width may be None.
      num_classes: with the background.

    Returns:
      A functional keras.Model: `[b, h, w, k]` features -> `[b, h, w, classes]` float32 logits.
    """
    inputs = keras.Input(feature_shape, name="features")
    with policy(config.precision):
        branches = HEADS[config.head](inputs, config, num_classes)
        x = layers.Add(name="sum")(branches) if len(branches) > 1 else branches[0]
        x = layers.Activation("linear", dtype="float32", name="logits")(x)
    if config.image_prior:
        x = image_prior.ImagePrior(config.mil_sharpness, dtype="float32", name="image_prior")(x)
    return keras.Model(inputs, x, name=config.head)


def connect(backbone: keras.Model, head: keras.Model) -> keras.Model:
    """Returns the whole network, `[b, height, width, 3]` normalised -> logits of stride 8; both parts keep weights."""
    inputs = keras.Input(backbone.input_shape[1:], name="image")
    return keras.Model(inputs, head(backbone(inputs)), name="segmenter")


def below_cut(network: keras.Model, trainable: str) -> keras.Model | None:
    """Returns what is below `above_cut`: photographs -> what it takes; None where all layers are trained."""
    _, backbone, _ = network.layers
    return backbones.cut(backbone, trainable).below


def above_cut(network: keras.Model, trainable: str) -> keras.Model:
    """Returns the part of a segmenter that is trained; it shares layers with the whole.

    Args:
      network: as `connect` made it.
      trainable: `config.trainable_layers` of its training.

    Returns:
      A model of what `backbones.Cut.below` gives; the network itself for "all".
    """
    _, backbone, head = network.layers
    above = backbones.cut(backbone, trainable).above
    if above is None:
        return head
    return network if above is backbone else connect(above, head)


def build(config: presets.SegmenterConfig, num_classes: int, backbone_name: str,
          weights: str = "") -> tuple[keras.Model, keras.Model, keras.Model, images.Normalization]:
    """Builds a segmenter and loads the backbone's pretrained weights.

    Args:
      config: `presets.SegmenterConfig`.
      num_classes: with the background.
      backbone_name: see `backbones.build`.
      weights: of the backbone, see `pretrained.load_weights`.

    Returns:
      (whole network, backbone, head, the `images.Normalization` that the network expects).
    """
    backbone = backbones.build(backbone_name, config.trainable_layers, config.precision)
    pretrained.load_weights(backbone, weights)
    head = build_head(config, (None, None, backbone.output_shape[-1]), num_classes)
    return connect(backbone, head), backbone, head, pretrained.normalization_of(weights)


class Trained(NamedTuple):
    """A trained segmenter as `load` finds it.

    Attributes:
      network: photographs -> logits.
      normalization: of its backbone's photographs.
      run: the stage's run.json.
      config: what it was trained with.
    """

    network: keras.Model
    normalization: images.Normalization
    run: dict[str, Any]
    config: presets.SegmenterConfig


def load(directory: str | pathlib.Path) -> Trained:
    """Loads what `tools.train_segmenter` finished in `directory`.

    Raises:
      FileNotFoundError: the stage has not finished there.
    """
    run = artifacts.finished_run(directory, "segmenter", "tools.train_segmenter")
    config = presets.SegmenterConfig(**run["config"])
    network, *_ = build(config, len(run["class_names"]), run["backbone"])
    artifacts.load_weights(network, pathlib.Path(directory) / layout.WEIGHTS)
    return Trained(network, images.Normalization(**run["normalization"]), run, config)


def views(photographs: tf.Tensor | np.ndarray, sizes: Sequence[int],
          normalization: images.Normalization) -> tuple[tf.Tensor, ...]:
    """Warps `[..., h, w, 3]` RGB 0..255 to each of `sizes`: a tuple of `[..., s, s, 3]` float32, normalised."""
    return tuple(images.normalize(tf.image.resize(tf.cast(photographs, tf.float32), (size, size)), normalization)
                 for size in sizes)


def grids(network: keras.Model, warped: Sequence[tf.Tensor], flip: bool) -> tuple[tf.Tensor, ...]:
    """Runs the network on `views`: a tuple of `[b, s / 8, s / 8, classes]` probabilities, with `flip` two per view."""
    probs = []
    for view in warped:
        probs.append(tf.nn.softmax(network(view, training=False)))
        if flip:
            probs.append(tf.reverse(tf.nn.softmax(network(tf.reverse(view, [2]), training=False)), [2]))
    return tuple(probs)


def merge(grid_probs: Sequence[tf.Tensor], shape: tf.Tensor | tuple[int, int]) -> tf.Tensor:
    """Averages what `grids` returns at `shape`: probabilities `[..., height, width, classes]` that sum to 1."""
    total = tf.add_n([tf.image.resize(grid, shape) for grid in grid_probs])
    return total / tf.reduce_sum(total, -1, keepdims=True)


def predict_probs(network: keras.Model, image: tf.Tensor | np.ndarray, normalization: images.Normalization,
                  sizes: Sequence[int], flip: bool) -> tf.Tensor:
    """Multi-scale, mirrored prediction of photographs at their own size (SEC, DSRG: warped to each size).

    Args:
      network: `[b, s, s, 3]` normalised -> `[b, s / 8, s / 8, classes]` logits.
      image: `[b, h, w, 3]` RGB 0..255.
      normalization: what the backbone expects.
      sizes: sides in pixels to which the photograph is warped; the probabilities are averaged.
      flip: also the mirror images.

    Returns:
      `[b, h, w, classes]` float32 probabilities.
    """
    return merge(grids(network, views(image, sizes, normalization), flip), tf.shape(image)[1:3])
