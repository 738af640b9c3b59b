"""Your own photographs and their tags, from a table or from the folders they are sorted into, as a data set.

With a table:

    images/            the photographs: JPEG, PNG and whatever else Pillow reads
    tags.csv           columns image (file name in images/) and tags (separated by ;)

Or, where there is no images/:

    <class>/           the photographs of a class, the folder's name their tag; not labels/, splits/, what is hidden,
                       what a stage, tools.predict or export.client has written. A name that is hardly a class
                       (train/, masks/) is refused, unless classes.txt has it
    tags.csv           optional, it replaces the folders' names; the column image is then <class>/<file name>

With either:

    classes.txt        one class per line, line 1 is id 1: fixes the classes and their order (else: all tags, sorted)
    labels/<id>.png    optional label images, which need classes.txt: id 0 the background, 255 ignored
    splits/<name>.txt  optional split lists, one file name or image id per line; or <name>.txt beside these, where it
                       is one of train, val and test or names a photograph (LICENSE.txt is none)

An image's id is its file name without the ending, its letters composed (NFC). In folders of classes a file that is
in several, with the same name and the same bytes, is one photograph with several tags; different files of the same
name get their folder's name before their own, dog/1.jpg the id dog_1. Two images of one id are an error. With a
table its tags alone count: a copy in the folder of another tag is a file that the table does not list. Photographs
in no class's folder are not used.

Splits: those lists and "all". Without train and val lists, about a tenth of the
images, chosen by a hash of their ids, is "val" and the rest "train"; with one
of the two lists, the other split is what the lists leave over. Lists whose names
begin with "train" and with "val" or "test" may not share images: those of one kind
are left out of the other. Masks of images of the second kind are not learned, by
whatever other list. An image needs a tag in every split whose name begins
with "train"; elsewhere it may have none.
"""

import dataclasses
import hashlib
import os
import pathlib
import re
import unicodedata
from collections.abc import Mapping, Sequence
from typing import Any

import tensorflow_datasets as tfds

from ficklenet_tf.data.datasets import class_folders, records, tags_csv
from ficklenet_tf.errors import UserError

_NAMED = 10  # of many files that are not used
_MEANT = ("images", "tags.csv", "classes.txt", "labels", "splits")


@dataclasses.dataclass
class FolderConfig(tfds.core.BuilderConfig):
    """Where the photographs lie, their classes (the background first), what to do with bad files."""

    directory: str | None = None
    class_names: tuple[str, ...] = ("background", "unknown")
    on_error: str = "stop"


class FickleFolder(tfds.core.GeneratorBasedBuilder):
    """TFDS builder of a directory of one's own; see `records.info` for the features."""

    VERSION = tfds.core.Version("1.0.0")

    def _info(self) -> tfds.core.DatasetInfo:
        return records.info(self, self.builder_config.class_names, "Photographs of one's own and their tags.")

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict[str, records.Examples]:
        contents = read(pathlib.Path(self.builder_config.directory))
        generators = {split: self._generate_examples(contents, split, source, ids)
                      for split, (source, ids) in contents.splits.items()}
        return records.usable(self, generators, self.builder_config.on_error)

    def _generate_examples(self, contents: "Contents", split: str, source: pathlib.Path,
                           image_ids: Sequence[str]) -> records.Examples:
        config = self.builder_config
        by_id = {row.image_id: row for row in reversed(contents.rows)}  # the first of duplicates counts

        def example(image_id: str) -> dict[str, Any]:
            if image_id not in by_id:
                no_list = "" if source.parent != contents.root or split in ("train", "val", "test") else (
                    f"; {source.name} names a photograph and counts as a list for that: move it away if it is none")
                raise UserError(f"{source}: expected images of {contents.source}, found {image_id!r}{no_list}")
            return _read(contents, by_id[image_id], config.class_names, split.startswith("train"))

        yield from records.generate(self, split, source, image_ids, example, config.on_error, contents.notes())


@dataclasses.dataclass(frozen=True)
class Contents:
    """What a directory's names and texts say; no photograph has been opened.

    Attributes:
      root: the directory.
      photographs: where the names of `rows` begin: images/, or the directory itself.
      source: what says which photographs there are: tags.csv, or the directory itself.
      rows: the photographs and their tags.
      class_names: id i is class_names[i]; 0 is the background.
      splits: {split: (the file that says so, image ids)}.
      unlisted: {directory: names in it that no row has}.
    """

    root: pathlib.Path
    photographs: pathlib.Path
    source: pathlib.Path
    rows: tuple[tags_csv.Row, ...]
    class_names: tuple[str, ...]
    splits: dict[str, tuple[pathlib.Path, list[str]]]
    unlisted: dict[pathlib.Path, tuple[str, ...]]

    def image(self, row: tags_csv.Row) -> pathlib.Path:
        """Returns the path of a row's photograph."""
        return self.photographs / row.image

    def label(self, row: tags_csv.Row) -> pathlib.Path | None:
        """Returns the path of a row's label image, or None where there is none."""
        names = dict.fromkeys((row.image_id, unicodedata.normalize("NFD", row.image_id)))  # mostly one
        paths = (self.root / "labels" / f"{name}.png" for name in names)
        return next(filter(os.path.exists, paths), None)  # False too where the name is longer than a file's may be

    def notes(self) -> list[str]:
        """Returns a message on each directory with files that no row names."""
        kinds = {self.root: "photographs in a folder for each class",
                 self.root / "labels": "masks of photographs, <image id>.png"}
        if self.source != self.root:
            kinds = dict.fromkeys((*kinds, self.photographs), "files that tags.csv lists")
        return [f"{directory}: expected {kinds[directory]}, found {len(names)} others: {', '.join(names[:_NAMED])}"
                + (f" and {len(names) - _NAMED} more" if len(names) > _NAMED else "")
                for directory, names in self.unlisted.items()]


def read(data_dir: str | pathlib.Path | None) -> Contents:
    """Reads a directory's names and texts.

    Raises:
      FileNotFoundError, UserError: something in the directory is missing or not as it should be.
    """
    if not data_dir:
        raise UserError("data_dir: expected the directory of your photographs, found none")
    root = pathlib.Path(data_dir).expanduser().resolve()
    if not root.is_dir():
        raise FileNotFoundError(f"{root}: expected the directory of your photographs, found none")
    _check_names(root)
    images, copies = root / "images", dict[str, str]()
    source = tags_csv.source(root)
    inside = class_folders.with_photographs(images) if images.is_dir() and source == root else []
    if inside:
        raise FileNotFoundError(f"{images}: expected photographs that {root / 'tags.csv'} lists, found folders of "
                                f"photographs, as {inside[0]}; if each is a class, give --data_dir={images}")
    if images.is_dir() or source != root:
        rows = _as_on_disk(tags_csv.read_table(root / "tags.csv", in_folders=not images.is_dir()),
                           os.listdir(images) if images.is_dir() else class_folders.files(root))
    else:
        rows = class_folders.read_folders(root)
    if not images.is_dir():
        copies = class_folders.copies(root, rows)
    return Contents(root, images if images.is_dir() else root, source, tuple(rows), tags_csv.read_classes(root, rows),
                    tags_csv.split_ids(root, rows, copies), _unlisted(root, rows, copies))


def _check_names(root: pathlib.Path) -> None:
    """Raises UserError where a name that has a meaning here is written with other capitals.

    Without a table a folder of photographs may be that of a class.
    """
    classes = class_folders.with_photographs(root) if tags_csv.source(root) == root else []
    for name in sorted(set(os.listdir(root)) - set(classes)):
        meant = name.casefold()
        if meant in _MEANT and name != meant and not (root / meant).exists():
            raise UserError(f"{root / name}: expected the name {meant}, in small letters; rename it")


def _as_on_disk(rows: Sequence[tags_csv.Row], names: Sequence[str]) -> list[tags_csv.Row]:
    """Returns rows with the names as files have them, whose letters may be decomposed where the table's are not."""
    there = {tags_csv.composed(name): name for name in names} | {name: name for name in names}
    return [dataclasses.replace(row, image=there.get(row.image, there.get(tags_csv.composed(row.image), row.image)))
            for row in rows]


def measured(data_dir: str | pathlib.Path | None, also: str | None = None) -> dict[str, list[str]]:
    """Returns {split: image ids} of the splits by which masks are measured: val..., test... and `also`.

    Raises:
      FileNotFoundError, UserError: see `read`.
    """
    return {name: image_ids for name, (_, image_ids) in read(data_dir).splits.items()
            if name.startswith(tags_csv.MEASURED) or name == also}


def _unlisted(root: pathlib.Path, rows: Sequence[tags_csv.Row],
              copies: Mapping[str, str]) -> dict[pathlib.Path, tuple[str, ...]]:
    """Returns {directory: what no row names}, of photographs and of label images, where there are any.

    A copy counts as named where its row has the tag of the copy's folder.
    """
    images, labels, tags = root / "images", root / "labels", {row.image: row.tags for row in rows}
    if images.is_dir():
        others = {images: set(os.listdir(images)) - set(tags), root: set(class_folders.loose(root))}
    else:
        used = {copy for copy, image in copies.items()
                if tags_csv.composed(pathlib.PurePath(copy).parent.name) in tags[image]}
        others = {root: {*class_folders.files(root), *class_folders.elsewhere(root)} - set(tags) - used}
    masks = os.listdir(labels) if labels.is_dir() else []
    ids = {f"{row.image_id}.png" for row in rows}
    others[labels] = {name for name in masks if tags_csv.composed(name) not in ids}
    seen = {path: tuple(sorted(name for name in found if not name.startswith("."))) for path, found in others.items()}
    return {path: found for path, found in seen.items() if found}


def builder(data_dir: str | pathlib.Path | None, cache_dir: str | pathlib.Path | None,
            on_error: str) -> FickleFolder:
    """Returns the builder for a directory, its state part of the name.

    Args:
      data_dir: the directory of the photographs.
      cache_dir: TFDS' data_dir.
      on_error: "stop" or "skip".

    Raises:
      FileNotFoundError, UserError: something in the directory is missing or not as it should be.
    """
    contents = read(data_dir)
    root, class_names = contents.root, contents.class_names
    state = hashlib.sha256(f"{root} {on_error} {class_names} {list(contents.rows)} {contents.splits}".encode())
    if root in contents.unlisted:  # whose notes are kept with the records
        state.update(f"{contents.unlisted[root]}".encode())
    names = os.listdir(root / "images") if contents.photographs != root else [row.image for row in contents.rows]
    for path in [*(contents.photographs / name for name in sorted(names)), *sorted((root / "labels").glob("*.png"))]:
        status = path.stat() if os.path.exists(path) else None  # None: a link to nothing, named when it is read
        state.update(f"{path.name} {status and (status.st_size, status.st_mtime_ns)}".encode(errors="surrogateescape"))
    name = re.sub(r"\W+", "_", root.name) or "folder"
    return FickleFolder(data_dir=cache_dir, config=FolderConfig(
        name=f"{name}-{state.hexdigest()[:12]}", directory=str(root), class_names=class_names, on_error=on_error))


def _read(contents: Contents, row: tags_csv.Row, class_names: tuple[str, ...], needs_tags: bool) -> dict[str, Any]:
    """Returns the example of one row; see `records.example`."""
    where = f"{contents.source}, line {row.line}, {row.image}" if row.line else str(contents.image(row))
    unknown = [tag for tag in row.tags if tag not in class_names[1:]]
    if unknown:
        raise UserError(f"{where}: expected tags of {contents.root / 'classes.txt'} ({', '.join(class_names[1:])}), "
                        f"found {', '.join(map(repr, unknown))}")
    if needs_tags and not row.tags:
        raise UserError(f"{where}: expected at least one tag for training, found none")
    return records.example(row.image_id, contents.image(row), [class_names.index(tag) for tag in row.tags],
                           contents.label(row), len(class_names))
