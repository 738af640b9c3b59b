"""Smaller copies of a directory of photographs, in the same form; see `folder`."""

import contextlib
import io
import pathlib
import tempfile
from collections.abc import Iterator

import cv2
from PIL import Image

from ficklenet_tf.data import images, labels
from ficklenet_tf.data.datasets import class_folders, folder, tags_csv
from ficklenet_tf.errors import UserError
from ficklenet_tf.runs import artifacts, progress

_LOSSY = {"JPEG": "JPEG", "MPO": "JPEG", "WEBP": "WEBP", "AVIF": "AVIF"}  # MPO: what some telephones write
_QUALITY = 95  # of those
_LOSSLESS = ("PNG", "BMP", "GIF", "TIFF", "PPM")


def make(data_dir: str | pathlib.Path, to: str | pathlib.Path, longest: int) -> tuple[int, int]:
    """Copies what a directory lists, photographs and label images made smaller where they are larger than `longest`.

    A photograph keeps its name and form, and stands upright (EXIF orientation applied). It is made smaller by the
    mean of the pixels under each new one, its label image by the nearest. What is small enough, tags.csv, classes.txt
    and the lists are copied byte for byte; what nothing lists is left out. `to` appears when all is there.

    Args:
      data_dir: the directory of the photographs; see `folder`.
      to: the directory to make.
      longest: at most so many pixels the longer side of a copy has.

    Returns:
      (photographs, how many of them were made smaller). One that lies in several folders counts once for each.

    Raises:
      FileNotFoundError, UserError: see `folder.read`; `to` is there, or within `data_dir`; a photograph or label image
        cannot be read, or the two have different sizes.
    """
    contents = folder.read(data_dir)
    to = pathlib.Path(to).expanduser().resolve()
    if to.exists() or contents.root in to.parents:
        raise UserError(f"to: expected a directory that is not there yet, outside of {contents.root}, found {to}")
    photographs = {row.image: contents.label(row) for row in contents.rows}
    if contents.photographs == contents.root:
        photographs |= dict.fromkeys(class_folders.copies(contents.root, contents.rows))
    num_smaller = 0
    with _appearing(to) as place:
        for path in _texts(contents.root):
            artifacts.write_bytes(place / path.relative_to(contents.root), path.read_bytes())
        for name, mask in progress.bar(photographs.items(), desc="copies", unit="photograph"):
            path = contents.photographs / name
            smaller = _smaller(path, longest)
            num_smaller += smaller is not None
            files = {path: smaller[0] if smaller else path.read_bytes()}
            if mask:
                files[mask] = _smaller_label(mask, path, *smaller[1:]) if smaller else mask.read_bytes()
            for path, data in files.items():
                artifacts.write_bytes(place / path.relative_to(contents.root), data)
    return len(photographs), num_smaller


@contextlib.contextmanager
def _appearing(to: pathlib.Path) -> Iterator[pathlib.Path]:
    """Yields a hidden directory beside `to`, which gets that name at the end; after an error it is removed."""
    to.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{to.name}.", dir=to.parent, ignore_cleanup_errors=True) as place:
        (pathlib.Path(place) / "new").mkdir()
        yield pathlib.Path(place) / "new"
        (pathlib.Path(place) / "new").rename(to)


def _texts(root: pathlib.Path) -> list[pathlib.Path]:
    """Returns the table, the classes and the lists of a directory."""
    return [path for path in (tags_csv.source(root), *sorted(root.glob("*.txt")), *sorted(root.glob("splits/*.txt")))
            if path.is_file()]


def _smaller(path: pathlib.Path, longest: int) -> tuple[bytes, tuple[int, ...], tuple[int, ...]] | None:
    """Returns (a photograph's copy, its own (height, width), the copy's), or None where it is small enough."""
    with images.opened(path) as image:
        if max(image.size) <= longest:
            return None
        kind, pixels = image.format, images.upright(image)
    height, width = pixels.shape[:2]
    scale = longest / max(height, width)
    shape = max(round(height * scale), 1), max(round(width * scale), 1)
    copy = Image.fromarray(cv2.resize(pixels, shape[::-1], interpolation=cv2.INTER_AREA))
    buffer = io.BytesIO()
    if kind in _LOSSY:
        copy.save(buffer, _LOSSY[kind], quality=_QUALITY)
    else:
        copy.save(buffer, kind if kind in _LOSSLESS else "PNG")
    return buffer.getvalue(), (height, width), shape


def _smaller_label(path: pathlib.Path, image_path: pathlib.Path, shape: tuple[int, ...],
                   new_shape: tuple[int, ...]) -> bytes:
    """Returns a label image's copy of `new_shape`; it must have the photograph's `shape`."""
    label = labels.read_label(path)
    labels.check_size(label, shape, path, image_path)
    return labels.encode_label(images.nearest(label, new_shape))
