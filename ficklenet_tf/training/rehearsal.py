"""Rehearsal: one step of every training, on a few images at full size, before the long work begins.

A machine, a setting or a data set that cannot train says so in the first minute. What a rehearsal makes lies in a
hidden directory of the run and is thrown away. Whether a whole batch fits into memory is tried on a GPU only.
"""

import contextlib
import dataclasses
import pathlib
import shutil
import time
from collections.abc import Iterator

import tensorflow as tf

from ficklenet_tf import distribution, presets
from ficklenet_tf.data import datasets
from ficklenet_tf.models import precision
from ficklenet_tf.runs import hardware, layout, lock, progress
from ficklenet_tf.training import classifier as classifier_training
from ficklenet_tf.training import classifier_losses, objective, pixel_teachers, rounds
from ficklenet_tf.training import segmenter as segmenter_training

_FEW = 4  # images of a step without a GPU, where a whole batch of the paper's takes half a minute
_LOOKED_AT = 20  # images of a segmenter's rehearsal, of which a step takes a batch

_Config = presets.ClassifierConfig | presets.SegmenterConfig


def rehearse_classifier(run_dir: str | pathlib.Path, split: datasets.Split, held_out: datasets.Split,
                        config: presets.ClassifierConfig,
                        options: classifier_training.Options = classifier_training.Options(), *,
                        name: str = layout.CLASSIFIER) -> None:
    """Takes one step of the classifier's training, unless that has been begun.

    Args:
      run_dir: the run's directory.
      split: see `classifier_training.train`; so are `held_out`, `config` and `options`.
      held_out: see there.
      config: see there.
      options: see there.
      name: the stage's directory below run_dir.
    """
    if layout.begun(pathlib.Path(run_dir) / name):
        return
    config = precision.settled(config, run_dir)
    taught = pixel_teachers.saliency_of(run_dir, options.saliency_dir)
    pixel_teachers.saliency(taught, split, config.objectives, classifier_losses.NEED_SALIENCY)  # of all, not of a few
    options = dataclasses.replace(options, saliency_dir=taught)
    with hidden(run_dir, name) as directory:
        _step_classifier(directory / layout.CLASSIFIER, split, held_out, config, options)


def rehearse_segmenter(run_dir: str | pathlib.Path, split: datasets.Split, config: presets.SegmenterConfig,
                       options: segmenter_training.Options = segmenter_training.Options(), *,
                       name: str = layout.SEGMENTER) -> None:
    """Takes one step of each round of the segmenter's training, unless that has been begun.

    Args:
      run_dir: the run's directory, with what the training needs.
      split: see `rounds.train_rounds`; so are `config`, `options` and `name`.
      config: see there.
      options: see there.
      name: see there.
    """
    if layout.begun(pathlib.Path(run_dir) / name):
        return
    config = precision.settled(config, run_dir)
    weak, masked = objective.divide(options.supervision, split, options.strong)
    count = max(_LOOKED_AT, batch_size(config))
    if weak is not None and masked is not None:  # "semi"
        if not config.strong_share:  # that of the whole splits, not of the few images
            config = dataclasses.replace(config, strong_share=len(masked) / (len(weak) + len(masked)))
        options = dataclasses.replace(options, strong=first_images(masked, count))
    if weak is not None:
        taught = pixel_teachers.saliency_of(run_dir, options.saliency_dir)
        pixel_teachers.saliency(taught, weak, config.losses, objective.NEED_SALIENCY)
    learned = masked if weak is None else weak
    assert learned is not None
    with hidden(run_dir, name) as directory:
        rounds.train_rounds(run_dir, first_images(one_tag_first(learned, config), count), one_step(config), options,
                            name=f"{directory.name}/{layout.SEGMENTER}")


@contextlib.contextmanager
def hidden(run_dir: str | pathlib.Path, name: str) -> Iterator[pathlib.Path]:
    """Yields an empty directory and removes it in the end; says what is going on, and on which device.

    Raises:
      UserError: another process is rehearsing there.
    """
    directory, started = pathlib.Path(run_dir) / f".rehearsal_{name}", time.monotonic()
    with contextlib.ExitStack() as locks:
        if distribution.is_chief():
            locks.enter_context(lock.hold(directory / lock.NAME, str(run_dir)))
        distribution.on_chief(_clear, directory)
        machine = hardware.describe()
        _say(f"rehearsal, one step of each training, on {', '.join(machine['gpus']) or machine['processor']}")
        try:
            with progress.silent():
                yield directory
        except BaseException:
            shutil.rmtree(directory, ignore_errors=True)  # not by `on_chief`: other workers may never come to wait
            raise
        distribution.check_same_step(0)  # no worker is still reading
        distribution.on_chief(shutil.rmtree, directory, ignore_errors=True)
    _say(f"rehearsal passed ({time.monotonic() - started:.0f} s)")


def _clear(directory: pathlib.Path) -> None:
    """Removes what a rehearsal that was killed has left."""
    for path in directory.iterdir():
        if path.name != lock.NAME:
            shutil.rmtree(path, ignore_errors=True)


def _say(text: str) -> None:
    """Says it once, not once per worker."""
    if distribution.is_chief():
        progress.say(text)


def _step_classifier(directory: pathlib.Path, few: datasets.Split, held_out: datasets.Split,
                     config: presets.ClassifierConfig, options: classifier_training.Options) -> None:
    """Trains a classifier for one step."""
    few = first_images(_masked_first(few, config, options), images_of(config))
    config = one_step_of(config)
    classifier_training.train(directory, few, first_images(held_out, 2), config, options)


def _masked_first(split: datasets.Split, config: presets.ClassifierConfig,
                  options: classifier_training.Options) -> datasets.Split:
    """Returns the split with the images first whose masks the classifier learns; as it is where it learns none."""
    masked = pixel_teachers.masked(options.strong, split, config.objectives, classifier_losses.NEED_MASKS)
    return split if masked is None else split.select(
        sorted(range(len(split)), key=lambda i: split.image_ids[i] not in masked))


def one_step_of(config: presets.ClassifierConfig) -> presets.ClassifierConfig:
    """Returns a classifier's config with one step."""
    return dataclasses.replace(config, batch_size=batch_size(config), epochs=0, steps=1,
                               snapshots=min(1, config.snapshots), early_stopping=min(1, config.early_stopping))


def images_of(config: presets.ClassifierConfig) -> int:
    """Returns how many photographs a classifier's step needs: a batch, and with early stopping a tenth to watch."""
    size = batch_size(config)
    return size + (max(1, size // 9) if config.early_stopping else 0)


def one_tag_first(split: datasets.Split, config: presets.SegmenterConfig) -> datasets.Split:
    """Returns the split with the photographs of one tag first where STC's first network wants such; else as it is."""
    return split if not config.simple_first else split.select(
        sorted(range(len(split)), key=lambda i: split[i]["tags"].sum() != 1))


def one_step(config: presets.SegmenterConfig) -> presets.SegmenterConfig:
    """Returns the config with one step per round."""
    return dataclasses.replace(config, batch_size=batch_size(config), steps=1,
                               retrain_steps=min(1, config.retrain_steps))


def batch_size(config: _Config) -> int:
    """Returns the config's where its memory or its division among replicas may fail, else a few."""
    whole = tf.config.list_logical_devices("GPU") or tf.distribute.get_strategy().num_replicas_in_sync > 1
    return config.batch_size if whole else min(config.batch_size, _FEW)


def first_images(split: datasets.Split, count: int) -> datasets.Split:
    """Returns the split of the first `count` images."""
    return split.select(range(min(count, len(split))))
