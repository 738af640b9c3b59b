"""What every data set here stores, one record per photograph, and how it is read back.

A record keeps the photograph as it was encoded and the label image as a
one-channel PNG of class ids: plain `tfds.features.Image`s, so that anybody who
reads the data set with TFDS alone gets `[height, width, 3]` photographs and
`[height, width, 1]` labels with 255 intact. (A palette PNG in that feature
would come out as the grey of its colours.) `Split` hands the label out as the
palette PNG which `labels.decode_label` reads: the scan lines of the two kinds of
PNG are the same, so only the header changes and nothing is decoded.
"""

import contextlib
import functools
import hashlib
import io
import itertools
import json
import logging
import pathlib
import re
import struct
import sys
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from PIL import Image

from ficklenet_tf.data import images, labels
from ficklenet_tf.errors import UserError

FILE_FORMAT = "array_record"  # the format of TFDS with random access
_LONGEST_ID = 200  # bytes: file systems take 255, and files are written under longer names first
_HEADER_END = 33  # PNG signature (8) and the IHDR chunk (25)

Examples = Iterator[tuple[int, dict[str, Any]]]  # (key, example), what TFDS asks of a builder


def info(builder: tfds.core.DatasetBuilder, class_names: Sequence[str], description: str) -> tfds.core.DatasetInfo:
    """Returns the `DatasetInfo` that all builders share.

    Args:
      builder: the TFDS builder.
      class_names: names of the ids 0..C, the background first.
      description: what the data set is.
    """
    return tfds.core.DatasetInfo(
        builder=builder,
        description=description,
        features=tfds.features.FeaturesDict({
            "image_id": tfds.features.Text(),
            "image": tfds.features.Image(shape=(None, None, 3)),
            "tags": tfds.features.Sequence(tfds.features.ClassLabel(names=list(class_names))),
            "label": tfds.features.Image(shape=(None, None, 1), encoding_format="png", use_colormap=True),
            "has_label": tfds.features.Scalar(np.bool_),
        }),
        metadata=tfds.core.MetadataDict(class_names=list(class_names)),
        disable_shuffling=True,
    )


def example(image_id: str, image_path: pathlib.Path, tags: Iterable[int], label_path: pathlib.Path | None,
            num_classes: int) -> dict[str, Any]:
    """Reads one photograph and its label image.

    Args:
      image_id: str, safe as a file name.
      image_path: the photograph.
      tags: foreground class ids, 1..num_classes - 1.
      label_path: the label image, or None.
      num_classes: with the background.

    Returns:
      dict for `tfds.features.FeaturesDict.encode_example`.

    Raises:
      UserError, FileNotFoundError: a file is absent, broken or does not fit the
        other; the message names file, expectation and finding.
    """
    image, size = images.canonical_bytes(image_path)
    if label_path is None:
        label = np.full(size, labels.IGNORE, np.uint8)
    else:
        label = labels.read_label(label_path, num_classes)
        labels.check_size(label, size, label_path, image_path)
    return {"image_id": image_id, "image": image, "tags": sorted(tags), "label": encode_ids(label),
            "has_label": label_path is not None}


def generate(builder: tfds.core.DatasetBuilder, split: str, source: str | pathlib.Path, image_ids: Iterable[str],
             read: Callable[[str], dict[str, Any]], on_error: str, notes: Sequence[str] = ()) -> Examples:
    """Yields the examples of a split in order and notes its contents in the builder's metadata.

    Args:
      builder: the TFDS builder that is being prepared.
      split: name of the split.
      source: what lists the images, for messages.
      image_ids: str, in order.
      read: image_id -> example; raises ValueError or OSError for bad input.
      on_error: "stop" raises the first error; "skip" leaves the image out and notes why.
      notes: messages on what the list itself leaves out.

    Yields:
      (key, example): keys are 0, 1, ... so that TFDS keeps the order.

    Raises:
      UserError, OSError: bad input, a duplicate id, or nothing left.
    """
    kept: list[tuple[str, bool]] = []
    seen: set[str] = set()
    left_out, digest = list(notes), hashlib.sha256()
    for image_id in image_ids:
        try:
            check_id(image_id, source)
            if image_id in seen:
                raise UserError(f"{source}: expected each image (file name without its ending) once, "
                                f"found {image_id!r} twice")
            seen.add(image_id)
            record = read(image_id)
        except (UserError, OSError) as error:
            if on_error == "stop":
                raise
            left_out.append(str(error))
            continue
        digest.update(json.dumps([image_id, record["tags"], record["has_label"]]).encode())
        digest.update(hashlib.sha256(record["image"]).digest() + hashlib.sha256(record["label"]).digest())
        kept.append((image_id, record["has_label"]))
        yield len(kept) - 1, record
    if not kept:
        reason = f"; left out: {left_out[0]}" if left_out else ""
        raise UserError(f"{source}: expected at least one usable image in split {split!r}, "
                        f"found none of {len(seen)}{reason}")
    builder.info.metadata[split] = {
        "image_ids": [image_id for image_id, _ in kept], "has_label": [int(has_label) for _, has_label in kept],
        "digest": digest.hexdigest(), "left_out": left_out}


def check_id(image_id: str, source: str | pathlib.Path) -> None:
    """Checks that an image's id is fit for the names of its files, wherever it comes from.

    Raises:
      UserError: it is empty, too long, begins with a point, or leads out of a directory.
    """
    num_bytes = len(image_id.encode(errors="surrogateescape"))
    if (not image_id or image_id.startswith(".") or num_bytes > _LONGEST_ID
            or re.search(r"[/\\\x00-\x1f\x7f\ud800-\udfff]", image_id)):
        shown = image_id if len(image_id) < 60 else f"{image_id[:50]}... ({num_bytes} bytes)"
        raise UserError(f"{source}: expected image ids that can be file names, of 1 to {_LONGEST_ID} bytes, without "
                        f"slashes, control characters or a point at the beginning, found {shown!r}")


def usable(builder: tfds.core.DatasetBuilder, generators: dict[str, Examples], on_error: str) -> dict[str, Examples]:
    """Returns the splits with at least one example: TFDS takes no empty ones.

    Args:
      builder: the TFDS builder that is being prepared.
      generators: {split: what `generate` returned}.
      on_error: with "skip" the reason why a split is empty goes to the metadata, for whoever asks for that split.

    Raises:
      UserError: a split is empty ("stop"), or all are.
    """
    usable_splits: dict[str, Examples] = {}
    for split, generator in generators.items():
        try:
            usable_splits[split] = itertools.chain([next(generator)], generator)
        except UserError as error:
            if on_error == "stop" or not usable_splits and split == list(generators)[-1]:
                raise
            builder.info.metadata[split] = {"empty": str(error)}
    return usable_splits


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Silences TFDS' warnings and announcements; its progress bars are shown on a terminal only."""
    logger = logging.getLogger("absl")
    level = logger.level
    logger.setLevel(logging.ERROR)
    tfds.display_progress_bar(sys.stderr.isatty())
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        logger.setLevel(level)
        tfds.display_progress_bar(True)


def encode_ids(label: np.ndarray) -> bytes:
    """Encodes `[height, width]` uint8 ids as a one-channel PNG; returns bytes."""
    buffer = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(label, np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()


def palette_png(png: bytes) -> bytes:
    """Turns `encode_ids`' PNG into the palette PNG of the same ids, which `labels.decode_label` reads.

    The PNG specification (W3C, section 11.2.1) stores 8-bit grey and 8-bit
    palette pixels alike, so the colour type becomes 3 and a palette is put in.

    Args:
      png: bytes of an 8-bit one-channel PNG.

    Raises:
      UserError: it is another kind of PNG.
    """
    header = png[12:29]
    if header[:4] != b"IHDR" or header[12:14] != b"\x08\x00":
        raise UserError(f"expected an 8-bit grey PNG of class ids, found a file that starts with {png[:32]!r}")
    header = header[:13] + b"\x03" + header[14:]
    return b"".join((png[:12], header, struct.pack(">I", zlib.crc32(header)), _palette_chunk(), png[_HEADER_END:]))


@functools.cache
def _palette_chunk() -> bytes:
    """Returns VOC's palette as a chunk of a PNG: length, name, colours, checksum."""
    named_colours = b"PLTE" + labels.palette().tobytes()
    return struct.pack(">I", len(named_colours) - 4) + named_colours + struct.pack(">I", zlib.crc32(named_colours))
