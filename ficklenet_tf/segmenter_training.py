"""Trains the segmenter: L_seed + L_boundary on seeds, and a second round on its own predictions (DSRG)."""

import dataclasses
import pathlib

import keras
import tensorflow as tf

from ficklenet_tf import (
    artifacts,
    backbones,
    classifier,
    images,
    input_pipeline,
    labels,
    losses,
    presets,
    segmenter,
    training,
)


def build(preset, classes, backbone_name, weights=""):
    """Builds a segmenter; returns (whole network, backbone, head, normalization).

    Args:
      preset: `presets.Segmenter`.
      classes: with the background.
      backbone_name: see `backbones.build`.
      weights: of the backbone, see `backbones.load_weights`.
    """
    trainable = "none" if preset.trainable_layers == "head" else preset.trainable_layers
    backbone = backbones.build(backbone_name, trainable, preset.precision)
    backbones.load_weights(backbone, weights)
    head = segmenter.build_head(preset.head, (None, None, backbone.output_shape[-1]), classes, preset.channels,
                                preset.dropout, preset.precision, preset.dilation)
    return segmenter.build(backbone, head), backbone, head, backbones.normalization_of(weights)


def train(run_dir, split, preset, *, seeds="seeds", name="segmenter", initial="classifier", loss="weak", weights="",
          seed=0, jit_compile=False, save_every=200):
    """Trains a segmenter on label images; goes on where an earlier call with the same arguments stopped.

    Args:
      run_dir: the run's directory; the backbone comes from its classifier/ (size, normalization too).
      split: `datasets.Split`.
      preset: `presets.Segmenter`.
      seeds: directory below run_dir with `<image id>.png` to train on.
      name: directory below run_dir for this stage.
      initial: "classifier": the backbone starts from the trained classifier's; "weights": from
        `weights` anew; or the name of an earlier segmenter stage to go on from (retraining).
      loss: "weak": seed and boundary loss; "full": cross-entropy.
      weights: see `backbones.load_weights`.
      seed: of weights, order, augmentation and dropout.
      jit_compile: compile the step by XLA.
      save_every: steps between checkpoints.

    Returns:
      The content of run.json.
    """
    run_dir = pathlib.Path(run_dir)
    directory, source = run_dir / name, artifacts.read_run(run_dir / seeds)
    if source is None:
        raise FileNotFoundError(f"{run_dir / seeds / 'run.json'}: expected finished seeds, found none; "
                                "run tools.extract_seeds first")
    frozen = preset.trainable_layers == "head"
    settings = {"stage": "segmenter", "preset": dataclasses.asdict(preset), "seeds": seeds, "initial": initial,
                "loss": loss, "weights": str(weights), "seed": seed, "dataset": split.dataset, "split": split.name,
                "fingerprint": split.fingerprint, "seeds_finished": source["finished"]}
    directory.mkdir(parents=True, exist_ok=True)
    artifacts.claim(directory, settings)
    finished = artifacts.read_run(directory)
    if finished:
        return finished
    keras.utils.set_random_seed(seed)
    source, normalization, run, first = classifier.load(run_dir / "classifier")
    network, backbone, head, own = build(preset, len(split.class_names), first.backbone,
                                         weights if initial == "weights" else "")
    if initial == "classifier":
        backbone.set_weights(source.backbone.get_weights())
    elif initial == "weights":
        normalization = own
    else:
        network.load_weights(run_dir / initial / "model.weights.h5")
    del source
    features_dir = run["features_dir"] if frozen and initial != "weights" else None
    target = network if features_dir is None else head
    optimizer = _optimizer(preset)
    side = -(-first.input_size // backbones.STRIDE)
    rows = training.fit(
        directory=directory, model=target, optimizer=optimizer,
        train_step=_step(target, head, optimizer, preset, loss),
        make_batches=lambda start: input_pipeline.training_batches(
            split, batch_size=min(preset.batch_size, len(split)), seed=seed + 1, start_step=start,
            size=first.input_size, normalization=normalization, features_dir=features_dir,
            flips=preset.flips, flipped_features=run["cache_flips"], photometric=preset.photometric,
            crop=(0.5, 1.5) if preset.random_crop else None, seeds_dir=run_dir / seeds, label_size=side),
        steps=preset.steps, description=name, pictures=lambda batch: _pictures(target, batch), save_every=save_every,
        jit_compile=jit_compile)
    network.save_weights(directory / "model.weights.h5")
    artifacts.write_run(directory, **settings, class_names=list(split.class_names), backbone=first.backbone,
                        input_size=first.input_size, normalization=dataclasses.asdict(normalization),
                        metrics={k: v for k, v in rows[-1].items() if k not in ("step", "learning_rate")})
    return artifacts.read_run(directory)


def _pictures(model, batch):
    predicted = tf.argmax(model(tf.cast(batch.get("features", batch.get("image")), tf.float32)), -1)
    colours = tf.constant(labels.palette())
    return {"photograph": tf.cast(batch["small_image"], tf.uint8), "prediction": tf.gather(colours, predicted),
            "label": tf.gather(colours, tf.cast(batch["label"], tf.int32))}


def _optimizer(preset):
    schedule = training.staircase(preset.learning_rate, preset.decay, preset.decay_every)
    if preset.optimizer == "adam":
        return keras.optimizers.Adam(schedule, weight_decay=preset.weight_decay or None)
    if preset.optimizer == "sgd":
        return keras.optimizers.SGD(schedule, momentum=0.9)
    raise ValueError(f"optimizer: expected sgd or adam, found {preset.optimizer!r}")


def multipliers(variables, new):
    """Learning-rate multipliers (DeepLab): new layers 10, of logits' biases 20; pretrained 1, their biases 2.

    Args:
      variables: trainable variables.
      new: those of the new layers.

    Returns:
      A list of floats.
    """
    fresh = {id(v) for v in new}
    return [(10.0 if id(v) in fresh else 1.0) * (2.0 if v.path.endswith("bias") else 1.0) for v in variables]


def _step(model, head, optimizer, preset, kind):
    variables = model.trainable_variables
    factors = multipliers(variables, head.trainable_variables)

    def step(batch):
        x = tf.cast(batch.get("features", batch.get("image")), tf.float32)
        with tf.GradientTape() as tape:
            logits = model(x, training=True)
            if kind == "full":
                parts = {"full_loss": losses.full_loss(logits, batch["label"])}
            else:
                parts = {"seed_loss": losses.seed_loss(logits, batch["label"])}
                if preset.boundary_weight:
                    boundary = losses.boundary_loss(logits, batch["small_image"])
                    parts["boundary_loss"] = preset.boundary_weight * boundary
            loss = tf.add_n(list(parts.values()))
        gradients = tape.gradient(loss, variables)
        if preset.optimizer == "sgd":  # decay and multipliers as Caffe applies them; biases do not decay
            gradients = [m * (g + (0.0 if v.path.endswith("bias") else preset.weight_decay) * v)
                         for g, v, m in zip(gradients, variables, factors, strict=True)]
        optimizer.apply(gradients, variables)
        return {"loss": loss, **parts}

    return step


def load(directory):
    """Loads what `tools.train_segmenter` finished in `directory`.

    Returns:
      (whole network, images.Normalization, run.json as a dict, presets.Segmenter).

    Raises:
      FileNotFoundError: the stage has not finished there.
    """
    run = artifacts.finished_run(directory, "segmenter", "tools.train_segmenter")
    preset = presets.Segmenter(**run["preset"])
    network, *_ = build(preset, len(run["class_names"]), run["backbone"])
    network.load_weights(pathlib.Path(directory) / "model.weights.h5")
    return network, images.Normalization(**run["normalization"]), run, preset


