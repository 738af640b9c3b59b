"""The loop of both trainings: steps, checkpoints, resume, the CSV log and TensorBoard summaries.

It works under the `tf.distribute` strategy in force, see distribution.py; without one, on one device.
"""

import dataclasses
import math
import pathlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import keras
import tensorflow as tf

from ficklenet_tf import distribution
from ficklenet_tf.errors import UserError, first_line
from ficklenet_tf.runs import artifacts, layout, progress, restart
from ficklenet_tf.training import early_stopping, loss_scale

Batch = dict[str, Any]  # name -> tensor; under "strong" a batch of images with masks, see objective.py
Scalars = dict[str, tf.Tensor]
Row = dict[str, Any]  # of the log: "step", "learning_rate" and the losses


@dataclasses.dataclass(frozen=True)
class Learner:
    """What is trained, and how one step changes it.

    Attributes:
      model: a Keras model or layer, built under the strategy in force.
      optimizer: a keras optimizer, made under it; `fit` builds it.
      losses: `batch -> dict of scalars`, means over the examples of a batch; "loss" is what is minimized.
      adjust: `gradients -> gradients`, applied before the optimizer, or None. Both are lists in the order of
        `model.trainable_variables`. It must be affine: a batch's gradient is the mean of its parts' gradients.
      pictures: `batch -> dict of [b, h, w, 3] uint8`, shown by TensorBoard at each checkpoint, or None.
      snapshots: step -> a function that the chief calls once the step is done and its checkpoint written, while the
        others wait; it is called again where the training goes on from an earlier checkpoint, or from this one.
      stopping: `early_stopping.EarlyStopping`, which may end the training before its last step, or None.
    """

    model: keras.Layer
    optimizer: keras.Optimizer
    losses: Callable[[Batch], Scalars]
    adjust: Callable[[list[tf.Tensor]], list[tf.Tensor]] | None = None
    pictures: Callable[[Batch], dict[str, tf.Tensor]] | None = None
    snapshots: Mapping[int, Callable[[], None]] = dataclasses.field(default_factory=dict)
    stopping: early_stopping.EarlyStopping | None = None


@dataclasses.dataclass(frozen=True)
class Options:
    """How the loop goes.

    Attributes:
      save_every: steps between checkpoints.
      log_every: steps between rows of the log.
      jit_compile: compile the step by XLA; on one device only.
      precision: of the computation; "float16" scales the loss, see loss_scale.py.
    """

    save_every: int = 200
    log_every: int = 10
    jit_compile: bool = False
    precision: str = "float32"


def fit(directory: str | pathlib.Path, learner: Learner,
        make_batches: Callable[[int, tf.distribute.InputContext], tf.data.Dataset], steps: int,
        options: Options = Options()) -> list[Row]:
    """Trains until `steps` are done, or `learner.stopping` ends it; goes on from the last checkpoint in `directory`.

    What a step does must be a function of the variables, its batch and the step's number; then a
    run killed anywhere and started again ends with the weights of an uninterrupted one.

    Args:
      directory: gets checkpoints/, log.csv and tensorboard/; with several workers, the same for all of them.
      learner: a `Learner`.
      make_batches: `(start_step, tf.distribute.InputContext) -> tf.data.Dataset`, endless, see
        `input_pipeline.training_batches`.
      steps: total number of steps.
      options: `Options`.

    Returns:
      The rows of the log; none where it was lost after the last step.

    Raises:
      UserError: jit_compile with several replicas; the loss does not depend on a variable; no checkpoint that is there
        is whole.
      FloatingPointError: the loss is not finite, or at a checkpoint's step the weights are not, or float16
        overflows; names the step. Nothing that is not finite is saved.
    """
    model, optimizer, precision = learner.model, learner.optimizer, options.precision
    directory, strategy = pathlib.Path(directory), tf.distribute.get_strategy()
    chief = distribution.is_chief()
    optimizer.build(model.trainable_variables)
    scale = loss_scale.LossScale() if precision == "float16" else None
    step = tf.Variable(0, dtype=tf.int64, trainable=False)
    checkpoint = _checkpoint(learner, step, scale)
    _check_list(directory / layout.CHECKPOINTS)
    manager = tf.train.CheckpointManager(checkpoint, str(directory / layout.CHECKPOINTS), max_to_keep=2)
    _restore(checkpoint, directory / layout.CHECKPOINTS)
    done = int(step.numpy())
    distribution.check_same_step(done)
    if done in learner.snapshots:  # killed between the checkpoint and this
        distribution.on_chief(learner.snapshots[done])
    rows = _read_log(directory / layout.LOG, done)
    stopping = learner.stopping
    if stopping:
        stopping.begin(done)
    writer = (tf.summary.create_file_writer(str(directory / layout.TENSORBOARD)) if chief else
              tf.summary.create_noop_writer())
    compiled = _compile(learner, scale, options.jit_compile)
    batches: Iterator[Batch] = iter(strategy.distribute_datasets_from_function(
        lambda context: make_batches(done, context)) if done < steps else ())
    with progress.bar(total=steps, initial=done, desc=directory.name, unit="step", disable=not chief) as bar, \
            writer.as_default():
        while done < steps and not (stopping and stopping.over):
            batch = next(batches)
            metrics = compiled(batch)
            done += 1
            looked = stopping is not None and done % stopping.every == 0
            kept = done in learner.snapshots
            saved = done % options.save_every == 0 or done == steps or looked or kept
            logged = done % options.log_every == 0 or done in (1, steps)
            if saved or logged:
                values = {name: float(value) for name, value in metrics.items()}
                _check_values(values, precision, done, directory)
            if logged:
                rows.append({"step": done, "learning_rate": _rate(optimizer), **values})
                for name, value in rows[-1].items():
                    tf.summary.scalar(name, value, step=done)
                bar.set_postfix(loss=f"{values['loss']:.4f}", refresh=False)
            bar.update()
            if saved:
                _check_weights(model, optimizer, done, directory)
            if stopping and looked:
                stopping.look(done)
            if saved and chief:
                step.assign(done)
                if rows:
                    artifacts.write_numbers(directory / layout.LOG, rows)
                manager.save(checkpoint_number=done)
                restart.settle()
                pictures = learner.pictures(distribution.first(batch)) if learner.pictures else {}
                for name, images in pictures.items():
                    tf.summary.image(name, images, step=done)
            if kept:
                distribution.on_chief(learner.snapshots[done])
    if stopping:
        stopping.end()
    return rows


def _checkpoint(learner: Learner, step: tf.Variable, scale: loss_scale.LossScale | None) -> tf.train.Checkpoint:
    """Returns the checkpoint of all that a step changes."""
    # Variable by variable: tracked as an object, a Keras model leaves out the state of its seed generators.
    checkpoint = tf.train.Checkpoint(model=[v.value for v in learner.model.variables], step=step,
                                     optimizer=[v.value for v in learner.optimizer.variables],
                                     **({"loss_scale": scale.variables} if scale else {}))
    checkpoint.save_counter.numpy()  # made at its first use: by all workers now; later the chief would wait for them
    return checkpoint


def _rate(optimizer: keras.Optimizer) -> float:
    """Returns the learning rate: a schedule's, or a variable, of which every replica has its own."""
    rate = optimizer.learning_rate
    return float(distribution.first(getattr(rate, "value", rate)))


def _check_list(directory: pathlib.Path) -> None:
    """Removes TensorFlow's list of the checkpoints where it cannot be read: they are found by their names too."""
    try:
        tf.train.get_checkpoint_state(str(directory))
    except ValueError as error:  # of text that is no UTF-8
        progress.say(f"{directory / 'checkpoint'}: damaged ({error}), made anew")
        if distribution.is_chief():
            (directory / "checkpoint").unlink(missing_ok=True)


def _restore(checkpoint: tf.train.Checkpoint, directory: pathlib.Path) -> None:
    """Restores the newest whole checkpoint, if there is one, and says so where a newer one is damaged.

    Found by their names: the list that TensorFlow keeps beside them may be damaged too. A damaged one that is the only
    one was being written when the training was killed: it begins anew, which costs no more than was done until then.
    """
    paths = sorted((path.with_suffix("") for path in directory.glob("ckpt-*.index")),
                   key=lambda path: int(path.name.removeprefix("ckpt-")))
    for path in reversed(paths):
        try:
            checkpoint.restore(str(path)).assert_existing_objects_matched()
            return
        except (tf.errors.OpError, IndexError, RuntimeError, ValueError) as error:  # of TensorFlow and its reader
            progress.say(f"{path}: damaged ({first_line(error)}); "
                         f"{'goes on from the one before' if len(paths) > 1 else 'begins anew'}")
    if len(paths) > 1:
        raise UserError(f"{directory}: expected a whole checkpoint, found {len(paths)}, all damaged; remove "
                        f"{directory} to begin anew")


def _compile(learner: Learner, scale: loss_scale.LossScale | None, jit_compile: bool) -> Callable[[Batch], Scalars]:
    """Returns `batch -> dict of scalars`, the means over the global batch; it applies the optimizer."""
    strategy, variables = tf.distribute.get_strategy(), learner.model.trainable_variables
    replicas = strategy.num_replicas_in_sync
    if jit_compile and replicas > 1:
        raise UserError(f"jit_compile: XLA cannot compile what {replicas} replicas say to each other within a step "
                        "(batch norm, pixel counts); leave --jit_compile or --distribute out")

    def gradients_of(batch: Batch) -> tuple[Scalars, list[tf.Tensor], tf.Tensor | float]:
        with tf.GradientTape() as tape:
            values = learner.losses(batch)
            loss = scale.scaled(values["loss"]) if scale else values["loss"]
        gradients = tape.gradient(loss, variables)
        unused = [v.path for v, g in zip(variables, gradients, strict=True) if g is None]
        if unused:
            raise UserError(f"the loss does not depend on {', '.join(unused)}")
        gradients = scale.unscaled(gradients) if scale else gradients
        overflown = loss_scale.count_not_finite(gradients) if scale else 0.0
        gradients = learner.adjust(gradients) if learner.adjust else gradients
        return values, [g / replicas for g in gradients], overflown  # the optimizer adds the replicas' gradients

    def step(batch: Batch) -> Scalars:
        values, gradients, overflown = strategy.run(gradients_of, (batch,))
        values = {k: strategy.reduce(tf.distribute.ReduceOp.MEAN, v, axis=None) for k, v in values.items()}

        def update() -> None:
            strategy.run(learner.optimizer.apply, (gradients, variables))

        if scale:
            overflown = strategy.reduce(tf.distribute.ReduceOp.SUM, overflown, axis=None)
            return {**values, "loss_scale": scale.apply(overflown == 0, update)}
        update()
        return values

    return tf.function(step, autograph=False, jit_compile=jit_compile, reduce_retracing=True)


def _check_values(values: dict[str, float], precision: str, step: int, directory: pathlib.Path) -> None:
    """Raises FloatingPointError where the loss is not finite, or float16 overflows whatever the scale."""
    if not math.isfinite(values["loss"]):
        raise FloatingPointError(f"{directory.name}: the loss is {values['loss']} at step {step}; lower the learning "
                                 f"rate, or look at the data. Checkpoints: {directory}")
    if values.get("loss_scale", 1) < 2**-10:
        raise FloatingPointError(f"{directory.name}: gradients overflow {precision} at step {step} whatever their "
                                 "scale; try bfloat16")


def _check_weights(model: keras.Layer, optimizer: keras.Optimizer, step: int, directory: pathlib.Path) -> None:
    """Raises FloatingPointError where weights or the optimizer's moments are not finite: they must not be kept."""
    not_finite = [v.path for v in (*model.variables, *optimizer.variables)
                  if v.dtype.startswith(("float", "bfloat")) and not bool(tf.reduce_all(tf.math.is_finite(v.value)))]
    if not_finite:
        others = " and others" if len(not_finite) > 1 else ""
        raise FloatingPointError(f"{directory.name}: {not_finite[0]}{others} not finite after step {step}; lower the "
                                 f"learning rate, or look at the data. What was saved before is sound: {directory}")


def _read_log(path: pathlib.Path, done: int) -> list[Row]:
    """Returns the rows of an earlier run up to step `done`: what came after the checkpoint is made again."""
    if not path.exists():
        if done:
            progress.say(f"{path}: missing; the curve begins after step {done}")
        return []
    return [{**row, "step": int(row["step"])} for row in artifacts.read_numbers(path) if row["step"] <= done]

