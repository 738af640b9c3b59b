"""What the served graph computes: photographs, as pixels or as files, to labels at their own size.

Normalisation, multi-scale prediction and argmax are those of `ficklenet_tf.prediction.Predictor`.
All of it is stock TensorFlow; bad input ends in an error that says what was expected.
"""

import dataclasses

import keras
import tensorflow as tf

from export import png
from ficklenet_tf import images as photographs
from ficklenet_tf import segmenter


@dataclasses.dataclass(frozen=True)
class Segmenter:
    """A trained segmenter and how it is applied.

    Attributes:
      network: `[b, s, s, 3]` normalised -> `[b, s / 8, s / 8, classes]` logits.
      normalization: `images.Normalization`.
      sizes: sides of the multi-scale prediction.
      flip: whether mirror images are averaged in.
      classes: with the background.
      max_pixels: of one request, all its photographs together; more is refused.
    """

    network: keras.Model
    normalization: photographs.Normalization
    sizes: tuple
    flip: bool
    classes: int
    max_pixels: int

    def probs(self, images):
        """Returns `[n, h, w, classes]` float32 probabilities of `[n, h, w, 3]` uint8 photographs."""
        return segmenter.predict_probs(self.network, images, self.normalization, self.sizes, self.flip)


IMAGES = tf.TensorSpec([None, None, None, 3], tf.uint8, name="images")
FILES = tf.TensorSpec([None], tf.string, name="image")


def checked(images, max_pixels):
    """Returns `images` after the check that they have pixels, and not too many.

    Args:
      images: `[n, h, w, 3]` uint8.
      max_pixels: n * h * w at most.

    Raises:
      tf.errors.InvalidArgumentError: when run, for sides of 0 or too many pixels.
    """
    shape = tf.shape(images, tf.int64)
    pixels = tf.reduce_prod(shape[:3])
    checks = [
        tf.debugging.Assert(tf.reduce_all(shape[:3] > 0), ["images: expected no empty axis, found the shape", shape]),
        tf.debugging.Assert(pixels <= max_pixels, [f"images: expected at most {max_pixels} pixels, found", pixels])]
    with tf.control_dependencies(checks):
        return tf.identity(images)


def answer(probs):
    """Turns `[n, h, w, classes]` probabilities into the outputs of `serving_default`."""
    labels = tf.argmax(probs, -1, tf.int32)
    return {"labels": tf.cast(labels, tf.uint8), "probabilities": probs,
            "classes_present": fractions(labels, tf.shape(probs)[-1]) > 0}


def fractions(labels, classes):
    """Returns `[n, classes]` float32: each class' share of the pixels of `[n, h, w]` int32 labels."""
    count = tf.shape(labels)[0]
    flat = tf.reshape(labels, [count, -1])
    rows = tf.range(count)[:, None] * classes + flat
    counts = tf.reshape(tf.math.bincount(tf.reshape(rows, [-1]), minlength=count * classes), [count, classes])
    return tf.cast(counts, tf.float32) / tf.cast(tf.shape(flat)[1], tf.float32)


def serving_default(model):
    """Makes the function of `images` `[n, h, w, 3]` uint8, any size.

    It returns "labels" `[n, h, w]` uint8, "probabilities" `[n, h, w, classes]` float32 and
    "classes_present" `[n, classes]` bool.
    """
    return lambda images: answer(model.probs(checked(images, model.max_pixels)))


def serve_jpeg(model, palette):
    """Makes the function of `image` `[n]` JPEG or PNG bytes, each of its own size.

    It returns "label_png_bytes" `[n]`, palette PNGs of ids at the photographs' sizes, "size" `[n, 2]`
    int32 height and width, and "fractions" `[n, classes]` float32, each class' share of the pixels.

    Args:
      model: a `Segmenter`.
      palette: `[256, 3]` uint8 colours of the labels.
    """
    def one(encoded):
        image = decode(encoded, model.max_pixels)
        labels = tf.argmax(model.probs(image[None]), -1, tf.int32)
        return {"label_png_bytes": png.encode_palette(tf.cast(labels[0], tf.uint8), palette),
                "size": tf.shape(image)[:2], "fractions": fractions(labels, model.classes)[0]}

    specs = {"label_png_bytes": tf.TensorSpec([], tf.string), "size": tf.TensorSpec([2], tf.int32),
             "fractions": tf.TensorSpec([model.classes], tf.float32)}
    return lambda image: tf.map_fn(one, image, fn_output_signature=specs, parallel_iterations=1)


def decode(encoded, max_pixels):
    """Decodes one JPEG or PNG to `[h, w, 3]` uint8, its size checked before any pixel is unpacked.

    Args:
      encoded: scalar string.
      max_pixels: height * width at most: a decompression bomb is refused by its header.

    Raises:
      tf.errors.InvalidArgumentError: when run, for other bytes, broken files and too many pixels.
    """
    head = tf.strings.substr(encoded, 0, 24)
    is_png = tf.strings.regex_full_match(tf.strings.substr(encoded, 1, 3), "PNG")
    is_jpeg = tf.equal(tf.strings.substr(encoded, 0, 2), b"\xff\xd8")
    known = tf.debugging.Assert((is_png & (tf.strings.length(head) == 24)) | is_jpeg,
                                ["image: expected the bytes of a JPEG or PNG, found", tf.strings.length(encoded),
                                 "bytes of something else"])
    with tf.control_dependencies([known]):
        size = tf.cond(is_png, lambda: png.size(head), lambda: tf.cast(tf.image.extract_jpeg_shape(encoded)[:2],
                                                                       tf.int64))
    pixels = tf.reduce_prod(size)
    small = tf.debugging.Assert((pixels > 0) & (pixels <= max_pixels),
                                [f"image: expected 1 to {max_pixels} pixels, found height and width", size])
    with tf.control_dependencies([small]):
        image = tf.cond(is_png, lambda: tf.io.decode_png(encoded, channels=3),
                        lambda: tf.io.decode_jpeg(encoded, channels=3))
    return tf.ensure_shape(image, [None, None, 3])
