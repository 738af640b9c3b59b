"""AffinityNet: how much two nearby pixels belong together (Ahn & Kwak, CVPR 2018, Section 3.2).

1 x 1 convolutions on features of a frozen backbone give each position a vector; the affinity of two positions is
exp(-|f_i - f_j|), the mean over its components. Only pairs nearer than a radius count.
"""

from collections.abc import Iterator, Sequence

import keras
import tensorflow as tf
from keras import layers

from ficklenet_tf.models import neighbours

_TOP, _MIDDLE = 128, 64  # channels of the two branches (their code: conv5_3 and conv4_3)
_GROUP = 8  # channels per group of the normalisation


def affinities(embedding: tf.Tensor) -> Iterator[tf.Tensor]:
    """Yields for each of `neighbours.offsets` the affinities `[b, h', w']`, 0..1, of the pairs in `[b, h, w, k]`."""
    for offset in neighbours.offsets():
        one, other = neighbours.pairs(embedding, offset)
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
    return layers.Activation("elu")(layers.GroupNormalization(channels // _GROUP, epsilon=1e-5)(x))
