"""Command lines that make what a run lacks, with the flags that the run was made with: to copy and run as they stand.

The report's only place for the names of binaries and of their flags; tests/report/test_commands.py lets each binary
read the lines that are made here.
"""

import dataclasses
import os
import pathlib
import shlex
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from ficklenet_tf import crf, presets
from ficklenet_tf.data import datasets
from ficklenet_tf.report import pictures, run_flags
from ficklenet_tf.report.stages import TITLES, Run
from ficklenet_tf.runs import layout
from ficklenet_tf.seeds import needed

_RUN = ("dataset", "data_dir", "cache_dir", "on_error", "max_images", "preset", "seed", "output_dir")
_DEFAULT_CRF = "dsrg"
_TRAINING = ("supervision", "losses", "growing", "seeds", "initial")  # settings of a segmenter that are flags, too
_TRAINING_DEFAULTS = ("weak", ["seed", "boundary"], "none", layout.SEEDS, "classifier")
_PLAIN = (layout.PLAIN_CLASSIFIER, layout.PLAIN_SEEDS)


def line(binary: str, flags: Mapping[str, Any], words: Sequence[object] = ()) -> str:
    """Returns a command line for a shell in the directory of this software.

    Args:
      binary: its module, as "tools.evaluate".
      flags: name -> value: a bool becomes --name or --noname, a list has commas, None is left out.
      words: what follows the flags.
    """
    def flag(name: str, value: Any) -> str:
        if isinstance(value, bool):
            return f"--{name}" if value else f"--no{name}"
        text = ",".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
        return f"--{name}={shlex.quote(text)}"

    given = [flag(name, value) for name, value in flags.items() if value is not None]
    return " ".join([_python(), "-m", binary, *given, *(shlex.quote(str(word)) for word in words)])


def _python() -> str:
    """Returns the Python that runs now, relative to the working directory where it lies below it."""
    if not sys.executable:
        return "python"
    below = os.path.relpath(sys.executable)
    return shlex.quote(sys.executable if below.startswith("..") else below)


def pipeline(run: Run) -> str:
    """Returns the command of the whole job, which does what is not done yet."""
    names = (*_RUN, "split", "held_out", "weights")
    flags = run.flags if "flags" in run.result else {name: run.flags.get(name) for name in names}
    return line("tools.run_pipeline", {**flags, "baseline": None, **_weights(run)})


def missing(run: Run, has_masks: bool) -> list[tuple[str, str]]:
    """Returns (what a run lacks, the command that makes it), in the order in which they must be run.

    A run of tools.run_pipeline is gone on with by that; of another one each stage has its own command.

    Args:
      run: the `Run`.
      has_masks: whether the held-out split has masks; without, tools.evaluate makes no predictions.
    """
    names = [name for name in _expected(run, has_masks) if run.stages[name].state != "finished"]
    lacking = [(_describe(run, name), _maker(run, name)) for name in names]
    classified = run.stages[layout.CLASSIFIER].state == "finished"
    if classified and layout.SEEDS not in names and not any((run.directory / layout.MAPS).glob("*.npz")):
        lacking.insert(0, (_describe(run, layout.MAPS), _maker(run, layout.MAPS)))  # they were not kept
    if not run.exported:
        lacking.append((f"The exported model ({layout.SAVED_MODEL}/1/)", _export(run)))
    if "flags" in run.result or all(stage.state == "missing" for stage in run.stages.values()):
        lacking = [(name, pipeline(run)) for name, _ in lacking]
    commands = dict.fromkeys(command for _, command in lacking)
    return [(", ".join(name for name, made_by in lacking if made_by == command), command) for command in commands]


def _expected(run: Run, has_masks: bool) -> list[str]:
    begun = [name for name in _PLAIN if run.stages[name].state != "missing"]
    plain = _PLAIN if begun or ("flags" in run.result and run.flags.get("baseline", True)) else ()
    config = run.stages[layout.SEGMENTER].settings.get("config", {})
    rounds = config.get("retrain_steps", _preset(run).segmenter.retrain_steps)
    refined = run.stages[layout.PREDICTIONS].state != "finished" or run.stages[layout.REFINED_PREDICTIONS].settings
    return [layout.CLASSIFIER, *plain[:1], layout.SEEDS, *plain[1:], layout.SEGMENTER,
            *([layout.FIRST_LABELS, layout.SECOND_SEGMENTER] if rounds else []),
            *([layout.PREDICTIONS] if has_masks else []),
            *([layout.REFINED_PREDICTIONS] if has_masks and refined else [])]  # not after --crf=none


def _describe(run: Run, name: str) -> str:
    return f"{TITLES[name]} ({name}/)" + (", begun but not finished" if run.stages[name].state == "begun" else "")


def comparison(run: Run) -> list[str]:
    """Returns the commands that add plain Grad-CAM to a run that was made without it."""
    if "flags" in run.result:
        return [pipeline(run)]
    return [_maker(run, name) for name in _PLAIN if run.stages[name].state != "finished"]


def prediction(run: Run, split: datasets.Split, count: int = 8) -> str | None:
    """Returns the command that segments a few photographs of a folder's held-out split, None where there are none."""
    directory = pathlib.Path(run.flags.get("data_dir") or "") / "images"
    if split.dataset != "folder" or not directory.is_dir() or run.stages[layout.SEGMENTER].state != "finished":
        return None
    files = {path.stem: path for path in directory.iterdir()}
    paths = [files[image_id] for image_id in pictures.evenly(split.image_ids, count) if image_id in files]
    flags = {"output_dir": run.directory, "to": run.directory / "masks", "crf": _crf(run)}
    return line("tools.predict", flags, paths) if paths else None


def _maker(run: Run, name: str) -> str:
    """Returns the command of one stage."""
    flags = {key: run.flags.get(key) for key in (*_RUN, "split")}
    settings = {stage: run.stages[stage].settings for stage in run_flags.CONFIGURED}
    settings[layout.MAPS] = settings[layout.MAPS] or settings[layout.SEEDS].get("maps", {})
    config = {stage: run_flags.changed(settings[stage], _preset(run).name, stage) for stage in settings}
    classifier = {**flags, "held_out": run.flags.get("held_out"), **_weights(run), **config[layout.CLASSIFIER]}
    deterministic = {"training_mode": "deterministic", "inference_mode": "deterministic"}
    seeds = {**flags, "saliency_dir": _saliency_dir(run), **config[layout.SEEDS]}
    with_maps = {**seeds, "keep_maps": True, **config[layout.MAPS]}
    plain = {"classifier": layout.PLAIN_CLASSIFIER, "mode": "deterministic", "name": layout.PLAIN_SEEDS}
    lines = {
        layout.CLASSIFIER: ("tools.train_classifier", classifier),
        layout.PLAIN_CLASSIFIER: ("tools.train_classifier", {**classifier, **deterministic,
                                                             "name": layout.PLAIN_CLASSIFIER}),
        layout.MAPS: ("tools.extract_maps", {**flags, **config[layout.MAPS]}),
        layout.SEEDS: ("tools.make_seeds", seeds) if run.stages[layout.MAPS].state == "finished" else
                      ("tools.extract_seeds", with_maps),
        layout.PLAIN_SEEDS: ("tools.extract_seeds", {**with_maps, **plain}),
        **dict.fromkeys((layout.SEGMENTER, layout.FIRST_LABELS, layout.SECOND_SEGMENTER),
                        ("tools.train_segmenter", {**flags, **_training(run), **config[layout.SEGMENTER]})),
        **dict.fromkeys((layout.PREDICTIONS, layout.REFINED_PREDICTIONS),
                        ("tools.evaluate", {**flags, "split": run.flags.get("held_out"), **_prediction(run)}))}
    return line(*lines[name])


def _export(run: Run) -> str:
    return line("export.export_saved_model", {"output_dir": run.directory, "version": 1, "crf": _crf(run)})


def _weights(run: Run) -> dict[str, str]:
    """Returns the flag of the backbone's weights; a run that has not begun takes ImageNet's where there are any."""
    weights, begun = run.flags.get("weights"), run.stages[layout.CLASSIFIER].state != "missing"
    if not begun and _preset(run).classifier.backbone != presets.TINY.classifier.backbone:
        weights = weights or "imagenet"
    return {"weights": weights} if weights else {}


def _preset(run: Run) -> presets.Preset:
    return presets.PRESETS.get(run.flags.get("preset", ""), presets.TINY)


def _saliency_dir(run: Run) -> str | None:
    """Returns where the saliency maps lie that the seeds were begun with, where that is not their usual place."""
    identity = run.stages[layout.SEEDS].settings.get("saliency")
    if identity is None:
        return None
    own = [run.directory / name for name in (layout.SALIENCY, layout.CLOSER)]
    same = [path for path in own if path.exists() and needed.saliency_identity(path) == identity]
    return str(same[0] if same else identity)


def _training(run: Run) -> dict[str, Any]:
    """Returns how a segmenter was begun, where that differs from the flags' defaults."""
    settings = run.stages[layout.SEGMENTER].settings
    given = {name: settings[name] for name, default in zip(_TRAINING, _TRAINING_DEFAULTS, strict=True)
             if settings.get(name, default) not in (default, None)}
    return given | ({"weights": settings["weights"]} if settings.get("weights") else {})


def _prediction(run: Run) -> dict[str, Any]:
    """Returns how predictions were begun, where that differs from the flags' defaults."""
    settings = run.stages[layout.PREDICTIONS].settings
    config = run.stages[layout.SEGMENTER].settings.get("config", {})
    given = {flag: settings[key] for key, flag in (("sizes", "test_sizes"), ("flip", "test_flip"))
             if key in settings and settings[key] != config.get(flag)}
    return given | {"crf": _crf(run)}


def _crf(run: Run) -> str | None:
    """Returns the run's dense CRF by its name, None for the flags' default."""
    settings = run.stages[layout.REFINED_PREDICTIONS].settings.get("crf")
    found = [name for name, spec in crf.SPECS.items() if spec is not None and settings == dataclasses.asdict(spec)]
    name = run.result.get("crf") or next(iter(found), _DEFAULT_CRF)
    return None if name == _DEFAULT_CRF else name
