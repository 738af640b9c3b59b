"""What all binaries share: the values of their flags as the library takes them, and how they begin and end.

Whatever needs TensorFlow is imported where it is used, so that --help answers at once.
"""

import dataclasses
import functools
import pathlib
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from absl import flags

from ficklenet_tf import configs, presets, setting
from ficklenet_tf.errors import UserError
from ficklenet_tf.runs import artifacts, layout, restart
from tools import checks, define, words
from tools import start as starting

if TYPE_CHECKING:
    from ficklenet_tf.data import datasets
    from ficklenet_tf.maps import extraction as map_extraction
    from ficklenet_tf.seeds import extraction as seed_extraction
    from ficklenet_tf.training import loop

FLAGS = flags.FLAGS
Config = TypeVar("Config", presets.ClassifierConfig, presets.MapsConfig, presets.SeedsConfig, presets.SegmenterConfig,
                 presets.AffinityConfig)


def restart_stages(*names: str) -> None:
    """Lets what --restart names be removed when its stage begins; see `restart.request`.

    Args:
      names: of the directories that this command makes.

    Raises:
      UserError: --restart names another one, or several processes do one stage.
    """
    wanted = FLAGS.restart
    if not set(wanted) <= set(names):
        raise UserError(f"restart: expected {' or '.join(names)}, which this command makes, found "
                        f"{', '.join(wanted)}")
    several = [flag for flag, alone in (("num_shards", 1), ("distribute", "none"))
               if flag in FLAGS and FLAGS[flag].value not in (alone, "mirrored")]
    if wanted and several:
        raise UserError(f"restart: expected a command that does a stage alone, found --{several[0]}; remove the "
                        "directory by hand")
    restart.request(run_dir(), wanted, followers=False)


def loop_options() -> "loop.Options":
    """Returns the `loop.Options` of --save_every, and of --jit_compile where there is that flag."""
    from ficklenet_tf.training import loop

    return loop.Options(save_every=FLAGS.save_every, jit_compile="jit_compile" in FLAGS and FLAGS.jit_compile)


def drawing() -> "map_extraction.Options":
    """Returns the `maps.extraction.Options` of `define.drawing`'s flags and --seed.

    Raises:
      FileNotFoundError: the classifier, whose own mode is taken without --mode, has not finished.
    """
    from ficklenet_tf.maps import extraction as map_extraction

    run = artifacts.finished_run(run_dir() / FLAGS.classifier, "classifier", "tools.train_classifier")
    return map_extraction.Options(FLAGS.classifier, FLAGS.mode or run["config"]["inference_mode"], FLAGS.seed,
                                  FLAGS.jit_compile)


def seeding() -> "seed_extraction.Options":
    """Returns the `seeds.extraction.Options` of `define.seeding`'s flags."""
    from ficklenet_tf.seeds import extraction as seed_extraction

    return seed_extraction.Options(saliency_dir=FLAGS.saliency_dir, affinity_name=FLAGS.affinity,
                                   uncertainty=FLAGS.uncertainty)


def shard() -> tuple[int, int]:
    """Returns (--shard_index, --num_shards)."""
    return FLAGS.shard_index, FLAGS.num_shards


def config(stage: type[Config], base_preset: presets.Preset | None = None) -> Config:
    """Returns the preset's config of a stage, given by its class, with the flags given applied and checked."""
    stage_name = configs.stage_of(stage)
    base = getattr(base_preset or _base_preset(), stage_name)
    changes, prefix = {}, ""
    for field in dataclasses.fields(base):
        defined = [name for name in (field.name, f"{stage_name}.{field.name}") if name in FLAGS]
        value = FLAGS[defined[0]].value if defined else None
        if value is not None:
            numbers = field.type is tuple and setting.setting_of(field).limits
            changes[field.name] = integers(defined[0], value) if numbers else value
            prefix = defined[0].removesuffix(field.name)
    try:
        return dataclasses.replace(base, **changes)
    except UserError as error:
        raise UserError(f"{prefix}{error}") from None


def _base_preset() -> presets.Preset:
    """Returns --preset as it stands; its default is easily forgotten."""
    checks.check_preset(run_dir())
    return presets.PRESETS[FLAGS.preset]


def preset(trains: bool = True,
           changed: Callable[[presets.Preset], presets.Preset] | None = None) -> presets.Preset:
    """Returns the `presets.Preset` with the flags given applied to every stage, checked.

    Args:
      trains: checks it with --weights.
      changed: what a system makes of the preset before the flags change it.
    """
    from ficklenet_tf.training import settings

    base = changed(_base_preset()) if changed else _base_preset()
    preset = dataclasses.replace(base, **{name: config(stage, base) for name, stage in configs.STAGES.items()})
    settings.check(preset, FLAGS.weights if trains else None)
    if FLAGS["maps.sizes"].value is None:
        settings.check_sizes(base, preset.classifier.input_size)
    return preset


@functools.cache  # says once what is left out
def systems() -> list[str]:
    """Returns the names in --systems; of all those that the preset can run, and says which it cannot.

    Raises:
      UserError: a system that is named cannot be run with the preset.
    """
    from ficklenet_tf.experiments.systems import SYSTEMS
    from ficklenet_tf.runs import progress

    every, base = FLAGS.systems == ["all"], preset(trains=False)
    names = list(SYSTEMS) if every else FLAGS.systems
    refused = {name: reason for name in names if (reason := SYSTEMS[name].refusal(base))}
    for name, reason in refused.items():
        if not every:
            raise UserError(f"systems: {name}: {reason}")
        progress.say(f"{name}: left out, {reason}")
    return [name for name in names if name not in refused]


def make_saliency(run_dir: pathlib.Path, train_split: "datasets.Split", needing: Sequence[str]) -> pathlib.Path:
    """Makes the photographs' saliency maps by --saliency_model; returns their directory.

    Args:
      run_dir: the run's directory.
      train_split: `datasets.Split`.
      needing: the systems that learn from them, for the message.

    Raises:
      UserError: the network's file is not there.
    """
    from ficklenet_tf.seeds import saliency

    if not pathlib.Path(FLAGS.saliency_model).exists():
        raise UserError(f"saliency_model: expected {FLAGS.saliency_model}, which `make saliency` fetches, or "
                        f"--saliency_dir, or --systems without {', '.join(needing)}; found none of them")
    saliency.make(run_dir, train_split, FLAGS.saliency_model)
    done("saliency", run_dir / layout.SALIENCY)
    return run_dir / layout.SALIENCY


def strong(train_split: "datasets.Split", wanted: bool, what: str) -> "datasets.Split | None":
    """Returns the split of the images whose masks may be learned beside tags, None where nothing learns any.

    Held-out photographs are not among them: their masks are what a segmenter is measured by.

    Args:
      train_split: `datasets.Split` to train on.
      wanted: whether the training learns masks of some images.
      what: the flag and value that make it so, for the message.

    Raises:
      UserError: --strong_split and --strong_images do not say whose, or say it where nothing learns them; or all are
        held out, or too few have masks.
    """
    from ficklenet_tf.data.datasets import strong as choice

    name, count = FLAGS.strong_split, FLAGS.strong_images
    if not wanted:
        if name is not None or count is not None:
            raise UserError(f"strong_split and strong_images: expected only with {what}")
        return None
    if count is not None:
        if name is not None:
            raise UserError(f"strong_images: expected no strong_split beside it, found {name}")
        return choice.some(own_masks(train_split), count, len(train_split) - 1)
    if name is None and FLAGS.dataset != "voc":
        raise UserError(f"{what}: expected --strong_split or --strong_images, found neither")
    return learned(split(name or "train"))


def own_masks(train_split: "datasets.Split") -> "datasets.Split":
    """Returns the split to train on whose own masks are to be learned: a folder's without what is held out."""
    return learned(train_split, "split") if FLAGS.dataset == "folder" else train_split


def learned(masked: "datasets.Split", flag: str = "strong_split") -> "datasets.Split":
    """Returns a split, named by `flag`, without the photographs that are held out; says how many those are.

    Of a folder those are of every split whose name begins with val or test, and of --held_out.
    """
    from ficklenet_tf.data import datasets
    from ficklenet_tf.data.datasets import folder
    from ficklenet_tf.data.datasets import strong as choice

    name = FLAGS.held_out if "held_out" in FLAGS else None
    if FLAGS.dataset == "folder":
        return choice.without(masked, folder.measured(FLAGS.data_dir, name), flag)
    held_out = datasets.load_split(**{**split_arguments(name, held_out=True), "max_images": None})
    return choice.without(masked, {held_out.name: held_out.image_ids}, flag)


def split_arguments(name: str | None = None, held_out: bool = False) -> dict[str, Any]:
    """Returns the arguments of `datasets.load_split` for the split `name`, by name; see `split`."""
    name = name or (None if held_out else FLAGS.split) or words.DEFAULT_SPLITS[FLAGS.dataset][held_out]
    return {"dataset": FLAGS.dataset, "split": name, "data_dir": FLAGS.data_dir, "cache_dir": FLAGS.cache_dir,
            "on_error": FLAGS.on_error, "max_images": FLAGS.max_images}


def split(name: str | None = None, held_out: bool = False) -> "datasets.Split":
    """Opens the split `name`; without it --split, or with `held_out` the data set's evaluation split."""
    from ficklenet_tf.data import datasets

    _check_dataset()
    return datasets.load_split(**split_arguments(name, held_out))


def splits() -> tuple["datasets.Split", "datasets.Split"]:
    """Opens --split and --held_out.

    Raises:
      UserError: they share photographs, so that what is measured would be learned.
    """
    from ficklenet_tf.data import datasets

    train_split, held_out = split(), split(FLAGS.held_out, held_out=True)
    datasets.check_apart(train_split, held_out)
    return train_split, held_out


def _check_dataset() -> None:
    """Raises UserError where the run is of another data set than --dataset, whose default is easily forgotten."""
    made = artifacts.read_run(run_dir() / layout.CLASSIFIER)
    dataset = FLAGS.dataset if made is None else made.get("dataset", FLAGS.dataset)
    if dataset != FLAGS.dataset and not ("restart" in FLAGS and FLAGS.restart):
        raise UserError(f"dataset: expected {dataset}, of which {run_dir()} was made, found {FLAGS.dataset}; give "
                        f"--dataset={dataset}{'' if dataset == 'shapes' else ' and its --data_dir'}")


def given_flags() -> dict[str, Any]:
    """Returns the flags that were given, name -> value; --restart, which is for once, is none of a run's."""
    own_flags = FLAGS.flags_by_module_dict()[sys.argv[0]] + FLAGS.flags_by_module_dict()[define.__name__]
    return {flag.name: flag.value for flag in own_flags if flag.present and flag.name != "restart"}


def run_dir() -> pathlib.Path:
    """Returns --output_dir as a path."""
    return pathlib.Path(FLAGS.output_dir)


def title(dataset: str, system: str = "FickleNet") -> str:
    """Returns a report's title: what was run on which data set, of one's own photographs the name of their folder."""
    name = pathlib.Path(FLAGS.data_dir).resolve().name if dataset == "folder" and FLAGS.data_dir else dataset
    return f"{system} on {name}"


def done(result: str, where: str | pathlib.Path) -> None:
    """Prints a stage's one line: what came out and where it is."""
    print(f"{result} -> {where}", flush=True)


def start(main: Callable[..., None], arguments: bool = False) -> None:
    """Runs `main()` as a binary: a user's mistake ends in one line and exit code 1, not in a traceback.

    Args:
      main: the function to run.
      arguments: whether it takes the list of what follows the flags; otherwise such words are an error.
    """
    starting.start(main, arguments, (sys.argv[0], define.__name__), define.GROUPS)


def integers(name: str, values: Sequence[str]) -> tuple[int, ...]:
    """Returns the values of the list flag --`name` as whole numbers."""
    try:
        return tuple(int(value) for value in values)
    except ValueError:
        raise UserError(f"--{name}: expected whole numbers, found {','.join(map(str, values))}") from None
