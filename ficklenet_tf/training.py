"""The loop of both trainings: steps, checkpoints, resume, the CSV log and TensorBoard summaries."""

import csv
import io
import math
import pathlib

import keras
import tensorflow as tf
from tqdm import tqdm

from ficklenet_tf import artifacts


def staircase(rate, factor, every):
    """Returns the schedule rate * factor ** (step // every)."""
    return keras.optimizers.schedules.ExponentialDecay(rate, every, factor, staircase=True)


def fit(*, directory, model, optimizer, train_step, make_batches, steps, description, pictures=None, save_every=200,
        log_every=10, jit_compile=False):
    """Trains until `steps` are done, going on from the last checkpoint in `directory`.

    What a step does must be a function of the variables, its batch and the step's number; then a
    run killed anywhere and started again ends with the weights of an uninterrupted one.

    Args:
      directory: gets checkpoints/, log.csv and tensorboard/.
      model: keras.Model, built.
      optimizer: a keras optimizer; built here.
      train_step: `batch -> dict of scalars`, one of them "loss"; it applies the optimizer.
      make_batches: `start_step -> tf.data.Dataset`, endless.
      steps: total number of steps.
      description: shown by the progress bar.
      pictures: `batch -> dict of [b, h, w, 3] uint8`, shown by TensorBoard at each checkpoint, or None.
      save_every: steps between checkpoints.
      log_every: steps between rows of the log.
      jit_compile: compile the step by XLA.

    Raises:
      FloatingPointError: the loss is not finite; names the step.
    """
    directory = pathlib.Path(directory)
    optimizer.build(model.trainable_variables)
    step = tf.Variable(0, dtype=tf.int64, trainable=False)
    # Variable by variable: tracked as an object, a Keras model leaves out the state of its seed generators.
    checkpoint = tf.train.Checkpoint(model=[v.value for v in model.variables], step=step,
                                     optimizer=[v.value for v in optimizer.variables])
    manager = tf.train.CheckpointManager(checkpoint, str(directory / "checkpoints"), max_to_keep=2)
    if manager.latest_checkpoint:
        checkpoint.restore(manager.latest_checkpoint).assert_existing_objects_matched()
    done = int(step.numpy())
    rows = _read_log(directory / "log.csv", done)
    writer = tf.summary.create_file_writer(str(directory / "tensorboard"))
    compiled = tf.function(train_step, jit_compile=jit_compile, reduce_retracing=True)
    batches = iter(make_batches(done)) if done < steps else None
    with tqdm(total=steps, initial=done, desc=description, unit="step") as bar, writer.as_default():
        while done < steps:
            batch = next(batches)
            metrics = compiled(batch)
            done += 1
            if done % log_every == 0 or done == steps or done == 1:
                values = {name: float(value) for name, value in metrics.items()}
                if not math.isfinite(values["loss"]):
                    raise FloatingPointError(f"{description}: the loss is {values['loss']} at step {done}; lower the "
                                             f"learning rate, or look at the data. Checkpoints: {directory}")
                rows.append({"step": done, "learning_rate": float(optimizer.learning_rate), **values})
                for name, value in rows[-1].items():
                    tf.summary.scalar(name, value, step=done)
                bar.set_postfix(loss=f"{values['loss']:.4f}")
            bar.update()
            if done % save_every == 0 or done == steps:
                step.assign(done)
                _write_log(directory / "log.csv", rows)
                manager.save(checkpoint_number=done)
                for name, images in (pictures(batch) if pictures else {}).items():
                    tf.summary.image(name, images, step=done)
    return rows


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
