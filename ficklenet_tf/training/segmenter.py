"""Trains the segmenter on seeds or tags, masks or both; see objective.py for what it learns."""

import dataclasses
import pathlib
from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf

from ficklenet_tf import distribution, presets
from ficklenet_tf.data import datasets, feature_cache, images, input_pipeline, labels
from ficklenet_tf.data.feature_cache import FeatureCache
from ficklenet_tf.errors import UserError
from ficklenet_tf.models import backbones, classifier, precision, pretrained, segmenter
from ficklenet_tf.runs import artifacts, layout, restart, stage
from ficklenet_tf.training import loop, objective, optimizers, pixel_teachers
from ficklenet_tf.training.losses import surest


@dataclasses.dataclass(frozen=True)
class Options:
    """What a segmenter learns from what, beside `presets.SegmenterConfig`.

    Attributes:
      seeds: directory below the run's with `<image id>.png` to train on; not looked at for "full", and where all
        losses are of `objective.SEEDLESS`.
      initial: "classifier": the backbone starts from the trained classifier's; "weights": from `weights`; or the name
        of an earlier segmenter stage to go on from (retraining).
      supervision: "weak": seeds, or tags alone; "semi": these and, of the images of `strong`, masks; "full": masks.
      strong: for "semi": `datasets.Split` of images with masks; the seeds of those images are not learned.
      weights: see `pretrained.load_weights`.
      seed: of weights, order, augmentation and dropout.
      training: `loop.Options`; the precision is the config's.
      saliency_dir: directory with `<image id>.png`; None: the run's own saliency/. Used where a loss needs it.
    """

    seeds: str = layout.SEEDS
    initial: str = "classifier"
    supervision: str = "weak"
    strong: datasets.Split | None = None
    weights: str = ""
    seed: int = 0
    training: loop.Options = loop.Options()
    saliency_dir: str | pathlib.Path | None = None


def train(run_dir: str | pathlib.Path, split: datasets.Split, config: presets.SegmenterConfig,
          options: Options = Options(), *, name: str = layout.SEGMENTER) -> dict[str, Any]:
    """Trains a segmenter; goes on where an earlier call with the same arguments stopped.

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
    if options.initial == "weights" and (artifacts.read_run(run_dir / name) is None or restart.is_requested(
            run_dir / name)):
        run = artifacts.finished_run(run_dir / layout.CLASSIFIER, "classifier", "tools.train_classifier")
        pretrained.check(options.weights, run["config"]["backbone"], config.trainable_layers)
    task = _plan(split, config, options)
    saliency_dir = None if task.weak is None else pixel_teachers.saliency(
        pixel_teachers.saliency_of(run_dir, options.saliency_dir), task.weak, task.losses_used,
        objective.NEED_SALIENCY)
    options = dataclasses.replace(options, saliency_dir=saliency_dir)
    settings = {"stage": "segmenter", "config": dataclasses.asdict(config), **task.settings(),
                **_label_settings(run_dir, options.seeds if task.needs_seeds else None), "initial": options.initial,
                "classifier": _classifier_identity(run_dir),
                "weights": str(options.weights), **pretrained.digest(options.weights), "seed": options.seed,
                "dataset": split.dataset, "split": split.name, "fingerprint": split.fingerprint,
                **pixel_teachers.settings(saliency_dir, split)}

    def work() -> Callable[[], dict[str, Any]]:
        if config.growing != "none" and task.weak is not None:  # growing wants seeds, see `objective.plan`
            _check_room(run_dir / options.seeds, task.weak)
        keras.utils.set_random_seed(options.seed)
        parts = _parts(run_dir, split, config, options, task)
        rows = _fit(run_dir / name, run_dir / options.seeds, config, options, task, parts)

        def facts() -> dict[str, Any]:
            artifacts.save_weights(parts.network, run_dir / name / layout.WEIGHTS)
            return {"class_names": list(split.class_names), "backbone": parts.classifier.backbone,
                    "input_size": parts.classifier.input_size,
                    "normalization": dataclasses.asdict(parts.normalization),
                    "features": parts.features and parts.features.as_json(),
                    "pretrained_fc": bool(parts.pretrained_fc),
                    "metrics": {key: value for row in rows[-1:] for key, value in row.items()
                                if key not in ("step", "learning_rate")}}

        return facts

    return stage.run(run_dir / name, settings, work)


def _fit(directory: pathlib.Path, seeds_dir: pathlib.Path, config: presets.SegmenterConfig, options: Options,
         task: objective.Task, parts: "_Parts") -> list[loop.Row]:
    losses = task.total_loss(parts.target, config)
    learner = loop.Learner(
        parts.target, optimizers.segmenter_optimizer(config, parts.target, parts.new_variables(config.optimizer)),
        lambda batch: losses(input_pipeline.prepared(batch, parts.normalization, config.photometric)),
        optimizers.weight_decay(parts.target, config), lambda batch: _pictures(parts, batch))
    return loop.fit(
        directory, learner,
        lambda start, context: _batches(task, config, parts, seeds_dir, options.seed + 1, start, context,
                                        options.saliency_dir),
        config.steps, dataclasses.replace(options.training, precision=config.precision))


def _plan(split: datasets.Split, config: presets.SegmenterConfig, options: Options) -> objective.Task:
    """Returns the `objective.Task`.

    Raises:
      UserError: growing seeds do not go with the other options.
    """
    growing = config.growing
    task = objective.plan(options.supervision, split, options.strong, config.losses, growing)
    if task.weak is not None and set(task.losses_used) == {"boundary"} and not config.boundary_weight:
        raise UserError("losses: expected one with a weight, found boundary alone with --boundary_weight=0")
    if growing != "none" and options.training.jit_compile:
        raise UserError(f"growing {growing}: connected components are found outside the graph, which XLA cannot "
                        "compile; leave --jit_compile out")
    if growing != "none" and config.random_crop:
        raise UserError(f"growing {growing}: seeds would grow into what a random crop pads; leave --random_crop out")
    of_all = [name for name in config.losses if name in objective.OF_ALL_PIXELS and task.weak is not None]
    if config.random_crop and of_all:
        raise UserError(f"losses {','.join(of_all)}: of a random crop they would teach what is padded, and tags of "
                        "what lies outside; leave --random_crop out")
    highest = surest(len(split.class_names))
    limits = (config.growing_foreground, config.growing_background)
    if growing != "none" and any(highest <= limit < 1 for limit in limits):  # 1 is: it is not to grow
        raise UserError(f"growing {growing}: expected growing_foreground and growing_background below {highest:.4f}, "
                        f"the surest answer of {len(split.class_names)} classes, found {limits[0]} and {limits[1]}; "
                        "seeds would not grow")
    return task


def _check_room(seeds_dir: pathlib.Path, split: datasets.Split, count: int = 20) -> None:
    """Raises UserError where the seeds of the first images leave no pixel to grow into."""
    for image_id in split.image_ids[:count]:
        path = layout.label_image(seeds_dir, image_id)
        if not path.exists() or (labels.read_label(path) == labels.IGNORE).any():
            return
    raise UserError(f"{seeds_dir}: expected seeds with unlabelled pixels (255) to grow into, found none in the first "
                    f"{min(count, len(split))}; extract them with --refine=none, or refine_low below refine_high")


def _label_settings(run_dir: pathlib.Path, seeds: str | None) -> dict[str, str | None]:
    """Returns which seeds a training learns, None for none of them. The same seeds made again are the same."""
    if seeds is None:
        return {"seeds": None, "seeds_made": None}
    artifacts.finished_run(run_dir / seeds, "set of seeds", "tools.extract_seeds")
    return {"seeds": seeds, "seeds_made": artifacts.identity(run_dir / seeds)}


def _classifier_identity(run_dir: pathlib.Path) -> str:
    """Returns what tells the classifier, from which backbone, size and normalization come, from another one."""
    artifacts.finished_run(run_dir / layout.CLASSIFIER, "classifier", "tools.train_classifier")
    return artifacts.identity(run_dir / layout.CLASSIFIER)


@dataclasses.dataclass(frozen=True)
class _Parts:
    """What is trained, and on what.

    Attributes:
      network: photographs -> logits.
      target: the part of it that the optimizer sees, above the cut.
      head: the part of it above the backbone.
      normalization: of the photographs.
      classifier: `presets.ClassifierConfig` of the classifier that came before: size, backbone.
      features: `FeatureCache` to train `target` on, or None: the whole network on photographs.
      pretrained_fc: variables of fc6 and fc7 that have weights of VGG-16's classifier.
      initial: where the weights come from, see `Options`.
    """

    network: keras.Model
    target: keras.Model
    head: keras.Model
    normalization: images.Normalization
    classifier: presets.ClassifierConfig
    features: feature_cache.FeatureCache | None
    pretrained_fc: list[keras.Variable]
    initial: str

    def new_variables(self, optimizer: str) -> list[keras.Variable]:
        """Those that learn fastest: with Adam the head; with SGD fc8, and fc6 and fc7 that nothing has trained yet.

        DeepLab's multipliers tell pretrained layers from new ones; Adam's tell the backbone from the head.
        """
        if optimizer == "adam":
            return self.head.trainable_variables
        pretrained_ids = {id(v) for v in self.pretrained_fc}
        first_round = self.initial in ("classifier", "weights")
        return [v for layer in self.head.layers if first_round or layer.name.startswith("fc8")
                for v in layer.trainable_variables if id(v) not in pretrained_ids]


def _parts(run_dir: pathlib.Path, split: datasets.Split, config: presets.SegmenterConfig, options: Options,
           task: objective.Task) -> _Parts:
    """Builds the network and gives it its initial weights; see `Options`."""
    initial, weights = options.initial, options.weights
    trained, normalization, run, classifier_config = classifier.load(run_dir / layout.CLASSIFIER)
    backbone_name, size = classifier_config.backbone, classifier_config.input_size
    datasets.check_classes(split, run["class_names"], run_dir / layout.CLASSIFIER)
    network, backbone, head, new_normalization = segmenter.build(
        config, len(split.class_names), backbone_name, weights if initial == "weights" else "")
    pretrained_fc = []
    if initial in ("classifier", "weights") and config.pretrained_fc and backbone_name == "vgg16":
        if initial == "classifier":
            pretrained.check_same(run)
        pretrained_fc = pretrained.load_fc_layers(head, weights if initial == "weights" else run["weights"])
    if initial == "classifier":
        backbone.set_weights(trained.backbone.get_weights())
    elif initial == "weights":
        normalization = new_normalization
    else:
        earlier = artifacts.finished_run(run_dir / initial, "segmenter", "tools.train_segmenter")
        normalization = images.Normalization(**earlier["normalization"])
        artifacts.load_weights(network, run_dir / initial / layout.WEIGHTS)
    features, below = None, backbones.cut(backbone, config.trainable_layers).below
    if below is not None:
        feature_cache.check_augmentation(config)
        directory = feature_cache.cache_directory(run_dir / layout.FEATURES, below, normalization,
                                                  dataset=split.dataset, size=size, precision=config.precision)
        features = FeatureCache(directory, bool(run["features"] and run["features"]["flips"]))
        for part in filter(None, (task.weak, task.strong)):
            distribution.on_chief(features.fill, part, below, normalization, size=size)
    return _Parts(network, segmenter.above_cut(network, config.trainable_layers), head, normalization,
                  classifier_config, features, pretrained_fc, initial)


def _batches(task: objective.Task, config: presets.SegmenterConfig, parts: _Parts, seeds_dir: pathlib.Path, seed: int,
             start: int, context: tf.distribute.InputContext,
             saliency_dir: str | pathlib.Path | None = None) -> tf.data.Dataset:
    """Endless batches from step `start` on; with weak and strong images, the strong ones' under "strong"."""
    size = parts.classifier.input_size
    map_size = -(-size // backbones.STRIDE)

    def batches(split: datasets.Split, batch_size: int, seeds_dir: pathlib.Path | None, seed: int,
                labelled: bool = True, saliency_dir: str | pathlib.Path | None = None) -> tf.data.Dataset:
        reader = input_pipeline.ExampleReader(
            split, seed, size, features=parts.features, flips=config.flips, seeds_dir=seeds_dir, labelled=labelled,
            crop=(0.5, 1.5) if config.random_crop else None, label_size=map_size,
            saliency_dir=saliency_dir, saliency_size=map_size)
        return input_pipeline.training_batches(reader, batch_size=batch_size, start_step=start, context=context)

    num_weak, num_strong = objective.batch_sizes(config.batch_size, task.weak, task.strong, config.strong_share)
    if task.weak is None:
        assert task.strong is not None
        return batches(task.strong, num_strong, None, seed)
    weak_batches = batches(task.weak, num_weak, seeds_dir if task.needs_seeds else None, seed, task.needs_seeds,
                           saliency_dir)
    if task.strong is None:
        return weak_batches
    pairs = tf.data.Dataset.zip(weak_batches, batches(task.strong, num_strong, None, seed + 1))
    return pairs.map(lambda batch, strong_batch: {**batch, "strong": strong_batch})


def _pictures(parts: _Parts, batch: loop.Batch) -> dict[str, tf.Tensor]:
    """Returns photographs, predictions and, where there are, labels of a batch for TensorBoard, at map size."""
    batch = input_pipeline.prepared(batch, parts.normalization)
    predicted = tf.argmax(parts.target(input_pipeline.network_input(batch)), -1)
    colours = tf.constant(labels.palette())
    shown = {"label": tf.gather(colours, tf.cast(batch["label"], tf.int32))} if "label" in batch else {}
    return {"photograph": batch["small_image"], "prediction": tf.gather(colours, predicted), **shown}
