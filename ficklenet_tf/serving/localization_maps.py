"""FickleNet's own inference, served: N localization maps per photograph, aggregated (Section 3.3).

With it, seeds for new photographs are made through the server, where it does all that the run's own maps took, see
seed_maps.py. A random seed decides the N selections of hidden units, so the same request has the same answer;
`aggregation.image_seed` and the view's number give an extraction's own random seed. Maps in which all hidden units
take part are one for each class, whatever N and the random seed.
"""

import dataclasses
from collections.abc import Callable

import tensorflow as tf

from ficklenet_tf.data import images as photographs
from ficklenet_tf.maps import aggregation
from ficklenet_tf.models import classifier
from ficklenet_tf.serving import decoding, seed_maps

MAX_MAPS = 1000


@dataclasses.dataclass(frozen=True)
class Localizer:
    """A trained classifier and how it is applied.

    Attributes:
      model: a `classifier.Classifier`.
      normalization: its backbone's.
      drawing: a `seed_maps.Drawing`.
      num_tags: number of foreground classes.
      max_pixels: of one request.
      max_batch: photographs in one request.
    """

    model: classifier.Classifier
    normalization: photographs.Normalization
    drawing: seed_maps.Drawing
    num_tags: int
    max_pixels: int
    max_batch: int

    @property
    def specs(self) -> list[tf.TensorSpec]:
        """The signature's inputs: images, tags, seed, num_maps."""
        return [tf.TensorSpec([None, None, None, 3], tf.uint8, name="images"),
                tf.TensorSpec([None, self.num_tags], tf.float32, name="tags"),
                tf.TensorSpec([None, 2], tf.int32, name="seed"),
                tf.TensorSpec([None], tf.int32, name="num_maps")]

    def localize(self, row: tuple[tf.Tensor, tf.Tensor, tf.Tensor, tf.Tensor]) -> dict[str, tf.Tensor]:
        """Localizes one photograph's tags: (features, tags, seed, num_maps) -> mean and max `[h', w', num_tags]`."""
        features, tags, seed, num_maps = row
        tag_ids = tf.cast(tf.where(tags > 0)[:, 0], tf.int32)
        options = aggregation.Options(num_maps, self.drawing.mode, cam=self.drawing.cam)
        maps = aggregation.localize(self.model.head, features, tag_ids, seed, options)
        columns = tf.one_hot(tag_ids, self.num_tags)  # the maps of absent tags are 0
        return {f"{name}_maps": tf.tensordot(maps[name], columns, 1) for name in ("mean", "max")}


def localization_maps(localizer: Localizer) -> Callable[..., dict[str, tf.Tensor]]:
    """Makes the function of the signature `localization_maps`.

    Its inputs: "images" `[n, h, w, 3]` uint8, "tags" `[n, num_tags]` float32, above 0 where the class is in the
    photograph, "seed" `[n, 2]` int32, "num_maps" `[n]` int32, N, 1..`MAX_MAPS`. Its outputs: "mean_maps" and
    "max_maps" `[n, h', w', num_tags]` float32, 0..1, at the size of the feature map.

    Args:
      localizer: a `Localizer`.
    """
    def serve(images: tf.Tensor, tags: tf.Tensor, seed: tf.Tensor, num_maps: tf.Tensor) -> dict[str, tf.Tensor]:
        images = decoding.check_images(images, localizer.max_pixels, localizer.max_batch)
        tags = decoding.check_rows(tags, images, "tags", [localizer.num_tags])
        seed = decoding.check_rows(seed, images, "seed", [2])
        num_maps = decoding.check_rows(num_maps, images, "num_maps")
        num_maps = decoding.demand(num_maps, [
            (tf.reduce_all((num_maps >= 1) & (num_maps <= MAX_MAPS)),
             f"num_maps: expected 1..{MAX_MAPS}, found", num_maps)])
        size = localizer.drawing.size
        x = photographs.normalize(tf.image.resize(images, (size, size)), localizer.normalization)
        features = tf.cast(localizer.model.backbone(x, training=False), tf.float32)
        shape = [*features.shape[1:3], localizer.num_tags]
        specs = {f"{name}_maps": tf.TensorSpec(shape) for name in ("mean", "max")}
        return tf.map_fn(localizer.localize, (features, tags, seed, num_maps), fn_output_signature=specs,
                         parallel_iterations=1)

    return serve
