"""Input pipelines of both trainings. What a step sees is a function of (seed, step) alone.

So a run that was killed and goes on at step k sees what an uninterrupted one
would have seen there: no iterator is ever saved. Threads read, decode, warp and mirror photographs,
one batch per thread, in NumPy and OpenCV, which release Python's lock as they work. A batch travels
as uint8, and `prepared` turns it into what the network expects inside the step.
"""

import dataclasses
import functools
import pathlib
from collections.abc import Callable, Collection
from typing import Any

import cv2
import numpy as np
import tensorflow as tf

from ficklenet_tf import distribution
from ficklenet_tf.data import augmentation, datasets, feature_cache, images, indexed_dataset, labels
from ficklenet_tf.errors import UserError
from ficklenet_tf.runs import artifacts, layout


def index_at(position: int, count: int, seed: int) -> int:
    """Returns the example at a position of the endless sequence: one permutation of all examples after the other.

    Args:
      position: 0 for the first example of the first epoch.
      count: number of examples.
      seed: int; the permutation of epoch e is a function of (seed, e).
    """
    epoch, offset = divmod(position, count)
    return int(_permutation(count, seed, epoch)[offset])


@functools.lru_cache(maxsize=8)  # weak and strong images, this epoch and the next
def _permutation(count: int, seed: int, epoch: int) -> np.ndarray:
    return np.random.default_rng([seed, epoch]).permutation(count)


def training_batches(reader: "ExampleReader", *, batch_size: int, start_step: int,
                     context: tf.distribute.InputContext | None = None) -> tf.data.Dataset:
    """Endless batches for one of the trainings.

    Args:
      reader: an `ExampleReader`.
      batch_size: examples per batch.
      start_step: first step to produce.
      context: `tf.distribute.InputContext`: only this process' share of each batch, one replica's part at a time.

    Returns:
      A tf.data.Dataset of dicts: what `ExampleReader.example` returns of each example, stacked.
    """
    context = context or tf.distribute.InputContext()
    replica_batch = distribution.replica_batch(batch_size, context)
    num_pieces = batch_size // context.num_input_pipelines // replica_batch  # per step, in this process

    def batch(piece: int) -> dict[str, np.ndarray]:
        step, part = divmod(piece, num_pieces)
        start = distribution.first_own(step, batch_size, context) + part * replica_batch
        batch_examples = [reader.example(position) for position in range(start, start + replica_batch)]
        return {name: np.stack([example[name] for example in batch_examples]) for name in batch_examples[0]}

    signature = {name: tf.TensorSpec([replica_batch, *spec.shape], spec.dtype)
                 for name, spec in reader.signature().items()}
    data = indexed_dataset.dataset(range(start_step * num_pieces, tf.int64.max), batch, signature)
    # Nothing here is left to tf.data's tuner, whose thread sleeps for up to a minute: the iterator of a strategy, when
    # it is deleted at the end of a training, waits for that (TensorFlow 2.21, model.cc).
    options = tf.data.Options()
    options.autotune.enabled = False
    return data.with_options(options)


def network_input(batch: dict[str, Any]) -> tf.Tensor:
    """Returns what the network sees of a prepared batch, its "features" or its "image", as float32."""
    return tf.cast(batch["features"] if "features" in batch else batch["image"], tf.float32)


def prepared(batch: dict[str, Any], normalization: images.Normalization, photometric: float = 0.0) -> dict[str, Any]:
    """Turns a batch of `training_batches` into what the network is given. Called in the step, on its device.

    Args:
      batch: a dict; a dict inside it (the strong images of `training.objective`) is treated likewise.
      normalization: the backbone's `images.Normalization`.
      photometric: strength of colour changes, 0 for none.

    Returns:
      The batch with "image", if it holds images, as normalised float32.
    """
    inputs = {key: prepared(value, normalization, photometric) if isinstance(value, dict) else value
              for key, value in batch.items()}
    if "image" in inputs:
        image = inputs["image"]
        if photometric:
            image = augmentation.photometric(image, batch["rng_seeds"], photometric)
        inputs["image"] = images.normalize(image, normalization)
    return inputs


@dataclasses.dataclass(frozen=True)
class ExampleReader:
    """Reads and augments single examples of a training.

    Attributes:
      split: a `datasets.Split`, not empty.
      seed: int, of order and augmentation.
      size: side of the network's input in pixels.
      features: a `FeatureCache` whose features are given in place of images, or None.
      flips: mirror half of the images.
      crop: (least, greatest) scale of a random scale and crop in place of warping (without features), or None.
      seeds_dir: directory of label images `<image id>.png` to train on, or None: the split's own labels.
      label_size: side of the label images and small images given; None leaves both out.
      labelled: give label images; without, the small images alone.
      keep: (image id, side) -> `[side, side]` uint8, 0 where a photograph is erased, see `maps.erased.Erased.keep`;
        None leaves it out. It is mirrored with the photograph, and with its cached features, whose positions are
        mirrored too; not cropped.
      keep_side: the side to ask `keep` for.
      masked: without seeds_dir: ids of the images whose own label is given, of the others it is 255 everywhere; None:
        all.
      saliency_dir: directory of grey maps `<image id>.png` that are given too, or None.
      saliency_size: side of these.

    Raises:
      UserError: the split is empty, an image has no label image in seeds_dir, or saliency maps would be cropped.
    """

    split: datasets.Split
    seed: int
    size: int
    features: feature_cache.FeatureCache | None = None
    flips: bool = True
    crop: tuple[float, float] | None = None
    seeds_dir: pathlib.Path | None = None
    label_size: int | None = None
    labelled: bool = True
    keep: Callable[[str, int], np.ndarray] | None = None
    keep_side: int = 0
    masked: Collection[str] | None = None
    saliency_dir: str | pathlib.Path | None = None
    saliency_size: int = 0

    def __post_init__(self) -> None:
        if not len(self.split):
            raise UserError(f"{self.split.dataset} {self.split.name}: expected images to train on, found none")
        if self.seeds_dir is not None:
            missing = [i for i in self.split.image_ids if not layout.label_image(self.seeds_dir, i).exists()]
            if missing:
                raise UserError(f"{self.seeds_dir}: expected a label image for each of {len(self.split)} images, "
                                f"{len(missing)} are missing, the first {missing[0]}.png")
        if self.saliency_dir is not None and self.crop is not None:
            raise UserError("random_crop: expected none where saliency maps are learned, which are not cropped along")

    @functools.cached_property
    def _stream(self) -> np.int32:
        """What the random seeds of all examples have in common."""
        return tf.cast(tf.random.fold_in(tf.constant([self.seed, 0x5EED], tf.int64), 0), tf.int32)[0].numpy()

    def signature(self) -> dict[str, tf.TensorSpec]:
        """Returns {name: tf.TensorSpec} of what `example` returns."""
        specs = {"rng_seeds": tf.TensorSpec([2], tf.int32),
                 "tags": tf.TensorSpec([len(self.split.class_names) - 1], tf.float32)}
        if self.features is None:
            specs["image"] = tf.TensorSpec([self.size, self.size, 3], tf.uint8)
        else:
            specs["features"] = tf.TensorSpec(self.features.shape, tf.float16)
        if self.label_size is not None:
            if self.labelled:
                specs["label"] = tf.TensorSpec([self.label_size] * 2, tf.uint8)
            specs["small_image"] = tf.TensorSpec([self.label_size, self.label_size, 3], tf.uint8)
        if self.keep is not None:
            specs["keep"] = tf.TensorSpec([self.keep_side] * 2, tf.uint8)
        if self.saliency_dir is not None:
            specs["saliency"] = tf.TensorSpec([self.saliency_size] * 2, tf.float32)
        return specs

    def example(self, position: int) -> dict[str, np.ndarray]:
        """Returns what a batch holds of one example.

        Args:
          position: in the endless sequence: with the seed it fixes everything random.

        Returns:
          dict: "rng_seeds" `[2]` int32, "tags" `[C]` float32; "image" `[size, size, 3]` uint8 RGB or "features"
          `[h, w, k]` float16; with label_size "small_image" `[label_size, label_size, 3]` uint8 and, if labelled,
          "label" `[label_size, label_size]` uint8; with keep "keep" `[keep_side, keep_side]` uint8; with saliency_dir
          "saliency" `[saliency_size, saliency_size]` float32, 0..1.
        """
        record = self.split[index_at(position, len(self.split), self.seed)]
        rng = np.random.default_rng([self.seed, position])
        mirrored = self.flips and rng.random() < 0.5
        example = {"rng_seeds": np.array([self._stream, position], np.int32), "tags": record["tags"]}
        if self.features is not None:
            example["features"] = self.features.load(record["image_id"], mirrored)
        if self.features is None or self.label_size is not None:
            image, label = self._pixels(record, mirrored, rng)
            if self.features is None:
                example["image"] = image
            if self.label_size is not None:
                if label is not None:
                    example["label"] = images.nearest(label, (self.label_size, self.label_size))
                example["small_image"] = images.warp_pixels(image, self.label_size)
        if self.keep is not None:
            example["keep"] = augmentation.mirror(self.keep(record["image_id"], self.keep_side), mirrored)
        if self.saliency_dir is not None:
            example["saliency"] = augmentation.mirror(self._saliency(record["image_id"]), mirrored)
        return example

    def _saliency(self, image_id: str) -> np.ndarray:
        assert self.saliency_dir is not None
        grey = images.read_grey(layout.label_image(self.saliency_dir, image_id))
        side = (self.saliency_size, self.saliency_size)
        return cv2.resize(grey.astype(np.float32) / 255, side, interpolation=cv2.INTER_AREA)

    def _pixels(self, record: dict[str, Any], mirrored: bool,
                rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray | None]:
        """Returns the augmented image `[size, size, 3]` and its label image, or None."""
        image = images.decode_image(record["image"])
        label = self._label(record) if self.labelled and self.label_size is not None else None
        if self.crop is None or self.features is not None:
            image = images.warp_pixels(image, self.size)
        else:
            image, label = augmentation.scale_and_crop(image, label, self.size, rng, self.crop)
        return augmentation.mirror(image, mirrored), None if label is None else augmentation.mirror(label, mirrored)

    def _label(self, record: dict[str, Any]) -> np.ndarray:
        if self.seeds_dir is None:
            label = labels.decode_label(record["label"])
            hidden = self.masked is not None and record["image_id"] not in self.masked
            return np.full_like(label, labels.IGNORE) if hidden else label
        return labels.decode_label(artifacts.read_bytes(layout.label_image(self.seeds_dir, record["image_id"])))


def examples(split: datasets.Split, *, size: int | None = None) -> tf.data.Dataset:
    """One pass over a split in its order, decoded: for extraction, prediction and evaluation.

    Args:
      split: a `datasets.Split`.
      size: side to warp to, in pixels; None leaves each image at its own size.

    Returns:
      A tf.data.Dataset of dicts: "index" int64, "image" `[h, w, 3]` uint8 at its own size, and
      with `size` "input" `[size, size, 3]` float32 0..255.
    """
    def prepare(element: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        image = images.decode_image_op(element.pop("encoded"))
        return {**element, "image": image} if size is None else {
            **element, "image": image, "input": images.warp(image, size)}

    signature = {"index": tf.TensorSpec([], tf.int64), "encoded": tf.TensorSpec([], tf.string)}
    data = indexed_dataset.dataset(range(len(split)), lambda index: {
        "index": np.int64(index), "encoded": split[index]["image"]}, signature)
    return data.map(prepare, num_parallel_calls=tf.data.AUTOTUNE).prefetch(4)
