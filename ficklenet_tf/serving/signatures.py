"""The served signatures: photographs, as pixels or as files, to labels at their own size.

Normalisation, multi-scale prediction and argmax are inside; all of it is stock TensorFlow. Every
input has a leading batch axis, so that a server may batch. `localization_maps` has its own module.
"""

from collections.abc import Callable, Sequence

import numpy as np
import tensorflow as tf

from ficklenet_tf import crf
from ficklenet_tf.data.labels import MAX_PIXELS
from ficklenet_tf.models import segmenter
from ficklenet_tf.serving import decoding, png, servable

IMAGES = tf.TensorSpec([None, None, None, 3], tf.uint8, name="images")
FILES = tf.TensorSpec([None], tf.string, name="image")
ITERATIONS = tf.TensorSpec([None], tf.int32, name="iterations")
MAX_ITERATIONS = 100
CRF_SHARE = 8  # the dense CRF takes about 8 times the memory per pixel: its requests may have 8 times fewer pixels

Answer = dict[str, tf.Tensor]  # a signature's outputs by name


def fractions(labels: tf.Tensor, num_classes: int) -> tf.Tensor:
    """Returns `[n, num_classes]` float32: each class' share of the pixels of `[n, h, w]` int32 labels."""
    count = tf.shape(labels)[0]
    flat = tf.reshape(labels, [count, -1])
    rows = tf.range(count)[:, None] * num_classes + flat
    counts = tf.math.bincount(tf.reshape(rows, [-1]), minlength=count * num_classes)
    counts = tf.reshape(counts, [count, num_classes])
    return tf.cast(counts, tf.float32) / tf.cast(tf.shape(flat)[1], tf.float32)


def _answer(probs: tf.Tensor, shape: tf.Tensor, model: servable.Segmenter) -> Answer:
    """The outputs of `serving_default` from probabilities that may have been computed on a smaller size."""
    labels = _enlarge(tf.cast(tf.argmax(probs, -1, tf.int32), tf.uint8), shape, model)
    return {"labels": labels, "probabilities": tf.image.resize(probs, shape) if model.longest else probs,
            "classes_present": fractions(tf.cast(labels, tf.int32), model.num_classes) > 0}


def _enlarge(labels: tf.Tensor, shape: tf.Tensor, model: servable.Segmenter) -> tf.Tensor:
    """Labels `[n, h', w']` at `shape`, by nearest neighbour."""
    return tf.image.resize(labels[..., None], shape, "nearest")[..., 0] if model.longest else labels


def serving_default(model: servable.Segmenter) -> Callable[[tf.Tensor], Answer]:
    """Makes the function of `images` `[n, h, w, 3]` uint8, any size.

    It returns "labels" `[n, h, w]` uint8, "probabilities" `[n, h, w, classes]` float32 and
    "classes_present" `[n, classes]` bool.

    Args:
      model: a `servable.Segmenter`.
    """
    def serve(images: tf.Tensor) -> Answer:
        images = decoding.check_images(images, model.max_pixels, model.max_batch)
        return _answer(model.probs(model.shrunk(images)), tf.shape(images)[1:3], model)

    return serve


def serve_crf(model: servable.Segmenter, spec: crf.CRFSpec) -> Callable[[tf.Tensor, tf.Tensor], Answer]:
    """Makes the function of `images` as in `serving_default` and `iterations` `[n]` int32, refined by the dense CRF.

    The outputs are those of `serving_default`; `iterations` 0 leaves its labels as they are.

    Args:
      model: a `servable.Segmenter`.
      spec: a `crf.CRFSpec`.
    """
    def serve(images: tf.Tensor, iterations: tf.Tensor) -> Answer:
        images = decoding.check_images(images, model.max_pixels // CRF_SHARE, model.max_batch)
        iterations = decoding.check_rows(iterations, images, "iterations")
        iterations = decoding.demand(iterations, [
            (tf.reduce_all((iterations >= 0) & (iterations <= MAX_ITERATIONS)),
             f"iterations: expected 0..{MAX_ITERATIONS}, found", iterations)])
        small = model.shrunk(images)
        logits = crf.logits_of(model.probs(small))
        probs = crf.mean_field(small, logits, spec, "permutohedral", iterations)
        return _answer(probs, tf.shape(images)[1:3], model)

    return serve


def serve_jpeg(model: servable.Segmenter, palette: np.ndarray,
               class_names: Sequence[str]) -> Callable[[tf.Tensor], Answer]:
    """Makes the function of `image` `[n]` JPEG or PNG bytes, each of its own size.

    It returns "label_png_bytes" `[n]`, palette PNGs of ids at the photographs' sizes, "size" `[n, 2]`
    int32 height and width, "fractions" `[n, classes]` float32, each class' share of the pixels, and
    "class_names_bytes" `[n]`, the classes' names in UTF-8, one a line, the same for all.

    Args:
      model: a `servable.Segmenter`.
      palette: `[256, 3]` uint8 colours of the labels.
      class_names: of the classes, the background first.
    """
    max_pixels = MAX_PIXELS if model.longest else model.max_pixels
    answer_specs = {"label_png_bytes": tf.TensorSpec([], tf.string), "size": tf.TensorSpec([2], tf.int32),
                    "fractions": tf.TensorSpec([model.num_classes], tf.float32)}

    def encoded(probs: tf.Tensor, shape: tf.Tensor) -> Answer:
        labels = _enlarge(tf.cast(tf.argmax(probs, -1, tf.int32), tf.uint8)[None], shape, model)
        return {"label_png_bytes": png.encode_palette(labels[0], palette), "size": shape,
                "fractions": fractions(tf.cast(labels, tf.int32), model.num_classes)[0]}

    def warped(file: tf.Tensor) -> tuple[tf.Tensor, ...]:
        photograph = decoding.decode(file, max_pixels)
        return (*model.views(model.shrunk(photograph)), tf.shape(photograph)[:2])

    def merged(row: tuple[tf.Tensor, ...]) -> Answer:
        return encoded(segmenter.merge(row[:-1], model.inner_shape(row[-1])), row[-1])

    def padded(file: tf.Tensor) -> Answer:
        photograph = decoding.decode(file, max_pixels)
        return encoded(model.probs(model.shrunk(photograph)[None])[0], tf.shape(photograph)[:2])

    def serve(image: tf.Tensor) -> Answer:
        image = decoding.check_shape(image, "image", (None,), "bytes [n], a JPEG or PNG each")
        count = tf.shape(image)[0]
        image = decoding.demand(image, [((count > 0) & (count <= model.max_batch),
                                         f"image: expected 1 to {model.max_batch} in one request, found", count)])
        names = {"class_names_bytes": tf.fill([count], "\n".join(class_names))}
        if model.buckets:
            return names | tf.map_fn(padded, image, fn_output_signature=answer_specs, parallel_iterations=1)
        specs = (*(tf.TensorSpec([size, size, 3]) for size in model.sizes), tf.TensorSpec([2], tf.int32))
        *views, shapes = tf.map_fn(warped, image, fn_output_signature=specs, parallel_iterations=4)
        return names | tf.map_fn(merged, (*model.grids(views), shapes), fn_output_signature=answer_specs,
                                 parallel_iterations=1)

    return serve
