"""FickleNet's own stochastic inference, served: N localization maps a photograph, aggregated (Section 3.3).

With it seeds for new photographs are made through the server. A seed decides the N selections, so the same
request has the same answer; `localization.image_seed` and the view's number give an extraction's own seed.
"""

import dataclasses

import tensorflow as tf

from ficklenet_tf.data import images as photographs
from ficklenet_tf.maps import aggregation
from ficklenet_tf.models import classifier
from ficklenet_tf.serving import decoding

MAX_SELECTIONS = 1000


@dataclasses.dataclass(frozen=True)
class Localizer:
    """A trained classifier and how it is applied.

    Attributes:
      model: a `classifier.Classifier`.
      normalization: its backbone's.
      size: side to which photographs are warped.
      tags: number of foreground classes.
      max_pixels: of one request.
      max_batch: photographs in one request.
    """

    model: classifier.Classifier
    normalization: photographs.Normalization
    size: int
    tags: int
    max_pixels: int
    max_batch: int

    @property
    def specs(self):
        """The signature's inputs: images, tags, seed, selections."""
        return [tf.TensorSpec([None, None, None, 3], tf.uint8, name="images"),
                tf.TensorSpec([None, self.tags], tf.float32, name="tags"),
                tf.TensorSpec([None, 2], tf.int32, name="seed"),
                tf.TensorSpec([None], tf.int32, name="selections")]

    def one(self, row):
        """Localizes one photograph's tags: (features, tags, seed, selections) -> mean and max `[h', w', tags]`."""
        features, tags, seed, selections = row
        classes = tf.cast(tf.where(tags > 0)[:, 0], tf.int32)
        found = aggregation.localize(self.model.head, features, classes, seed, selections=selections)
        places = tf.one_hot(classes, self.tags)  # the maps of absent tags are 0
        return {f"{name}_maps": tf.tensordot(found[name], places, 1) for name in ("mean", "max")}


def localization_maps(localizer):
    """Makes the function of the signature `localization_maps`.

    Its inputs: "images" `[n, h, w, 3]` uint8, "tags" `[n, tags]` float32, above 0 where the class is in the
    photograph, "seed" `[n, 2]` int32, "selections" `[n]` int32, N, 1..`MAX_SELECTIONS`. Its outputs: "mean_maps" and
    "max_maps" `[n, h', w', tags]` float32, 0..1, at the size of the feature map.

    Args:
      localizer: a `Localizer`.
    """
    def serve(images, tags, seed, selections):
        images = decoding.checked(images, localizer.max_pixels, localizer.max_batch)
        tags, seed = (decoding.rows_of(value, images, name) for value, name in ((tags, "tags"), (seed, "seed")))
        selections = decoding.rows_of(selections, images, "selections")
        selections = decoding.demand(selections, [
            (tf.reduce_all((selections >= 1) & (selections <= MAX_SELECTIONS)),
             f"selections: expected 1..{MAX_SELECTIONS}, found", selections)])
        x = photographs.normalize(tf.image.resize(images, (localizer.size, localizer.size)), localizer.normalization)
        features = tf.cast(localizer.model.backbone(x, training=False), tf.float32)
        shape = [*features.shape[1:3], localizer.tags]
        specs = {f"{name}_maps": tf.TensorSpec(shape) for name in ("mean", "max")}
        return tf.map_fn(localizer.one, (features, tags, seed, selections), fn_output_signature=specs,
                         parallel_iterations=1)

    return serve
