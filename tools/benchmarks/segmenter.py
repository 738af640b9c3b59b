"""The segmenter's training step: seed loss and the exact CRF's boundary loss against plain cross-entropy."""

import dataclasses
import pathlib
from collections.abc import Callable, Iterable
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from ficklenet_tf import presets
from ficklenet_tf.data import images, input_pipeline, labels
from ficklenet_tf.models import segmenter
from ficklenet_tf.training import objective
from tools.benchmarks import inputs, measure
from tools.benchmarks.tables import Goal, Table

Batch = dict[str, tf.Tensor]
TASKS = {"cross-entropy": objective.Task("full", None, None, ("full",), "none"),
         "seed + boundary": objective.Task("weak", None, None, ("seed", "boundary"), "none")}


def run(options: measure.Options) -> list[Table]:
    """Returns the section's tables."""
    return [steps(options), memory(options)]


def batch_of(photo_dir: str | pathlib.Path | None, size: measure.Size) -> Batch:
    """Returns a batch as `input_pipeline.training_batches` gives it: photographs and labels of made-up patches."""
    rng = np.random.default_rng(0)
    patches = rng.choice([0, 1, size.classes, labels.IGNORE], (size.batch, 6, 6)).astype(np.uint8)
    photos = tf.cast(tf.round(inputs.batch(photo_dir, size.batch, size.side)), tf.uint8)
    return {"image": photos, "label": tf.stack([images.warp_label(patch, size.grid) for patch in patches]),
            "small_image": tf.cast(tf.image.resize(photos, (size.grid, size.grid)), tf.uint8),
            "rng_seeds": tf.constant(rng.integers(0, 2**30, (size.batch, 2)), tf.int32),
            "tags": tf.constant(rng.integers(0, 2, (size.batch, size.classes)), tf.float32)}


def step_of(model: keras.Model, task: objective.Task, config: presets.SegmenterConfig,
            normalization: images.Normalization, jit_compile: bool = False) -> Callable[[Batch], tf.Tensor]:
    """Returns a training step as a graph: batch -> loss; the weights move by SGD."""
    losses = task.total_loss(model, config)
    variables = model.trainable_variables

    @tf.function(jit_compile=jit_compile)
    def step(batch: Batch) -> tf.Tensor:
        with tf.GradientTape() as tape:
            loss = losses(input_pipeline.prepared(batch, normalization))["loss"]
        for variable, gradient in zip(variables, tape.gradient(loss, variables), strict=True):
            variable.assign_sub(1e-6 * gradient)
        return loss

    return step


def work(task: str, scale: str = "full", weights: str = "", photo_dir: str | None = None,
         trained: str = "all") -> measure.Work:
    """Makes the work "one training step".

    Args:
      task: a key of `TASKS`.
      scale: a key of `measure.SIZES`.
      weights: of the backbone.
      photo_dir: see `inputs.jpegs`.
      trained: "all": the whole network on photographs; "head": the head on features.
    """
    return _works(measure.SIZES[scale], weights, photo_dir, trained, [task])[task]


def _works(size: measure.Size, weights: str, photo_dir: str | pathlib.Path | None, trained: str,
           tasks: Iterable[str]) -> dict[str, measure.Work]:
    """Returns {task: work}; all share one network, so that only one step's memory is in use at a time."""
    config = presets.SegmenterConfig(dropout=0.5, trainable_layers=trained)
    config = config if size.backbone == "vgg16" else dataclasses.replace(config, channels=32, dilation=3)
    network, _, head, normalization = segmenter.build(config, size.classes + 1, size.backbone, weights)
    batch = batch_of(photo_dir, size)
    if trained == "head":
        batch = {**{key: value for key, value in batch.items() if key != "image"},
                 "features": inputs.features(size, size.batch)}
    target = network if trained == "all" else head

    def step_work(task: str) -> measure.Work:
        step = step_of(target, TASKS[task], config, normalization)
        return lambda: step(batch).numpy()

    return {task: step_work(task) for task in tasks}


def losses_alone(size: measure.Size, photo_dir: str | pathlib.Path | None) -> dict[str, measure.Work]:
    """Returns {task: work}: the losses and their gradient to given logits, without a network."""
    batch = batch_of(photo_dir, size)
    shape = (size.batch, size.grid, size.grid, size.classes + 1)
    logits = tf.constant(np.random.default_rng(0).normal(0, 2, shape), tf.float32)
    config = presets.SegmenterConfig()

    def graph(task: objective.Task) -> measure.Work:
        losses = task.total_loss(lambda x, training: x, config)

        @tf.function
        def gradient(x: tf.Tensor) -> tf.Tensor:
            with tf.GradientTape() as tape:
                tape.watch(x)
                loss = losses({**batch, "features": x, "image": None})["loss"]
            return tape.gradient(loss, x)

        return lambda: gradient(logits).numpy()

    return {name: graph(task) for name, task in TASKS.items()}


def steps(options: measure.Options) -> Table:
    """Whole network trained, head alone trained, and the losses by themselves."""
    size = options.size
    rows: list[list[Any]] = []
    goals: tuple[Goal, ...] = ()
    for trained, rounds, works in (
            ("whole network", min(options.rounds, 3), _works(size, options.weights, options.photo_dir, "all", TASKS)),
            ("head on cached features", min(options.rounds, 5), _works(size, "", options.photo_dir, "head", TASKS)),
            ("losses and their gradient alone", options.rounds, losses_alone(size, options.photo_dir))):
        times = measure.compare(works, rounds)
        plain, ours = times["cross-entropy"], times["seed + boundary"]
        rows += [[trained, task, timing.median, *timing.spread, timing.over(plain),
                  timing.processor_median / plain.processor_median] for task, timing in times.items()]
        if not goals:
            goals = (Goal("segmenter step, seed loss and exact CRF boundary loss", "plain cross-entropy", 1.10,
                          ours.over(plain)),)
    return Table(
        f"Segmenter's training step, batch {size.batch}",
        ("trained", "loss", "s", "least", "greatest", "times cross-entropy", "by all cores' time"), rows,
        f"{inputs.described(options)} LargeFOV, {size.classes + 1} classes, dropout 0.5. The CRF is `SEC_TRAIN` on "
        f"{size.grid} x {size.grid}, ten iterations, by the exact kernels.", goals)


def memory(options: measure.Options) -> Table:
    """Peak memory of the head's step with each loss."""
    rows = []
    for task in TASKS:
        peak = measure.peak_memory(f"{__name__}:work", {"task": task, "scale": options.scale, "trained": "head"})
        rows.append([task, peak["peak_mib"]])
    return Table("Peak memory of a step, head on cached features", ("loss", "peak MiB"), rows,
                 "Each in a fresh process, above the loaded process.")
