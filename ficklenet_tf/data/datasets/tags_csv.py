"""The texts that describe a directory of photographs: tags.csv, classes.txt and split lists; see `folder`."""

import collections
import csv
import dataclasses
import hashlib
import io
import pathlib
import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence

from ficklenet_tf.data import labels
from ficklenet_tf.errors import UserError

VAL_FRACTION = 0.1
MAX_CLASSES = labels.IGNORE - 1  # ids 1..254
_NAME = r"[^/\\\0.][^/\\\0]*"  # of a file or folder: not hidden, and not a way elsewhere
EVERY = "every_image"  # the split "all" under a name that TFDS has not reserved
MEASURED = ("val", "test")  # how names of lists begin by which masks are measured


@dataclasses.dataclass(frozen=True)
class Row:
    """A photograph and its tags: a line of tags.csv, or (line 0) a photograph in the folder of its class."""

    image_id: str
    image: str
    tags: tuple[str, ...]
    line: int


def source(root: pathlib.Path) -> pathlib.Path:
    """Returns what says which photographs there are, for messages: the table, or the directory itself."""
    return root / "tags.csv" if (root / "tags.csv").exists() else root


def read_table(path: pathlib.Path, in_folders: bool = False) -> list[Row]:
    """Reads tags.csv.

    Args:
      path: the table; UTF-8, with or without a byte order mark.
      in_folders: names are those of folder and file, dog/a.jpg, and not of files in images/.

    Returns:
      list of `Row`, in the file's order, duplicates kept.

    Raises:
      FileNotFoundError: there is no table.
      UserError: not UTF-8, a column missing, no rows, or a name of another form.
    """
    try:
        text = path.read_text("utf-8-sig")
    except FileNotFoundError:
        raise FileNotFoundError(f"{path}: expected a table with columns image and tags (or, without images/, a folder "
                                "of photographs for each class), found no such file") from None
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: expected UTF-8 text, found {error}") from error
    if '"' in text:
        _check_quotes(path, text)
    reader = csv.DictReader(io.StringIO(text, newline=""))
    columns = [(name or "").strip() for name in reader.fieldnames or ()]
    if columns.count("image") != 1 or columns.count("tags") != 1:
        raise UserError(f"{path}: expected columns image and tags, each once, separated by a comma (tags by ;), found "
                        f"{columns}")
    reader.fieldnames = columns
    form = "folder and file, as dog/a.jpg (there is no images/)" if in_folders else "a file in images/"
    lines = []
    for cells in reader:
        image, place = (cells["image"] or "").strip(), f"{path}, line {reader.line_num}"
        if not re.fullmatch(f"{_NAME}/{_NAME}" if in_folders else _NAME, image):
            raise UserError(f"{place}: expected the name of {form}, found {image!r}")
        if None in cells:
            raise UserError(f"{place}: expected {len(columns)} columns (tags are separated by ;), "
                            f"found {len(columns) + len(cells[None])}")
        tags = tuple(sorted({composed(tag).strip() for tag in (cells["tags"] or "").split(";")} - {""}))
        lines.append((image, tags, reader.line_num))
    if not lines:
        raise UserError(f"{path}: expected at least one image, found none")
    ids = image_ids([image for image, _, _ in lines])
    return [Row(ids[image], image, tags, line) for image, tags, line in lines]


def composed(text: str) -> str:
    """Returns a tag or a file's name with its letters composed (NFC): macOS writes names decomposed."""
    return unicodedata.normalize("NFC", text)


def image_ids(names: Iterable[str]) -> dict[str, str]:
    """Returns {name: image id}, the file's name without its ending, composed: a.jpg -> a, dog/a.jpg -> a.

    Where several folders have a file of that name, the folder's name stands before it: dog/a.jpg -> dog_a.
    """
    paths = {name: pathlib.PurePath(composed(name)) for name in names}
    counts = collections.Counter(path.stem for path in paths.values())
    return {name: f"{path.parent.name}_{path.stem}" if path.parent.name and counts[path.stem] > 1 else path.stem
            for name, path in paths.items()}


def _check_quotes(path: pathlib.Path, text: str) -> None:
    """Raises UserError where a quote is opened and not closed on its line: it would swallow the lines that follow."""
    reader, line = csv.reader(io.StringIO(text, newline=""), strict=True), 0
    try:
        for cells in reader:
            if any("\n" in cell or "\r" in cell for cell in cells):
                raise csv.Error("a line break within quotes")
            line = reader.line_num
    except csv.Error as error:
        raise UserError(f"{path}, line {line + 1}: expected quotes that end on their line, found {error}") from error


def lines(path: pathlib.Path) -> list[str]:
    """Returns the lines of a text file that are not empty, their letters composed.

    Raises:
      UserError: it is not UTF-8.
    """
    try:
        text = composed(path.read_text("utf-8-sig"))
        return [line.strip() for line in text.splitlines() if line.strip()]
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: expected UTF-8 text, found {error}") from error


def read_classes(root: pathlib.Path, rows: Sequence[Row]) -> tuple[str, ...]:
    """Returns the class names, the background first: classes.txt in its order, else all tags, sorted.

    Raises:
      UserError: no class, more than `MAX_CLASSES`, one twice, or one called background; or masks without classes.txt,
        whose ids would then mean another class as soon as there is another tag.
    """
    path, listed = root / "classes.txt", listed_classes(root)
    if listed is not None:
        names = listed
    else:
        names = sorted({tag for row in rows for tag in row.tags})
        if next((root / "labels").glob("[!.]*.png"), None):
            raise UserError(f"{path}: expected the classes that the ids in {root / 'labels'} mean, one on each line: "
                            "line 1 is id 1, line 2 is id 2 (0 is the background); found no such file. To begin with, "
                            "the tags in sorted order; give them the order of your ids:\n" + "\n".join(names))
        path = source(root)
    if not 1 <= len(names) <= MAX_CLASSES:
        raise UserError(f"{path}: expected 1 to {MAX_CLASSES} classes, found {len(names)}")
    duplicates = sorted({name for name in names if names.count(name) > 1})
    background = [name for name in names if name.casefold() == "background"]
    if duplicates or background:
        raise UserError(f"{path}: expected each class once and none called background, found "
                        f"{', '.join(duplicates or background)}"
                        + ("" if duplicates else "; it is class 0 by itself, and photographs that show no class teach "
                           "nothing here: leave them out"))
    return ("background", *names)


def listed_classes(root: pathlib.Path) -> list[str] | None:
    """Returns the names in classes.txt, without the background, or None where there is no such file.

    Raises:
      UserError: it is not UTF-8.
    """
    path = root / "classes.txt"
    names = lines(path) if path.exists() else None
    return names[1:] if names and names[0].casefold() == "background" else names


def split_ids(root: pathlib.Path, rows: Sequence[Row],
              copies: Mapping[str, str] | None = None) -> dict[str, tuple[pathlib.Path, list[str]]]:
    """Returns {split: (the file that says so, image ids)}; the docstring of `folder` gives the rules.

    Args:
      root: the directory.
      rows: its photographs.
      copies: {a further name of a photograph: the name in its row}.

    Raises:
      UserError: a list is empty, its name is not fit for a split, or it has images to evaluate on that another one
        trains on.
    """
    ids, table = [row.image_id for row in rows], source(root)
    known = {composed(row.image): row.image_id for row in rows}
    known |= {composed(copy): known[composed(image)] for copy, image in (copies or {}).items()}
    for row in rows:  # the file's name alone, where no other folder has it
        path = pathlib.PurePath(composed(row.image))
        known.setdefault(path.name if row.image_id == path.stem else str(path), row.image_id)
    for image_id in ids:
        known.setdefault(image_id, image_id)
    splits = {EVERY: (table, ids)}
    for path in sorted([*root.glob("*.txt"), *(root / "splits").glob("*.txt")]):
        if path == root / "classes.txt":
            continue
        small = path.stem.casefold()
        name = re.sub("^(train|val|test)", lambda begin: begin[0].lower(), path.stem, flags=re.IGNORECASE)
        meant = path.parent != root or name.startswith(("train", "val", "test")) or "class" in name
        try:
            names = lines(path)
        except UserError:
            if meant:
                raise
            continue  # a README.txt, in another encoding
        if not meant and not any(line in known for line in names):
            continue  # LICENSE.txt
        if small in ("valid", "validation"):
            raise UserError(f"{path}: expected the name val.txt for the photographs to hold out, found {path.name}")
        if name in (*splits, "all", "class_names") or not re.fullmatch(r"[A-Za-z]\w*", name):
            raise UserError(f"{path}: expected a split list with a name of its own (letters, digits, _; not all), "
                            f"found {name!r}" + ("; classes are listed in classes.txt" if "class" in name else ""))
        if not names:
            raise UserError(f"{path}: expected at least one image, found an empty split")
        splits[name] = (path, _listed(names, known))
    _check_apart(splits)
    if "train" not in splits and "val" not in splits:
        listed = {image_id for name, (_, listed_ids) in splits.items() if name.startswith(("train", "test"))
                  for image_id in listed_ids}
        held_out = _held_out([image_id for image_id in ids if image_id not in listed])
        splits["val"] = (table, [image_id for image_id in ids if image_id in held_out])
    for split, others in (("train", MEASURED), ("val", ("train", "test"))):
        if split not in splits:
            taken = {i for name, (_, listed) in splits.items() if name.startswith(others) for i in listed}
            splits[split] = (table, [image_id for image_id in ids if image_id not in taken])
    return {split: (path, image_ids) for split, (path, image_ids) in splits.items() if image_ids}


def _listed(names: Sequence[str], known: Mapping[str, str]) -> list[str]:
    """Returns the image ids of a list's lines, that of a photograph's copy in another folder once with its own."""
    lines_of: dict[str, set[str]] = {}
    listed = []
    for line in names:
        image_id = known.get(line, line)
        others = lines_of.setdefault(image_id, set())
        if not others or line in others:  # a line that is there twice stays, and is refused
            listed.append(image_id)
        others.add(line)
    return listed


def _check_apart(splits: dict[str, tuple[pathlib.Path, list[str]]]) -> None:
    """Raises UserError where a list to evaluate on (val..., test...) holds images of one to train on (train...)."""
    for train in (name for name in splits if name.startswith("train")):
        learned = set(splits[train][1])
        for path, ids in (splits[name] for name in splits if name.startswith(MEASURED)):
            shared = [image_id for image_id in ids if image_id in learned]
            if shared:
                raise UserError(f"{path}: expected images that {train} does not list, found {len(shared)} of them, "
                                f"the first {shared[0]!r}: what was learned says nothing of the rest")


def _held_out(ids: Sequence[str]) -> set[str]:
    """Returns the ids whose hash lies in the lowest `VAL_FRACTION`: at least one of two, never all."""
    order = sorted(set(ids), key=lambda image_id: hashlib.sha256(image_id.encode()).digest())
    limit = int(VAL_FRACTION * 2**64)
    num_low = sum(int.from_bytes(hashlib.sha256(i.encode()).digest()[:8], "big") < limit for i in order)
    return set(order[:min(max(num_low, 1), len(order) - 1)])
