"""What the frozen layers of a backbone give, computed once and kept on disk (float16, one file per image).

Both networks train on what lies above the cut (`backbones.cut`), so one pass of the layers below it over the
photographs serves the classifier, the maps and the segmenter.
"""

import concurrent.futures
import dataclasses
import functools
import hashlib
import io
import math
import pathlib
import zlib
from collections.abc import Sequence
from typing import Any, Self

import keras
import numpy as np
import tensorflow as tf

from ficklenet_tf.data import datasets, images, indexed_dataset
from ficklenet_tf.errors import UserError
from ficklenet_tf.presets import ClassifierConfig, SegmenterConfig
from ficklenet_tf.runs import artifacts, layout, progress, record

_NPY_HEADER = 128  # bytes that NumPy writes before the data of a small array
_FLIPPED = "flipped"
_SHAPE = "features.json"


@dataclasses.dataclass(frozen=True)
class FeatureCache:
    """A directory of features, `<image id>.npy` and `flipped/<image id>.npy`, made by the same frozen layers.

    Attributes:
      directory: where the files are.
      flips: whether the features of each mirrored photograph are there too (they are not the mirrored features).
    """

    directory: pathlib.Path
    flips: bool = False

    @classmethod
    def of_run(cls, run: dict[str, Any], run_dir: str | pathlib.Path | None = None) -> Self | None:
        """Returns the cache that a stage used, from its run.json as a dict; None where it used none.

        With `run_dir`, the directory where its run is now, the cache is the one there: the run may have been moved.
        """
        stored = run.get("features")
        if stored is None:
            return None
        directory = pathlib.Path(stored["directory"])
        return cls(directory if run_dir is None else pathlib.Path(run_dir) / layout.FEATURES / directory.name,
                   stored["flips"])

    def as_json(self) -> dict[str, Any]:
        """Returns what `of_run` reads, for the "features" of a run.json."""
        return {"directory": str(self.directory), "flips": self.flips}

    @functools.cached_property
    def shape(self) -> tuple[int, int, int]:
        """(height, width, channels) of the features; known once one file is there."""
        height, width, channels = artifacts.read_json(self.directory / _SHAPE)["shape"]
        return height, width, channels

    @functools.cached_property
    def _checksums(self) -> dict[str, int]:
        path = self.directory / layout.PHOTOGRAPHS
        return artifacts.read_json(path) if path.exists() else {}

    def path(self, image_id: str, flipped: bool = False) -> pathlib.Path:
        """Returns the file of an image's features, or of its mirror image's."""
        return (self.directory / _FLIPPED if flipped else self.directory) / f"{image_id}.npy"

    def holds(self, image_id: str, encoded: bytes) -> bool:
        """Whether an image's features are there and were made of this photograph, whose bytes are `encoded`."""
        stored = self._checksums.get(image_id)
        return self.path(image_id).exists() and stored in (None, checksum(encoded))

    def load(self, image_id: str, mirrored: bool = False) -> np.ndarray:
        """Returns `[height, width, channels]` float16 of an image or of its mirror image.

        Without the mirror images' features, an image's own are mirrored. These are others: of VGG-16's conv5_3, with
        ImageNet's weights, the cosine between the two is 0.61 to 0.67 (four photographs of VOC, 161 pixels).
        """
        from_mirrored = mirrored and self.flips
        features = self.read(self.path(image_id, from_mirrored))
        return features[:, ::-1] if mirrored and not from_mirrored else features

    def read(self, path: pathlib.Path) -> np.ndarray:
        """Reads one of the files, `[height, width, channels]` float16.

        Its checksum is compared the first time: that takes as long as the reading.

        Raises:
          UserError: it is not what was written there.
        """
        data = path.read_bytes() if path in self._sound else artifacts.read_bytes(path)
        self._sound.add(path)
        if len(data) != _NPY_HEADER + 2 * math.prod(self.shape):
            raise UserError(f"{path}: expected {_NPY_HEADER + 2 * math.prod(self.shape)} bytes, features of shape "
                            f"{self.shape}, found {len(data)}; remove it, then run the stage again")
        return np.frombuffer(data, np.float16, offset=_NPY_HEADER).reshape(self.shape)

    @functools.cached_property
    def _sound(self) -> set[pathlib.Path]:
        return set()

    def fill(self, split: datasets.Split, below: keras.Model, normalization: images.Normalization, *, size: int,
             flips: bool | None = None, batch_size: int = 8) -> int:
        """Computes what is missing of a split's features, and what was made of another photograph of the same name.

        Args:
          split: a `datasets.Split`.
          below: keras.Model of the frozen layers, `[b, size, size, 3]` -> `[b, h, w, channels]`.
          normalization: the backbone's `images.Normalization`.
          size: side to which photographs are warped, in pixels.
          flips: also compute the features of the mirrored photographs; None: as the cache's `flips`.
          batch_size: images per pass.

        Returns:
          The number of files written.
        """
        for directory in (self.directory, self.directory / _FLIPPED):
            if not directory.exists():  # one of an earlier version stays without a record
                record.begin(directory)
        old_checksums, flips = self._checksums, self.flips if flips is None else flips
        checksums = {image_id: checksum(split[i]["image"]) for i, image_id in enumerate(split.image_ids)}
        for image_id, new in checksums.items():
            if old_checksums.get(image_id, new) != new:  # another photograph's
                for flipped in (False, True):
                    self.path(image_id, flipped).unlink(missing_ok=True)
        if not checksums.items() <= old_checksums.items():  # first: who is killed leaves files of these photographs
            artifacts.write_json(self.directory / layout.PHOTOGRAPHS, {**old_checksums, **checksums})
            self.__dict__.pop("_checksums", None)
        views = [(i, flipped) for i in range(len(split)) for flipped in ((False, True) if flips else (False,))]
        missing = [(i, flipped) for i, flipped in views
                   if not record.has_size(self.path(split.image_ids[i], flipped))]
        if not missing:
            if split.image_ids and not (self.directory / _SHAPE).exists():  # it was damaged and removed
                self._note_shape(np.load(self.path(split.image_ids[0])).shape, size)
            return 0
        forward = tf.function(lambda x: tf.cast(below(x, training=False), tf.float16), autograph=False,
                              reduce_retracing=True)
        done = 0
        with (concurrent.futures.ThreadPoolExecutor(2) as writers,
              progress.bar(total=len(missing), desc="features", unit="img", smoothing=0.05) as bar):
            for batch in _photographs(split, missing, normalization, size).batch(batch_size).prefetch(2):
                features = forward(batch).numpy()
                if done == 0:
                    self._note_shape(features.shape[1:], size)
                paths = [self.path(split.image_ids[i], flipped) for i, flipped in missing[done:done + len(features)]]
                list(writers.map(_write, paths, features))
                done += len(features)
                bar.update(len(features))
        return done

    def _note_shape(self, shape: Sequence[int], size: int) -> None:
        artifacts.write_json(self.directory / _SHAPE, {"shape": list(shape), "size": size})


def cache_directory(root: str | pathlib.Path, below: keras.Model, normalization: images.Normalization, *, dataset: str,
                    size: int, precision: str) -> pathlib.Path:
    """Returns the directory for what these layers give: other weights or settings, another directory.

    Args:
      root: where such directories lie.
      below: keras.Model of the frozen layers.
      normalization: of the photographs that they are given.
      dataset: name of the data set.
      size: side to which photographs are warped, in pixels.
      precision: of the computation.
    """
    digest = hashlib.sha256(repr((dataset, below.name, size, precision, artifacts.as_json(
        dataclasses.asdict(normalization)))).encode())
    for variable in below.variables:
        digest.update(variable.numpy().tobytes())
    return pathlib.Path(root) / f"{dataset}-{below.name}-{size}-{digest.hexdigest()[:8]}"


def checksum(encoded: bytes) -> int:
    """Returns an int that tells one photograph's bytes from another's."""
    return zlib.crc32(encoded)


def check_augmentation(config: ClassifierConfig | SegmenterConfig) -> None:
    """Raises UserError where a training's changes of photographs would be lost on cached features."""
    lost = [name for name in ("photometric", "random_crop") if getattr(config, name, False)]
    if lost:
        raise UserError(f"{' and '.join(lost)}: expected none where layers are frozen, whose output is computed once, "
                        "from the photographs as they are; pass --photometric=0 --norandom_crop, or "
                        "--trainable_layers=all")


def _photographs(split: datasets.Split, views: Sequence[tuple[int, bool]], normalization: images.Normalization,
                 size: int) -> tf.data.Dataset:
    """Dataset of the network's inputs `[size, size, 3]` for `views`, each (index of the image, flipped)."""
    def encoded(number: int) -> dict[str, Any]:
        index, flipped = views[number]
        return {"encoded": split[index]["image"], "flipped": np.bool_(flipped)}

    def prepare(element: dict[str, tf.Tensor]) -> tf.Tensor:
        image = images.warp(images.decode_image_op(element["encoded"]), size)
        image = tf.cond(element["flipped"], lambda: tf.reverse(image, [1]), lambda: image)
        return images.normalize(image, normalization)

    elements = indexed_dataset.dataset(range(len(views)), encoded, {"encoded": tf.TensorSpec([], tf.string),
                                                                     "flipped": tf.TensorSpec([], tf.bool)})
    return elements.map(prepare, num_parallel_calls=tf.data.AUTOTUNE)


def _write(path: pathlib.Path, features: np.ndarray) -> None:
    buffer = io.BytesIO()
    np.save(buffer, features)
    artifacts.write_bytes(path, buffer.getvalue())
