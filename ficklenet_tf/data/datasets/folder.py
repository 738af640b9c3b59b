"""Your own photographs and a table of their tags, as a data set.

    images/            the photographs: JPEG, PNG and whatever else Pillow reads
    tags.csv           columns image (file name in images/) and tags (separated by ;)
    classes.txt        optional, one class per line: fixes the classes and their order (else: all tags, sorted)
    labels/<stem>.png  optional label images: id 0 the background, 255 ignored
    splits/<name>.txt  optional split lists (or <name>.txt beside tags.csv), one file name or stem per line

Splits: those lists and "all". Without train and val lists, about a tenth of the
images, chosen by a hash of their names, is "val" and the rest "train"; with one
of the two lists, the other split is what the lists leave over. Lists whose names
begin with "train" and with "val" or "test" may not share images: those of one kind
are left out of the other. An image needs a tag in every split whose name begins
with "train"; elsewhere it may have none.
"""

import dataclasses
import hashlib
import pathlib
import re
from collections.abc import Sequence
from typing import Any

import tensorflow_datasets as tfds

from ficklenet_tf.data.datasets import records, tags_csv
from ficklenet_tf.errors import UserError


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
        root = pathlib.Path(self.builder_config.directory)
        rows = tags_csv.read_table(root / "tags.csv")
        notes = tags_csv.unlisted(root, rows)
        generators = {split: self._generate_examples(root, rows, split, source, ids, notes)
                      for split, (source, ids) in tags_csv.split_ids(root, rows).items()}
        return records.usable(self, generators, self.builder_config.on_error)

    def _generate_examples(self, root: pathlib.Path, rows: Sequence[tags_csv.Row], split: str, source: pathlib.Path,
                           image_ids: Sequence[str], notes: Sequence[str]) -> records.Examples:
        config = self.builder_config
        by_id = {row.image_id: row for row in reversed(rows)}  # the first of duplicates counts

        def read(image_id: str) -> dict[str, Any]:
            if image_id not in by_id:
                raise UserError(f"{source}: expected images that {root / 'tags.csv'} lists, found {image_id!r}")
            return _read(root, by_id[image_id], config.class_names, split.startswith("train"))

        yield from records.generate(self, split, source, image_ids, read, config.on_error, notes)


def builder(data_dir: str | pathlib.Path | None, cache_dir: str | pathlib.Path | None,
            on_error: str) -> FickleFolder:
    """Returns the builder for a directory, its state part of the name.

    Args:
      data_dir: the directory with images/ and tags.csv.
      cache_dir: TFDS' data_dir.
      on_error: "stop" or "skip".

    Raises:
      FileNotFoundError, UserError: something in the directory is missing or not as it should be.
    """
    if not data_dir:
        raise UserError("data_dir: expected the directory with images/ and tags.csv, found none")
    root = pathlib.Path(data_dir).expanduser().resolve()
    if not (root / "images").is_dir():
        raise FileNotFoundError(f"{root}: expected a directory images/ and a table tags.csv, found no images/")
    rows = tags_csv.read_table(root / "tags.csv")
    class_names = tags_csv.read_classes(root, rows)
    state = hashlib.sha256(f"{root} {on_error} {class_names} {rows} {tags_csv.split_ids(root, rows)}".encode())
    for path in sorted([*(root / "images").iterdir(), *(root / "labels").glob("*.png")]):
        status = path.stat() if path.exists() else None  # None: a link to nothing, which is named when it is read
        state.update(f"{path.name} {status and (status.st_size, status.st_mtime_ns)}".encode())
    name = re.sub(r"\W+", "_", root.name) or "folder"
    return FickleFolder(data_dir=cache_dir, config=FolderConfig(
        name=f"{name}-{state.hexdigest()[:12]}", directory=str(root), class_names=class_names, on_error=on_error))


def _read(root: pathlib.Path, row: tags_csv.Row, class_names: tuple[str, ...], needs_tags: bool) -> dict[str, Any]:
    """Returns the example of one line; see `records.example`."""
    where = f"{root / 'tags.csv'}, line {row.line}, {row.image}"
    unknown = [tag for tag in row.tags if tag not in class_names[1:]]
    if unknown:
        raise UserError(f"{where}: expected tags of {root / 'classes.txt'} ({', '.join(class_names[1:])}), "
                        f"found {', '.join(map(repr, unknown))}")
    if needs_tags and not row.tags:
        raise UserError(f"{where}: expected at least one tag for training, found none")
    label = root / "labels" / f"{row.image_id}.png"
    return records.example(row.image_id, root / "images" / row.image, [class_names.index(tag) for tag in row.tags],
                           label if label.exists() else None, len(class_names))
