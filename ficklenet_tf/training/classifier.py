"""Trains the classifier on image-level tags and measures the mAP of the tags on held-out images."""

import dataclasses
import pathlib

import keras
import numpy as np
import tensorflow as tf

from ficklenet_tf import distribution
from ficklenet_tf.data import feature_cache, images, input_pipeline
from ficklenet_tf.evaluation import metrics
from ficklenet_tf.models import classifier, precision
from ficklenet_tf.runs import artifacts, progress
from ficklenet_tf.training import loop, optimizers


def train(directory, split, held_out, preset, *, weights="", seed=0, features_root=None, cache_flips=False,
          jit_compile=False, save_every=200):
    """Trains a classifier; goes on where an earlier call with the same arguments stopped.

    Args:
      directory: the stage's directory: checkpoints/, log.csv, tensorboard/, model.weights.h5, run.json.
      split: `datasets.Split` to train on; only its tags are used.
      held_out: `datasets.Split` for the mAP.
      preset: `presets.Classifier`.
      weights: of the backbone, see `pretrained.load_weights`.
      seed: of weights, order, augmentation and selections.
      features_root: with a frozen backbone, where features are cached; default `directory`/../features.
      cache_flips: also cache the features of the mirrored photographs (twice the time and space).
      jit_compile: compile the step by XLA.
      save_every: steps between checkpoints.

    Returns:
      The content of run.json.
    """
    directory = pathlib.Path(directory)
    preset = precision.settled(preset, directory.parent)
    settings = {"stage": "classifier", "preset": dataclasses.asdict(preset), "weights": str(weights), "seed": seed,
                "dataset": split.dataset, "split": split.name, "fingerprint": split.fingerprint}
    artifacts.claim(directory, settings)
    finished = artifacts.read_run(directory)
    if finished:
        return finished
    keras.utils.set_random_seed(seed)
    model, normalization = classifier.build(preset, len(split.class_names) - 1, weights)
    cached = None
    if preset.trainable_layers == "head":
        feature_cache.check_augmentation(preset)
        cached = cache_features(directory, split, model.backbone, normalization, preset, weights, seed, features_root,
                                cache_flips and preset.flips)
        distribution.by_chief(feature_cache.cache, held_out, model.backbone, normalization, size=preset.input_size,
                              directory=cached)
    steps_per_epoch = max(1, len(split) // preset.batch_size)
    target = model if cached is None else model.head
    new = (model.head if weights else target).trainable_variables
    optimizer = optimizers.classifier_optimizer(preset, target, new, steps_per_epoch)
    rows = loop.fit(
        directory=directory, model=target, optimizer=optimizer,
        losses=_losses(target, normalization, preset.photometric),
        make_batches=lambda start, context: input_pipeline.training_batches(
            split, batch_size=min(preset.batch_size, len(split)), seed=seed, start_step=start, size=preset.input_size,
            features_dir=cached, flips=preset.flips, flipped_features=cache_flips, context=context),
        steps=preset.epochs * steps_per_epoch, description=directory.name, save_every=save_every,
        jit_compile=jit_compile, precision=preset.precision if cached is None else "float32")

    def finish():
        predicted = predict(model, held_out, normalization, preset.input_size, features_dir=cached)
        tags = np.stack([held_out[i]["tags"] for i in range(len(held_out))])
        mean, each = metrics.mean_average_precision(tags, predicted)
        model.save_weights(directory / "model.weights.h5")
        artifacts.write_run(
            directory, **settings, class_names=list(split.class_names),
            normalization=dataclasses.asdict(normalization),
            features_dir=None if cached is None else str(cached), cache_flips=cache_flips, held_out=held_out.name,
            metrics={"map": mean, "ap_per_class": each, "loss": rows[-1]["loss"]})

    distribution.by_chief(finish)
    return artifacts.read_run(directory)


def cache_features(directory, split, backbone, normalization, preset, weights, seed, features_root, flips):
    """Caches a frozen backbone's features of a split; returns their directory."""
    root = pathlib.Path(features_root) if features_root else pathlib.Path(directory).parent / "features"
    cached = feature_cache.cache_directory(root, dataset=split.dataset, backbone=preset.backbone, weights=weights,
                                           size=preset.input_size, precision=preset.precision, seed=seed)
    distribution.by_chief(feature_cache.cache, split, backbone, normalization, size=preset.input_size,
                          directory=cached, flips=flips)
    return cached


def _losses(model, normalization, photometric):
    def losses(batch):
        batch = input_pipeline.prepared(batch, normalization, photometric)
        x = tf.cast(batch.get("features", batch.get("image")), tf.float32)
        logits = model(x, training=True, seeds=batch["seeds"])
        return {"loss": tf.reduce_mean(tf.nn.sigmoid_cross_entropy_with_logits(batch["tags"], logits))}

    return losses


def predict(model, split, normalization, size, batch_size=8, features_dir=None):
    """Returns `[n, classes]` float32: each image's mean logits over all selections.

    Args:
      model: a `classifier.Classifier`.
      split: `datasets.Split`.
      normalization: the backbone's `images.Normalization`.
      size: side to which photographs are warped, in pixels.
      batch_size: images a pass.
      features_dir: a `features.cache` directory that holds the split: the backbone is not run.
    """
    if features_dir is None:
        signature = tf.TensorSpec([None, size, size, 3])
        data = input_pipeline.examples(split, size=size).map(
            lambda example: images.normalize(example["input"], normalization))
    else:
        shape = feature_cache.shape_in(features_dir)
        signature = tf.TensorSpec([None, *shape])
        paths = [str(feature_cache.path_of(features_dir, image_id)) for image_id in split.image_ids]
        data = tf.data.Dataset.from_tensor_slices(paths).map(
            lambda path: tf.cast(feature_cache.read(path, shape), tf.float32), num_parallel_calls=tf.data.AUTOTUNE)

    @tf.function(input_signature=[signature])
    def forward(x):
        return model.head.expected_logits(tf.cast(model.backbone(x) if features_dir is None else x, tf.float32))

    return np.concatenate([forward(batch).numpy() for batch in
                           progress.bar(data.batch(batch_size), total=-(-len(split) // batch_size), desc="tags",
                                        unit="batch")])
