"""Command lines that make what a run lacks, with the flags that the run was made with: to copy and run as they stand.

With stage_flags.py the report's only place for the names of binaries and of their flags; tests/report/test_commands.py
lets each binary read the lines that are made here.
"""

import dataclasses
import os
import pathlib
import shlex
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from ficklenet_tf.data import datasets
from ficklenet_tf.report import pictures, run_flags, stage_flags
from ficklenet_tf.report.stages import TITLES, Run
from ficklenet_tf.runs import layout

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
    return " ".join([python(), "-m", binary, *given, *(shlex.quote(str(word)) for word in words)])


def python() -> str:
    """Returns the Python that runs now, relative to the working directory where it lies below it."""
    if not sys.executable:
        return "python"
    below = os.path.relpath(sys.executable)
    return shlex.quote(sys.executable if below.startswith("..") else below)


def pipeline(run: Run) -> str:
    """Returns the command of the whole job, which does what is not done yet."""
    names = (*stage_flags.RUN, "split", "held_out", "weights")
    flags = run.flags if "flags" in run.result else {name: run.flags.get(name) for name in names}
    return line("tools.run_pipeline", {**flags, **stage_flags.weights(run), "restart": _outdated(run)})


def _outdated(run: Run) -> list[str] | None:
    """Returns the directories that must be removed before there can be predictions of the segmenter that is there."""
    names = (layout.PREDICTIONS, layout.REFINED_PREDICTIONS)
    return [name for name in names if (run.directory / name).exists()] if run.outdated else None


def missing(run: Run, has_masks: bool) -> list[tuple[str, str]]:
    """Returns (what a run lacks, the command that makes it), in the order in which they must be run.

    A run of tools.run_pipeline is gone on with by that; of another one each stage has its own command.

    Args:
      run: the `Run`.
      has_masks: whether the held-out split has masks; without, tools.evaluate makes no predictions.
    """
    names = [name for name in _expected(run, has_masks) if run.stages[name].state != "finished"]
    lacking = [(_describe(run, name), _maker(run, name)) for name in names]
    localized = any((run.directory / layout.MAPS).glob("*.npz")) or learned_without_seeds(run) is not None
    if run.stages[layout.CLASSIFIER].state == "finished" and layout.SEEDS not in names and not localized:
        lacking.insert(0, (_describe(run, layout.MAPS), _maker(run, layout.MAPS)))  # they were not kept
    if not run.exported:
        lacking.append((f"The exported model ({layout.SAVED_MODEL}/1/)", _export(run)))
    if "flags" in run.result or all(stage.state == "missing" for stage in run.stages.values()):
        whole = comparison(run)[0] if set(_PLAIN) & set(names) else pipeline(run)  # begun since, or not left out
        lacking = [(name, whole) for name, _ in lacking]
    commands = dict.fromkeys(command for _, command in lacking)
    return [(", ".join(name for name, made_by in lacking if made_by == command), command) for command in commands]


def _expected(run: Run, has_masks: bool) -> list[str]:
    begun = [name for name in _PLAIN if run.stages[name].state != "missing"]
    wanted = "flags" in run.result and run.flags.get("baseline", True) and not run.flags.get("system")
    plain = _PLAIN if begun or wanted else ()
    seeds = [] if learned_without_seeds(run) else [layout.SEEDS]
    config = run.stages[layout.SEGMENTER].settings.get("config", {})
    rounds = config.get("retrain_steps", stage_flags.preset(run).segmenter.retrain_steps)
    refined = run.stages[layout.PREDICTIONS].state != "finished" or run.stages[layout.REFINED_PREDICTIONS].settings
    return [layout.CLASSIFIER, *plain[:1], *seeds, *plain[1:], layout.SEGMENTER,
            *([layout.FIRST_LABELS, layout.SECOND_SEGMENTER] if rounds else []),
            *([layout.PREDICTIONS] if has_masks else []),
            *([layout.REFINED_PREDICTIONS] if has_masks and refined else [])]  # not after --crf=none


def learned_without_seeds(run: Run) -> str | None:
    """Returns what the segmenter has been begun on where that is no seeds, as "tags alone"; None where it is seeds."""
    settings = run.stages[layout.SEGMENTER].settings
    if settings.get("seeds", layout.SEEDS) is not None:
        return None
    if settings.get("supervision", "weak") != "weak":
        return "masks alone" if settings["supervision"] == "full" else "tags, and masks of some photographs"
    return "tags and saliency maps" if "saliency" in settings else "tags alone"


def _describe(run: Run, name: str) -> str:
    return f"{TITLES[name]} ({name}/)" + (", begun but not finished" if run.stages[name].state == "begun" else "")


def comparison(run: Run) -> list[str]:
    """Returns the commands that add plain Grad-CAM to a run that was made without it."""
    if "flags" in run.result:
        return [pipeline(dataclasses.replace(run, flags={**run.flags, "baseline": None}))]
    return [_maker(run, name) for name in _PLAIN if run.stages[name].state != "finished"]


def prediction(run: Run, split: datasets.Split, count: int = 8) -> str | None:
    """Returns the command that segments a few photographs of a folder's held-out split, None where there are none."""
    directory = pathlib.Path(run.flags.get("data_dir") or "") / "images"
    if split.dataset != "folder" or not directory.is_dir() or run.stages[layout.SEGMENTER].state != "finished":
        return None
    files = {path.stem: path for path in directory.iterdir()}
    paths = [files[image_id] for image_id in pictures.evenly(split.image_ids, count) if image_id in files]
    flags = {"import": run.flags.get("import"), "output_dir": run.directory, "to": run.directory / "masks",
             "crf": stage_flags.crf_of(run)}
    return line("tools.predict", flags, paths) if paths else None


def _maker(run: Run, name: str) -> str:
    """Returns the command of one stage."""
    flags = {stage: stage_flags.common(run, stage) for stage in TITLES}
    config = {stage: run_flags.changed(stage_flags.settings(run, stage), stage_flags.preset(run).name, stage)
              for stage in run_flags.CONFIGURED}
    classifier = {"held_out": run.flags.get("held_out"), **stage_flags.weights(run), **config[layout.CLASSIFIER]}
    deterministic = {"training_mode": "deterministic", "inference_mode": "deterministic"}
    seeds = {"saliency_dir": stage_flags.saliency_dir(run), **config[layout.SEEDS]}
    drawing = {**config[layout.MAPS], **stage_flags.drawing(run)}
    plain = {"classifier": layout.PLAIN_CLASSIFIER, "mode": "deterministic", "name": layout.PLAIN_SEEDS}
    segmenter = {**flags[layout.SEGMENTER], **stage_flags.training(run), **config[layout.SEGMENTER]}
    held_out = {"split": run.flags.get("held_out"), **stage_flags.prediction(run), "restart": _outdated(run)}
    lines = {
        layout.CLASSIFIER: ("tools.train_classifier", classifier),
        layout.PLAIN_CLASSIFIER: ("tools.train_classifier", {**classifier, **deterministic,
                                                             "name": layout.PLAIN_CLASSIFIER}),
        layout.MAPS: ("tools.extract_maps", drawing),
        layout.SEEDS: ("tools.make_seeds", seeds) if run.stages[layout.MAPS].state == "finished" else
                      ("tools.extract_seeds", {**seeds, "keep_maps": True, **drawing}),
        layout.PLAIN_SEEDS: ("tools.extract_seeds", {**seeds, "keep_maps": True, **drawing, **plain}),
        **dict.fromkeys((layout.SEGMENTER, layout.FIRST_LABELS, layout.SECOND_SEGMENTER),
                        ("tools.train_segmenter", segmenter)),
        **dict.fromkeys((layout.PREDICTIONS, layout.REFINED_PREDICTIONS), ("tools.evaluate", held_out))}
    binary, own = lines[name]
    return line(binary, {**flags[name], **own})


def _export(run: Run) -> str:
    return line("export.export_saved_model", {"import": run.flags.get("import"), "output_dir": run.directory,
                                              "version": 1, "crf": stage_flags.crf_of(run)})
