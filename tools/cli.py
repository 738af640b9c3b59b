"""What all binaries share: flags of a data set and of a preset's stage, and one clear line for a user's mistake."""

import dataclasses
import logging
import os
import pathlib
import re
import sys

import absl.logging
import tensorflow as tf
from absl import app, flags

from ficklenet_tf import distribution, presets
from ficklenet_tf.data import datasets

FLAGS = flags.FLAGS


def define_data(split):
    """Defines the flags that say what to work on and where; `split` is the default of --split."""
    flags.DEFINE_enum("dataset", "shapes", datasets.DATASETS, "Data set.")
    flags.DEFINE_string("data_dir", None, "voc: the VOCdevkit directory; folder: yours, with images/ and tags.csv.")
    flags.DEFINE_string("cache_dir", None, "Where prepared data sets are kept (default: TFDS' own directory).")
    flags.DEFINE_string("split", split, "Split to work on (default: the data set's own).")
    flags.DEFINE_enum("on_error", "stop", ("stop", "skip"), "What a broken input does; skip counts and lists it.")
    flags.DEFINE_integer("max_images", None, "Only the first so many images (for a smoke test).")
    define_run()


def define_run():
    """Defines --output_dir, --preset and --seed."""
    flags.DEFINE_string("output_dir", None, "The run's directory; every stage has its own below it.", required=True)
    flags.DEFINE_enum("preset", "tiny", list(presets.PRESETS), "Numbers of every stage; flags override them.")
    flags.DEFINE_integer("seed", 0, "Of weights, order, augmentation and selections.")


def define_rehearsal():
    """Defines --rehearsal, see `ficklenet_tf.training.rehearsal`."""
    flags.DEFINE_boolean("rehearsal", True, "First take one step of each training on a few images and throw it away.")


def define_training():
    """Defines --distribute, --jit_compile, --save_every and --rehearsal."""
    define_rehearsal()
    flags.DEFINE_enum("distribute", "none", distribution.STRATEGIES,
                      "mirrored: all GPUs of this machine; multi_worker: the machines in TF_CONFIG.")
    flags.DEFINE_boolean("jit_compile", False, "Compile the training step by XLA.")
    flags.DEFINE_integer("save_every", 200, "Steps between checkpoints.", lower_bound=1)


def define_shards():
    """Defines --num_shards and --shard_index, see `ficklenet_tf.runs.shards`."""
    flags.DEFINE_integer("num_shards", 1, "Number of shards.", lower_bound=1)
    flags.DEFINE_integer("shard_index", 0, "This shard, from 0.", lower_bound=0)


def shard():
    """Returns (--shard_index, --num_shards)."""
    return FLAGS.shard_index, FLAGS.num_shards


def define_stage(stage, prefix=""):
    """Defines a flag for each field of a stage's preset.

    Args:
      stage: one of the dataclasses of `presets`.
      prefix: of the flags' names, where one binary runs several stages ("classifier.").
    """
    for field in dataclasses.fields(stage):
        name = prefix + field.name
        text = f"Overrides the preset's {stage.__name__.lower()}.{field.name} (paper: {field.default})."
        if field.type is bool:
            flags.DEFINE_boolean(name, None, text)
        elif field.type is int:
            flags.DEFINE_integer(name, None, text)
        elif field.type is float:
            flags.DEFINE_float(name, None, text)
        elif field.type is tuple:
            flags.DEFINE_list(name, None, text)
        elif field.type == int | str:
            flags.DEFINE(_NumberOrWord(), name, None, text)
        else:
            flags.DEFINE_string(name, None, text)


class _NumberOrWord(flags.ArgumentParser):
    """A flag's value that is a whole number or a word, as --selections=200 and --selections=auto."""

    def parse(self, argument):
        """Returns an int, or the word as it is."""
        return int(argument) if str(argument).isdigit() else argument


def stage(stage_name):
    """Returns the preset of a stage ("classifier", "seeds", "segmenter") with the flags given applied."""
    base = getattr(presets.PRESETS[FLAGS.preset], stage_name)
    changes = {}
    for field in dataclasses.fields(base):
        given = [name for name in (field.name, f"{stage_name}.{field.name}") if name in FLAGS]
        value = FLAGS[given[0]].value if given else None
        if value is not None:
            changes[field.name] = tuple(int(v) for v in value) if field.type is tuple else value
    return dataclasses.replace(base, **changes)


DEFAULT_SPLITS = {"shapes": ("train", "val"), "voc": ("train_aug", "val"), "folder": ("train", "val")}


def split_arguments(name=None, held_out=False):
    """Returns the arguments of `datasets.load_split` for the split `name`, by name; see `split`."""
    name = name or (None if held_out else FLAGS.split) or DEFAULT_SPLITS[FLAGS.dataset][held_out]
    return {"dataset": FLAGS.dataset, "split": name, "data_dir": FLAGS.data_dir, "cache_dir": FLAGS.cache_dir,
            "on_error": FLAGS.on_error, "max_images": FLAGS.max_images}


def split(name=None, held_out=False):
    """Opens the split `name`; without it --split, or with `held_out` the data set's evaluation split."""
    return datasets.load_split(**split_arguments(name, held_out))


def given():
    """Returns the flags that were given, name -> value."""
    ours = FLAGS.flags_by_module_dict()[sys.argv[0]] + FLAGS.flags_by_module_dict()[__name__]
    return {flag.name: flag.value for flag in ours if flag.present}


def run_dir():
    """Returns --output_dir as a path."""
    return pathlib.Path(FLAGS.output_dir)


def done(what, where):
    """Prints a stage's one line: what came out and where it is."""
    print(f"{what} -> {where}", flush=True)


def start(main, arguments=False):
    """Runs `main()` as a binary: a user's mistake ends in one line and exit code 1, not in a traceback.

    Args:
      main: the function to run.
      arguments: whether it takes the list of what follows the flags; otherwise such words are an error.
    """
    for flag in FLAGS.flags_by_module_dict().get(__name__, []):
        FLAGS.register_key_flag_for_module(sys.argv[0], flag)  # so that --help shows them

    def wrapped(argv):
        if len(argv) > 1 and not arguments:
            raise app.UsageError(f"unexpected arguments: {' '.join(argv[1:])}")
        logging.basicConfig(format="%(levelname)s: %(message)s")
        absl.logging.set_verbosity(absl.logging.ERROR)  # TensorFlow's and TFDS' chatter is not a user's business
        logging.getLogger("tensorflow").setLevel(logging.ERROR)  # many networks in one run: tracing again is right
        try:
            main(argv[1:]) if arguments else main()
        except (ValueError, OSError, FloatingPointError, KeyError, tf.errors.OpError) as error:
            if os.environ.get("FICKLENET_TRACEBACK"):
                raise
            print(f"error: {_text(error)}", file=sys.stderr)
            sys.exit(1)

    app.run(wrapped)


def _text(error):
    """Returns what an error says; of one in a function that a graph called (random_access.py), what that one said."""
    inner = re.search(r"Error: (.*?)\nTraceback", getattr(error, "message", ""), re.DOTALL)
    return inner[1] if inner else error
