"""tf.data pipelines of both trainings. What a step sees is a function of (seed, step) alone.

So a run that was killed and goes on at step k sees what an uninterrupted one
would have seen there: no iterator is ever saved.
"""

import pathlib

import numpy as np
import tensorflow as tf

from ficklenet_tf import distribution, features, images, labels


def positions(count, seed, start):
    """Yields example indices for ever: one permutation of `count` after the other, from position `start` on.

    Args:
      count: number of examples.
      seed: int; the permutation of epoch e is a function of (seed, e).
      start: position in the endless sequence, 0 for the first example of the first epoch.
    """
    epoch, offset = divmod(start, count)
    while True:
        order = np.random.default_rng([seed, epoch]).permutation(count)
        for index in order[offset:]:
            yield int(index)
        epoch, offset = epoch + 1, 0


def training_batches(split, *, batch_size, seed, start_step, size, normalization, features_dir=None, flips=True,
                     flipped_features=False, photometric=0.0, crop=None, seeds_dir=None, label_size=None,
                     context=None):
    """Endless batches for one of the trainings.

    Args:
      split: a `datasets.Split`.
      batch_size: examples a batch.
      seed: int, of order and augmentation.
      start_step: first step to produce.
      size: side of the network's input in pixels.
      normalization: the backbone's `images.Normalization`.
      features_dir: a `features.cache` directory: give cached features in place of images.
      flips: mirror half of the images.
      flipped_features: whether the cache holds the mirror images' features too; without them
        cached features are mirrored themselves, which is close but not the same.
      photometric: strength of colour changes, 0 for none (without features_dir).
      crop: (least, greatest) scale for random scale and crop in place of warping (without features_dir).
      seeds_dir: directory of label images `<image id>.png` to train on, or None: the split's own labels.
      label_size: side of the label images given; None leaves labels and small images out.
      context: `tf.distribute.InputContext`: only this process' share of each batch, one replica's part at a time.

    Returns:
      A tf.data.Dataset of dicts: "seeds" `[b, 2]` int32 (one random seed an example), "tags" `[b, C]` float32;
      "image" `[b, size, size, 3]` normalised float32 or "features" `[b, h, w, k]` float16; with label_size
      "label" `[b, label_size, label_size]` uint8 and "small_image" `[b, label_size, label_size, 3]` float32 0..255.

    Raises:
      ValueError: the split is empty, or an image has no label image in seeds_dir.
    """
    if not len(split):
        raise ValueError(f"{split.dataset} {split.name}: expected images to train on, found none")
    if seeds_dir is not None:
        seeds_dir = pathlib.Path(seeds_dir)
        missing = [i for i in split.image_ids if not (seeds_dir / f"{i}.png").exists()]
        if missing:
            raise ValueError(f"{seeds_dir}: expected a label image for each of {len(split)} images, "
                             f"{len(missing)} are missing, the first {missing[0]}.png")
    need_image = features_dir is None or label_size is not None
    context = context or tf.distribute.InputContext()
    replica_batch = distribution.replica_batch(batch_size, context)

    def examples():
        start = start_step * batch_size
        for position, index in enumerate(positions(len(split), seed, start), start):
            if not distribution.is_own(position, batch_size, context):
                continue
            record, image_id = split[index], split.image_ids[index]
            yield {
                "position": position,
                "tags": record["tags"],
                "image": record["image"] if need_image else b"",
                "label": b"" if label_size is None else (
                    record["label"] if seeds_dir is None else (seeds_dir / f"{image_id}.png").read_bytes()),
                "features": "" if features_dir is None else str(features.path_of(features_dir, image_id)),
                "flipped": "" if features_dir is None else str(features.path_of(features_dir, image_id, True)),
            }

    signature = {name: tf.TensorSpec([], tf.string) for name in ("image", "label", "features", "flipped")}
    signature |= {"position": tf.TensorSpec([], tf.int64), "tags": tf.TensorSpec([len(split.class_names) - 1])}
    shape = None if features_dir is None else features.shape_in(features_dir)

    def prepare(example):
        own = tf.random.fold_in(tf.constant([seed, 0x5EED], tf.int64), example["position"])
        result = {"tags": example["tags"], "seeds": tf.cast(own, tf.int32)}
        label = labels.decode_label(example["label"]) if label_size is not None else None
        flip = flips & (tf.random.stateless_uniform([], tf.random.fold_in(own, 1)) < 0.5)
        if features_dir is not None:
            result["features"] = _read_features(example, shape, flip, flipped_features)
        if need_image:
            image = images.decode(example["image"])
            if crop is not None and features_dir is None:
                label = tf.zeros(tf.shape(image)[:2], tf.uint8) if label is None else label
                image, label = images.scale_and_crop(image, label, size, tf.random.fold_in(own, 2), crop)
            else:
                image = images.warp(image, size)
            image = _mirror(image, flip)
            if features_dir is None:
                coloured = images.photometric(image, tf.random.fold_in(own, 3), photometric) if photometric else image
                result["image"] = images.normalize(coloured, normalization)
            if label_size is not None:
                result["label"] = images.warp_label(_mirror(label, flip), label_size)
                result["small_image"] = images.warp(image, label_size)
        return result

    batches = tf.data.Dataset.from_generator(examples, output_signature=signature)
    batches = batches.map(prepare, num_parallel_calls=tf.data.AUTOTUNE).batch(replica_batch, drop_remainder=True)
    return batches.prefetch(2)


def _mirror(image, mirrored):
    return tf.cond(mirrored, lambda: tf.reverse(image, [1]), lambda: image)


def _read_features(example, shape, flip, flipped_features):
    if flipped_features:
        return features.read(tf.where(flip, example["flipped"], example["features"]), shape)
    return _mirror(features.read(example["features"], shape), flip)


def examples(split, *, size=None):
    """One pass over a split in its order, decoded: for extraction, prediction and evaluation.

    Args:
      split: a `datasets.Split`.
      size: side to warp to, in pixels; None leaves each image at its own size.

    Returns:
      A tf.data.Dataset of dicts: "index" int64, "image" `[h, w, 3]` uint8 at its own size, and
      with `size` "input" `[size, size, 3]` float32 0..255.
    """
    def encoded():
        for index in range(len(split)):
            yield index, split[index]["image"]

    def prepare(index, image):
        image = images.decode(image)
        result = {"index": index, "image": image}
        if size is not None:
            result["input"] = images.warp(image, size)
        return result

    data = tf.data.Dataset.from_generator(encoded, output_signature=(tf.TensorSpec([], tf.int64),
                                                                     tf.TensorSpec([], tf.string)))
    return data.map(prepare, num_parallel_calls=tf.data.AUTOTUNE).prefetch(4)
