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
    directory = run_dir / name
    settings = _settings(run_dir, split, preset, seeds=seeds, initial=initial, loss=loss, weights=weights, seed=seed)
    directory.mkdir(parents=True, exist_ok=True)
    artifacts.claim(directory, settings)
    finished = artifacts.read_run(directory)
    if finished:
        return finished
    keras.utils.set_random_seed(seed)
    parts = _parts(run_dir, len(split.class_names), preset, initial, weights)
    optimizer = _optimizer(preset)
    rows = training.fit(
        directory=directory, model=parts.target, optimizer=optimizer,
        losses=_losses(parts.target, preset, loss), adjust=_adjust(parts.target, parts.head, preset),
        make_batches=lambda start, context: _batches(split, preset, parts, run_dir / seeds, seed + 1, start, context),
        steps=preset.steps, description=name, pictures=lambda batch: _pictures(parts.target, batch),
        save_every=save_every, jit_compile=jit_compile, precision=preset.precision)
    parts.network.save_weights(directory / "model.weights.h5")
    artifacts.write_run(directory, **settings, class_names=list(split.class_names), backbone=parts.classifier.backbone,
                        input_size=parts.classifier.input_size,
                        normalization=dataclasses.asdict(parts.normalization),
                        metrics={k: v for k, v in rows[-1].items() if k not in ("step", "learning_rate")})
    return artifacts.read_run(directory)


def _settings(run_dir, split, preset, *, seeds, initial, loss, weights, seed):
    """What a training is a function of; two runs with the same are the same run."""
    source = artifacts.read_run(run_dir / seeds)
    if source is None:
        raise FileNotFoundError(f"{run_dir / seeds / 'run.json'}: expected finished seeds, found none; "
                                "run tools.extract_seeds first")
    return {"stage": "segmenter", "preset": dataclasses.asdict(preset), "seeds": seeds, "initial": initial,
            "loss": loss, "weights": str(weights), "seed": seed, "dataset": split.dataset, "split": split.name,
            "fingerprint": split.fingerprint, "seeds_finished": source["finished"]}


@dataclasses.dataclass(frozen=True)
class _Parts:
    """What is trained, and on what.

    Attributes:
      network: photographs -> logits.
      head: what of it stands above the backbone.
      normalization: of the photographs.
      classifier: `presets.Classifier` of the classifier that came before: size, backbone.
      features_dir: cached features to train the head on, or None: the whole network on photographs.
      flipped_features: whether the mirror images' features are there too.
    """

    network: keras.Model
    head: keras.Model
    normalization: images.Normalization
    classifier: presets.Classifier
    features_dir: str | None
    flipped_features: bool

    @property
    def target(self):
        """The model that the optimizer sees."""
        return self.network if self.features_dir is None else self.head


def _parts(run_dir, classes, preset, initial, weights):
    """Builds the network and gives it its initial weights; see `train`."""
    source, normalization, run, first = classifier.load(run_dir / "classifier")
    network, backbone, head, own = build(preset, classes, first.backbone, weights if initial == "weights" else "")
    if initial == "classifier":
        backbone.set_weights(source.backbone.get_weights())
    elif initial == "weights":
        normalization = own
    else:
        network.load_weights(run_dir / initial / "model.weights.h5")
    cached = run["features_dir"] if preset.trainable_layers == "head" and initial != "weights" else None
    return _Parts(network, head, normalization, first, cached, run["cache_flips"])


def _batches(split, preset, parts, seeds_dir, seed, start, context):
    """Endless batches from step `start` on; see `input_pipeline.training_batches`."""
    size = parts.classifier.input_size
    return input_pipeline.training_batches(
        split, batch_size=min(preset.batch_size, len(split)), seed=seed, start_step=start, size=size,
        normalization=parts.normalization, features_dir=parts.features_dir, flips=preset.flips,
        flipped_features=parts.flipped_features, photometric=preset.photometric,
        crop=(0.5, 1.5) if preset.random_crop else None, seeds_dir=seeds_dir, label_size=-(-size // backbones.STRIDE),
        context=context)


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


def _losses(model, preset, kind):
    def losses_of(batch):
        logits = model(tf.cast(batch.get("features", batch.get("image")), tf.float32), training=True)
        if kind == "full":
            parts = {"full_loss": losses.full_loss(logits, batch["label"])}
        else:
            parts = {"seed_loss": losses.seed_loss(logits, batch["label"])}
            if preset.boundary_weight:
                parts["boundary_loss"] = preset.boundary_weight * losses.boundary_loss(logits, batch["small_image"])
        return {"loss": tf.add_n(list(parts.values())), **parts}

    return losses_of


def _adjust(model, head, preset):
    """For SGD: decay and multipliers as Caffe applies them; biases do not decay."""
    if preset.optimizer != "sgd":
        return None
    variables = model.trainable_variables
    factors = multipliers(variables, head.trainable_variables)
    return lambda gradients: [m * (g + (0.0 if v.path.endswith("bias") else preset.weight_decay) * v)
                              for g, v, m in zip(gradients, variables, factors, strict=True)]


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


