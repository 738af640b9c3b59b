"""Photographs: read, decode, normalise and warp; labels are warped to match.

At every boundary an image is RGB, 0..255; a network's own normalisation is
applied by `normalize`, which training, extraction and serving share.
"""

import contextlib
import dataclasses
import io
import pathlib
import struct
from collections.abc import Iterator, Sequence

import cv2
import numpy as np
import tensorflow as tf
from PIL import ExifTags, Image, UnidentifiedImageError

from ficklenet_tf.data import labels
from ficklenet_tf.errors import UserError
from ficklenet_tf.runs import artifacts


@dataclasses.dataclass(frozen=True)
class Normalization:
    """What a backbone's weights expect: (image * scale - mean) / std, channels in `order`."""

    order: str  # "rgb" or "bgr"; mean and std are in this order
    scale: float
    mean: tuple[float, float, float]
    std: tuple[float, float, float]

    def __post_init__(self) -> None:
        """Raises ValueError where that is no normalisation, as of a run.json that a user wrote."""
        if self.order not in ("rgb", "bgr") or {np.shape(self.mean), np.shape(self.std)} != {(3,)}:
            raise ValueError(f"order rgb or bgr, and three numbers of mean and std, not {self.order}, {self.mean} and "
                             f"{self.std}")
        if not all(value > 0 for value in (self.scale, *self.std)):
            raise ValueError(f"scale and std above 0, not {self.scale} and {self.std}")


CAFFE = Normalization("bgr", 1.0, (103.939, 116.779, 123.68), (1.0, 1.0, 1.0))
TORCH = Normalization("rgb", 1 / 255, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
_CHANNELS = 128  # that OpenCV resizes at once


def normalize(images: np.ndarray | tf.Tensor, normalization: Normalization) -> tf.Tensor:
    """Turns RGB 0..255 into what a backbone expects.

    Args:
      images: `[..., 3]` RGB, 0..255, any number type.
      normalization: a `Normalization`.

    Returns:
      `[..., 3]` float32.
    """
    images = tf.cast(images, tf.float32)
    if normalization.order == "bgr":
        images = tf.reverse(images, [-1])  # several times faster than a slice by -1
    mean, std = (tf.constant(values, tf.float32) for values in (normalization.mean, normalization.std))
    return (images * normalization.scale - mean) / std


def decode_image_op(encoded: bytes | tf.Tensor) -> tf.Tensor:
    """Decodes JPEG, PNG, BMP or the first frame of a GIF to `[height, width, 3]` uint8 RGB, as `decode_image` does.

    Raises:
      tf.errors.InvalidArgumentError: when run, for other bytes.
    """
    image = tf.cond(tf.equal(tf.strings.substr(encoded, 0, 2), b"\xff\xd8"),
                    lambda: tf.io.decode_jpeg(encoded, channels=3, dct_method="INTEGER_ACCURATE"),
                    lambda: tf.io.decode_image(encoded, channels=3, expand_animations=False))
    image.set_shape([None, None, 3])
    return image


def warp(image: np.ndarray | tf.Tensor, size: int) -> tf.Tensor:
    """Resizes an image to `size` x `size` without keeping its aspect ratio (SEC, DSRG; bilinear).

    Args:
      image: `[height, width, 3]` RGB 0..255.
      size: side in pixels.

    Returns:
      `[size, size, 3]` float32, 0..255.
    """
    return tf.ensure_shape(tf.image.resize(image, (size, size)), (size, size, 3))


def warp_label(label: np.ndarray | tf.Tensor, size: int) -> tf.Tensor:
    """Resizes `[height, width]` uint8 labels to `[size, size]`, each output pixel the nearest input."""
    label = tf.image.resize(label[..., None], (size, size), method="nearest")[..., 0]
    return tf.ensure_shape(label, (size, size))


def decode_image(encoded: bytes) -> np.ndarray:
    """Decodes what `decode_image_op` does outside a graph: JPEG or PNG bytes -> `[height, width, 3]` uint8 RGB.

    OpenCV is faster than TensorFlow's kernels. A JPEG's pixels are Pillow's, to which TensorFlow comes only by its
    accurate DCT.

    Raises:
      UserError: it is not an image.
    """
    image = cv2.imdecode(np.frombuffer(encoded, np.uint8), cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION)
    if image is None:
        raise UserError(f"expected an encoded image, found {len(encoded)} bytes that start with {encoded[:8]!r}")
    return image


def warp_pixels(image: np.ndarray, size: int) -> np.ndarray:
    """As `warp` outside a graph, rounded: `[height, width, 3]` uint8 -> `[size, size, 3]` uint8."""
    return cv2.resize(image, (size, size), interpolation=cv2.INTER_LINEAR)


def nearest(label: np.ndarray, shape: Sequence[int]) -> np.ndarray:
    """As `warp_label` outside a graph: `[height, width]` -> `shape`, each output pixel the nearest input."""
    rows, columns = (((np.arange(new) + 0.5) * (old / new)).astype(int)
                     for new, old in zip(shape, label.shape, strict=True))
    return label[rows[:, None], columns]


def read_image(path: str | pathlib.Path) -> np.ndarray:
    """Reads any photograph Pillow can: grey, CMYK, palette, alpha, 16 bit; EXIF orientation applied.

    Alpha is dropped, as `decode_image_op` drops it; 16 bits become the higher 8; of several frames the first is read.

    Args:
      path: the file.

    Returns:
      `[height, width, 3]` uint8 RGB.

    Raises:
      FileNotFoundError: there is no such file.
      UserError: not an image, truncated, or more than `labels.MAX_PIXELS`; names file, expectation and finding.
    """
    with opened(path) as image:
        return upright(image)


def photograph(pixels: np.ndarray) -> np.ndarray:
    """Returns a photograph in memory, `[height, width, 3]` uint8 RGB; raises UserError where it is something else."""
    pixels = np.asarray(pixels)
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[-1] != 3 or not pixels.size:
        raise UserError(f"photograph: expected [height, width, 3] uint8 RGB, found {pixels.dtype} "
                        f"{list(pixels.shape)}")
    return pixels


_TURNS = {2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180, 4: Image.Transpose.FLIP_TOP_BOTTOM,
          5: Image.Transpose.TRANSPOSE, 6: Image.Transpose.ROTATE_270, 7: Image.Transpose.TRANSVERSE,
          8: Image.Transpose.ROTATE_90}  # EXIF's orientation -> what makes the picture upright


def orientation(image: Image.Image) -> int:
    """Returns a picture's EXIF orientation, 1..8; 1 where it says none, or where its EXIF data cannot be read."""
    try:
        found = image.getexif().get(ExifTags.Base.Orientation, 1)
    except (SyntaxError, ValueError, TypeError, KeyError, OSError, struct.error):
        return 1
    return found if found in _TURNS else 1


def upright(image: Image.Image) -> np.ndarray:
    """Returns the pixels of a picture that is `opened`, `[height, width, 3]` uint8 RGB; see `read_image`."""
    if image.mode == "I" and image.format == "PPM":  # 16 bits, which Pillow holds in 32
        image = Image.fromarray((np.asarray(image) // 256).astype(np.uint8))
    image.load()  # a TIFF is turned by this, and says so afterwards
    if (turn := _TURNS.get(orientation(image))) is not None:  # not by ImageOps: it writes all of EXIF anew, or fails
        image = image.transpose(turn)
    if image.mode in ("I", "F"):
        raise UserError(f"expected 8 or 16 bits a channel, found mode {image.mode} (32 bits)")
    if image.mode.startswith("I;16"):  # convert("RGB") would clip it at 255
        image = Image.fromarray((np.asarray(image) // 256).astype(np.uint8))
    return np.asarray(image.convert("RGB"))


def canonical_bytes(path: str | pathlib.Path) -> tuple[bytes, tuple[int, int]]:
    """Returns a photograph as bytes which `decode_image_op` turns into the pixels of `read_image`.

    An upright 8-bit RGB or grey JPEG or PNG is kept as it is; everything else is
    written anew as PNG, without loss.

    Args:
      path: the file.

    Returns:
      (bytes, (height, width)).

    Raises:
      FileNotFoundError, UserError: see `read_image`.
    """
    path = pathlib.Path(path)
    with opened(path) as image:
        plain = (image.mode in ("RGB", "L") and orientation(image) == 1
                 and image.format in ("JPEG", "MPO", "PNG"))
        size = (image.height, image.width)
    data = path.read_bytes()
    if plain and (data[:2] == b"\xff\xd8" or data[24] == 8):
        try:
            if tuple(decode_image_op(data).shape[:2]) == size:
                return data, size
        except tf.errors.InvalidArgumentError:
            pass  # a file that only Pillow reads, or a broken one: read_image decides
    pixels = read_image(path)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG", compress_level=4)
    return buffer.getvalue(), (pixels.shape[0], pixels.shape[1])


def overlay(image: np.ndarray, label: np.ndarray, opacity: float = 0.5) -> np.ndarray:
    """Lays labels' colours over a photograph; the background and 255 stay clear.

    Args:
      image: `[h, w, 3]` uint8.
      label: `[h, w]` class ids.
      opacity: of the colours, 0..1.

    Returns:
      `[h, w, 3]` uint8.
    """
    label = np.asarray(label, np.uint8)
    weights = ((label != labels.BACKGROUND) & (label != labels.IGNORE))[..., None] * opacity
    return (image * (1 - weights) + labels.palette()[label] * weights).round().astype(np.uint8)


def write_overlay(path: str | pathlib.Path, image: np.ndarray, label: np.ndarray, opacity: float = 0.5) -> None:
    """Writes an `overlay` as a JPEG file."""
    buffer = io.BytesIO()
    Image.fromarray(overlay(image, label, opacity)).save(buffer, "JPEG", quality=90)
    artifacts.write_bytes(path, buffer.getvalue())


def write_grey(path: str | pathlib.Path, values: np.ndarray) -> None:
    """Writes `[h, w]` numbers in 0..1 as an 8-bit grey PNG, 255 for 1."""
    grey = np.round(values * 255).astype(np.uint8)
    artifacts.write_bytes(path, cv2.imencode(".png", grey)[1].tobytes())


def read_grey(path: str | pathlib.Path) -> np.ndarray:
    """Reads a grey picture of any format, `[h, w]` uint8.

    Raises:
      FileNotFoundError: there is no such file.
      UserError: it is no picture, or not what was written there.
    """
    data = artifacts.read_bytes(path)
    grey = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_GRAYSCALE) if data else None
    if grey is None:
        raise UserError(f"{path}: expected a grey picture, found {len(data)} bytes that are none")
    return grey


@contextlib.contextmanager
def opened(path: str | pathlib.Path, data: bytes | None = None) -> Iterator[Image.Image]:
    """Opens a photograph with Pillow; every failure, in the block too, becomes a UserError that names the file.

    Args:
      path: the file.
      data: its bytes, where they have been read.

    Yields:
      the picture, its pixels not yet decoded.
    """
    path = pathlib.Path(path)
    if path.exists() and not path.is_file():  # a pipe would be waited for
        raise UserError(f"{path}: expected a photograph, found something that is no file")
    try:
        # Not by its path: Pillow maps some TIFF files into memory, and those that lie on their side at a wrong width.
        image = Image.open(io.BytesIO(path.read_bytes() if data is None else data))
    except FileNotFoundError:
        raise FileNotFoundError(f"{path}: expected a photograph, found no such file") from None
    except Exception as error:  # Pillow raises many kinds for broken files
        why = "in no format that is known" if isinstance(error, UnidentifiedImageError) else error
        raise UserError(f"{path}: expected a photograph (JPEG, PNG, ...), found {_size(path)}: {why}") from error
    with image:
        if image.width * image.height > labels.MAX_PIXELS:
            raise UserError(f"{path}: expected at most {labels.MAX_PIXELS} pixels, found {image.width} x "
                            f"{image.height}; make it smaller by a program for pictures")
        try:
            yield image
        except Exception as error:
            raise UserError(f"{path}: expected a whole {image.format} image, found {_size(path)}: {error}") from error


def _size(path: pathlib.Path) -> str:
    """Says how large a file is, for a message."""
    return f"a file of {path.stat().st_size} bytes" if path.is_file() else "no file"


def resize_maps(maps: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Resizes `[h, w, c]` float32 maps to shape (height, width), bilinear: `[height, width, c]`; c may be 0."""
    height, width = shape
    if not maps.shape[-1]:
        return np.zeros((height, width, 0), np.float32)
    parts = [cv2.resize(np.ascontiguousarray(maps[..., start:start + _CHANNELS]), (width, height),
                        interpolation=cv2.INTER_LINEAR).reshape(height, width, -1)
             for start in range(0, maps.shape[-1], _CHANNELS)]
    return parts[0] if len(parts) == 1 else np.concatenate(parts, -1)
