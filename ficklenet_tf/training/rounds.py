"""Further rounds on the network's own predictions: DSRG's retraining (Section 4), STC's from simple to complex."""

import dataclasses
import pathlib
from collections.abc import Iterator, Sequence

import tensorflow as tf

from ficklenet_tf import crf, distribution, presets
from ficklenet_tf.data import datasets, images, labels
from ficklenet_tf.data.feature_cache import FeatureCache
from ficklenet_tf.errors import UserError
from ficklenet_tf.models import backbones, segmenter
from ficklenet_tf.runs import layout, stage
from ficklenet_tf.training import losses
from ficklenet_tf.training import segmenter as segmenter_training


def train_rounds(run_dir: str | pathlib.Path, split: datasets.Split, config: presets.SegmenterConfig,
                 options: segmenter_training.Options = segmenter_training.Options(), *,
                 name: str = layout.SEGMENTER) -> str:
    """Trains a segmenter; with `config.retrain_steps`, goes on from the network's own labels (DSRG's retraining).

    The labels are the network's answers for the training images, restricted to their tags and refined by the dense
    CRF at map size. The second round learns them by cross-entropy, and the masks of semi-supervision as before. Under
    full supervision there is one round.

    Args:
      run_dir: the run's directory.
      split: `datasets.Split`.
      config: `presets.SegmenterConfig`.
      options: `segmenter_training.Options`.
      name: directory below run_dir of the first round; `layout.labels_of` and `layout.retrained` name the others.

    Returns:
      The name of the last round's directory.
    """
    if config.simple_first:
        return _simple_to_complex(run_dir, split, config, options, name)
    segmenter_training.train(run_dir, split, config, options, name=name)
    if not config.retrain_steps or options.supervision == "full":
        return name
    distribution.on_chief(label_split, run_dir, split, name, layout.labels_of(name))
    retrain_config = dataclasses.replace(config, steps=config.retrain_steps,
                                         learning_rate=config.retrain_learning_rate, retrain_steps=0,
                                         losses=("full",), growing="none")
    retrain_options = dataclasses.replace(options, seeds=layout.labels_of(name), initial=name)
    segmenter_training.train(run_dir, split, retrain_config, retrain_options, name=layout.retrained(name))
    return layout.retrained(name)


def _simple_to_complex(run_dir: str | pathlib.Path, split: datasets.Split, config: presets.SegmenterConfig,
                       options: segmenter_training.Options, name: str) -> str:
    """STC's three networks (Wei et al., TPAMI 2017), each learned from the one before; returns the last one's name.

    The first learns the photographs of one tag by `config.losses`, the second the first one's labels of these, the
    third the second one's labels of all. Labels are restricted to the tags and refined by the dense CRF at map size.
    STC's simple photographs are 40,000 from the web, chosen by their saliency; here they are those at hand.

    Raises:
      UserError: no photograph has one tag, or other rounds or masks are asked for.
    """
    simple = split.select([i for i in range(len(split)) if split[i]["tags"].sum() == 1])
    if not len(simple):
        raise UserError(f"simple_first: expected photographs of one tag in {split.dataset} {split.name}, found none")
    if config.retrain_steps or options.supervision != "weak":
        raise UserError("simple_first: expected no retrain_steps and supervision weak, as it has three rounds of its "
                        f"own; found {config.retrain_steps} and {options.supervision}")
    first = dataclasses.replace(config, steps=max(1, config.steps // 2), simple_first=False)
    later = dataclasses.replace(first, steps=max(1, config.steps // 4), losses=("full",), growing="none")
    second, third = layout.simple(name), layout.retrained(name)
    segmenter_training.train(run_dir, simple, first, options, name=name)
    for learned, before, now in ((simple, name, second), (split, second, third)):
        distribution.on_chief(label_split, run_dir, learned, before, layout.labels_of(before))
        segmenter_training.train(run_dir, learned, later, dataclasses.replace(
            options, seeds=layout.labels_of(before), initial=before), name=now)
    return third


def label_split(run_dir: str | pathlib.Path, split: datasets.Split, segmenter_name: str, name: str,
                spec: crf.CRFSpec = crf.SEC_TRAIN) -> None:
    """Labels training images by a trained segmenter, restricted to their tags, with the CRF at map size.

    Writes `<run_dir>/<name>/<image id>.png` at map size; what is there is not made again.

    Args:
      run_dir: the run's directory.
      split: `datasets.Split`.
      segmenter_name: directory of the segmenter below run_dir.
      name: directory for the labels below run_dir.
      spec: parameters of the CRF.
    """
    run_dir = pathlib.Path(run_dir)
    network, normalization, run, config = segmenter.load(run_dir / segmenter_name)
    features = FeatureCache.of_run(run, run_dir)  # of what the segmenter itself was trained on
    below = segmenter.below_cut(network, config.trainable_layers)
    target, size = segmenter.above_cut(network, config.trainable_layers), run["input_size"]
    map_size = -(-size // backbones.STRIDE)

    @tf.function(autograph=False, reduce_retracing=True)
    def answer(x: tf.Tensor, image: tf.Tensor, tags: tf.Tensor) -> tf.Tensor:
        logits = target(tf.cast(x, tf.float32)[None], training=False)
        allowed = tf.concat([[1.0], tags], 0)
        probs = tf.exp(losses.log_probs(logits)) * allowed
        probs /= tf.reduce_sum(probs, -1, keepdims=True)
        refined = crf.refiner(spec, "exact")(image[None], crf.logits_of(probs))
        return tf.argmax(refined * allowed, -1)[0]

    def work(pending: Sequence[int]) -> Iterator[int]:
        if features and below is not None:  # STC's earlier networks have seen some of the photographs
            features.fill(split.select(pending), below, normalization, size=size, flips=False)
        for index in pending:
            example = split[index]
            image = images.decode_image_op(example["image"])
            if features:
                x = features.load(example["image_id"])
            else:
                x = images.normalize(images.warp(image, size), normalization)
            label = answer(x, images.warp(image, map_size), example["tags"]).numpy()
            labels.write_label(layout.label_image(run_dir / name, example["image_id"]), label)
            yield index

    stage.run_per_image({run_dir / name: {"stage": "labels", "segmenter": run["finished"],
                                          "fingerprint": split.fingerprint}}, split, work=work, facts=lambda _: {},
                        files=lambda image_id: [layout.label_image(run_dir / name, image_id)])
