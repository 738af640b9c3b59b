"""A second round on the network's own predictions (DSRG, Section 4: retraining)."""

import dataclasses
import pathlib

import tensorflow as tf

from ficklenet_tf import crf, distribution
from ficklenet_tf.data import feature_cache, images, labels
from ficklenet_tf.models import backbones, segmenter
from ficklenet_tf.runs import artifacts, progress
from ficklenet_tf.training import losses
from ficklenet_tf.training import segmenter as segmenter_training


def train_rounds(run_dir, split, preset, *, name="segmenter", **options):
    """Trains on seeds; with `preset.retrain_steps`, goes on from the network's own labels (DSRG's retraining).

    The labels are the network's answers for the training images, restricted to their tags and
    refined by the dense CRF at map size; the second round learns them by cross-entropy, and the masks
    of semi-supervision as before. Where masks are all there is to learn, there is one round.

    Args:
      run_dir: the run's directory.
      split: `datasets.Split`.
      preset: `presets.Segmenter`.
      name: directory below run_dir; `<name>_labels` and `<name>_retrained` follow.
      **options: of `train`.

    Returns:
      The directory's name of the last round.
    """
    segmenter_training.train(run_dir, split, preset, name=name, **options)
    if not preset.retrain_steps or options.get("supervision") == "full":
        return name
    distribution.by_chief(label_split, run_dir, split, name, f"{name}_labels")
    second = dataclasses.replace(preset, steps=preset.retrain_steps, learning_rate=preset.retrain_learning_rate,
                                 retrain_steps=0)
    segmenter_training.train(run_dir, split, second, name=f"{name}_retrained",
                             **{**options, "seeds": f"{name}_labels", "initial": name, "losses_used": ("full",),
                                "growing": "none"})
    return f"{name}_retrained"


def label_split(run_dir, split, stage, name, spec=crf.SEC_TRAIN):
    """Labels training images by a trained segmenter, restricted to their tags, with the CRF at map size.

    Writes `<run_dir>/<name>/<image id>.png` at map size; what is there is not made again.
    """
    run_dir = pathlib.Path(run_dir)
    network, normalization, run, _ = segmenter.load(run_dir / stage)
    artifacts.claim(run_dir / name, {"stage": "labels", "segmenter": run["finished"],
                                     "fingerprint": split.fingerprint})
    if artifacts.read_run(run_dir / name):
        return
    cached = run.get("features_dir")  # of what the segmenter itself was trained on
    head, size = network.layers[-1], run["input_size"]
    side = -(-size // backbones.STRIDE)

    @tf.function(reduce_retracing=True)
    def answer(x, image, tags):
        logits = (head if cached else network)(tf.cast(x, tf.float32)[None], training=False)
        allowed = tf.concat([[1.0], tags], 0)
        probs = tf.exp(losses.log_probs(logits)) * allowed
        probs /= tf.reduce_sum(probs, -1, keepdims=True)
        refined = crf.refiner(spec, "exact")(image[None], tf.math.log(probs + losses.FLOOR * 1e-4))
        return tf.argmax(refined * allowed, -1)[0]

    pending = [i for i, image_id in enumerate(split.image_ids) if not (run_dir / name / f"{image_id}.png").exists()]
    for index in progress.bar(pending, total=len(split), initial=len(split) - len(pending), desc=name, unit="img"):
        example = split[index]
        image = images.decode(example["image"])
        if cached:
            path = feature_cache.path_of(cached, example["image_id"])
            x = feature_cache.read(str(path), feature_cache.shape_in(cached))
        else:
            x = images.normalize(images.warp(image, size), normalization)
        label = answer(x, images.warp(image, side), example["tags"]).numpy()
        labels.write_label(run_dir / name / f"{example['image_id']}.png", label)
    artifacts.write_run(run_dir / name, images=len(split))
