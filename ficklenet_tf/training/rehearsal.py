"""Rehearsal: one step of every training, on a few images at full size, before the long work begins.

A machine, a setting or a data set that cannot train says so in the first minute. What a rehearsal makes lies in a
hidden directory of the run and is thrown away. Whether a whole batch fits into memory is tried on a GPU only.
"""

import contextlib
import dataclasses
import pathlib
import shutil
import time

import tensorflow as tf

from ficklenet_tf import distribution
from ficklenet_tf.models import precision
from ficklenet_tf.runs import hardware, progress
from ficklenet_tf.seeds import extraction
from ficklenet_tf.training import classifier as classifier_training
from ficklenet_tf.training import objective, rounds

_FEW = 4  # images of a step without a GPU, where a whole batch of the paper's takes half a minute
_LOOKED_AT = 20  # images of a segmenter's rehearsal, of which a step takes a batch


def rehearse_classifier(run_dir, split, held_out, preset, *, name="classifier", **options):
    """Takes one step of the classifier's training, unless that has been begun.

    Args:
      run_dir: the run's directory.
      split: see `classifier_training.train`; so are `held_out`, `preset` and `options`.
      held_out: see there.
      preset: see there.
      name: the stage's directory below run_dir.
      **options: see there.
    """
    if _begun(pathlib.Path(run_dir) / name):
        return
    preset = precision.settled(preset, run_dir)
    with _rehearsal(run_dir, name) as directory:
        _step_classifier(directory / "classifier", _first(split, preset), held_out, preset, options)


def rehearse_segmenter(run_dir, split, preset, *, name="segmenter", strong=None, **options):
    """Takes one step of each round of the segmenter's training, unless that has been begun.

    Args:
      run_dir: the run's directory, with what the training needs.
      split: see `retraining.train_rounds`; so are `preset`, `name`, `strong` and `options`.
      preset: see there.
      name: see there.
      strong: see there.
      **options: see there.
    """
    if _begun(pathlib.Path(run_dir) / name):
        return
    preset = precision.settled(preset, run_dir)
    kind = options.get("supervision", "weak")
    weak, masked = objective.divide(kind, split, strong)
    if strong is not None and not preset.strong_share:  # of the whole splits, not of the few images
        preset = dataclasses.replace(preset, strong_share=len(masked) / (len(weak) + len(masked)))
    count = max(_LOOKED_AT, _batch_size(preset))
    few = _some(masked if weak is None else weak, count)
    with _rehearsal(run_dir, name) as directory:
        rounds.train_rounds(run_dir, few, _one_step(preset), name=f"{directory.name}/segmenter",
                            strong=strong and _some(masked, count), **options)


def rehearse_run(run_dir, split, held_out, presets, *, last="segmenter", deterministic=None, saliency_dir=None, seed=0,
                 **options):
    """Takes one step of each training of a whole run, from photographs to the segmenter's last round.

    Args:
      run_dir: the run's directory.
      split: `datasets.Split` to train on.
      held_out: `datasets.Split` for the mAP.
      presets: (`presets.Classifier`, `presets.Seeds`, `presets.Segmenter`).
      last: directory below run_dir of the run's last training: where that has been begun, nothing is done.
      deterministic: `presets.Classifier` of the baseline, or None.
      saliency_dir: for the background cue "saliency".
      seed: of weights, order, augmentation and selections.
      **options: of `classifier_training.train`.
    """
    if _begun(pathlib.Path(run_dir) / last):
        return
    classifier, seeds, segmenter = presets
    classifier, segmenter = (precision.settled(preset, run_dir) for preset in (classifier, segmenter))
    options = {**options, "seed": seed}
    few = _first(split, classifier, segmenter)
    with _rehearsal(run_dir, "run") as directory:
        _step_classifier(directory / "classifier", few, held_out, classifier, options)
        if deterministic is not None:
            _step_classifier(directory / "classifier_deterministic", few, held_out,
                             precision.settled(deterministic, run_dir), options)
        extraction.extract(directory, few, seeds, seed=seed, saliency_dir=saliency_dir)
        rounds.train_rounds(directory, few, _one_step(segmenter), seed=seed)


def _begun(directory):
    return (directory / "run.json").exists() or (directory / "checkpoints").exists()


@contextlib.contextmanager
def _rehearsal(run_dir, name):
    """Gives a directory that is empty, and removed in the end; says what is going on, and on which device."""
    directory, started = pathlib.Path(run_dir) / f".rehearsal_{name}", time.monotonic()
    distribution.by_chief(shutil.rmtree, directory, ignore_errors=True)
    facts = hardware.describe()
    _say(f"rehearsal, one step of each training, on {', '.join(facts['gpus']) or facts['processor']}")
    try:
        with progress.silent():
            yield directory
    except BaseException:
        shutil.rmtree(directory, ignore_errors=True)  # of several workers some may be past waiting
        raise
    distribution.agree(0)  # no worker is still reading
    distribution.by_chief(shutil.rmtree, directory, ignore_errors=True)
    _say(f"rehearsal passed ({time.monotonic() - started:.0f} s)")


def _say(text):
    if distribution.is_chief():
        progress.say(text)


def _step_classifier(directory, few, held_out, preset, options):
    """Trains a classifier for one step."""
    preset = dataclasses.replace(preset, batch_size=_batch_size(preset), epochs=1)
    classifier_training.train(directory, _some(few, preset.batch_size), _some(held_out, 2), preset, **options)


def _one_step(preset):
    return dataclasses.replace(preset, batch_size=_batch_size(preset), steps=1,
                               retrain_steps=min(1, preset.retrain_steps))


def _batch_size(preset):
    """The preset's own where its memory or its division among replicas may fail, else a few."""
    whole = tf.config.list_logical_devices("GPU") or tf.distribute.get_strategy().num_replicas_in_sync > 1
    return preset.batch_size if whole else min(preset.batch_size, _FEW)


def _first(split, *presets):
    """Returns the split of so many images as the greatest of the presets' steps takes."""
    return _some(split, max(map(_batch_size, presets)))


def _some(split, count):
    return split.select(range(min(count, len(split))))
