"""Label images: class ids 0..C (0 is the background) and 255 for "ignore", as VOC keeps them.

The only module that knows what 255 means in a file and how VOC's palette is made.
"""

import io
import pathlib
from collections.abc import Mapping, Sequence

import numpy as np
import tensorflow as tf
from PIL import Image

from ficklenet_tf.errors import UserError
from ficklenet_tf.runs import artifacts

BACKGROUND = 0
IGNORE = 255
_DEPTH = 24  # where a PNG's bits a sample stand
MAX_PIXELS = 2**26  # of a picture, 67 million: above any camera's that fits in memory several times over


def palette() -> np.ndarray:
    """Returns VOC's colours: `[256, 3]` uint8, row i the RGB colour of label i.

    Bit j of the label's three-bit groups becomes bit 7 - j of red, green and
    blue (VOCdevkit, `VOClabelcolormap.m`), so the 256 colours are all different.
    """
    ids = np.arange(256)
    colours = np.zeros((256, 3), np.uint8)
    for j in range(3):
        for channel in range(3):
            bit = 3 * j + channel
            if bit < 8:
                colours[:, channel] |= (((ids >> bit) & 1) << (7 - j)).astype(np.uint8)
    return colours


def labels_from_colours(colours: np.ndarray | tf.Tensor) -> tf.Tensor:
    """Inverts the palette.

    Args:
      colours: `[..., 3]` uint8 RGB (NumPy or tensor), each a colour of `palette()`.

    Returns:
      `[...]` uint8 tensor of labels. A colour outside the palette gives the label
      whose leading bits it shares; `read_label` checks files for that.
    """
    colours = tf.cast(colours, tf.int32)
    label = tf.zeros(tf.shape(colours)[:-1], tf.int32)
    for bit in range(8):
        plane = tf.bitwise.bitwise_and(tf.bitwise.right_shift(colours[..., bit % 3], 7 - bit // 3), 1)
        label += plane * 2**bit
    return tf.cast(label, tf.uint8)


def decode_label_op(png: tf.Tensor) -> tf.Tensor:
    """Decodes a PNG of this module's `encode_label` inside a graph.

    Every TensorFlow decoder turns a palette into its colours, so they are
    decoded as RGB and the palette is inverted.

    Args:
      png: scalar string tensor.

    Returns:
      `[height, width]` uint8 labels.
    """
    return labels_from_colours(tf.io.decode_png(png, channels=3))


def decode_label(png: bytes) -> np.ndarray:
    """As `decode_label_op` outside a graph, several times faster: bytes -> `[height, width]` uint8 labels.

    Of a user's own seeds also grey PNGs of ids, of one to eight bits.

    Raises:
      UserError: it is another kind of image.
    """
    try:
        with Image.open(io.BytesIO(png)) as image:
            if image.mode not in ("P", "L", "1"):
                raise UserError(f"expected a palette or grey PNG of labels, found an image of mode {image.mode}")
            return _ids(np.asarray(image), image.mode, png[_DEPTH])
    except OSError as error:  # Pillow's, of a broken file
        raise UserError(f"expected a whole palette PNG of labels, found {len(png)} bytes: {error}") from error


def _ids(pixels: np.ndarray, mode: str, depth: int) -> np.ndarray:
    """Returns the ids in a palette or grey PNG, uint8, from Pillow's pixels and mode and the file's bits a sample."""
    if mode == "L" and depth in (2, 4):  # which Pillow spreads over 0..255
        return pixels // np.uint8(255 // (2**depth - 1))
    return pixels.astype(np.uint8, copy=False)


def encode_label(label: np.ndarray) -> bytes:
    """Encodes `[height, width]` uint8 labels as a palette PNG; returns bytes."""
    image = Image.fromarray(np.asarray(label, np.uint8), mode="P")
    image.putpalette(palette().tobytes())
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def write_label(path: str | pathlib.Path, label: np.ndarray) -> None:
    """Writes labels as a palette PNG, whole or not at all. See `encode_label`."""
    artifacts.write_bytes(path, encode_label(label))


def read_label(path: str | pathlib.Path, num_classes: int | None = None) -> np.ndarray:
    """Reads a label image: palette or grey PNG of ids, or RGB in VOC's colours.

    Args:
      path: the file.
      num_classes: number of classes with the background; ids from there to 254 are an error.

    Returns:
      `[height, width]` uint8, 0..num_classes - 1 and 255.

    Raises:
      FileNotFoundError: there is no such file.
      UserError: not an image, not labels, or an id without a class; or a palette in which VOC's colours stand for
        other ids than VOC's; names the file.
    """
    path = pathlib.Path(path)
    if path.exists() and not path.is_file():  # a pipe would be waited for
        raise UserError(f"{path}: expected a label image, found something that is no file")
    try:
        data = artifacts.read_bytes(path)
        with Image.open(io.BytesIO(data)) as image:
            if image.format != "PNG" or image.width * image.height > MAX_PIXELS:
                raise UserError(f"{path}: expected a PNG of at most {MAX_PIXELS} pixels, found {image.format} of "
                                f"{image.width} x {image.height}")
            image.load()
            mode, pixels = image.mode, np.asarray(image)
            colours = np.reshape(image.getpalette("RGB") or [], (-1, 3)) if mode == "P" else pixels[..., :3]
            depth = data[_DEPTH]
    except (FileNotFoundError, UserError):
        raise
    except Exception as error:  # Pillow raises many kinds for broken files
        raise UserError(f"{path}: expected a label image (PNG), found {error}") from error
    if mode in ("RGB", "RGBA"):
        label = labels_from_colours(colours).numpy()
        if not np.array_equal(palette()[label], colours):
            raise UserError(f"{path}: expected class ids or VOC's palette colours, found other colours")
    elif mode in ("P", "L", "1"):
        label = _ids(pixels, mode, depth)
        if mode == "P":
            _check_palette(label, colours, path)
    else:
        raise UserError(f"{path}: expected 8-bit labels, found an image of mode {mode}")
    if num_classes is not None:
        check_label(label, num_classes, path)
    return label


def _check_palette(label: np.ndarray, colours: np.ndarray, path: pathlib.Path) -> None:
    """Raises UserError where all colours are VOC's and some mean another id: which of the two is meant is not known.

    Programs that reduce the colours of a picture number them as they come. `label` is `[h, w]` uint8, `colours` the
    `[n, 3]` of its palette, 0..255.
    """
    ids = np.flatnonzero(np.bincount(label.ravel(), minlength=256)[:IGNORE])  # many palettes end before 255
    ids = ids[ids < len(colours)]
    used = colours[ids]
    by_colour = labels_from_colours(used).numpy()
    if np.array_equal(palette()[by_colour], used) and (by_colour != ids).any():
        wrong = int((by_colour != ids).argmax())
        raise UserError(f"{path}: expected a palette whose number k has VOC's colour of id k, or colours of its own, "
                        f"found that number {ids[wrong]} has VOC's colour of id {by_colour[wrong]}; save the label "
                        "image as grey ids, or as RGB in VOC's colours")


def check_label(label: np.ndarray, num_classes: int, name: str | pathlib.Path) -> None:
    """Raises UserError, naming `name`, where an id is neither a class nor 255."""
    wrong_ids = np.unique(label[(label >= num_classes) & (label != IGNORE)])
    if wrong_ids.size:
        raise UserError(f"{name}: expected ids 0..{num_classes - 1} or {IGNORE}, found {wrong_ids[:8].tolist()}")


def check_size(label: np.ndarray, size: tuple[int, ...], path: pathlib.Path, image_path: pathlib.Path) -> None:
    """Raises UserError, naming both files, where a label image has not its photograph's `size` (height, width)."""
    if label.shape != size:
        raise UserError(f"{path}: expected the size of {image_path}, {size[1]} x {size[0]} pixels, found "
                        f"{label.shape[1]} x {label.shape[0]}")


def shares(label: np.ndarray, class_names: Sequence[str]) -> dict[str, float]:
    """Says what a label image shows.

    Args:
      label: `[height, width]` integers, 0..255.
      class_names: of the ids, the background first.

    Returns:
      {class name: its share of all pixels, above 0 and at most 1}, the largest first; not the background, not 255.
    """
    counts = np.bincount(np.ravel(label), minlength=256)
    found = [class_id for class_id in range(1, len(class_names)) if counts[class_id]]
    return {class_names[i]: float(counts[i] / np.size(label)) for i in sorted(found, key=lambda i: -counts[i])}


def in_words(shares: Mapping[str, float]) -> str:
    """Returns `shares` in one line: "dog 12 %, person 3 %", or "no object"."""
    return ", ".join(f"{name} {f'{100 * share:.0f}' if share >= 0.005 else '< 1'} %"
                     for name, share in shares.items()) or "no object"


def tags_of(label: np.ndarray, num_classes: int) -> np.ndarray:
    """Returns the foreground classes of a label image as `[num_classes - 1]` float32, 0 or 1."""
    present = np.bincount(label.ravel(), minlength=256)[1:num_classes] > 0
    return present.astype(np.float32)
