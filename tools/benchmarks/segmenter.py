"""The segmenter's training step: seed loss and the exact CRF's boundary loss against plain cross-entropy."""

import dataclasses

import numpy as np
import tensorflow as tf

from ficklenet_tf import presets
from ficklenet_tf.data import images, input_pipeline, labels
from ficklenet_tf.models import segmenter
from ficklenet_tf.training import objective
from tools.benchmarks import inputs, measure
from tools.benchmarks.tables import Goal, Table

TASKS = {"cross-entropy": objective.Task("full", None, None, ("full",), "none"),
         "seed + boundary": objective.Task("weak", None, None, ("seed", "boundary"), "none")}


def run(options):
    """Returns the section's tables."""
    return [steps(options), memory(options)]


def batch_of(photo_dir, size):
    """Returns a batch as `input_pipeline.training_batches` gives it: photographs and labels of made-up patches."""
    rng = np.random.default_rng(0)
    patches = rng.choice([0, 1, size.classes, labels.IGNORE], (size.batch, 6, 6)).astype(np.uint8)
    photos = tf.cast(tf.round(inputs.batch(photo_dir, size.batch, size.side)), tf.uint8)
    return {"image": photos, "label": tf.stack([images.warp_label(patch, size.grid) for patch in patches]),
            "small_image": tf.cast(tf.image.resize(photos, (size.grid, size.grid)), tf.uint8),
            "rng_seeds": tf.constant(rng.integers(0, 2**30, (size.batch, 2)), tf.int32),
            "tags": tf.constant(rng.integers(0, 2, (size.batch, size.classes)), tf.float32)}


def step_of(model, task, config, normalization, jit_compile=False):
    """Returns a training step as a graph: batch -> loss; the weights move by SGD."""
    losses = task.total_loss(model, config)
    variables = model.trainable_variables

    @tf.function(jit_compile=jit_compile)
    def step(batch):
        with tf.GradientTape() as tape:
            loss = losses(input_pipeline.prepared(batch, normalization))["loss"]
        for variable, gradient in zip(variables, tape.gradient(loss, variables), strict=True):
            variable.assign_sub(1e-6 * gradient)
        return loss

    return step


def work(task, scale="full", weights="", photo_dir=None, trained="all"):
    """Makes the work «one training step».

    Args:
      task: a key of `TASKS`.
      scale: a key of `measure.SIZES`.
      weights: of the backbone.
      photo_dir: see `inputs.jpegs`.
      trained: "all": the whole network on photographs; "head": the head on features.
    """
    return _works(measure.SIZES[scale], weights, photo_dir, trained, [task])[task]


def _works(size, weights, photo_dir, trained, tasks):
    """Returns {task: work}; all share one network, so that only one step's memory is in use at a time."""
    config = presets.SegmenterConfig(dropout=0.5, trainable_layers=trained)
    config = config if size.backbone == "vgg16" else dataclasses.replace(config, channels=32, dilation=3)
    network, _, head, normalization = segmenter.build(config, size.classes + 1, size.backbone, weights)
    batch = batch_of(photo_dir, size)
    if trained == "head":
        batch = {**{k: v for k, v in batch.items() if k != "image"}, "features": inputs.features(size, size.batch)}
    target = network if trained == "all" else head
    graphs = {task: step_of(target, TASKS[task], config, normalization) for task in tasks}
    return {task: lambda graph=graph: graph(batch).numpy() for task, graph in graphs.items()}


def losses_alone(size, photo_dir):
    """Returns {task: work}: the losses and their gradient to given logits, without a network."""
    batch = batch_of(photo_dir, size)
    shape = (size.batch, size.grid, size.grid, size.classes + 1)
    logits = tf.constant(np.random.default_rng(0).normal(0, 2, shape), tf.float32)
    config = presets.SegmenterConfig()

    def graph(task):
        losses = task.total_loss(lambda x, training: x, config)

        @tf.function
        def gradient(x):
            with tf.GradientTape() as tape:
                tape.watch(x)
                loss = losses({**batch, "features": x, "image": None})["loss"]
            return tape.gradient(loss, x)

        return lambda: gradient(logits).numpy()

    return {task: graph(found) for task, found in TASKS.items()}


def steps(options):
    """Whole network trained, head alone trained, and the losses by themselves."""
    size, rows, goals = options.size, [], ()
    for what, rounds, works in (
            ("whole network", min(options.rounds, 3), _works(size, options.weights, options.photo_dir, "all", TASKS)),
            ("head on cached features", min(options.rounds, 5), _works(size, "", options.photo_dir, "head", TASKS)),
            ("losses and their gradient alone", options.rounds, losses_alone(size, options.photo_dir))):
        times = measure.compare(works, rounds)
        plain, ours = times["cross-entropy"], times["seed + boundary"]
        rows += [[what, task, t.median, *t.spread, t.over(plain), t.processor_median / plain.processor_median]
                 for task, t in times.items()]
        if not goals:
            goals = (Goal("segmenter step, seed loss and exact CRF boundary loss", "plain cross-entropy", 1.10,
                          ours.over(plain)),)
    return Table(
        f"Segmenter's training step, batch {size.batch}",
        ("trained", "loss", "s", "least", "greatest", "times cross-entropy", "by all cores' time"), rows,
        f"{inputs.described(options)} LargeFOV, {size.classes + 1} classes, dropout 0.5. The CRF is `SEC_TRAIN` on "
        f"{size.grid} x {size.grid}, ten iterations, by the exact kernels.", goals)


def memory(options):
    """Peak memory of the head's step with each loss."""
    rows = []
    for task in TASKS:
        found = measure.peak_memory(f"{__name__}:work", {"task": task, "scale": options.scale, "trained": "head"})
        rows.append([task, found["peak_mib"]])
    return Table("Peak memory of a step, head on cached features", ("loss", "peak MiB"), rows,
                 "Each in a fresh process, above the loaded process.")
