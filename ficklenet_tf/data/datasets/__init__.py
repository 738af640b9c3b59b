"""Data sets: photographs with tags, and label images where there are any, in one form for all stages.

`load_split` prepares a TFDS builder on first use and gives random access to its
still encoded records.
"""

import dataclasses
import hashlib
import logging
import os
import pathlib
import shutil
import tempfile
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from google.protobuf.json_format import ParseError

from ficklenet_tf.data.datasets import folder, records, shapes, tags_csv, voc
from ficklenet_tf.errors import UserError, first_line
from ficklenet_tf.runs import lock, progress

DATASETS = ("shapes", "voc", "folder")
_SPLITS = {"shapes": shapes.SPLITS, "voc": voc.LISTS}


@dataclasses.dataclass(frozen=True)
class Split:
    """A split of a data set: what it holds, and its records one by one.

    Attributes:
      dataset: "shapes", "voc" or "folder".
      name: the split's name.
      class_names: id i is class_names[i]; 0 is the background.
      image_ids: in the data set's order; unique, and safe as file names.
      has_labels: at least one example carries a label image.
      fingerprint: digest of class names, ids, tags, bytes and selection.
      left_out: one message for each image that `on_error="skip"` left out.
      records: random access to encoded records.
      rows: the records' indices, one for each of image_ids.
      labelled: bool, one for each of image_ids.
    """

    dataset: str
    name: str
    class_names: tuple[str, ...]
    image_ids: tuple[str, ...]
    has_labels: bool
    fingerprint: str
    left_out: tuple[str, ...] = ()
    records: Sequence[dict[str, Any]] = dataclasses.field(default=(), repr=False, compare=False)
    rows: tuple[int, ...] = dataclasses.field(default=(), repr=False, compare=False)
    labelled: tuple[bool, ...] = dataclasses.field(default=(), repr=False, compare=False)

    def __len__(self) -> int:
        """Number of images."""
        return len(self.image_ids)

    def __getitem__(self, index: int) -> dict[str, Any]:
        """Returns one example, its images still encoded.

        Args:
          index: 0..len(self) - 1.

        Returns:
          dict of image_id (str), image (bytes of a JPEG or PNG, which `images.decode_image`
          reads), tags (`[num_classes - 1]` float32, 0 or 1), label (bytes, which
          `labels.decode_label` reads; 255 everywhere without a mask), has_label (bool).
        """
        record = self.records[self.rows[index]]
        tags = np.zeros(len(self.class_names) - 1, np.float32)
        tags[np.asarray(record["tags"], np.int64) - 1] = 1
        return {"image_id": self.image_ids[index], "image": bytes(record["image"]), "tags": tags,
                "label": records.palette_png(bytes(record["label"])), "has_label": bool(record["has_label"])}

    def select(self, indices: Iterable[int]) -> "Split":
        """Returns the split of the images at `indices`, in that order."""
        indices = [int(i) for i in indices]
        fingerprint = hashlib.sha256(f"{self.fingerprint} {indices}".encode()).hexdigest()[:16]
        labelled = tuple(self.labelled[i] for i in indices)
        return dataclasses.replace(
            self, image_ids=tuple(self.image_ids[i] for i in indices), rows=tuple(self.rows[i] for i in indices),
            labelled=labelled, has_labels=any(labelled), fingerprint=fingerprint)

    def with_masks(self, count: int | None = None) -> "Split":
        """Returns the split of the images that have a mask, itself where all have one.

        Args:
          count: how many at most, evenly spaced among those with a mask (a folder's images lie by class); None: all.
        """
        masked = [i for i, labelled in enumerate(self.labelled) if labelled]
        if count is None:
            return self if len(masked) == len(self) else self.select(masked)
        count = min(count, len(masked))
        return self.select(masked[i * len(masked) // count] for i in range(count))


def load_split(dataset: str, split: str, *, data_dir: str | pathlib.Path | None = None,
               cache_dir: str | pathlib.Path | None = None, on_error: str = "stop",
               max_images: int | None = None) -> Split:
    """Returns a split, prepared on first use.

    Args:
      dataset: one of `DATASETS`.
      split: "train" or "val"; voc also "train_aug"; folder also the name of a split list, or "all".
      data_dir: voc: VOCdevkit; folder: the directory of your photographs.
      cache_dir: where prepared records are kept; TFDS' own default directory if None.
      on_error: "stop" raises at the first bad file; "skip" leaves bad files out, logs them
        and lists them in `Split.left_out`.
      max_images: keep only the first `max_images` images; of a folder evenly spaced ones, as they lie by class.

    Returns:
      a `Split`.

    Raises:
      UserError, OSError: bad input; the message names file, expectation and finding.
    """
    if dataset not in DATASETS:
        raise UserError(f"dataset: expected one of {', '.join(DATASETS)}, found {dataset!r}")
    if on_error not in ("stop", "skip"):
        raise UserError(f"on_error: expected 'stop' or 'skip', found {on_error!r}")
    check_split(dataset, split)
    cache_dir = None if cache_dir is None else os.path.expanduser(cache_dir)
    builder = _builder(dataset, data_dir, cache_dir, on_error)
    if not builder.is_prepared():
        place = pathlib.Path(builder.data_dir)
        _check_writable(place.parent if cache_dir is None else cache_dir)
        with lock.hold(place.parent / f".{place.name}.lock", str(place), wait=True):
            builder = _builder(dataset, data_dir, cache_dir, on_error)  # it reads what another process has made
            if not builder.is_prepared():
                for leftover in place.parent.glob(f"incomplete.*_{place.name}"):  # as TFDS names them
                    shutil.rmtree(leftover, ignore_errors=True)
                progress.say(f"preparing the data set {dataset}, once")
                with records.quiet():
                    builder.download_and_prepare(file_format=records.FILE_FORMAT)
    if not builder.info.splits:  # another process was faster: TFDS reads what is there only when a builder is made
        builder = _builder(dataset, data_dir, cache_dir, on_error)
    return _open(builder, dataset, split, max_images)


def check_split(dataset: str, split: str) -> None:
    """Raises UserError where no data set of this kind has such a split; a folder's are known when it has been read."""
    if split not in _SPLITS.get(dataset, [split]):
        raise _no_split(dataset, _SPLITS[dataset], split)


def _no_split(dataset: str, known: Iterable[str], found: str) -> UserError:
    return UserError(f"{dataset}: expected one of the splits {', '.join(sorted(known))}, found {found!r}")


class _Stored(Sequence[dict[str, Any]]):
    """The records of a prepared split; a damaged one is named with its remedy.

    Args:
      source: TFDS' data source.
      directory: where it lies.
    """

    def __init__(self, source: Sequence[dict[str, Any]], directory: pathlib.Path) -> None:
        self._source, self._directory = source, directory

    def __len__(self) -> int:
        """Number of records."""
        return len(self._source)

    def __getitem__(self, index: Any) -> Any:
        """Returns one record."""
        try:
            return self._source[index]
        except Exception as error:  # of array_record and protobuf, each of its own kind
            raise UserError(f"{self._directory}: expected whole records, found {first_line(error)} at record "
                            f"{index}; remove that directory, it is made anew") from error


def check_classes(split: Split, class_names: Sequence[str], where: str | pathlib.Path) -> None:
    """Checks that a network's classes are those of the split to which it is applied.

    Args:
      split: a `Split`.
      class_names: the network's, the background first.
      where: its directory, for the message.

    Raises:
      UserError: they differ, so that the same id would mean another class.
    """
    if list(class_names) != list(split.class_names):
        raise UserError(f"{where}: knows the classes {', '.join(class_names)}; found {', '.join(split.class_names)} "
                        f"in {split.dataset} {split.name} (a folder's classes.txt fixes them and their order)")


def check_apart(train_split: Split, held_out: Split) -> None:
    """Raises UserError where photographs to learn from are among those to measure on."""
    both = set(train_split.image_ids) & set(held_out.image_ids)
    if both:
        raise UserError(f"held_out: expected photographs from which nothing learns, found {len(both)} of "
                        f"{train_split.name} in {held_out.name}, as {min(both)}")


def _check_writable(directory: str | pathlib.Path) -> None:
    """Makes a directory; raises OSError, naming it, where it cannot be written."""
    try:
        pathlib.Path(directory).mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=directory).close()
    except OSError as error:
        raise OSError(f"{directory}: expected a directory that can be written, found {error}") from error


def _builder(dataset: str, data_dir: str | pathlib.Path | None, cache_dir: str | pathlib.Path | None,
             on_error: str) -> tfds.core.DatasetBuilder:
    """Returns the TFDS builder of a data set.

    Raises:
      UserError: what was prepared before cannot be read.
    """
    try:
        return _make_builder(dataset, data_dir, cache_dir, on_error)
    except UserError:
        raise
    except (ValueError, KeyError, TypeError, ParseError) as error:  # of TFDS, reading its own JSON files
        raise UserError(f"{cache_dir or 'the cache of TensorFlow Datasets'}: expected what was prepared for "
                        f"{dataset}, found {first_line(error)}; remove the directory of this data set there, it is "
                        "made anew") from error


def _make_builder(dataset: str, data_dir: str | pathlib.Path | None, cache_dir: str | pathlib.Path | None,
                  on_error: str) -> tfds.core.DatasetBuilder:
    with records.quiet():
        if dataset == "voc":
            return voc.builder(data_dir or None, cache_dir, on_error)
        if dataset == "folder":
            return folder.builder(data_dir, cache_dir, on_error)
        if data_dir:
            raise UserError(f"data_dir: expected none for shapes, which are drawn, found {data_dir}; for photographs "
                            "of your own give --dataset=folder")
        return shapes.builder(cache_dir)


def _open(builder: tfds.core.DatasetBuilder, dataset: str, split: str, max_images: int | None) -> Split:
    """Opens a split of a prepared builder."""
    stored = {"all" if name == tags_csv.EVERY else name: name for name in builder.info.splits}
    left = builder.info.metadata.get(split)
    if split not in stored and isinstance(left, dict) and "empty" in left:
        raise UserError(left["empty"])
    if split not in stored:
        raise _no_split(dataset, stored, split)
    contents = builder.info.metadata[stored[split]]
    class_names = tuple(builder.info.metadata["class_names"])
    encoded = {"image": tfds.decode.SkipDecoding(), "label": tfds.decode.SkipDecoding()}
    try:
        source = builder.as_data_source(stored[split], decoders=encoded)
    except NotImplementedError as error:  # prepared by TFDS alone, in its own default format
        raise UserError(f"{builder.data_dir}: expected records in the format {records.FILE_FORMAT}, found "
                        f"{builder.info.file_format.value}; remove that directory, it is made anew") from error
    if len(source) != len(contents["image_ids"]):
        raise UserError(f"{builder.data_dir}: expected {len(contents['image_ids'])} records in split "
                        f"{split!r}, found {len(source)}; remove that directory, it is made anew")
    if contents["left_out"]:
        logging.getLogger(__name__).warning("%s, split %r: %d images kept, left out:\n  %s", dataset, split,
                                            len(source), "\n  ".join(contents["left_out"]))
    fingerprint = hashlib.sha256(
        f"{dataset} {builder.version} {split} {class_names} {contents['digest']}".encode()).hexdigest()[:16]
    labelled = tuple(bool(flag) for flag in contents["has_label"])
    stored_records = _Stored(source, pathlib.Path(builder.data_dir))
    whole = Split(dataset=dataset, name=split, class_names=class_names, image_ids=tuple(contents["image_ids"]),
                  has_labels=any(labelled), fingerprint=fingerprint, left_out=tuple(contents["left_out"]),
                  records=stored_records, rows=tuple(range(len(source))), labelled=labelled)
    if max_images is None or max_images >= len(whole):
        return whole
    count = max_images
    return whole.select(range(count) if dataset != "folder" else (i * len(whole) // count for i in range(count)))
