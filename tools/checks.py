"""What the flags of all binaries must be before one begins: names, paths and splits that can be."""

import dataclasses
import functools
import os
import pathlib
import re
import shutil
import sys
from collections.abc import Sequence

from absl import flags

from ficklenet_tf import presets
from ficklenet_tf.errors import UserError
from ficklenet_tf.runs import artifacts, layout, progress

FLAGS = flags.FLAGS
# Flags by the names that they had before (CHANGELOG.md), and what they are called now: where several new names stand,
# the first that a binary has.
RENAMED = {"selection": "mode", "selections": "num_maps", "seeds.selections": "maps.num_maps",
           "training_selection": "training_mode", "inference_selection": "inference_mode",
           "classifier.training_selection": "classifier.training_mode",
           "classifier.inference_selection": "classifier.inference_mode", "seeds.method": "maps.method",
           "seeds.cam": "maps.cam", "seeds.sizes": "maps.sizes", "seeds.flip_views": "maps.flip_views",
           "seeds.auto_tolerance": "maps.auto_tolerance", "seeds.auto_most": "maps.auto_most",
           "cam_method": "method", "maps": "keep_maps", "stage": "segmenter classifier", "seeds": "random_seeds",
           "run_dir": "trained_run output_dir", "model": "saliency_model", "sizes": "test_sizes", "flip": "test_flip",
           "photos": "photographs",
           "strong_images": "table3_images"}


def check_renamed(arguments: Sequence[str]) -> None:
    """Prints one line and exits where a flag is given by the name that it had before."""
    for argument in arguments:
        name = argument.split("=")[0]
        old = name.removeprefix("--").removeprefix("-")
        if not name.startswith("-") or old in FLAGS or old.removeprefix("no") in FLAGS:
            continue
        old = old if old in RENAMED else old.removeprefix("no")
        for new in (name for name in RENAMED.get(old, "").split() if name in FLAGS):
            print(f"error: --{old} is called --{new} now", file=sys.stderr)
            sys.exit(1)


# Flags that name a directory below another one.
NAMES = ("name", "seeds", "classifier", "maps", "affinity", "segmenter", "closer")


def check_names() -> None:
    """Raises UserError where a directory's name would lead elsewhere, or is none."""
    for flag in NAMES:
        name = FLAGS[flag].value if flag in FLAGS else None
        if isinstance(name, str) and (not re.fullmatch(r"[\w][\w.-]*", name) or len(name.encode()) > 100):
            raise UserError(f"{flag}: expected a directory's name of letters, digits, _, - and points, found {name!r}")


# Flags of directories that must be there, of directories that may be made, of files, of weights, of splits.
_INPUTS, _OUTPUTS = ("data_dir", "saliency_dir", "trained_run", "photographs"), ("output_dir", "cache_dir")
_FILES, _WEIGHTS = ("peers_python", "beside", "update", "saliency_model"), ("weights", "table2_weights")
_SPLITS = ("split", "held_out", "strong_split")
_WRITTEN = ("to", "picture")  # what is made where it is not there


def check_places() -> None:
    """Raises UserError where a path that is given, or a split, cannot be what its flag says."""
    from ficklenet_tf.data import datasets

    for flag in _SPLITS:
        split = FLAGS[flag].value if flag in FLAGS else None
        if split is not None:
            try:
                datasets.check_split(FLAGS.dataset, split)
            except UserError as error:
                raise UserError(f"{flag}: {error}") from None
    for flag in (*_INPUTS, *_OUTPUTS, *_FILES, *_WEIGHTS, *_WRITTEN):  # a shell leaves --data_dir=~/mine as it is
        if flag in FLAGS and FLAGS[flag].value:
            FLAGS[flag].value = os.path.expanduser(str(FLAGS[flag].value))
    for flag in (*_INPUTS, *_OUTPUTS, *_FILES, *_WEIGHTS):
        if flag not in FLAGS or FLAGS[flag].using_default_value:
            continue
        path, kind = FLAGS[flag].value, "a file" if flag in _FILES else "a directory"
        if flag in _WEIGHTS:
            path, kind = None if path in ("imagenet", "random") else path, "imagenet, random or a file"
        if flag in _OUTPUTS and re.search(r"[][*?]", path or ""):  # TensorFlow would find no checkpoint there
            raise UserError(f"{flag}: expected a path without [, ], * and ?, found {path}")
        sound = os.path.isdir if kind == "a directory" else os.path.isfile
        path = shutil.which(path) or path if path and flag == "peers_python" else path
        if path and not sound(path) and (os.path.exists(path) or flag not in _OUTPUTS):
            raise UserError(f"{flag}: expected {kind}, found {'' if os.path.exists(path) else 'no '}{path}")


def check_preset(run_dir: pathlib.Path) -> None:
    """Raises UserError where --preset was left out and the run was begun with another one than its default.

    Says what the default is where photographs are to be learned by it.
    """
    if not FLAGS["preset"].using_default_value:
        return
    begun, source = _presets_of(run_dir)
    if not begun and "dataset" in FLAGS and FLAGS.dataset != "shapes":
        _say_default()
    if begun and FLAGS.preset not in begun:
        raise UserError(f"preset: expected {' or '.join(begun)}, by {source}, found {FLAGS.preset}, the default; give "
                        f"--preset={begun[0]}, or --preset={FLAGS.preset} where that is meant")


@functools.cache  # once
def _say_default() -> None:
    progress.say(f"preset: {FLAGS.preset}, the default, is a small network for drawings that begins from nothing; for "
                 "photographs give --preset=cpu --weights=imagenet")


def _presets_of(run_dir: pathlib.Path) -> tuple[list[str], pathlib.Path]:
    """Returns (the presets with which a run may have been begun, the file that says so); [] where it has not.

    A whole run says so when it is done. Else those from which the classifier's settings differ in the fewest numbers:
    flags may have changed some, and `cpu` and `evening` have the same ones. What flags change now does not count: the
    command that began a run goes on with it.
    """
    result, settings = run_dir / layout.RESULT, run_dir / layout.CLASSIFIER / layout.SETTINGS
    if result.exists() and "preset" in (content := artifacts.read_json(result)):
        return [content["preset"]], result
    config = artifacts.read_json(settings).get("config") if settings.exists() else None
    if not config:
        return [], settings
    given = {field for field in config for flag in (field, f"{layout.CLASSIFIER}.{field}")
             if flag in FLAGS and FLAGS[flag].value is not None}
    differ = {}
    for name, preset in presets.PRESETS.items():
        base = artifacts.as_json(dataclasses.asdict(preset.classifier))
        differ[name] = sum(value != base[field] for field, value in config.items()
                           if field in base and field not in {*given, "precision"})  # which the hardware may settle
    return [name for name, count in differ.items() if count == min(differ.values())], settings


def check_weights(initial: str, weights: str) -> None:
    """Raises UserError where a segmenter's --weights are given and its --initial would not load them."""
    if weights and initial != "weights":
        raise UserError(f"weights: expected --initial=weights beside it, found --initial={initial}, which takes the "
                        "classifier's")
