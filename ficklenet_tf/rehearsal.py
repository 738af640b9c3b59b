"""One step of every training, on a few images at full size, before the long work begins.

A machine, a setting or a data set that cannot train says so in the first minute. What a rehearsal makes lies below
<run_dir>/.rehearsal and is thrown away.
"""

import contextlib
import dataclasses
import pathlib
import shutil
import time

import tensorflow as tf

from ficklenet_tf import classifier_training, distribution, extraction, precision, progress, retraining

_DIRECTORY = ".rehearsal"
_FEW = 4  # images of a step without a GPU: memory is not what is short there, and time is
_LOOKED_AT = 20  # images of a segmenter's rehearsal, of which a step takes a few


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
    with _rehearsal(run_dir) as directory:
        _step_classifier(directory / "classifier", split, held_out, preset, options)


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
    with _rehearsal(run_dir):
        apart = set() if strong is None else set(strong.image_ids)
        weak = _some(split, [image_id not in apart for image_id in split.image_ids], _LOOKED_AT)
        if options.get("supervision") == "full":
            weak = _some(split, split.labelled, _LOOKED_AT)
        strong = strong and _some(strong, strong.labelled, _LOOKED_AT)
        retraining.train_rounds(run_dir, weak, _one_step(preset), name=f"{_DIRECTORY}/segmenter", strong=strong,
                                **options)


def rehearse_run(run_dir, split, held_out, presets, *, deterministic=None, saliency_dir=None, seed=0, **options):
    """Takes one step of each training of a whole run, from photographs to the segmenter's last round.

    Nothing is done where the run's classifier has been begun.

    Args:
      run_dir: the run's directory.
      split: `datasets.Split` to train on.
      held_out: `datasets.Split` for the mAP.
      presets: (`presets.Classifier`, `presets.Seeds`, `presets.Segmenter`).
      deterministic: `presets.Classifier` of the baseline, or None.
      saliency_dir: for the background cue "saliency".
      seed: of weights, order, augmentation and selections.
      **options: of `classifier_training.train`.
    """
    if _begun(pathlib.Path(run_dir) / "classifier"):
        return
    classifier, seeds, segmenter = (precision.settled(preset, run_dir) if hasattr(preset, "precision") else preset
                                    for preset in presets)
    options = {**options, "seed": seed}
    with _rehearsal(run_dir) as directory:
        few = _step_classifier(directory / "classifier", split, held_out, classifier, options)
        if deterministic is not None:
            _step_classifier(directory / "classifier_deterministic", split, held_out,
                             precision.settled(deterministic, run_dir), options)
        extraction.extract(directory, few, seeds, seed=seed, saliency_dir=saliency_dir)
        retraining.train_rounds(directory, few, _one_step(segmenter), seed=seed)


def _say(text):
    if distribution.is_chief():
        progress.say(text)


def _begun(directory):
    return (directory / "run.json").exists() or (directory / "checkpoints").exists()


@contextlib.contextmanager
def _rehearsal(run_dir):
    """Gives an empty directory that is removed in the end, and says what is going on."""
    directory, started = pathlib.Path(run_dir) / _DIRECTORY, time.monotonic()
    distribution.by_chief(shutil.rmtree, directory, ignore_errors=True)
    _say("one step of each training first, to see that all of them can be done here")
    try:
        with progress.silent():
            yield directory
    finally:
        if distribution.is_chief():
            shutil.rmtree(directory, ignore_errors=True)
    _say(f"they can ({time.monotonic() - started:.0f} s)")


def _step_classifier(directory, split, held_out, preset, options):
    """Trains a classifier for one step; returns the split of the few images that it saw."""
    preset = dataclasses.replace(preset, batch_size=_batch_size(preset), epochs=1)
    few = _some(split, [True] * len(split), preset.batch_size)
    classifier_training.train(directory, few, _some(held_out, [True] * len(held_out), 2), preset, **options)
    return few


def _one_step(preset):
    return dataclasses.replace(preset, batch_size=_batch_size(preset), steps=1,
                               retrain_steps=min(1, preset.retrain_steps))


def _batch_size(preset):
    """The preset's own where its memory or its division among replicas may fail, else a few."""
    whole = tf.config.list_logical_devices("GPU") or tf.distribute.get_strategy().num_replicas_in_sync > 1
    return preset.batch_size if whole else min(preset.batch_size, _FEW)


def _some(split, wanted, count):
    """Returns the split of the first `count` images that are wanted (all of it where none is)."""
    chosen = [index for index, is_wanted in enumerate(wanted) if is_wanted][:count]
    return split.select(chosen) if chosen else split
