"""The loop of both trainings: steps, checkpoints, resume, the CSV log and TensorBoard summaries.

It works under the `tf.distribute` strategy in force, see distribution.py; without one, on one device.
"""

import csv
import io
import math
import pathlib

import tensorflow as tf

from ficklenet_tf import distribution
from ficklenet_tf.runs import artifacts, progress
from ficklenet_tf.training import loss_scale


def fit(*, directory, model, optimizer, losses, make_batches, steps, description, adjust=None, pictures=None,
        save_every=200, log_every=10, jit_compile=False, precision="float32"):
    """Trains until `steps` are done, going on from the last checkpoint in `directory`.

    What a step does must be a function of the variables, its batch and the step's number; then a
    run killed anywhere and started again ends with the weights of an uninterrupted one.

    Args:
      directory: gets checkpoints/, log.csv and tensorboard/; with several workers, the same for all of them.
      model: keras.Model, built under the strategy in force.
      optimizer: a keras optimizer, made under it; built here.
      losses: `batch -> dict of scalars`, means over the examples of a batch; "loss" is made small.
      make_batches: `(start_step, tf.distribute.InputContext) -> tf.data.Dataset`, endless, see
        `input_pipeline.training_batches`.
      steps: total number of steps.
      description: shown by the progress bar.
      adjust: `gradients -> gradients`, both lists as `model.trainable_variables`, before the optimizer; affine,
        for a batch's gradient is the mean of its parts'; or None.
      pictures: `batch -> dict of [b, h, w, 3] uint8`, shown by TensorBoard at each checkpoint, or None.
      save_every: steps between checkpoints.
      log_every: steps between rows of the log.
      jit_compile: compile the step by XLA; on one device only.
      precision: of the computation; "float16" scales the loss, see loss_scale.py.

    Returns:
      The rows of the log.

    Raises:
      ValueError: jit_compile with several replicas.
      FloatingPointError: the loss is not finite, or at a checkpoint's step the weights are not, or float16
        overflows; names the step. Nothing that is not finite is saved.
    """
    directory, strategy = pathlib.Path(directory), tf.distribute.get_strategy()
    chief = distribution.is_chief()
    optimizer.build(model.trainable_variables)
    scale = loss_scale.LossScale() if precision == "float16" else None
    step = tf.Variable(0, dtype=tf.int64, trainable=False)
    # Variable by variable: tracked as an object, a Keras model leaves out the state of its seed generators.
    checkpoint = tf.train.Checkpoint(model=[v.value for v in model.variables], step=step,
                                     optimizer=[v.value for v in optimizer.variables],
                                     **({"loss_scale": scale.variables} if scale else {}))
    checkpoint.save_counter.numpy()  # made at its first use: by all workers now; later the chief would wait for them
    manager = tf.train.CheckpointManager(checkpoint, str(directory / "checkpoints"), max_to_keep=2)
    if manager.latest_checkpoint:
        checkpoint.restore(manager.latest_checkpoint).assert_existing_objects_matched()
    done = int(step.numpy())
    distribution.agree(done)
    rows = _read_log(directory / "log.csv", done)
    writer = (tf.summary.create_file_writer(str(directory / "tensorboard")) if chief else
              tf.summary.create_noop_writer())
    compiled = _compile(model, optimizer, losses, adjust, scale, jit_compile)
    batches = iter(strategy.distribute_datasets_from_function(
        lambda context: make_batches(done, context))) if done < steps else None
    with progress.bar(total=steps, initial=done, desc=description, unit="step", disable=not chief) as bar, \
            writer.as_default():
        while done < steps:
            batch = next(batches)
            metrics = compiled(batch)
            done += 1
            saved, logged = done % save_every == 0 or done == steps, done % log_every == 0 or done in (1, steps)
            if saved or logged:
                values = {name: float(value) for name, value in metrics.items()}
                if not math.isfinite(values["loss"]):
                    raise FloatingPointError(f"{description}: the loss is {values['loss']} at step {done}; lower the "
                                             f"learning rate, or look at the data. Checkpoints: {directory}")
                if values.get("loss_scale", 1) < 2**-10:
                    raise FloatingPointError(f"{description}: gradients overflow {precision} at step {done} whatever "
                                             "their scale; try bfloat16")
            if logged:
                rows.append({"step": done, "learning_rate": float(optimizer.learning_rate), **values})
                for name, value in rows[-1].items():
                    tf.summary.scalar(name, value, step=done)
                bar.set_postfix(loss=f"{values['loss']:.4f}", refresh=False)
            bar.update()
            if saved:
                _check_weights(model, optimizer, description, done, directory)
            if saved and chief:
                step.assign(done)
                _write_log(directory / "log.csv", rows)
                manager.save(checkpoint_number=done)
                shown = pictures(distribution.first(batch)) if pictures else {}
                for name, images in shown.items():
                    tf.summary.image(name, images, step=done)
    return rows


def _compile(model, optimizer, losses, adjust, scale, jit_compile):
    """Returns `batch -> dict of scalars`, the means over the global batch; it applies the optimizer."""
    strategy, variables = tf.distribute.get_strategy(), model.trainable_variables
    replicas = strategy.num_replicas_in_sync
    if jit_compile and replicas > 1:
        raise ValueError(f"jit_compile: XLA cannot compile what {replicas} replicas say to each other within a step "
                         "(batch norm, pixel counts); leave --jit_compile or --distribute out")

    def gradients_of(batch):
        with tf.GradientTape() as tape:
            values = losses(batch)
            loss = scale.scaled(values["loss"]) if scale else values["loss"]
        gradients = tape.gradient(loss, variables)
        unused = [v.path for v, g in zip(variables, gradients, strict=True) if g is None]
        if unused:
            raise ValueError(f"the loss does not depend on {', '.join(unused)}")
        gradients = scale.unscaled(gradients) if scale else gradients
        wrong = loss_scale.count_not_finite(gradients) if scale else 0.0
        gradients = adjust(gradients) if adjust else gradients
        return values, [g / replicas for g in gradients], wrong  # the optimizer adds the replicas' gradients

    def step(batch):
        values, gradients, wrong = strategy.run(gradients_of, (batch,))
        values = {k: strategy.reduce(tf.distribute.ReduceOp.MEAN, v, axis=None) for k, v in values.items()}

        def update():
            strategy.run(optimizer.apply, (gradients, variables))

        if scale:
            wrong = strategy.reduce(tf.distribute.ReduceOp.SUM, wrong, axis=None)
            return {**values, "loss_scale": scale.apply(wrong == 0, update)}
        update()
        return values

    return tf.function(step, jit_compile=jit_compile, reduce_retracing=True)


def _check_weights(model, optimizer, description, step, directory):
    """Raises FloatingPointError where weights or the optimizer's moments are not finite: they must not be kept."""
    broken = [v.path for v in (*model.variables, *optimizer.variables)
              if v.dtype.startswith(("float", "bfloat")) and not bool(tf.reduce_all(tf.math.is_finite(v.value)))]
    if broken:
        raise FloatingPointError(f"{description}: {broken[0]}{' and others' if len(broken) > 1 else ''} "
                                 f"not finite after step {step}; lower the learning rate, or look at the data. What "
                                 f"was saved before is sound: {directory}")


def _read_log(path, done):
    """Rows of an earlier run up to step `done`: what came after the checkpoint is made again."""
    if not path.exists():
        return []
    with open(path, newline="") as file:
        rows = [{k: float(v) for k, v in row.items()} for row in csv.DictReader(file)]
    return [{**row, "step": int(row["step"])} for row in rows if row["step"] <= done]


def _write_log(path, rows):
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, fieldnames=list(rows[0]))
    writer.writeheader()
    writer.writerows(rows)
    artifacts.write_bytes(path, buffer.getvalue().encode())
