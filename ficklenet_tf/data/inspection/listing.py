"""What a data set on disk is made of, before any photograph is opened: the same for a folder and for VOC's kit."""

import dataclasses
import pathlib

from ficklenet_tf.data.datasets import folder, tags_csv, voc
from ficklenet_tf.errors import UserError


@dataclasses.dataclass(frozen=True)
class Entry:
    """One photograph: its id, its name for messages, its tags, and where it and its label image lie.

    `fault` says why its tags cannot be read; it has none then.
    """

    image_id: str
    name: str
    tags: tuple[str, ...]
    image: pathlib.Path
    label: pathlib.Path | None
    fault: str | None = None


@dataclasses.dataclass(frozen=True)
class Listing:
    """A data set as its texts list it.

    Attributes:
      root: its directory.
      class_names: id i is class_names[i]; 0 is the background.
      entries: the photographs, in order, each id once or more.
      splits: {split: (the file that says so, image ids)}.
      train: the split that training takes unless told otherwise.
      unlisted: files that nothing names, their paths below root.
    """

    root: pathlib.Path
    class_names: tuple[str, ...]
    entries: tuple[Entry, ...]
    splits: dict[str, tuple[pathlib.Path, list[str]]]
    train: str
    unlisted: tuple[str, ...] = ()

    def ids(self, *kinds: str) -> frozenset[str]:
        """Returns the image ids of the splits whose names begin with one of `kinds`."""
        return frozenset(i for name, (_, ids) in self.splits.items() if name.startswith(kinds) for i in ids)


def read(dataset: str, data_dir: str | pathlib.Path | None) -> Listing:
    """Lists a data set.

    Args:
      dataset: "folder" or "voc".
      data_dir: as in `datasets.load_split`.

    Raises:
      FileNotFoundError, UserError: a text is missing or not as it should be, or the data set is not on disk.
    """
    if dataset == "folder":
        return _folder(data_dir)
    if dataset == "voc" and data_dir:
        return _voc(data_dir)
    if dataset == "voc":
        raise UserError("data_dir: expected VOCdevkit, found none")
    raise UserError(f"dataset: expected folder or voc, found {dataset}, whose images are drawn: nothing to check")


def _folder(data_dir: str | pathlib.Path | None) -> Listing:
    contents = folder.read(data_dir)
    entries = tuple(Entry(row.image_id, row.image, row.tags, contents.image(row), contents.label(row))
                    for row in contents.rows)
    splits = {name: ids for name, ids in contents.splits.items() if name != tags_csv.EVERY}
    unlisted = tuple(str((directory / name).relative_to(contents.root))
                     for directory, names in contents.unlisted.items() for name in names)
    return Listing(contents.root, contents.class_names, entries, splits, "train", unlisted)


def _voc(data_dir: str | pathlib.Path) -> Listing:
    root = voc.kit(data_dir)
    splits, entries = voc.split_ids(root), []
    for image_id in dict.fromkeys(image_id for _, ids in splits.values() for image_id in ids):
        path, class_ids, fault = voc.annotation_path(root, image_id), list[int](), None
        secret = not path.exists() and image_id in splits.get("test", (path, []))[1]
        try:
            class_ids = [] if secret else voc.read_tags(path)
        except (UserError, OSError) as error:
            fault = str(error).removeprefix(f"{path}: ")
        entries.append(Entry(image_id, image_id, tuple(voc.CLASS_NAMES[class_id] for class_id in class_ids),
                             voc.image_path(root, image_id), voc.mask_path(root, image_id), fault))
    return Listing(root, voc.CLASS_NAMES, tuple(entries), splits, "train_aug" if "train_aug" in splits else "train")
