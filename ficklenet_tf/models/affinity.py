"""AffinityNet: how much two nearby pixels belong together (Ahn & Kwak, CVPR 2018, Section 3.2).

1 x 1 convolutions on features of a frozen backbone give each position a vector; the affinity of two positions is
exp(-|f_i - f_j|), the mean over its components. Only pairs nearer than a radius count.
"""

import pathlib
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import keras
import tensorflow as tf
from keras import layers

from ficklenet_tf import distribution
from ficklenet_tf.data import datasets, images
from ficklenet_tf.data.feature_cache import FeatureCache
from ficklenet_tf.errors import UserError
from ficklenet_tf.models import backbones, classifier
from ficklenet_tf.runs import artifacts, layout

RADIUS = 5  # positions of the map (their code, 8 pixels each)
_TOP, _MIDDLE = 128, 64  # channels of the two branches (their code: conv5_3 and conv4_3)
_GROUP = 8  # channels per group of the normalisation


def offsets(radius: int = RADIUS) -> list[tuple[int, int]]:
    """Returns (rows, columns) to every neighbour nearer than `radius`, one of each two opposite ones."""
    return [(dy, dx) for dy in range(radius) for dx in range(-radius + 1, radius)
            if 0 < dy * dy + dx * dx < radius * radius and (dy > 0 or dx > 0)]


def pairs(x: Any, offset: tuple[int, int]) -> tuple[Any, Any]:
    """Returns `[b, h', w', ...]` twice of an array `[b, h, w, ...]`: positions, and their neighbours at an offset."""
    dy, dx = offset
    height, width = x.shape[1:3]
    rows, left = max(0, height - dy), max(0, -dx)
    right = max(left, width - max(0, dx))
    return x[:, :rows, left:right], x[:, dy:dy + rows, left + dx:right + dx]


def affinities(embedding: tf.Tensor) -> Iterator[tf.Tensor]:
    """Yields for each of `offsets` the affinities `[b, h', w']`, 0..1, of the pairs in `[b, h, w, k]`, see `pairs`."""
    for offset in offsets():
        one, other = pairs(embedding, offset)
        yield tf.exp(-tf.reduce_mean(tf.abs(one - other), -1))


def build(feature_shapes: Sequence[tuple[int | None, int | None, int]]) -> keras.Model:
    """Builds the trained part.

    Args:
      feature_shapes: (height, width, channels) of each feature map that it takes, the backbone's own last.

    Returns:
      A functional keras.Model: list of `[b, h, w, channels]` -> embedding `[b, h, w, k]` float32.
    """
    inputs = [keras.Input(shape) for shape in feature_shapes]
    sizes = [_MIDDLE] * (len(inputs) - 1) + [_TOP]
    branches = [_unit(x, size) for x, size in zip(inputs, sizes, strict=True)]
    x = layers.Concatenate()(branches) if len(branches) > 1 else branches[0]
    # Their code draws these weights with a gain of 4; without it all affinities begin near 1.
    start = keras.initializers.VarianceScaling(16.0, "fan_avg", "uniform")
    x = layers.Conv2D(x.shape[-1], 1, use_bias=False, activation="elu", kernel_initializer=start, name="embedding")(x)
    return keras.Model(inputs, x, name="affinity")


def _unit(x: keras.KerasTensor, channels: int) -> keras.KerasTensor:
    x = layers.Conv2D(channels, 1, use_bias=False, kernel_initializer="he_normal")(x)
    return layers.Activation("elu")(layers.GroupNormalization(channels // _GROUP)(x))


class Frozen(NamedTuple):
    """The layers below AffinityNet: a classifier's.

    Attributes:
      model: what the classifier's cache keeps, `[b, h, w, k]` float32 -> list of feature maps for `build`.
      features: the `FeatureCache`.
      size: side to which photographs are warped, in pixels.
      below: keras.Model, normalised photographs -> what is kept.
      normalization: of the photographs.
    """

    model: keras.Model
    features: FeatureCache
    size: int
    below: keras.Model
    normalization: images.Normalization

    def fill(self, split: datasets.Split) -> None:
        """Computes what the cache lacks of a split: the classifier may have been trained on other images."""
        distribution.on_chief(self.features.fill, split, self.below, self.normalization, size=self.size)


def frozen(trained: classifier.Trained) -> Frozen:
    """Returns the feature maps of a classifier that AffinityNet stands on: what is kept below its cut, and its last.

    Raises:
      UserError: the classifier was trained whole, so that nothing is kept.
    """
    features = FeatureCache.of_run(trained.run)
    if features is None:
        raise UserError("affinity: expected a classifier with frozen layers (--trainable_layers=last_block, "
                        "last_two_blocks or head), whose output is kept; found one that was trained whole")
    below, above = backbones.cut(trained.model.backbone, trained.config.trainable_layers)
    assert below is not None  # as there are features
    inputs = keras.Input(features.shape)
    outputs = [inputs]
    if above is not None:
        top = above(inputs)
        outputs = [layers.Resizing(*top.shape[1:3])(inputs) if top.shape[1] != inputs.shape[1] else inputs, top]
    model = keras.Model(inputs, outputs)
    model.trainable = False
    return Frozen(model, features, trained.config.input_size, below, trained.normalization)


def load(run_dir: str | pathlib.Path, name: str = layout.AFFINITY) -> tuple[Frozen, keras.Model, dict[str, Any]]:
    """Loads what `tools.train_affinity` finished: (`Frozen`, the trained part, run.json).

    Raises:
      FileNotFoundError: it has not.
      UserError: the classifier has been trained again since.
    """
    directory = pathlib.Path(run_dir) / name
    run = artifacts.finished_run(directory, "affinity network", "tools.train_affinity")
    trained = classifier.load(pathlib.Path(run_dir) / run["classifier_name"])
    if trained.run["finished"] != run["classifier"]:
        raise UserError(f"{directory}: expected affinities on {run['classifier_name']}, found those on an earlier "
                        f"classifier there; remove {directory}")
    below = frozen(trained)
    network = build([tuple(output.shape[1:]) for output in below.model.outputs])
    artifacts.load_weights(network, directory / layout.WEIGHTS)
    return below, network, run
