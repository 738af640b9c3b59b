"""Input pipelines of both trainings. What a step sees is a function of (seed, step) alone.

So a run that was killed and goes on at step k sees what an uninterrupted one
would have seen there: no iterator is ever saved. Photographs are read, decoded, warped and
mirrored by threads, a batch each, in NumPy and OpenCV, which leave Python's lock to each other;
a batch travels as uint8, and `prepared` turns it into what the network expects inside the step.
"""

import dataclasses
import functools
import pathlib

import numpy as np
import tensorflow as tf

from ficklenet_tf import distribution
from ficklenet_tf.data import augmentation, datasets, feature_cache, images, indexed_dataset, labels


def index_at(position, count, seed):
    """Returns the example at a position of the endless sequence: one permutation of all examples after the other.

    Args:
      position: 0 for the first example of the first epoch.
      count: number of examples.
      seed: int; the permutation of epoch e is a function of (seed, e).
    """
    epoch, offset = divmod(position, count)
    return int(_permutation(count, seed, epoch)[offset])


@functools.lru_cache(maxsize=8)  # weak and strong images, this epoch and the next
def _permutation(count, seed, epoch):
    return np.random.default_rng([seed, epoch]).permutation(count)


def training_batches(split, *, batch_size, seed, start_step, size, features_dir=None, flips=True,
                     flipped_features=False, crop=None, seeds_dir=None, label_size=None, context=None):
    """Endless batches for one of the trainings.

    Args:
      split: a `datasets.Split`.
      batch_size: examples a batch.
      seed: int, of order and augmentation.
      start_step: first step to produce.
      size: side of the network's input in pixels.
      features_dir: a `features.cache` directory: give cached features in place of images.
      flips: mirror half of the images.
      flipped_features: whether the cache holds the mirror images' features too; without them
        cached features are mirrored themselves, which is close but not the same.
      crop: (least, greatest) scale for random scale and crop in place of warping (without features_dir).
      seeds_dir: directory of label images `<image id>.png` to train on, or None: the split's own labels.
      label_size: side of the label images given; None leaves labels and small images out.
      context: `tf.distribute.InputContext`: only this process' share of each batch, one replica's part at a time.

    Returns:
      A tf.data.Dataset of dicts: "seeds" `[b, 2]` int32 (one random seed an example), "tags" `[b, C]` float32;
      "image" `[b, size, size, 3]` uint8 RGB or "features" `[b, h, w, k]` float16; with label_size
      "label" `[b, label_size, label_size]` uint8 and "small_image" `[b, label_size, label_size, 3]` uint8.

    Raises:
      ValueError: the split is empty, or an image has no label image in seeds_dir.
    """
    _check(split, seeds_dir)
    stream = tf.cast(tf.random.fold_in(tf.constant([seed, 0x5EED], tf.int64), 0), tf.int32)[0].numpy()
    reader = _Reader(split, seed, stream, size, features_dir, flips, flipped_features, crop, seeds_dir, label_size)
    context = context or tf.distribute.InputContext()
    replica_batch = distribution.replica_batch(batch_size, context)
    pieces = batch_size // context.num_input_pipelines // replica_batch  # a step, in this process

    def batch(piece):
        step, part = divmod(piece, pieces)
        start = distribution.first_own(step, batch_size, context) + part * replica_batch
        some = [reader.example(position, index_at(position, len(split), seed))
                for position in range(start, start + replica_batch)]
        return {name: np.stack([example[name] for example in some]) for name in some[0]}

    signature = {name: tf.TensorSpec([replica_batch, *spec.shape], spec.dtype)
                 for name, spec in reader.signature().items()}
    return indexed_dataset.dataset(range(start_step * pieces, tf.int64.max), batch, signature)


def prepared(batch, normalization, photometric=0.0):
    """Turns a batch of `training_batches` into what the network is given. Called in the step, on its device.

    Args:
      batch: a dict; a dict inside it (`supervision`'s strong images) is turned likewise.
      normalization: the backbone's `images.Normalization`.
      photometric: strength of colour changes, 0 for none.

    Returns:
      The batch with "image", if it holds images, as normalised float32.
    """
    found = {key: prepared(value, normalization, photometric) if isinstance(value, dict) else value
             for key, value in batch.items()}
    if "image" in found:
        image = found["image"]
        if photometric:
            image = augmentation.photometric(image, batch["seeds"], photometric)
        found["image"] = images.normalize(image, normalization)
    return found


def _check(split, seeds_dir):
    if not len(split):
        raise ValueError(f"{split.dataset} {split.name}: expected images to train on, found none")
    if seeds_dir is not None:
        missing = [i for i in split.image_ids if not (pathlib.Path(seeds_dir) / f"{i}.png").exists()]
        if missing:
            raise ValueError(f"{seeds_dir}: expected a label image for each of {len(split)} images, "
                             f"{len(missing)} are missing, the first {missing[0]}.png")


@dataclasses.dataclass(frozen=True)
class _Reader:
    """Reads and augments single examples; the arguments are those of `training_batches`."""

    split: datasets.Split
    seed: int
    stream: int  # what the seeds of all examples have in common
    size: int
    features_dir: str | None
    flips: bool
    flipped_features: bool
    crop: tuple | None
    seeds_dir: str | None
    label_size: int | None

    def signature(self):
        """Returns {name: tf.TensorSpec} of what `example` returns."""
        found = {"seeds": tf.TensorSpec([2], tf.int32),
                 "tags": tf.TensorSpec([len(self.split.class_names) - 1], tf.float32)}
        if self.features_dir is None:
            found["image"] = tf.TensorSpec([self.size, self.size, 3], tf.uint8)
        else:
            found["features"] = tf.TensorSpec(feature_cache.shape_in(self.features_dir), tf.float16)
        if self.label_size is not None:
            found["label"] = tf.TensorSpec([self.label_size] * 2, tf.uint8)
            found["small_image"] = tf.TensorSpec([self.label_size, self.label_size, 3], tf.uint8)
        return found

    def example(self, position, index):
        """Returns what a batch holds of one example.

        Args:
          position: in the endless sequence: with the seed it fixes everything random.
          index: of the example in the split.
        """
        record, random = self.split[index], np.random.default_rng([self.seed, position])
        mirrored = self.flips and random.random() < 0.5
        found = {"seeds": np.array([self.stream, position], np.int32), "tags": record["tags"]}
        if self.features_dir is not None:
            found["features"] = self._features(record["image_id"], mirrored)
        if self.features_dir is None or self.label_size is not None:
            image, label = self._pixels(record, mirrored, random)
            if self.features_dir is None:
                found["image"] = image
            if self.label_size is not None:
                found["label"] = images.nearest(label, (self.label_size, self.label_size))
                found["small_image"] = images.warp_pixels(image, self.label_size)
        return found

    def _features(self, image_id, mirrored):
        stored = mirrored and self.flipped_features
        values = np.load(feature_cache.path_of(self.features_dir, image_id, stored))
        return values[:, ::-1] if mirrored and not stored else values

    def _pixels(self, record, mirrored, random):
        """Returns the augmented image `[size, size, 3]` and its label image, or None."""
        image = images.pixels_of(record["image"])
        label = self._label(record) if self.label_size is not None else None
        if self.crop is None or self.features_dir is not None:
            image = images.warp_pixels(image, self.size)
        else:
            image, label = augmentation.scale_and_crop(image, label, self.size, random, self.crop)
        return augmentation.mirror(image, mirrored), None if label is None else augmentation.mirror(label, mirrored)

    def _label(self, record):
        if self.seeds_dir is None:
            return labels.ids_of(record["label"])
        return labels.ids_of((pathlib.Path(self.seeds_dir) / f"{record['image_id']}.png").read_bytes())


def examples(split, *, size=None):
    """One pass over a split in its order, decoded: for extraction, prediction and evaluation.

    Args:
      split: a `datasets.Split`.
      size: side to warp to, in pixels; None leaves each image at its own size.

    Returns:
      A tf.data.Dataset of dicts: "index" int64, "image" `[h, w, 3]` uint8 at its own size, and
      with `size` "input" `[size, size, 3]` float32 0..255.
    """
    def prepare(element):
        image = images.decode(element.pop("encoded"))
        return {**element, "image": image} if size is None else {
            **element, "image": image, "input": images.warp(image, size)}

    signature = {"index": tf.TensorSpec([], tf.int64), "encoded": tf.TensorSpec([], tf.string)}
    data = indexed_dataset.dataset(range(len(split)), lambda index: {
        "index": np.int64(index), "encoded": split[index]["image"]}, signature)
    return data.map(prepare, num_parallel_calls=tf.data.AUTOTUNE).prefetch(4)
