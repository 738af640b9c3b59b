"""Trains the segmenter on seeds, masks or both; see supervision.py for what it learns."""

import dataclasses
import hashlib
import pathlib

import keras
import tensorflow as tf

from ficklenet_tf import distribution, presets
from ficklenet_tf.data import datasets, feature_cache, images, input_pipeline, labels
from ficklenet_tf.models import backbones, classifier, precision, pretrained, segmenter
from ficklenet_tf.runs import artifacts
from ficklenet_tf.training import loop, objective, optimizers


def train(run_dir, split, preset, *, seeds="seeds", name="segmenter", initial="classifier", supervision="weak",
          strong=None, losses_used=("seed", "boundary"), growing="none", weights="", seed=0, jit_compile=False,
          save_every=200):
    """Trains a segmenter on label images; goes on where an earlier call with the same arguments stopped.

    Args:
      run_dir: the run's directory; the backbone comes from its classifier/ (size, normalization too).
      split: `datasets.Split`; for "full" its masks are learned.
      preset: `presets.Segmenter`.
      seeds: directory below run_dir with `<image id>.png` to train on (not for "full").
      name: directory below run_dir for this stage.
      initial: "classifier": the backbone starts from the trained classifier's; "weights": from
        `weights` anew; or the name of an earlier segmenter stage to go on from (retraining).
      supervision: "weak": seeds; "semi": seeds and, of the images of `strong`, masks; "full": masks.
      strong: for "semi": `datasets.Split` of images with masks; those of them in `split` have no seeds then.
      losses_used: of "seed", "expand", "boundary" and "full", for the images with seeds.
      growing: "dsrg": the seeds grow at each step.
      weights: see `pretrained.load_weights`.
      seed: of weights, order, augmentation and dropout.
      jit_compile: compile the step by XLA.
      save_every: steps between checkpoints.

    Returns:
      The content of run.json.
    """
    run_dir = pathlib.Path(run_dir)
    directory = run_dir / name
    preset = precision.settled(preset, run_dir)
    task = _plan(supervision, split, strong, losses_used, growing, jit_compile, preset)
    settings = {"stage": "segmenter", "preset": dataclasses.asdict(preset), **task.settings(),
                **_label_settings(run_dir, None if task.weak is None else seeds), "initial": initial,
                "weights": str(weights), "seed": seed, "dataset": split.dataset, "split": split.name,
                "fingerprint": split.fingerprint}
    directory.mkdir(parents=True, exist_ok=True)
    artifacts.claim(directory, settings)
    finished = artifacts.read_run(directory)
    if finished:
        return finished
    if growing != "none":
        _check_room(run_dir / seeds, task.weak)
    keras.utils.set_random_seed(seed)
    parts = _parts(run_dir, split, preset, initial, weights, task)
    optimizer = optimizers.segmenter_optimizer(preset, parts.target, parts.new_variables)
    losses = task.total_loss(parts.target, preset)
    rows = loop.fit(
        directory=directory, model=parts.target, optimizer=optimizer,
        losses=lambda batch: losses(input_pipeline.prepared(batch, parts.normalization, preset.photometric)),
        adjust=optimizers.weight_decay(parts.target, preset),
        make_batches=lambda start, context: _batches(task, preset, parts, run_dir / seeds, seed + 1, start, context),
        steps=preset.steps, description=name, pictures=lambda batch: _pictures(parts, batch),
        save_every=save_every, jit_compile=jit_compile, precision=preset.precision)

    def finish():
        parts.network.save_weights(directory / "model.weights.h5")
        artifacts.write_run(
            directory, **settings, class_names=list(split.class_names), backbone=parts.classifier.backbone,
            input_size=parts.classifier.input_size, normalization=dataclasses.asdict(parts.normalization),
            features_dir=parts.features_dir, pretrained_fc=bool(parts.pretrained_fc),
            metrics={k: v for k, v in rows[-1].items() if k not in ("step", "learning_rate")})

    distribution.by_chief(finish)
    return artifacts.read_run(directory)


def _plan(kind, split, strong, losses_used, growing, jit_compile, preset):
    """Returns the `supervision.Task`, if growing goes with the other options."""
    task = objective.plan(kind, split, strong, losses_used, growing)
    if growing != "none" and jit_compile:
        raise ValueError(f"growing {growing}: connected components are found outside the graph, which XLA cannot "
                         "compile; leave --jit_compile out")
    if growing != "none" and preset.random_crop:
        raise ValueError(f"growing {growing}: seeds would grow into what a random crop pads; leave --random_crop out")
    return task


def _check_room(seeds_dir, split, count=20):
    """Raises ValueError where the seeds of the first images leave no pixel to grow into."""
    for image_id in split.image_ids[:count]:
        path = seeds_dir / f"{image_id}.png"
        if not path.exists() or (labels.read_label(path) == labels.IGNORE).any():
            return
    raise ValueError(f"{seeds_dir}: expected seeds with unlabelled pixels (255) to grow into, found none in the first "
                     f"{min(count, len(split))}; extract them with --refine=none, or refine_low below refine_high")


def _label_settings(run_dir, seeds):
    """Which seeds a training learns; none: the data set's masks. The same seeds made again are the same."""
    if seeds is None:
        return {"seeds": None, "seeds_made": None}
    run, path = artifacts.finished_run(run_dir / seeds, "set of seeds", "tools.extract_seeds"), run_dir / seeds
    made = ((path / "settings.json").read_bytes() if (path / "settings.json").exists() else
            run["finished"].encode())  # seeds of one's own have no settings
    return {"seeds": seeds, "seeds_made": hashlib.sha256(made).hexdigest()[:16]}


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
      pretrained_fc: variables of fc6 and fc7 that have weights of VGG-16's classifier.
      initial: where the weights come from, see `train`.
    """

    network: keras.Model
    head: keras.Model
    normalization: images.Normalization
    classifier: presets.Classifier
    features_dir: str | None
    flipped_features: bool
    pretrained_fc: list
    initial: str

    @property
    def target(self):
        """The model that the optimizer sees."""
        return self.network if self.features_dir is None else self.head

    @property
    def new_variables(self):
        """Those that start from nothing: fc8, and fc6 and fc7 that neither VGG-16 nor an earlier round has trained."""
        known = {id(v) for v in self.pretrained_fc}
        first_round = self.initial in ("classifier", "weights")
        return [v for layer in self.head.layers if first_round or layer.name.startswith("fc8")
                for v in layer.trainable_variables if id(v) not in known]


def _parts(run_dir, split, preset, initial, weights, task):
    """Builds the network and gives it its initial weights; see `train`."""
    source, normalization, run, first = classifier.load(run_dir / "classifier")
    datasets.check_classes(split, run["class_names"], run_dir / "classifier")
    network, backbone, head, own = segmenter.build(preset, len(split.class_names), first.backbone,
                                                   weights if initial == "weights" else "")
    cached, pretrained_fc = run["features_dir"], []
    if initial in ("classifier", "weights") and preset.pretrained_fc and first.backbone == "vgg16":
        pretrained_fc = pretrained.load_fc_layers(head, weights if initial == "weights" else run["weights"])
    if initial == "classifier":
        backbone.set_weights(source.backbone.get_weights())
    elif initial == "weights":
        normalization, cached = own, None
    else:
        before = artifacts.finished_run(run_dir / initial, "segmenter", "tools.train_segmenter")
        normalization, cached = images.Normalization(**before["normalization"]), before.get("features_dir")
        network.load_weights(run_dir / initial / "model.weights.h5")
    if preset.trainable_layers != "head":
        cached = None
    if cached is not None:  # the classifier's split is there already, another one's images may not be
        feature_cache.check_augmentation(preset)
        for split in filter(None, (task.weak, task.strong)):
            distribution.by_chief(feature_cache.cache, split, source.backbone, normalization, size=first.input_size,
                                  directory=cached, flips=run["cache_flips"])
    return _Parts(network, head, normalization, first, cached, run["cache_flips"], pretrained_fc, initial)


def _batches(task, preset, parts, seeds_dir, seed, start, context):
    """Endless batches from step `start` on; with weak and strong images, the strong ones' under "strong"."""
    size = parts.classifier.input_size

    def batches(split, count, seeds_dir, seed):
        return input_pipeline.training_batches(
            split, batch_size=count, seed=seed, start_step=start, size=size, features_dir=parts.features_dir,
            flips=preset.flips, flipped_features=parts.flipped_features, seeds_dir=seeds_dir, context=context,
            crop=(0.5, 1.5) if preset.random_crop else None, label_size=-(-size // backbones.STRIDE))

    weak, strong = objective.batch_sizes(preset.batch_size, task.weak, task.strong, preset.strong_share)
    if task.weak is None:
        return batches(task.strong, strong, None, seed)
    own = batches(task.weak, weak, seeds_dir, seed)
    if task.strong is None:
        return own
    both = tf.data.Dataset.zip(own, batches(task.strong, strong, None, seed + 1))
    return both.map(lambda own, other: {**own, "strong": other})


def _pictures(parts, batch):
    batch = input_pipeline.prepared(batch, parts.normalization)
    predicted = tf.argmax(parts.target(tf.cast(batch.get("features", batch.get("image")), tf.float32)), -1)
    colours = tf.constant(labels.palette())
    return {"photograph": batch["small_image"], "prediction": tf.gather(colours, predicted),
            "label": tf.gather(colours, tf.cast(batch["label"], tf.int32))}
