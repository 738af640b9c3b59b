"""The archive that the VOC evaluation server takes, made of predicted label images.

https://host.robots.ox.ac.uk:8080: a results.tar.gz with results/VOC2012/Segmentation/comp6_test_cls/<image id>.png,
palette PNGs of the photographs' sizes, each pixel one of the classes. "comp6" stands for a method trained on more than
VOC's own images, as is a network that begins with ImageNet's weights.
"""

import gzip
import io
import pathlib
import tarfile
from typing import Any

import numpy as np

from ficklenet_tf.data import datasets, images, labels
from ficklenet_tf.errors import UserError
from ficklenet_tf.runs import artifacts

FOLDER = "results/VOC2012/Segmentation/comp6_test_cls"


def write(predictions: str | pathlib.Path, split: datasets.Split, directory: str | pathlib.Path) -> pathlib.Path:
    """Writes `<directory>/results/...` and `<directory>/results.tar.gz`; the same predictions give the same bytes.

    Args:
      predictions: directory with `<image id>.png` for each of the split's images.
      split: `datasets.Split`.
      directory: where both go.

    Returns:
      The archive's path.

    Raises:
      UserError, OSError: a label image is missing, has another size than its photograph, or a pixel without a
        class; names the file.
    """
    directory, buffer = pathlib.Path(directory), io.BytesIO()
    with (gzip.GzipFile(fileobj=buffer, mode="wb", mtime=0) as compressed,
          tarfile.open(fileobj=compressed, mode="w") as archive):
        for index, image_id in enumerate(split.image_ids):
            label = _checked(pathlib.Path(predictions) / f"{image_id}.png", split[index], len(split.class_names))
            png, name = labels.encode_label(label), f"{FOLDER}/{image_id}.png"
            artifacts.write_bytes(directory / name, png)
            entry = tarfile.TarInfo(name)
            entry.size = len(png)
            archive.addfile(entry, io.BytesIO(png))
    artifacts.write_bytes(directory / "results.tar.gz", buffer.getvalue())
    return directory / "results.tar.gz"


def _checked(path: pathlib.Path, example: dict[str, Any], num_classes: int) -> np.ndarray:
    """Reads a predicted label image and checks that the server would take it."""
    label = labels.read_label(path, num_classes)
    size = tuple(images.decode_image_op(example["image"]).shape[:2])
    if label.shape != size:
        raise UserError(f"{path}: expected {size} pixels as the photograph, found {label.shape}")
    unanswered = int(np.sum(label == labels.IGNORE))
    if unanswered:
        raise UserError(f"{path}: expected a class for each pixel, found 255 at {unanswered}")
    return label
