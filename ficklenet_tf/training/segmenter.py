"""Trains the segmenter on seeds, masks or both; see objective.py for what it learns."""

import dataclasses
import hashlib
import pathlib

import keras
import tensorflow as tf

from ficklenet_tf import distribution, presets
from ficklenet_tf.data import datasets, feature_cache, images, input_pipeline, labels
from ficklenet_tf.data.feature_cache import FeatureCache
from ficklenet_tf.errors import UserError
from ficklenet_tf.models import backbones, classifier, precision, pretrained, segmenter
from ficklenet_tf.runs import artifacts, layout, stage
from ficklenet_tf.training import loop, objective, optimizers


@dataclasses.dataclass(frozen=True)
class Options:
    """What a segmenter learns from what, beside `presets.SegmenterConfig`.

    Attributes:
      seeds: directory below the run's with `<image id>.png` to train on (not for "full").
      initial: "classifier": the backbone starts from the trained classifier's; "weights": from
        `weights` anew; or the name of an earlier segmenter stage to go on from (retraining).
      supervision: "weak": seeds; "semi": seeds and, of the images of `strong`, masks; "full": masks.
      strong: for "semi": `datasets.Split` of images with masks; those of them in the split have no seeds then.
      losses: keys of `objective.LOSSES`, for the images with seeds.
      growing: "dsrg": the seeds grow at each step.
      weights: see `pretrained.load_weights`.
      seed: of weights, order, augmentation and dropout.
      training: `loop.Options`; the precision is the config's.
    """

    seeds: str = layout.SEEDS
    initial: str = "classifier"
    supervision: str = "weak"
    strong: datasets.Split | None = None
    losses: tuple[str, ...] = ("seed", "boundary")
    growing: str = "none"
    weights: str = ""
    seed: int = 0
    training: loop.Options = loop.Options()


def train(run_dir, split, config, options=Options(), *, name=layout.SEGMENTER):
    """Trains a segmenter on label images; goes on where an earlier call with the same arguments stopped.

    Args:
      run_dir: the run's directory; the backbone comes from its classifier/ (size, normalization too).
      split: `datasets.Split`; for "full" its masks are learned.
      config: `presets.SegmenterConfig`.
      options: `Options`.
      name: directory below run_dir for this stage.

    Returns:
      The content of run.json.
    """
    run_dir = pathlib.Path(run_dir)
    config = precision.settled(config, run_dir)
    task = _plan(split, config, options)
    settings = {"stage": "segmenter", "config": dataclasses.asdict(config), **task.settings(),
                **_label_settings(run_dir, None if task.weak is None else options.seeds), "initial": options.initial,
                "weights": str(options.weights), "seed": options.seed, "dataset": split.dataset, "split": split.name,
                "fingerprint": split.fingerprint}

    def work():
        if options.growing != "none":
            _check_room(run_dir / options.seeds, task.weak)
        keras.utils.set_random_seed(options.seed)
        parts = _parts(run_dir, split, config, options, task)
        rows = _fit(run_dir / name, run_dir / options.seeds, config, options, task, parts)

        def facts():
            parts.network.save_weights(run_dir / name / layout.WEIGHTS)
            return {"class_names": list(split.class_names), "backbone": parts.classifier.backbone,
                    "input_size": parts.classifier.input_size,
                    "normalization": dataclasses.asdict(parts.normalization),
                    "features": parts.features and parts.features.as_json(),
                    "pretrained_fc": bool(parts.pretrained_fc),
                    "metrics": {k: v for k, v in rows[-1].items() if k not in ("step", "learning_rate")}}

        return facts

    return stage.run(run_dir / name, settings, work)


def _fit(directory, seeds_dir, config, options, task, parts):
    losses = task.total_loss(parts.target, config)
    learner = loop.Learner(
        parts.target, optimizers.segmenter_optimizer(config, parts.target, parts.new_variables),
        lambda batch: losses(input_pipeline.prepared(batch, parts.normalization, config.photometric)),
        optimizers.weight_decay(parts.target, config), lambda batch: _pictures(parts, batch))
    return loop.fit(
        directory, learner,
        lambda start, context: _batches(task, config, parts, seeds_dir, options.seed + 1, start, context),
        config.steps, dataclasses.replace(options.training, precision=config.precision))


def _plan(split, config, options):
    """Returns the `objective.Task`, if growing goes with the other options."""
    growing = options.growing
    task = objective.plan(options.supervision, split, options.strong, options.losses, growing)
    if growing != "none" and options.training.jit_compile:
        raise UserError(f"growing {growing}: connected components are found outside the graph, which XLA cannot "
                        "compile; leave --jit_compile out")
    if growing != "none" and config.random_crop:
        raise UserError(f"growing {growing}: seeds would grow into what a random crop pads; leave --random_crop out")
    return task


def _check_room(seeds_dir, split, count=20):
    """Raises ValueError where the seeds of the first images leave no pixel to grow into."""
    for image_id in split.image_ids[:count]:
        path = layout.label_image(seeds_dir, image_id)
        if not path.exists() or (labels.read_label(path) == labels.IGNORE).any():
            return
    raise UserError(f"{seeds_dir}: expected seeds with unlabelled pixels (255) to grow into, found none in the first "
                    f"{min(count, len(split))}; extract them with --refine=none, or refine_low below refine_high")


def _label_settings(run_dir, seeds):
    """Which seeds a training learns; none: the data set's masks. The same seeds made again are the same."""
    if seeds is None:
        return {"seeds": None, "seeds_made": None}
    run, path = artifacts.finished_run(run_dir / seeds, "set of seeds", "tools.extract_seeds"), run_dir / seeds
    settings = path / layout.SETTINGS  # seeds of one's own have none
    made = settings.read_bytes() if settings.exists() else run["finished"].encode()
    return {"seeds": seeds, "seeds_made": hashlib.sha256(made).hexdigest()[:16]}


@dataclasses.dataclass(frozen=True)
class _Parts:
    """What is trained, and on what.

    Attributes:
      network: photographs -> logits.
      head: what of it stands above the backbone.
      normalization: of the photographs.
      classifier: `presets.ClassifierConfig` of the classifier that came before: size, backbone.
      features: `FeatureCache` to train the head on, or None: the whole network on photographs.
      pretrained_fc: variables of fc6 and fc7 that have weights of VGG-16's classifier.
      initial: where the weights come from, see `train`.
    """

    network: keras.Model
    head: keras.Model
    normalization: images.Normalization
    classifier: presets.ClassifierConfig
    features: feature_cache.FeatureCache | None
    pretrained_fc: list
    initial: str

    @property
    def target(self):
        """The model that the optimizer sees."""
        return self.network if self.features is None else self.head

    @property
    def new_variables(self):
        """Those that start from nothing: fc8, and fc6 and fc7 that neither VGG-16 nor an earlier round has trained."""
        known = {id(v) for v in self.pretrained_fc}
        first_round = self.initial in ("classifier", "weights")
        return [v for layer in self.head.layers if first_round or layer.name.startswith("fc8")
                for v in layer.trainable_variables if id(v) not in known]


def _parts(run_dir, split, config, options, task):
    """Builds the network and gives it its initial weights; see `Options`."""
    initial, weights = options.initial, options.weights
    source, normalization, run, first = classifier.load(run_dir / layout.CLASSIFIER)
    datasets.check_classes(split, run["class_names"], run_dir / layout.CLASSIFIER)
    network, backbone, head, new_normalization = segmenter.build(
        config, len(split.class_names), first.backbone, weights if initial == "weights" else "")
    features, pretrained_fc = FeatureCache.of_run(run), []
    if initial in ("classifier", "weights") and config.pretrained_fc and first.backbone == "vgg16":
        pretrained_fc = pretrained.load_fc_layers(head, weights if initial == "weights" else run["weights"])
    if initial == "classifier":
        backbone.set_weights(source.backbone.get_weights())
    elif initial == "weights":
        normalization, features = new_normalization, None
    else:
        before = artifacts.finished_run(run_dir / initial, "segmenter", "tools.train_segmenter")
        normalization, features = images.Normalization(**before["normalization"]), FeatureCache.of_run(before)
        network.load_weights(run_dir / initial / layout.WEIGHTS)
    if config.trainable_layers != "head":
        features = None
    if features is not None:  # the classifier's split is there already, another one's images may not be
        feature_cache.check_augmentation(config)
        for part in filter(None, (task.weak, task.strong)):
            distribution.on_chief(features.fill, part, source.backbone, normalization, size=first.input_size)
    return _Parts(network, head, normalization, first, features, pretrained_fc, initial)


def _batches(task, config, parts, seeds_dir, seed, start, context):
    """Endless batches from step `start` on; with weak and strong images, the strong ones' under "strong"."""
    size = parts.classifier.input_size

    def batches(split, count, seeds_dir, seed):
        reader = input_pipeline.ExampleReader(
            split, seed, size, features=parts.features, flips=config.flips, seeds_dir=seeds_dir,
            crop=(0.5, 1.5) if config.random_crop else None, label_size=-(-size // backbones.STRIDE))
        return input_pipeline.training_batches(reader, batch_size=count, start_step=start, context=context)

    weak, strong = objective.batch_sizes(config.batch_size, task.weak, task.strong, config.strong_share)
    if task.weak is None:
        return batches(task.strong, strong, None, seed)
    weak_batches = batches(task.weak, weak, seeds_dir, seed)
    if task.strong is None:
        return weak_batches
    both = tf.data.Dataset.zip(weak_batches, batches(task.strong, strong, None, seed + 1))
    return both.map(lambda batch, strong_batch: {**batch, "strong": strong_batch})


def _pictures(parts, batch):
    batch = input_pipeline.prepared(batch, parts.normalization)
    predicted = tf.argmax(parts.target(tf.cast(batch.get("features", batch.get("image")), tf.float32)), -1)
    colours = tf.constant(labels.palette())
    return {"photograph": batch["small_image"], "prediction": tf.gather(colours, predicted),
            "label": tf.gather(colours, tf.cast(batch["label"], tf.int32))}
