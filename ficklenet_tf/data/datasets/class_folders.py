"""Photographs sorted into a folder for each class, mine/dog/a.jpg, mine/cat/b.jpg; see `folder`."""

import csv
import filecmp
import io
import pathlib
import re
from collections.abc import Sequence

from ficklenet_tf.data.datasets import records, tags_csv
from ficklenet_tf.errors import UserError
from ficklenet_tf.runs import artifacts

NOT_CLASSES = ("images", "labels", "splits")
# Endings of photographs. Pillow reads no HEIC: such a photograph is refused by its name, and not passed over.
ENDINGS = frozenset((".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".avif",
                     ".ppm", ".pgm", ".heic", ".heif"))


def read_folders(root: pathlib.Path) -> list[tags_csv.Row]:
    """Returns the photographs in folders, by folder and name, each with its folder's name as its tag.

    A file that is in several folders under the same name and with the same bytes is one photograph with several tags.

    Raises:
      FileNotFoundError: there are no folders with photographs.
      UserError: a folder's name cannot be a tag, a file's name no id, or two photographs would have the same id.
    """
    images = _photographs(root)
    if not images:
        raise FileNotFoundError(f"{root}: expected images/ and a table tags.csv, or a folder of photographs for each "
                                "class (dog/, cat/), found neither")
    for folder in dict.fromkeys(pathlib.PurePath(image).parent.name for image in images):
        if re.search(r"[;\\\x00-\x1f\x7f\ud800-\udfff]", folder) or folder != folder.strip():
            raise UserError(f"{root}: expected names of folders that can be tags, without ; and \\ and without spaces "
                            f"at their ends, found {folder!r}")
    tags: dict[str, set[str]] = {}
    originals = _originals(root, images)
    for image in images:
        tags.setdefault(originals[image], set()).add(pathlib.PurePath(image).parent.name)
    ids, owners = tags_csv.image_ids(tags), dict[str, str]()
    for image, image_id in ids.items():
        records.check_id(image_id, root)
        if owners.setdefault(image_id, image) != image:
            raise UserError(f"{root}: expected file names that differ by more than their ending, found "
                            f"{owners[image_id]} and {image} (both are {image_id!r}); rename one")
    return [tags_csv.Row(ids[image], image, tuple(sorted(names)), 0) for image, names in tags.items()]


def copies(root: pathlib.Path, rows: Sequence[tags_csv.Row]) -> dict[str, str]:
    """Returns {name of a file that no row has: name of the row's photograph that it repeats, in another folder}."""
    listed = dict.fromkeys(row.image for row in rows)
    further = [image for image in _photographs(root) if image not in listed]
    originals = _originals(root, [*listed, *further])
    return {image: originals[image] for image in further if originals[image] in listed}


def write_table(root: pathlib.Path) -> pathlib.Path:
    """Writes tags.csv as the folders say it, so that tags can be added by hand; the data set stays the same.

    Returns:
      the table's path.

    Raises:
      FileNotFoundError, UserError: as `read_folders`; or there is a table, or images/.
    """
    path = root / "tags.csv"
    if path.exists():
        raise UserError(f"{path}: expected no table, which would be overwritten, found one; move it away first")
    if (root / "images").is_dir():
        raise UserError(f"{root}: expected a folder of photographs for each class and no images/, found images/")
    rows, text = read_folders(root), io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(
        [("image", "tags"), *((row.image, ";".join(row.tags)) for row in rows)])
    artifacts.write_bytes(path, text.getvalue().encode())
    return path


def files(root: pathlib.Path) -> list[str]:
    """Returns what lies in folders with photographs, by folder and name ("dog/a.jpg"), without what is hidden."""
    names = []
    for folder in sorted(path for path in root.iterdir() if path.is_dir()):
        if not folder.name.startswith(".") and folder.name not in NOT_CLASSES:
            inside = sorted(path.name for path in folder.iterdir() if not path.name.startswith("."))
            if any(is_photograph(name) for name in inside):
                names += [f"{folder.name}/{name}" for name in inside]
    return names


def is_photograph(name: str) -> bool:
    """Says whether a file's ending is that of a photograph."""
    return pathlib.PurePath(name).suffix.lower() in ENDINGS


def _photographs(root: pathlib.Path) -> list[str]:
    return [name for name in files(root) if is_photograph(name)]


def _originals(root: pathlib.Path, images: Sequence[str]) -> dict[str, str]:
    """Returns for each of `images` the first of them with the same file name and the same bytes."""
    distinct: dict[str, list[str]] = {}
    originals = {}
    for image in images:
        namesakes = distinct.setdefault(pathlib.PurePath(image).name, [])
        originals[image] = next((other for other in namesakes if _same(root / other, root / image)), image)
        if originals[image] == image:
            namesakes.append(image)
    return originals


def _same(first: pathlib.Path, second: pathlib.Path) -> bool:
    """Says whether two files have the same bytes; what is no file is like nothing."""
    return first.is_file() and second.is_file() and filecmp.cmp(first, second, shallow=False)
