"""What all binaries share: flags of a data set and of a preset's stage, and one clear line for a user's mistake."""

import builtins
import dataclasses
import gc
import logging
import os
import pathlib
import re
import sys
import traceback
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import absl.logging
import tensorflow as tf
from absl import app, flags

from ficklenet_tf import distribution, presets
from ficklenet_tf.data import datasets
from ficklenet_tf.errors import UserError
from ficklenet_tf.maps import extraction as map_extraction
from ficklenet_tf.models import stochastic
from ficklenet_tf.runs import layout
from ficklenet_tf.seeds import extraction as seed_extraction
from ficklenet_tf.training import loop, settings
from tools import checks

FLAGS = flags.FLAGS
Config = TypeVar("Config", presets.ClassifierConfig, presets.MapsConfig, presets.SeedsConfig, presets.SegmenterConfig,
                 presets.AffinityConfig)
STAGES: dict[type[Any], str] = {
    presets.ClassifierConfig: "classifier", presets.MapsConfig: "maps", presets.SeedsConfig: "seeds",
    presets.SegmenterConfig: "segmenter", presets.AffinityConfig: "affinity"}


def define_data(split: str | None) -> None:
    """Defines the flags that say what to work on and where; `split` is the default of --split."""
    flags.DEFINE_enum("dataset", "shapes", datasets.DATASETS, "Data set.")
    flags.DEFINE_string("data_dir", None, "voc: the VOCdevkit directory; folder: yours, with images/ and tags.csv.")
    flags.DEFINE_string("cache_dir", None, "Where prepared data sets are kept (default: TFDS' own directory).")
    flags.DEFINE_string("split", split, "Split to work on (default: the data set's own).")
    flags.DEFINE_enum("on_error", "stop", ("stop", "skip"), "What a broken input does; skip counts and lists it.")
    flags.DEFINE_integer("max_images", None, "At most this many images, the first ones (for a smoke test).",
                         lower_bound=1)
    define_run()


def define_run() -> None:
    """Defines --output_dir, --preset and --seed."""
    flags.DEFINE_string("output_dir", None, "The run's directory; every stage has its own below it.", required=True)
    flags.DEFINE_enum("preset", "tiny", list(presets.PRESETS), "Numbers of every stage; flags override them.")
    flags.DEFINE_integer("seed", 0, "Random seed of weights, order, augmentation and selections.", lower_bound=0,
                         upper_bound=2**31 - 1)


def define_rehearsal() -> None:
    """Defines --rehearsal, see `ficklenet_tf.training.rehearsal`."""
    flags.DEFINE_boolean("rehearsal", True, "First take one step of each training on a few images and throw it away.")


def define_training() -> None:
    """Defines --distribute, --jit_compile, --save_every and --rehearsal."""
    define_rehearsal()
    flags.DEFINE_enum("distribute", "none", distribution.STRATEGIES,
                      "mirrored: all GPUs of this machine; multi_worker: the machines in TF_CONFIG.")
    flags.DEFINE_boolean("jit_compile", False, "Compile the training step by XLA.")
    flags.DEFINE_integer("save_every", 200, "Steps between checkpoints.", lower_bound=1)


def loop_options() -> loop.Options:
    """Returns the `loop.Options` of --save_every, and of --jit_compile where there is that flag."""
    return loop.Options(save_every=FLAGS.save_every, jit_compile="jit_compile" in FLAGS and FLAGS.jit_compile)


def define_sizes(name: str, default: list[str] | None, text: str) -> None:
    """Defines a list of photographs' sides, which may be left out."""
    flags.DEFINE_list(name, default, text)
    least, most = presets.SIDES
    flags.register_validator(
        name, lambda sides: sides is None or (sides or default is not None) and all(
            side.isdecimal() and least <= int(side) <= most for side in sides),
        f"expected whole numbers from {least} to {most}")


def define_shards() -> None:
    """Defines --num_shards and --shard_index, see `ficklenet_tf.runs.shards`."""
    flags.DEFINE_integer("num_shards", 1, "Number of shards.", lower_bound=1)
    flags.DEFINE_integer("shard_index", 0, "This shard, from 0.", lower_bound=0)


def define_drawing() -> None:
    """Defines --classifier, --mode and --jit_compile, see `maps.extraction.Options`."""
    flags.DEFINE_string("classifier", layout.CLASSIFIER, "The classifier's directory below OUTPUT_DIR.")
    flags.DEFINE_enum("mode", "stochastic", stochastic.MODES, "Which hidden units; deterministic: plain Grad-CAM.")
    flags.DEFINE_boolean("jit_compile", False, "Compile backbone and maps by XLA.")


def drawing() -> map_extraction.Options:
    """Returns the `maps.extraction.Options` of `define_drawing`'s flags and --seed."""
    return map_extraction.Options(FLAGS.classifier, FLAGS.mode, FLAGS.seed, FLAGS.jit_compile)


def define_seeding() -> None:
    """Defines --saliency_dir, --affinity and --uncertainty, see `seeds.extraction.Options`."""
    flags.DEFINE_string("saliency_dir", None, "Saliency maps <image id>.png, where seeds need them (default: the "
                        "run's own, of tools.make_saliency).")
    flags.DEFINE_string("affinity", layout.AFFINITY, "Directory below OUTPUT_DIR of --refine=affinity's network.")
    flags.DEFINE_boolean("uncertainty", False, "Also write how little the maps agree on each seed.")


def seeding() -> seed_extraction.Options:
    """Returns the `seeds.extraction.Options` of `define_seeding`'s flags."""
    return seed_extraction.Options(saliency_dir=FLAGS.saliency_dir, affinity_name=FLAGS.affinity,
                                   uncertainty=FLAGS.uncertainty)


def scores_text(scores: dict[str, Any] | None) -> str:
    """Returns seeds' scores for a stage's line; nothing where there are none."""
    return "" if not scores else (f": mIoU {100 * scores['miou']:.1f}, recall {100 * scores['recall']:.1f}, "
                                  f"precision {100 * scores['precision']:.1f}")


def maps_text(run: dict[str, Any]) -> str:
    """Returns how many maps images took, for a stage's line; nothing where N is fixed."""
    counts = run.get("num_maps")
    return "" if not counts else f"; maps per image: median {counts['median']:g}, at most {counts['max']}"


def shard() -> tuple[int, int]:
    """Returns (--shard_index, --num_shards)."""
    return FLAGS.shard_index, FLAGS.num_shards


def define_stage(stage: type[Any], prefix: str = "") -> None:
    """Defines a flag for each field of a stage's config.

    Args:
      stage: one of the config classes of `presets`.
      prefix: of the flags' names, where one binary runs several stages ("classifier.").
    """
    for field in dataclasses.fields(stage):
        name = prefix + field.name
        text = f"Overrides the preset's {STAGES[stage]}.{field.name} (preset 'paper': {field.default})."
        if field.type is bool:
            flags.DEFINE_boolean(name, None, text)
        elif field.type is int:
            flags.DEFINE_integer(name, None, text)
        elif field.type is float:
            flags.DEFINE_float(name, None, text)
        elif field.type is tuple:
            flags.DEFINE_list(name, None, text)
        elif field.type in (int | str, float | str):
            flags.DEFINE(_NumberOrWord(int if field.type == int | str else float), name, None, text)
        else:
            flags.DEFINE_string(name, None, text)


class _NumberOrWord(flags.ArgumentParser[float | str]):
    """A flag's value that is a number or a word, as --num_maps=200 and --num_maps=auto.

    Args:
      number: int or float.
    """

    def __init__(self, number: type[int] | type[float]) -> None:
        super().__init__()
        self._number = number

    def parse(self, argument: float | str) -> float | str:
        """Returns a number, or the word as it is."""
        try:
            return self._number(argument)
        except ValueError:
            return argument


def define_all_stages() -> None:
    """Defines the flags of every stage, with its name before a dot, as --maps.num_maps=100."""
    for stage, name in STAGES.items():
        define_stage(stage, prefix=f"{name}.")


def config(stage: type[Config]) -> Config:
    """Returns the preset's config of a stage, given by its class, with the flags given applied and checked."""
    stage_name = STAGES[stage]
    base = getattr(presets.PRESETS[FLAGS.preset], stage_name)
    changes = {}
    for field in dataclasses.fields(base):
        defined = [name for name in (field.name, f"{stage_name}.{field.name}") if name in FLAGS]
        value = FLAGS[defined[0]].value if defined else None
        if value is not None:
            changes[field.name] = integers(defined[0], value) if field.type is tuple else value
    changed = dataclasses.replace(base, **changes)
    settings.check_words(stage_name, changed)
    return changed


DEFAULT_SPLITS = {"shapes": ("train", "val"), "voc": ("train_aug", "val"), "folder": ("train", "val")}


def preset() -> presets.Preset:
    """Returns the `presets.Preset` with the flags given applied to every stage, checked."""
    preset = dataclasses.replace(presets.PRESETS[FLAGS.preset],
                                 **{name: config(stage) for stage, name in STAGES.items()})
    settings.check(preset)
    return preset


def split_arguments(name: str | None = None, held_out: bool = False) -> dict[str, Any]:
    """Returns the arguments of `datasets.load_split` for the split `name`, by name; see `split`."""
    name = name or (None if held_out else FLAGS.split) or DEFAULT_SPLITS[FLAGS.dataset][held_out]
    return {"dataset": FLAGS.dataset, "split": name, "data_dir": FLAGS.data_dir, "cache_dir": FLAGS.cache_dir,
            "on_error": FLAGS.on_error, "max_images": FLAGS.max_images}


def split(name: str | None = None, held_out: bool = False) -> datasets.Split:
    """Opens the split `name`; without it --split, or with `held_out` the data set's evaluation split."""
    return datasets.load_split(**split_arguments(name, held_out))


def given_flags() -> dict[str, Any]:
    """Returns the flags that were given, name -> value."""
    own_flags = FLAGS.flags_by_module_dict()[sys.argv[0]] + FLAGS.flags_by_module_dict()[__name__]
    return {flag.name: flag.value for flag in own_flags if flag.present}


def run_dir() -> pathlib.Path:
    """Returns --output_dir as a path."""
    return pathlib.Path(FLAGS.output_dir)


def done(result: str, where: str | pathlib.Path) -> None:
    """Prints a stage's one line: what came out and where it is."""
    print(f"{result} -> {where}", flush=True)


def start(main: Callable[..., None], arguments: bool = False) -> None:
    """Runs `main()` as a binary: a user's mistake ends in one line and exit code 1, not in a traceback.

    Args:
      main: the function to run.
      arguments: whether it takes the list of what follows the flags; otherwise such words are an error.
    """
    for flag in FLAGS.flags_by_module_dict().get(__name__, []):
        FLAGS.register_key_flag_for_module(sys.argv[0], flag)  # so that --help shows them

    def wrapped(argv: list[str]) -> None:
        if len(argv) > 1 and not arguments:
            raise app.UsageError(f"unexpected arguments: {' '.join(argv[1:])}")
        logging.basicConfig(format="%(levelname)s: %(message)s")
        absl.logging.set_verbosity(absl.logging.ERROR)  # TensorFlow's and TFDS' messages mean nothing to a user
        logging.getLogger("tensorflow").setLevel(logging.ERROR)  # many networks in one run: tracing again is right
        failed = True
        try:
            checks.check_names()
            checks.check_places()
            if arguments:
                main(argv[1:])
            else:
                main()
            failed = False
        except Exception as error:
            text = _text(error) if isinstance(error, _EXPECTED) else None
            if text is None or os.environ.get("FICKLENET_TRACEBACK"):
                traceback.print_exc()
            else:
                print(f"error: {text}", file=sys.stderr)
        if failed:  # here, where the error and its frames are gone: an input pipeline that one holds would never end
            gc.collect()
            sys.exit(1)

    checks.check_renamed(sys.argv[1:])
    app.run(wrapped)


# Errors that may be a user's mistake or the machine's.
_EXPECTED = (UserError, OSError, FloatingPointError, tf.errors.OpError)
# Errors by which TensorFlow speaks of the machine, and not of our graphs.
_MACHINE = (tf.errors.NotFoundError, tf.errors.PermissionDeniedError, tf.errors.ResourceExhaustedError,
            tf.errors.DataLossError, tf.errors.UnavailableError, tf.errors.AbortedError,
            tf.errors.DeadlineExceededError)


def _text(error: Exception) -> str | None:
    """Returns the message of a user's mistake or of the machine's trouble, None for a bug.

    Of an error in a function that a graph called (indexed_dataset.py), TensorFlow keeps the class' name and the text;
    of one while it traces, AutoGraph puts the lines of code before the text.
    """
    if not isinstance(error, tf.errors.OpError):
        return re.split(r"\n\s*UserError: ", str(error))[-1].strip()
    inner = re.search(r"(\w*Error): (.*?)\nTraceback", error.message, re.DOTALL)
    if inner:
        return inner[2] if inner[1] == "UserError" or _is_os_error(inner[1]) else None
    return error.message if isinstance(error, _MACHINE) else None


def _is_os_error(name: str) -> bool:
    return issubclass(getattr(builtins, name, object), OSError)


def integers(name: str, values: Sequence[str]) -> tuple[int, ...]:
    """Returns the values of the list flag --`name` as whole numbers."""
    try:
        return tuple(int(value) for value in values)
    except ValueError:
        raise UserError(f"--{name}: expected whole numbers, found {','.join(map(str, values))}") from None
