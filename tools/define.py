"""Flags that several binaries have: of a data set, a run, a training, a preset's stages; in groups, for --help."""

import contextlib
import dataclasses
from collections.abc import Iterator
from typing import Any

from absl import flags

from ficklenet_tf import configs, presets
from ficklenet_tf.runs import layout
from tools import help_page, words

FLAGS = flags.FLAGS
GROUPS = help_page.Groups()
HELD_OUT = "Split for evaluation (default: the data set's)."
WEIGHTS = ("Of the backbone: imagenet (downloaded), a file (.npz, .h5 or .weights.h5), or random where frozen layers "
           "may be that.")
SALIENCY_DIR = "Saliency maps <image id>.png, where they are needed (default: the run's own)."
SALIENCY_MODEL = "ONNX file of the saliency network, U2-Net's or one of its form; `make saliency` fetches one."


@contextlib.contextmanager
def _group(title: str) -> Iterator[None]:
    """Flags defined inside stand under a heading of their own in --help."""
    before = set(FLAGS)
    yield
    GROUPS.titles.update({name: title for name in FLAGS if name not in before})


def data(split: str | None) -> None:
    """Defines the flags that say what to work on and where; `split` is the default of --split."""
    with _group("Photographs"):
        source("shapes")
        cache_dir()
        flags.DEFINE_string("split", split, "Split to work on (default: the data set's own).")
        flags.DEFINE_enum("on_error", "stop", ("stop", "skip"), "What a broken input does; skip counts and lists it.")
        flags.DEFINE_integer("max_images", None, "At most this many images, the first ones, of a folder evenly "
                             "spaced ones (for a smoke test).",
                             lower_bound=1)
    run()


def source(dataset: str) -> None:
    """Defines --dataset, with its default, and --data_dir."""
    flags.DEFINE_enum("dataset", dataset, words.DATASETS, "Data set: shapes is drawn, folder your own photographs.")
    flags.DEFINE_string("data_dir", None, "voc: the VOCdevkit directory; folder: yours, with a folder for each class, "
                        "or with images/ and tags.csv.")


def cache_dir() -> None:
    """Defines --cache_dir."""
    flags.DEFINE_string("cache_dir", None, "Where prepared data sets are kept (default: TFDS' own directory).")


def run() -> None:
    """Defines --output_dir, --preset, --seed and --import."""
    with _group("The run"):
        run_dir()
        flags.DEFINE_enum("preset", "tiny", list(presets.PRESETS), "Numbers of every stage; flags override them. "
                          "paper: for a GPU; cpu: two cores, an hour or two; evening: longer, for thousands of "
                          "photographs; tiny: for shapes.")
        flags.DEFINE_integer("seed", 0, "Random seed of weights, order, augmentation and selections.", lower_bound=0,
                             upper_bound=2**31 - 1)
        imports()


def imports() -> None:
    """Defines --import; `start.py` imports."""
    flags.DEFINE_list("import", [], "Python modules to import first, as one that registers a backbone.")


def run_dir(default: str | None = None) -> None:
    """Defines --output_dir, required where it has no default."""
    flags.DEFINE_string("output_dir", default, "The run's directory; every stage has its own below it.",
                        required=default is None)


def name(default: str | None, text: str = "Directory below OUTPUT_DIR for what this command makes.") -> None:
    """Defines --name and --restart."""
    flags.DEFINE_string("name", default, text)
    restart()


def restart(text: str = "Directories below OUTPUT_DIR to remove first, to make them again.") -> None:
    """Defines --restart."""
    flags.DEFINE_list("restart", [], text)


def segmenter() -> None:
    """Defines --segmenter."""
    flags.DEFINE_string("segmenter", None, "Directory of the segmenter below OUTPUT_DIR (default: the last round's).")


def strong(what: str) -> None:
    """Defines --strong_split and --strong_images, which go with `what`: a flag and its value; see `cli.strong`."""
    flags.DEFINE_string("strong_split", None, f"{what}: split of the images with masks (default: of voc train).")
    flags.DEFINE_integer("strong_images", None, f"{what}: learn the masks of N images of the split, evenly spaced "
                         "among those with a mask; where all images of voc or shapes have one, the first N.",
                         lower_bound=1)


def rehearsal() -> None:
    """Defines --rehearsal, see `ficklenet_tf.training.rehearsal`."""
    with _group("Training"):
        flags.DEFINE_boolean("rehearsal", True, "First take one step of each training on a few images and throw it "
                             "away.")


def training() -> None:
    """Defines --distribute, --jit_compile, --save_every and --rehearsal."""
    rehearsal()
    save_every()
    with _group("Training"):
        flags.DEFINE_enum("distribute", "none", words.STRATEGIES,
                          "mirrored: all GPUs of this machine; multi_worker: the machines in TF_CONFIG.")
        flags.DEFINE_boolean("jit_compile", False, "Compile the training step by XLA.")


def save_every() -> None:
    """Defines --save_every."""
    with _group("Training"):
        flags.DEFINE_integer("save_every", 200, "Steps between checkpoints.", lower_bound=1)


def sizes(name: str, default: list[str] | None, text: str) -> None:
    """Defines a list of photographs' sides, which may be left out."""
    flags.DEFINE_list(name, default, text)
    least, most = configs.SIDES
    flags.register_validator(
        name, lambda sides: sides is None or (sides or default is not None) and all(
            side.isdecimal() and least <= int(side) <= most for side in sides),
        f"expected whole numbers from {least} to {most}")


def shards() -> None:
    """Defines --num_shards and --shard_index, see `ficklenet_tf.runs.shards`."""
    with _group("Several machines"):
        flags.DEFINE_integer("num_shards", 1, "Number of shards into which the images are cut.", lower_bound=1)
        flags.DEFINE_integer("shard_index", 0, "This shard, from 0.", lower_bound=0)


def drawing() -> None:
    """Defines --classifier, --mode and --jit_compile, see `maps.extraction.Options`."""
    flags.DEFINE_string("classifier", layout.CLASSIFIER, "The classifier's directory below OUTPUT_DIR.")
    flags.DEFINE_enum("mode", None, configs.MODES, "Which hidden units; deterministic: plain Grad-CAM (default: as "
                      "the classifier predicts tags).")
    flags.DEFINE_boolean("jit_compile", False, "Compile backbone and maps by XLA.")


def seeding() -> None:
    """Defines --saliency_dir, --affinity and --uncertainty, see `seeds.extraction.Options`."""
    flags.DEFINE_string("saliency_dir", None, SALIENCY_DIR)
    flags.DEFINE_string("affinity", layout.AFFINITY, "Directory below OUTPUT_DIR of --refine=affinity's network.")
    flags.DEFINE_boolean("uncertainty", False, "Also write how little the maps agree on each seed.")


def stage(stage: type[Any], prefix: str = "") -> None:
    """Defines a flag for each field of a stage's config.

    Args:
      stage: one of the config classes of `presets`.
      prefix: of the flags' names, where one binary runs several stages ("classifier.").
    """
    stage_name = configs.stage_of(stage)
    kind = "Numbers" if stage_name in ("maps", "seeds") else "Training"
    with _group(f"{kind} of the {stage_name}"):
        for field in dataclasses.fields(stage):
            name = prefix + field.name
            GROUPS.settings[name] = stage_name, field.name
            _define_setting(name, field.type, help_page.settings_text(stage_name, field))


def _define_setting(name: str, kind: Any, text: str) -> None:
    if kind is bool:
        flags.DEFINE_boolean(name, None, text)
    elif kind is int:
        flags.DEFINE_integer(name, None, text)
    elif kind is float:
        flags.DEFINE_float(name, None, text)
    elif kind is tuple:
        flags.DEFINE_list(name, None, text)
    elif kind in (int | str, float | str):
        flags.DEFINE(_NumberOrWord(int if kind == int | str else float), name, None, text)
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


def whole_job() -> None:
    """Defines what the binaries share that go through every stage; each config's flags as --maps.num_maps=100."""
    flags.DEFINE_string("weights", "", WEIGHTS)
    flags.DEFINE_string("held_out", None, HELD_OUT)
    flags.DEFINE_string("saliency_dir", None, SALIENCY_DIR)
    flags.DEFINE_string("saliency_model", "weights/u2netp.onnx", SALIENCY_MODEL)
    save_every()
    rehearsal()
    data(None)
    for name, config in configs.STAGES.items():
        stage(config, prefix=f"{name}.")
