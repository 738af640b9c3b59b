"""The served signatures: photographs, as pixels or as files, to labels at their own size.

Normalisation, multi-scale prediction and argmax are inside; all of it is stock TensorFlow. Every
input has a leading batch axis, so that a server may batch. `localization_maps` has its own module.
"""

import tensorflow as tf

from ficklenet_tf import crf
from ficklenet_tf.data import images
from ficklenet_tf.models import segmenter
from ficklenet_tf.serving import decoding, png

IMAGES = tf.TensorSpec([None, None, None, 3], tf.uint8, name="images")
FILES = tf.TensorSpec([None], tf.string, name="image")
ITERATIONS = tf.TensorSpec([None], tf.int32, name="iterations")
MAX_ITERATIONS = 100
CRF_SHARE = 8  # the dense CRF takes about so many times the memory a pixel: its requests may have so many fewer


def fractions(labels, classes):
    """Returns `[n, classes]` float32: each class' share of the pixels of `[n, h, w]` int32 labels."""
    count = tf.shape(labels)[0]
    flat = tf.reshape(labels, [count, -1])
    rows = tf.range(count)[:, None] * classes + flat
    counts = tf.reshape(tf.math.bincount(tf.reshape(rows, [-1]), minlength=count * classes), [count, classes])
    return tf.cast(counts, tf.float32) / tf.cast(tf.shape(flat)[1], tf.float32)


def _answer(probs, shape, model):
    """The outputs of `serving_default` from probabilities that may have been computed on a smaller size."""
    labels = _enlarge(tf.cast(tf.argmax(probs, -1, tf.int32), tf.uint8), shape, model)
    return {"labels": labels, "probabilities": tf.image.resize(probs, shape) if model.longest else probs,
            "classes_present": fractions(tf.cast(labels, tf.int32), model.num_classes) > 0}


def _enlarge(labels, shape, model):
    """Labels `[n, h', w']` at `shape`, each pixel the nearest's."""
    return tf.image.resize(labels[..., None], shape, "nearest")[..., 0] if model.longest else labels


def serving_default(model):
    """Makes the function of `images` `[n, h, w, 3]` uint8, any size.

    It returns "labels" `[n, h, w]` uint8, "probabilities" `[n, h, w, classes]` float32 and
    "classes_present" `[n, classes]` bool.

    Args:
      model: an `servable.Segmenter`.
    """
    def serve(images):
        images = decoding.checked(images, model.max_pixels, model.max_batch)
        return _answer(model.probs(model.shrunk(images)), tf.shape(images)[1:3], model)

    return serve


def serve_crf(model, spec):
    """Makes the function of `images` as in `serving_default` and `iterations` `[n]` int32, refined by the dense CRF.

    The outputs are those of `serving_default`; `iterations` 0 leaves its labels as they are.

    Args:
      model: an `servable.Segmenter`.
      spec: a `crf.CRFSpec`.
    """
    def serve(images, iterations):
        images = decoding.checked(images, model.max_pixels // CRF_SHARE, model.max_batch)
        iterations = decoding.rows_of(iterations, images, "iterations")
        iterations = decoding.demand(iterations, [
            (tf.reduce_all((iterations >= 0) & (iterations <= MAX_ITERATIONS)),
             f"iterations: expected 0..{MAX_ITERATIONS}, found", iterations)])
        small = model.shrunk(images)
        logits = crf.logits_of(model.probs(small))
        probs = crf.mean_field(small, logits, spec, "permutohedral", iterations)
        return _answer(probs, tf.shape(images)[1:3], model)

    return serve


def serve_jpeg(model, palette):
    """Makes the function of `image` `[n]` JPEG or PNG bytes, each of its own size.

    It returns "label_png_bytes" `[n]`, palette PNGs of ids at the photographs' sizes, "size" `[n, 2]`
    int32 height and width, and "fractions" `[n, classes]` float32, each class' share of the pixels.

    Args:
      model: an `servable.Segmenter`.
      palette: `[256, 3]` uint8 colours of the labels.
    """
    max_pixels = images.MAX_PIXELS if model.longest else model.max_pixels
    answer = {"label_png_bytes": tf.TensorSpec([], tf.string), "size": tf.TensorSpec([2], tf.int32),
              "fractions": tf.TensorSpec([model.num_classes], tf.float32)}

    def encoded(probs, shape):
        labels = _enlarge(tf.cast(tf.argmax(probs, -1, tf.int32), tf.uint8)[None], shape, model)
        return {"label_png_bytes": png.encode_palette(labels[0], palette), "size": shape,
                "fractions": fractions(tf.cast(labels, tf.int32), model.num_classes)[0]}

    def warped(file):
        photograph = decoding.decode(file, max_pixels)
        return (*model.views(model.shrunk(photograph)), tf.shape(photograph)[:2])

    def merged(row):
        return encoded(segmenter.merge(row[:-1], model.inner_shape(row[-1])), row[-1])

    def padded(file):
        photograph = decoding.decode(file, max_pixels)
        return encoded(model.probs(model.shrunk(photograph)[None])[0], tf.shape(photograph)[:2])

    def serve(image):
        count = tf.shape(image)[0]
        image = decoding.demand(image, [((count > 0) & (count <= model.max_batch),
                                         f"image: expected 1 to {model.max_batch} in one request, found", count)])
        if model.buckets:
            return tf.map_fn(padded, image, fn_output_signature=answer, parallel_iterations=1)
        specs = (*(tf.TensorSpec([size, size, 3]) for size in model.sizes), tf.TensorSpec([2], tf.int32))
        *views, shapes = tf.map_fn(warped, image, fn_output_signature=specs, parallel_iterations=4)
        return tf.map_fn(merged, (*model.grids(views), shapes), fn_output_signature=answer, parallel_iterations=1)

    return serve
