"""What one photograph and its label image are, each file read once."""

import dataclasses
import hashlib
import pathlib

import cv2
import numpy as np

from ficklenet_tf.data import images, labels
from ficklenet_tf.data.inspection import duplicates
from ficklenet_tf.data.inspection.listing import Entry
from ficklenet_tf.errors import UserError

_SMALL = 64  # pixels; a JPEG is decoded no larger than this needs, in a fraction of the time, and still to its end


@dataclasses.dataclass(frozen=True)
class Photograph:
    """A photograph that can be read.

    Attributes:
      size: (width, height) in pixels, upright.
      digest: of the file's bytes.
      pattern: `duplicates.SHAPE` uint8, the picture in grey and tiny.
    """

    size: tuple[int, int]
    digest: bytes
    pattern: np.ndarray


@dataclasses.dataclass(frozen=True)
class Mask:
    """A label image that can be read: (width, height), and the ids in it, sorted, without 255."""

    size: tuple[int, int]
    ids: tuple[int, ...]


@dataclasses.dataclass(frozen=True)
class Seen:
    """A photograph and its label image; a text says why one cannot be read."""

    photograph: Photograph | str
    mask: Mask | str | None
    missing: bool = False


def look(entry: Entry) -> Seen:
    """Reads an entry's photograph, and its label image if there is one."""
    missing = False
    try:
        photograph: Photograph | str = read_photograph(entry.image)
    except (UserError, OSError) as error:
        photograph, missing = _without_path(error, entry.image), isinstance(error, FileNotFoundError)
    mask: Mask | str | None = None
    try:
        mask = read_mask(entry.label) if entry.label else None
    except (UserError, OSError) as error:
        mask = _without_path(error, entry.label)
    return Seen(photograph, mask, missing)


def read_photograph(path: pathlib.Path) -> Photograph:
    """Reads a photograph.

    Raises:
      FileNotFoundError, UserError, OSError: as `images.read_image`.
    """
    data = path.read_bytes() if path.is_file() else None  # `opened` says what it is instead
    with images.opened(path, data) as image:
        turned = images.orientation(image) in (5, 6, 7, 8)
        whole = (image.height, image.width) if turned else (image.width, image.height)
        reduced = image.draft("RGB", (_SMALL, _SMALL))
        pixels = images.upright(image)
        size = whole if reduced else (pixels.shape[1], pixels.shape[0])  # a TIFF's is turned when it is opened
    grey = cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY)
    pattern = cv2.resize(grey, duplicates.SHAPE[::-1], interpolation=cv2.INTER_AREA)
    return Photograph(size, hashlib.sha256(data or b"").digest(), pattern)


def read_mask(path: pathlib.Path) -> Mask:
    """Reads a label image, whatever its ids.

    Raises:
      UserError, OSError: as `labels.read_label`.
    """
    label = labels.read_label(path)
    ids = np.flatnonzero(np.bincount(label.ravel(), minlength=256)[:labels.IGNORE])
    return Mask((label.shape[1], label.shape[0]), tuple(ids.tolist()))


def _without_path(error: Exception, path: pathlib.Path | None) -> str:
    """Returns an error's text without the path that it begins with, which stands before it in a list."""
    return str(error).removeprefix(f"{path}: ")
