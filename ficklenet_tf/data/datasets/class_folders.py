"""Photographs sorted into a folder for each class, mine/dog/a.jpg, mine/cat/b.jpg; see `folder`."""

import csv
import filecmp
import io
import os
import pathlib
import re
from collections.abc import Sequence

from ficklenet_tf.data.datasets import records, tags_csv
from ficklenet_tf.errors import UserError
from ficklenet_tf.runs import artifacts, layout

_OTHER_MEANING = ("images", "labels", "splits")
# Names, in small letters, of folders that hold photographs, or pictures made of them, and are hardly ever a class.
_NO_CLASS = re.compile(r"(train|training|val|valid|validation|test|testing)([\d_-].*)?|images|photos|photographs|"
                       r"pictures|labels|splits|masks?|annotations?|segmentations?|seeds|saliency|predictions|overlays|"
                       r"runs")
# Names of folders with photographs that show none of the classes.
_NONE = ("background", "none", "nothing", "negative", "negatives", "other", "others", "misc", "unknown", "no_class")
# Endings of photographs. Pillow reads no HEIC: such a photograph is refused by its name, and not passed over.
ENDINGS = frozenset((".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".avif",
                     ".ppm", ".pgm", ".heic", ".heif"))


def read_folders(root: pathlib.Path) -> list[tags_csv.Row]:
    """Returns the photographs in folders, by folder and name, each with its folder's name as its tag.

    A file that is in several folders under the same name and with the same bytes is one photograph with several tags.

    Raises:
      FileNotFoundError: there are no folders with photographs.
      UserError: a folder's name cannot be a tag or is hardly one, a file's name no id, or two photographs would have
        the same id.
    """
    images = _photographs(root)
    if not images:
        others = elsewhere(root)
        raise FileNotFoundError(f"{root}: expected images/ and a table tags.csv, or a folder of photographs for each "
                                "class (dog/, cat/), found neither"
                                + (f", but photographs elsewhere: {', '.join(others[:5])}" if others else ""))
    _check_names(root, list(dict.fromkeys(pathlib.PurePath(image).parent.name for image in images)))
    tags: dict[str, set[str]] = {}
    originals = _originals(root, images)
    for image in images:
        tags.setdefault(originals[image], set()).add(tags_csv.composed(pathlib.PurePath(image).parent.name))
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
    return [f"{folder}/{name}" for folder, inside in _folders(root).items()
            if any(map(is_photograph, inside)) and not _made_here(inside) for name in inside]


def elsewhere(root: pathlib.Path) -> list[str]:
    """Returns where else there are photographs.

    Returns:
      those in no folder ("a.jpg"), folders in folders that have none themselves ("bird/x"), and folders that a stage,
      `tools.predict` or `export.client` has made ("masks").
    """
    names = loose(root)
    for folder, inside in _folders(root).items():
        if not any(map(is_photograph, inside)):
            names += [f"{folder}/{name}" for name in inside if _has_photographs(root / folder / name)]
        elif _made_here(inside):
            names.append(folder)
    return names


def with_photographs(root: pathlib.Path) -> list[str]:
    """Returns the folders in a directory that have photographs, sorted."""
    return [folder for folder, inside in _folders(root).items() if any(map(is_photograph, inside))]


def loose(root: pathlib.Path) -> list[str]:
    """Returns the photographs that lie in a directory itself, in no folder, sorted."""
    return [name for name in _visible(root) if is_photograph(name) and not (root / name).is_dir()]


def is_photograph(name: str) -> bool:
    """Says whether a file's ending is that of a photograph."""
    return pathlib.PurePath(name).suffix.lower() in ENDINGS


def _check_names(root: pathlib.Path, folders: Sequence[str]) -> None:
    """Raises UserError where a name cannot be a tag, or is hardly one and not in classes.txt."""
    for folder in folders:
        if re.search(r"[;\\\x00-\x1f\x7f\ud800-\udfff]", folder) or folder != folder.strip():
            raise UserError(f"{root}: expected names of folders that can be tags, without ; and \\ and without spaces "
                            f"at their ends, found {folder!r}")
    doubtful = {folder for folder in folders if _NO_CLASS.fullmatch(folder.casefold()) or folder.casefold() in _NONE}
    refused = sorted(doubtful - set(tags_csv.listed_classes(root) or ())) if doubtful else []
    without = [folder for folder in refused if folder.casefold() in _NONE]
    if without:
        found = ", ".join(f"{name}/" for name in without)
        raise UserError(f"{root}: expected a folder for each class, found {found}: "
                        "photographs that show no class teach nothing here, move them away; if it is a class, list it "
                        f"in {root / 'classes.txt'} with all others, one on each line")
    if refused:
        raise UserError(f"{root}: expected a folder for each class, named after what its photographs show, found "
                        f"{', '.join(f'{name}/' for name in refused)}: rename it, or move it away; if it is a class, "
                        f"list it in {root / 'classes.txt'} with all others, one on each line")


def _folders(root: pathlib.Path) -> dict[str, list[str]]:
    """Returns {folder that may be a class: what lies in it}, sorted, without what is hidden."""
    return {name: _visible(root / name) for name in _visible(root)
            if name not in _OTHER_MEANING and (root / name).is_dir()}


def _visible(folder: pathlib.Path) -> list[str]:
    return sorted(name for name in os.listdir(folder) if not name.startswith("."))


def _made_here(names: Sequence[str]) -> bool:
    """Says whether these are a stage's files, or those of `tools.predict`: label images, each with its overlay."""
    overlays = {name for name in names if name.endswith(layout.OVERLAY)}
    answers = overlays | {name.removesuffix(layout.OVERLAY) + ".png" for name in overlays}
    return layout.SETTINGS in names or (bool(overlays) and answers == set(filter(is_photograph, names)))


def _has_photographs(folder: pathlib.Path) -> bool:
    """Says whether there is a photograph in a folder, however deep; not in what is hidden."""
    for _, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        if any(is_photograph(name) and not name.startswith(".") for name in names):
            return True
    return False


def _photographs(root: pathlib.Path) -> list[str]:
    return [name for name in files(root) if is_photograph(name)]


def _originals(root: pathlib.Path, images: Sequence[str]) -> dict[str, str]:
    """Returns for each of `images` the first of them with the same file name and the same bytes."""
    distinct: dict[tuple[str, int], list[str]] = {}
    originals = {}
    for image in images:
        path = root / image
        size = os.path.getsize(path) if os.path.isfile(path) else -1  # a name may be longer than any file's
        namesakes = distinct.setdefault((tags_csv.composed(path.name), size), [])
        originals[image] = next((other for other in namesakes if _same(root / other, path)), image)
        if originals[image] == image:
            namesakes.append(image)
    return originals


def _same(first: pathlib.Path, second: pathlib.Path) -> bool:
    """Says whether two files have the same bytes; what is no file is like nothing."""
    return first.is_file() and second.is_file() and filecmp.cmp(first, second, shallow=False)
