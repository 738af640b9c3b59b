"""IRN's boundaries: where one class ends and another begins (Ahn, Cho & Kwak, CVPR 2019, Section 4).

Of features of a frozen backbone, 1 x 1 convolutions to 32 channels with group normalisation, joined, give each
position a number B in 0..1. The affinity of two positions is 1 - max B on the straight path between them: they belong
together unless a boundary parts them. Nobody shows where boundaries are: pairs of the same and of different labels
teach it, by AffinityNet's loss, see training/affinity.py. A path is all positions of the rectangle between the two,
both among them, that lie nearer than one position to the line (their code).

Against the paper: theirs works at stride 4 on all five stages of ResNet-50, ours at stride 8 on the one or two maps
of features that `affinity.frozen` gives. Pairs reach 5 positions, here 40 pixels: in their code 40 too in training
(radius 10), and 20 in the walk. The pairs at a map's border, which their training leaves out, count. Photographs are
warped, theirs scaled by 0.5 to 1.5 and cropped. B is the photograph's; theirs is the mean with its mirror image's.
The displacement field is left out: it tells objects of one class apart, and the walk of the classes' maps does not
use it.
"""

from collections.abc import Iterator, Sequence

import keras
import tensorflow as tf
from keras import layers

from ficklenet_tf.models import neighbours

_CHANNELS, _GROUPS = 32, 4  # of a branch (their code)


def path(offset: tuple[int, int]) -> list[tuple[int, int]]:
    """Returns (rows, columns) to each position on the straight path from (0, 0) to `offset`, both included."""
    dy, dx = offset
    return [(y, x) for y in range(dy + 1) for x in range(min(0, dx), max(0, dx) + 1)
            if (dy * x - dx * y) ** 2 < dy * dy + dx * dx]


def affinities(boundary: tf.Tensor) -> Iterator[tf.Tensor]:
    """Yields for each of `neighbours.offsets` the affinities `[b, h', w']`, 0..1, of the pairs in `[b, h, w, 1]`."""
    for offset in neighbours.offsets():
        crossed = [neighbours.along(boundary[..., 0], offset, step) for step in path(offset)]
        yield 1 - tf.reduce_max(tf.stack(crossed), 0)


def inside(boundary: tf.Tensor) -> tf.Tensor:
    """Returns the share `[h, w, 1]`, 0..1, of a map that begins the walk: what lies on a boundary does not."""
    return 1 - boundary


def build(feature_shapes: Sequence[tuple[int | None, int | None, int]]) -> keras.Model:
    """Builds the trained part; as `embedding.build`, but it gives the boundary, `[b, h, w, 1]` float32, 0..1."""
    inputs = [keras.Input(shape) for shape in feature_shapes]
    branches = [_branch(x) for x in inputs]
    x = layers.Concatenate()(branches) if len(branches) > 1 else branches[0]
    return keras.Model(inputs, layers.Conv2D(1, 1, activation="sigmoid", name="boundary")(x), name="affinity")


def _branch(x: keras.KerasTensor) -> keras.KerasTensor:
    x = layers.Conv2D(_CHANNELS, 1, use_bias=False, kernel_initializer="he_normal")(x)
    return layers.ReLU()(layers.GroupNormalization(_GROUPS, epsilon=1e-5)(x))
