"""Trains the classifier on image-level tags and measures the mAP of the tags on held-out images."""

import dataclasses
import functools
import pathlib
from collections.abc import Callable, Iterable
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from ficklenet_tf import configs, distribution, presets
from ficklenet_tf.data import datasets, feature_cache, images, input_pipeline
from ficklenet_tf.errors import UserError
from ficklenet_tf.evaluation import metrics
from ficklenet_tf.maps import erased
from ficklenet_tf.models import backbones, classifier, precision, pretrained
from ficklenet_tf.runs import artifacts, layout, progress, restart, stage
from ficklenet_tf.training import classifier_losses, early_stopping, loop, optimizers, pixel_teachers, snapshots

AUTO = configs.AUTO  # presets.ClassifierConfig.steps


@dataclasses.dataclass(frozen=True)
class Options:
    """How a classifier is trained, beside `presets.ClassifierConfig`.

    Attributes:
      weights: of the backbone, see `pretrained.load_weights`.
      seed: of weights, order, augmentation and selections.
      cache_flips: also cache the features of the mirrored photographs (twice the time and space), for what is trained
        on mirrored ones, classifier or segmenter.
      training: `loop.Options`; the precision is the config's.
      erased: names of finished map directories of the split, beside this stage's: the regions that they have found are
        erased, see maps/erased.py. The mAP is that of whole photographs all the same.
      saliency_dir: directory with `<image id>.png`; None: the run's own saliency/. Used where a loss needs it.
      strong: `datasets.Split` of images, also in the split to train on, whose masks may be used, where a loss needs
        them; else None.
    """

    weights: str = ""
    seed: int = 0
    cache_flips: bool = False
    training: loop.Options = loop.Options()
    erased: tuple[str, ...] = ()
    saliency_dir: str | pathlib.Path | None = None
    strong: datasets.Split | None = None


def train(directory: str | pathlib.Path, split: datasets.Split, held_out: datasets.Split,
          config: presets.ClassifierConfig, options: Options = Options()) -> dict[str, Any]:
    """Trains a classifier; goes on where an earlier call with the same arguments stopped.

    What frozen layers give is cached in `directory`/../features.

    Args:
      directory: the stage's directory: checkpoints/, log.csv, tensorboard/, model.weights.h5, run.json.
      split: `datasets.Split` to train on; only its tags are used, and the masks of `options.strong`.
      held_out: `datasets.Split` for the mAP.
      config: `presets.ClassifierConfig`.
      options: `Options`.

    Returns:
      The content of run.json; with `config.snapshots` it has {name: step} of them, with
      `config.early_stopping` the looks, [step, loss] each, and the step whose weights were taken.

    Raises:
      UserError: see `erased.opened` and `snapshots.keepers`; an objective needs saliency maps or masks that are not
        there, see `pixel_teachers`.
    """
    directory = pathlib.Path(directory)
    config = precision.settled(config, directory.parent)
    saliency_dir = pixel_teachers.saliency(pixel_teachers.saliency_of(directory.parent, options.saliency_dir), split,
                                           config.objectives, classifier_losses.NEED_SALIENCY)
    options = dataclasses.replace(options, saliency_dir=saliency_dir)
    pixel_teachers.masked(options.strong, split, config.objectives, classifier_losses.NEED_MASKS)
    settings = {**settings_of(options.weights, options.seed, split), "config": dataclasses.asdict(config),
                **pixel_teachers.settings(saliency_dir, split, options.strong)}
    covering = erased.opened(directory.parent, options.erased, split, config)
    if options.cache_flips and config.trainable_layers != "all":
        settings["cache_flips"] = True
    if covering:
        settings["erased"] = erased.identities(directory.parent, options.erased)
    anew = restart.is_requested(directory)

    if artifacts.read_run(directory) is None or anew:
        pretrained.check(options.weights, config.backbone, config.trainable_layers)

    def work() -> Callable[[], dict[str, Any]]:
        learned, watched = early_stopping.divide(split) if config.early_stopping else (split, None)
        steps = steps_of(config, len(learned))
        kept = snapshots.steps_of(config.snapshots, steps)
        if config.early_stopping > steps:
            raise UserError(f"early_stopping: expected at most the {steps} steps of the training, found "
                            f"{config.early_stopping}: it would never look")
        batch_size = min(config.batch_size, len(learned))
        if not config.epochs and distribution.is_chief():
            progress.say(f"{directory.name}: {steps} steps of {batch_size}, {steps * batch_size / len(learned):.1f} "
                         f"epochs of {len(learned)} photographs")
        keras.utils.set_random_seed(options.seed)
        model, normalization = classifier.build(config, len(split.class_names) - 1, options.weights)
        target = classifier.above_cut(model, config.trainable_layers)
        below = backbones.cut(model.backbone, config.trainable_layers).below
        features = None if below is None else _cached(directory, split, held_out, below, normalization, config,
                                                      options)
        new = (model.head if pretrained.are_given(options.weights) else target).trainable_variables
        made = {"class_names": list(split.class_names), "normalization": dataclasses.asdict(normalization),
                "features": features and features.as_json(), **_measured_on(held_out)}
        predict = predictor(target, normalization, config.input_size, features=features)
        stopping = None if watched is None else early_stopping.of_tags(
            directory, config.early_stopping, _tags(watched), functools.partial(predict, watched), model)
        learner = loop.Learner(
            target, optimizers.classifier_optimizer(config, target, new, max(1, len(learned) // config.batch_size)),
            _losses(target, normalization, config),
            snapshots=snapshots.keepers(directory, model, settings, made, kept, anew), stopping=stopping)
        reader = _reader(learned, config, features, covering, options)
        rows = loop.fit(directory, learner, lambda start, context: input_pipeline.training_batches(
            reader, batch_size=batch_size, start_step=start, context=context), steps,
            dataclasses.replace(options.training, precision=config.precision))

        def facts() -> dict[str, Any]:
            artifacts.save_weights(model, directory / layout.WEIGHTS)
            return {**made, **({"snapshots": snapshots.names(directory, kept)} if kept else {}),
                    **({"looks": stopping.looks, "best_step": stopping.best[0]} if stopping else {}),
                    "metrics": {**_average_precision(held_out, predict), "loss": rows[-1]["loss"] if rows else None}}

        return facts

    stage.run(directory, settings, work)
    return measured(directory, held_out)


def measured(directory: str | pathlib.Path, held_out: datasets.Split) -> dict[str, Any]:
    """Returns the content of a finished classifier's run.json, its mAP of these held-out photographs and tags.

    What earlier versions have made does not say of which it is, and is returned as it is.
    """
    directory = pathlib.Path(directory)
    run = artifacts.finished_run(directory, "classifier", "tools.train_classifier")
    if run.get("held_out_fingerprint", held_out.fingerprint) == held_out.fingerprint:
        return run
    distribution.on_chief(lambda: _measure_again(directory, held_out))
    return artifacts.read_json(directory / layout.RUN)


def _measured_on(held_out: datasets.Split) -> dict[str, str]:
    return {"held_out": held_out.name, "held_out_fingerprint": held_out.fingerprint}


def _average_precision(held_out: datasets.Split, predict: Callable[[datasets.Split], np.ndarray]) -> dict[str, Any]:
    mean, ap_per_class = metrics.mean_average_precision(_tags(held_out), predict(held_out))
    return {"map": mean, "ap_per_class": ap_per_class}


def _measure_again(directory: pathlib.Path, held_out: datasets.Split) -> None:
    """Measures a finished classifier on other held-out photographs or tags than before; all else in run.json stays."""
    model, normalization, run, config = classifier.load(directory)
    scores = _average_precision(held_out, predictor(model, normalization, config.input_size))
    artifacts.write_json(directory / layout.RUN, {**run, **_measured_on(held_out),
                                                  "metrics": {**run["metrics"], **scores}})


def settings_of(weights: str, seed: int, split: datasets.Split) -> dict[str, Any]:
    """Returns the settings of a classifier that learns from tags alone, without its config."""
    return {"stage": "classifier", "weights": str(weights), **pretrained.digest(weights), "seed": seed,
            "dataset": split.dataset, "split": split.name, "fingerprint": split.fingerprint}


def _tags(split: datasets.Split) -> np.ndarray:
    return np.stack([split[i]["tags"] for i in range(len(split))])


def _reader(split: datasets.Split, config: presets.ClassifierConfig, features: feature_cache.FeatureCache | None,
            covering: erased.Erased | None, options: Options) -> input_pipeline.ExampleReader:
    masked = pixel_teachers.masked(options.strong, split, config.objectives, classifier_losses.NEED_MASKS)
    map_size = -(-config.input_size // backbones.STRIDE)
    return input_pipeline.ExampleReader(
        split, options.seed, config.input_size, features=features, flips=config.flips, masked=masked,
        label_size=None if masked is None else map_size, saliency_dir=options.saliency_dir, saliency_size=map_size,
        keep=None if covering is None else covering.keep, keep_side=map_size)


def steps_of(config: presets.ClassifierConfig, count: int) -> int:
    """Returns how many steps a training takes.

    "auto" is what gave the best maps above frozen layers (docs/voc.md): 150 steps, however many photographs there are.
    Heads with hidden layers take longer to learn: 259 steps for 300 photographs, 393 for 3,700.

    Args:
      config: `presets.ClassifierConfig`.
      count: number of photographs.

    Raises:
      UserError: `config.steps` is neither a number from 1 nor "auto" where there are no epochs, or a number beside
        epochs.
    """
    if config.epochs > 0:
        if config.steps not in (0, AUTO):
            raise UserError(f"steps: expected none beside {config.epochs} epochs, found {config.steps}; pass "
                            "--epochs=0")
        return config.epochs * max(1, count // config.batch_size)
    if config.steps == AUTO:
        return 150 if config.head == "stochastic" else round(100 * count ** (1 / 6))
    if not isinstance(config.steps, int) or config.steps < 1:
        raise UserError(f"steps: expected a number from 1 or {AUTO} (or epochs from 1), found {config.steps!r}")
    return config.steps


def _cached(directory: pathlib.Path, split: datasets.Split, held_out: datasets.Split, below: keras.Model,
            normalization: images.Normalization, config: presets.ClassifierConfig,
            options: Options) -> feature_cache.FeatureCache:
    """Caches what the frozen layers give of both splits; returns the `FeatureCache`."""
    feature_cache.check_augmentation(config)
    features = feature_cache.FeatureCache(
        feature_cache.cache_directory(directory.parent / layout.FEATURES, below, normalization, dataset=split.dataset,
                                      size=config.input_size, precision=config.precision),
        options.cache_flips)
    for part, flips in ((split, features.flips), (held_out, False)):
        distribution.on_chief(features.fill, part, below, normalization, size=config.input_size, flips=flips)
    return features


def _losses(target: keras.Layer, normalization: images.Normalization,
            config: presets.ClassifierConfig) -> Callable[[loop.Batch], loop.Scalars]:
    """Returns the function for `loop.Learner`; `target` is the whole classifier, or what is above its cut."""
    def losses(batch: loop.Batch) -> loop.Scalars:
        batch = input_pipeline.prepared(batch, normalization, config.photometric)
        return classifier_losses.total_loss(classifier_losses.Step(target, batch, config))

    return losses


def predictor(model: keras.layers.Layer, normalization: images.Normalization, size: int, batch_size: int = 8,
              features: feature_cache.FeatureCache | None = None) -> Callable[[datasets.Split], np.ndarray]:
    """Returns the function that predicts a split's tags: its `[n, tags]` float32 expected logits.

    Args:
      model: a `classifier.Classifier`, or with `features` what is above its cut.
      normalization: the backbone's `images.Normalization`.
      size: side to which photographs are warped, in pixels.
      batch_size: images per pass.
      features: a `FeatureCache` that holds the splits, or None.
    """
    shape = (size, size, 3) if features is None else features.shape

    @tf.function(autograph=False, input_signature=[tf.TensorSpec([None, *shape])])
    def forward(x: tf.Tensor) -> tf.Tensor:
        return model.expected_logits(x)

    def predict(split: datasets.Split) -> np.ndarray:
        batches: Iterable[tf.Tensor | np.ndarray]
        if features is None:
            batches = input_pipeline.examples(split, size=size).map(
                lambda example: images.normalize(example["input"], normalization)).batch(batch_size)
        else:
            ids = split.image_ids
            batches = (np.stack([features.load(image_id) for image_id in ids[start:start + batch_size]],
                                dtype=np.float32) for start in range(0, len(ids), batch_size))
        return np.concatenate([forward(batch).numpy() for batch in
                               progress.bar(batches, total=-(-len(split) // batch_size), desc="tags", unit="batch")])

    return predict
