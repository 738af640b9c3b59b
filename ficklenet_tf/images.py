"""Photographs: read, decode, normalise, warp, crop and flip, an image together with its labels.

At every boundary an image is RGB, 0..255; a network's own normalisation is
applied by `normalize`, which training, extraction and serving share.
"""

import contextlib
import dataclasses
import io
import pathlib

import numpy as np
import tensorflow as tf
from PIL import ExifTags, Image, ImageOps

from ficklenet_tf import artifacts, labels

MAX_PIXELS = 2**26  # 67 million: above any camera's picture that fits in memory several times over


@dataclasses.dataclass(frozen=True)
class Normalization:
    """What a backbone's weights expect: (image * scale - mean) / std, channels in `order`."""

    order: str  # "rgb" or "bgr"; mean and std are in this order
    scale: float
    mean: tuple
    std: tuple


CAFFE = Normalization("bgr", 1.0, (103.939, 116.779, 123.68), (1.0, 1.0, 1.0))
TORCH = Normalization("rgb", 1 / 255, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


def normalize(images, normalization):
    """Turns RGB 0..255 into what a backbone expects.

    Args:
      images: `[..., 3]` RGB, 0..255, any number type.
      normalization: a `Normalization`.

    Returns:
      `[..., 3]` float32.
    """
    images = tf.cast(images, tf.float32)
    if normalization.order == "bgr":
        images = images[..., ::-1]
    return (images * normalization.scale - tf.constant(normalization.mean)) / tf.constant(normalization.std)


def decode(encoded):
    """Decodes JPEG, PNG, BMP or the first frame of a GIF to `[height, width, 3]` uint8 RGB."""
    image = tf.io.decode_image(encoded, channels=3, expand_animations=False)
    image.set_shape([None, None, 3])
    return image


def warp(image, size):
    """Resizes an image to `size` x `size` without keeping its aspect (SEC, DSRG; bilinear).

    Args:
      image: `[height, width, 3]` RGB 0..255.
      size: side in pixels.

    Returns:
      `[size, size, 3]` float32, 0..255.
    """
    return tf.ensure_shape(tf.image.resize(image, (size, size)), (size, size, 3))


def warp_label(label, size):
    """Resizes `[height, width]` uint8 labels to `[size, size]`, each output pixel the nearest input."""
    label = tf.image.resize(label[..., None], (size, size), method="nearest")[..., 0]
    return tf.ensure_shape(label, (size, size))


def flip(image, label, seed):
    """Mirrors an image and its labels together, left to right, in half of the cases.

    Args:
      image: `[height, width, channels]`.
      label: `[height', width']` or None.
      seed: `[2]` int32; the same seed gives the same answer.

    Returns:
      (image, label).
    """
    mirrored = tf.random.stateless_uniform([], seed) < 0.5
    image = tf.cond(mirrored, lambda: tf.reverse(image, [1]), lambda: image)
    if label is not None:
        label = tf.cond(mirrored, lambda: tf.reverse(label, [1]), lambda: label)
    return image, label


def photometric(image, seed, strength=0.2):
    """Changes brightness, contrast and saturation by up to `strength`; float32 RGB 0..255 in and out."""
    seeds = tf.random.split(seed, 3)
    image = tf.image.stateless_random_brightness(image, 255 * strength / 2, seeds[0])
    image = tf.image.stateless_random_contrast(image, 1 - strength, 1 + strength, seeds[1])
    image = tf.image.stateless_random_saturation(tf.clip_by_value(image, 0, 255) / 255, 1 - strength, 1 + strength,
                                                 seeds[2]) * 255
    return tf.clip_by_value(image, 0, 255)


def scale_and_crop(image, label, size, seed, scales=(0.5, 1.5)):
    """Random scale, then a random `size` x `size` crop; what lies outside is padded and ignored.

    Args:
      image: `[height, width, 3]` RGB 0..255.
      label: `[height, width]` uint8.
      size: side of the crop in pixels.
      seed: `[2]` int32.
      scales: least and greatest factor.

    Returns:
      image `[size, size, 3]` float32 (padding: the image's mean colour) and label
      `[size, size]` uint8 (padding: 255).
    """
    seeds = tf.random.split(seed, 2)
    factor = tf.random.stateless_uniform([], seeds[0], *scales)
    shape = tf.cast(tf.round(tf.cast(tf.shape(image)[:2], tf.float32) * factor), tf.int32)
    shape = tf.maximum(shape, 1)
    image = tf.image.resize(image, shape)
    label = tf.image.resize(label[..., None], shape, method="nearest")[..., 0]
    pad = tf.maximum(size - shape, 0)
    paddings = [[0, pad[0]], [0, pad[1]]]
    mean = tf.reduce_mean(image, axis=(0, 1))
    image = tf.pad(image - mean, [*paddings, [0, 0]]) + mean
    label = tf.pad(label, paddings, constant_values=tf.constant(labels.IGNORE, tf.uint8))
    room = tf.cast(tf.shape(label) - size + 1, tf.float32)
    corner = tf.cast(tf.random.stateless_uniform([2], seeds[1]) * room, tf.int32)
    image = tf.slice(image, [corner[0], corner[1], 0], [size, size, 3])
    label = tf.slice(label, corner, [size, size])
    return tf.ensure_shape(image, (size, size, 3)), tf.ensure_shape(label, (size, size))


def read_image(path):
    """Reads any photograph Pillow can: grey, CMYK, palette, alpha, 16 bit; EXIF orientation applied.

    Alpha is dropped, as `decode` drops it; 16 bits become the higher 8; of several frames the first is read.

    Args:
      path: the file.

    Returns:
      `[height, width, 3]` uint8 RGB.

    Raises:
      FileNotFoundError: there is no such file.
      ValueError: not an image, truncated, or more than `MAX_PIXELS`; names file, expectation and finding.
    """
    with _opened(path) as image:
        image = ImageOps.exif_transpose(image)
        if image.mode in ("I", "F"):
            raise ValueError(f"expected 8 or 16 bits a channel, found mode {image.mode} (32 bits)")
        if image.mode.startswith("I;16"):  # convert("RGB") would clip it at 255
            image = Image.fromarray((np.asarray(image) // 256).astype(np.uint8))
        return np.asarray(image.convert("RGB"))


def canonical_bytes(path):
    """Returns a photograph as bytes which `decode` turns into the pixels of `read_image`.

    An upright 8-bit RGB or grey JPEG or PNG is kept as it is; everything else is
    written anew as PNG, without loss. TensorFlow rounds a JPEG's pixels faster and
    less exactly than Pillow does: there the two differ by up to 3.

    Args:
      path: the file.

    Returns:
      (bytes, (height, width)).

    Raises:
      FileNotFoundError, ValueError: see `read_image`.
    """
    path = pathlib.Path(path)
    with _opened(path) as image:
        plain = (image.mode in ("RGB", "L") and image.getexif().get(ExifTags.Base.Orientation, 1) == 1
                 and image.format in ("JPEG", "MPO", "PNG"))
        size = (image.height, image.width)
    data = path.read_bytes()
    if plain and (data[:2] == b"\xff\xd8" or data[24] == 8):
        try:
            if tuple(decode(data).shape[:2]) == size:
                return data, size
        except tf.errors.InvalidArgumentError:
            pass  # a file that only Pillow reads, or a broken one: read_image decides
    pixels = read_image(path)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG", compress_level=4)
    return buffer.getvalue(), pixels.shape[:2]


def write_overlay(path, image, label, opacity=0.5):
    """Writes a photograph with its labels' colours laid over it as JPEG; the background and 255 stay clear.

    Args:
      path: the file.
      image: `[h, w, 3]` uint8.
      label: `[h, w]` class ids.
      opacity: of the colours, 0..1.
    """
    label = np.asarray(label, np.uint8)
    shown = ((label != labels.BACKGROUND) & (label != labels.IGNORE))[..., None] * opacity
    mixed = image * (1 - shown) + labels.palette()[label] * shown
    buffer = io.BytesIO()
    Image.fromarray(mixed.round().astype(np.uint8)).save(buffer, "JPEG", quality=90)
    artifacts.write_bytes(path, buffer.getvalue())


@contextlib.contextmanager
def _opened(path):
    """Opens a photograph with Pillow; every failure, in the block too, becomes a ValueError that names the file."""
    path = pathlib.Path(path)
    try:
        image = Image.open(path)
    except FileNotFoundError:
        raise FileNotFoundError(f"{path}: expected a photograph, found no such file") from None
    except Exception as error:  # Pillow raises many kinds for broken files
        raise ValueError(f"{path}: expected a photograph (JPEG, PNG, ...), found {_size(path)}: {error}") from error
    with image:
        if image.width * image.height > MAX_PIXELS:
            raise ValueError(f"{path}: expected at most {MAX_PIXELS} pixels, found {image.width} x {image.height}")
        try:
            yield image
        except Exception as error:
            raise ValueError(f"{path}: expected a whole {image.format} image, found {_size(path)}: {error}") from error


def _size(path):
    """Says how large a file is, for a message."""
    return f"a file of {path.stat().st_size} bytes" if path.is_file() else "no file"
