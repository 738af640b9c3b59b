"""A trained segmenter as it is applied to photographs of any size, in stages that batch.

The stages are those of `segmenter.predict_probs`: photographs of different sizes are warped one by one, go through
the network together, and are answered one by one at their own size. With `buckets` a photograph is padded instead of
warped.
"""

import dataclasses
from collections.abc import Sequence

import keras
import tensorflow as tf

from ficklenet_tf.data import images as photographs
from ficklenet_tf.models import segmenter

MAX_PIXELS = 2**24  # of one request: at 21 classes, 1.4 GB of probabilities
MAX_BATCH = 32


@dataclasses.dataclass(frozen=True)
class Segmenter:
    """A trained segmenter and how it is applied.

    Attributes:
      network: `[b, s, s, 3]` normalised -> `[b, s / 8, s / 8, classes]` logits.
      normalization: `images.Normalization`.
      sizes: sides of the multi-scale prediction.
      flip: whether mirror images are averaged in.
      num_classes: with the background.
      max_pixels: of one request, all its photographs together; more is refused.
      max_batch: photographs in one request; more is refused.
      max_side: a photograph with a longer side is shrunk to it, and its answer enlarged; 0: never.
      buckets: sides, ascending; not empty: photographs are padded to the smallest that holds
        them instead of warped to `sizes`, and shrunk to the greatest where none does.
    """

    network: keras.Model
    normalization: photographs.Normalization
    sizes: tuple[int, ...]
    flip: bool
    num_classes: int
    max_pixels: int = MAX_PIXELS
    max_batch: int = MAX_BATCH
    max_side: int = 0
    buckets: tuple[int, ...] = ()

    @property
    def longest(self) -> int:
        """The longest side that is computed on; 0 where there is no bound."""
        sides = [side for side in (self.max_side, self.buckets[-1] if self.buckets else 0) if side]
        return min(sides, default=0)

    def inner_shape(self, shape: tf.Tensor) -> tf.Tensor:
        """Returns `[2]` int32: height and width that are computed on, for a photograph of `shape` `[2]` int32."""
        if not self.longest:
            return shape
        factor = tf.minimum(tf.constant(1.0, tf.float64), self.longest / tf.reduce_max(shape))
        return tf.maximum(1, tf.cast(tf.round(tf.cast(shape, tf.float64) * factor), tf.int32))

    def shrunk(self, images: tf.Tensor) -> tf.Tensor:
        """Returns `[..., h, w, 3]` uint8 photographs at their `inner_shape`, antialiased."""
        if not self.longest:
            return images
        shape = tf.shape(images)[-3:-1]
        inner = self.inner_shape(shape)
        return tf.cond(tf.reduce_all(inner == shape), lambda: images, lambda: tf.cast(
            tf.round(tf.image.resize(tf.cast(images, tf.float32), inner, antialias=True)), tf.uint8))

    def views(self, images: tf.Tensor) -> tuple[tf.Tensor, ...]:
        """Warps `[..., h, w, 3]` photographs to each size; see `segmenter.views`."""
        return segmenter.views(images, self.sizes, self.normalization)

    def grids(self, views: Sequence[tf.Tensor]) -> tuple[tf.Tensor, ...]:
        """Runs the network; see `segmenter.grids`."""
        return segmenter.grids(self.network, views, self.flip)

    def probs(self, images: tf.Tensor) -> tf.Tensor:
        """Returns `[n, h, w, classes]` float32 probabilities of `[n, h, w, 3]` uint8 photographs, already shrunk."""
        if self.buckets:
            return self._padded(images)
        return segmenter.merge(self.grids(self.views(images)), tf.shape(images)[1:3])

    def _padded(self, images: tf.Tensor) -> tf.Tensor:
        shape = tf.shape(images)[1:3]
        x = photographs.normalize(images, self.normalization)

        def probs_at(side: int) -> tf.Tensor:
            margin = tf.maximum(side - shape, 0)  # never negative, in the branches that are not taken either
            padded = tf.pad(x, [[0, 0], [0, margin[0]], [0, margin[1]], [0, 0]])[:, :side, :side]
            probs = segmenter.merge(self.grids([tf.ensure_shape(padded, [None, side, side, 3])]), (side, side))
            return probs[:, :shape[0], :shape[1]]

        index = tf.reduce_sum(tf.cast(tf.reduce_max(shape) > tf.constant(self.buckets[:-1], tf.int32), tf.int32))
        return tf.switch_case(index, [lambda side=side: probs_at(side) for side in self.buckets])
