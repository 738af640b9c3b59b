"""What the stages left in a run's directory, and the command that makes what is missing."""

import calendar
import dataclasses
import pathlib
import shlex
import time
from typing import Any

from ficklenet_tf import presets
from ficklenet_tf.runs import artifacts, layout

# Directory below the run's, title, command, and whether the page says "missing" where it is not there.
_STAGES = (
    (layout.CLASSIFIER, "Classifier", "tools.train_classifier", True),
    (layout.PLAIN_CLASSIFIER, "Deterministic classifier", f"tools.train_classifier --name={layout.PLAIN_CLASSIFIER} "
     "--training_mode=deterministic --inference_mode=deterministic", False),
    (layout.MAPS, "Maps", "tools.extract_maps", False),
    (layout.SEEDS, "Seeds", "tools.extract_seeds --keep_maps", True),
    (layout.PLAIN_SEEDS, "Seeds of the plain Grad-CAM",
     f"tools.extract_seeds --classifier={layout.PLAIN_CLASSIFIER} --mode=deterministic --name={layout.PLAIN_SEEDS} "
     "--keep_maps", True),
    (layout.SEGMENTER, "Segmenter", "tools.train_segmenter", True),
    (layout.FIRST_LABELS, "Labels for the second round", "tools.train_segmenter", False),
    (layout.SECOND_SEGMENTER, "Segmenter, second round", "tools.train_segmenter", False),
    (layout.PREDICTIONS, "Predictions", "tools.evaluate", True),
    (layout.REFINED_PREDICTIONS, "Predictions with dense CRF", "tools.evaluate", True),
)


@dataclasses.dataclass(frozen=True)
class Stage:
    """One stage of a run.

    Attributes:
      name: its directory below the run's.
      title: for people.
      command: the command line that makes it.
      expected: the page says "missing" where it is not there.
      settings: content of settings.json, {} where the stage never began.
      run: content of run.json, {} until the stage is finished.
      log: rows of log.csv, each a dict of floats.
      seconds: what it took, or None.
    """

    name: str
    title: str
    command: str
    expected: bool
    settings: dict[str, Any]
    run: dict[str, Any]
    log: list[dict[str, float]]
    seconds: float | None

    @property
    def state(self) -> str:
        """One of "finished", "begun" and "missing"."""
        return "finished" if self.run else "begun" if self.settings or self.log else "missing"


@dataclasses.dataclass(frozen=True)
class Run:
    """Everything that the page says about a run, except its images.

    Attributes:
      directory: the run's.
      stages: name -> `Stage`.
      scores: "seeds", "seeds_deterministic", "predictions", "predictions_crf" -> what
        `scoring.score_directory` returned, only those that are there.
      result: content of result.json, or {}.
      exported: version directories below saved_model/.
      evaluate: the command line that predicts and scores.
      export: the command line that exports.
      pipeline: the command line of the whole job.
    """

    directory: pathlib.Path
    stages: dict[str, Stage]
    scores: dict[str, dict[str, Any]]
    result: dict[str, Any]
    exported: tuple[str, ...]
    evaluate: str
    export: str
    pipeline: str


def read(directory: str | pathlib.Path, dataset: str) -> Run:
    """Reads a run's directory.

    Args:
      directory: the run's directory; any stage may be missing.
      dataset: name of its data set, for the commands.

    Returns:
      A `Run`.

    Raises:
      FileNotFoundError: there is no such directory.
      UserError: a JSON file is broken; names it.
    """
    directory = pathlib.Path(directory)
    if not directory.is_dir():
        raise FileNotFoundError(f"{directory}: expected a run's directory, found none")
    result = _json(directory / layout.RESULT)
    settings = {name: _json(directory / name / layout.SETTINGS) for name, *_ in _STAGES}
    flags = _flags(directory, dataset, result.get("preset") or _preset_name(settings))
    stages = {}
    for name, title, command, expected in _STAGES:
        run = artifacts.read_run(directory / name) or {}
        stages[name] = Stage(name, title, f"python -m {command} {flags}", expected, settings[name], run,
                             _log(directory / name / layout.LOG), _seconds(directory / name, run, result))
    scores = {name: stages[name].run["metrics"] for name in (layout.SEEDS, layout.PLAIN_SEEDS)
              if stages[name].run.get("metrics")}
    for name in (layout.PREDICTIONS, layout.REFINED_PREDICTIONS):
        path = layout.scores(directory, name)
        if path.exists():
            scores[name] = artifacts.read_json(path)
    versions = [path.name for path in (directory / layout.SAVED_MODEL).glob("[0-9]*") if path.is_dir()]
    return Run(directory, stages, scores, result, tuple(sorted(versions, key=int)), stages[layout.PREDICTIONS].command,
               f"python -m export.export_saved_model --run_dir={shlex.quote(str(directory))} --version=1",
               f"python -m tools.run_pipeline {flags}")


def _json(path: pathlib.Path) -> dict[str, Any]:
    return artifacts.read_json(path) if path.exists() else {}


def _flags(directory: pathlib.Path, dataset: str, preset_name: str | None) -> str:
    """Returns the flags that all binaries take; DIR and ... stand for what the run's files do not say."""
    data = "" if dataset == "shapes" else " --data_dir=DIR"
    return f"--dataset={dataset}{data} --preset={preset_name or '...'} --output_dir={shlex.quote(str(directory))}"


def _preset_name(settings: dict[str, dict[str, Any]]) -> str | None:
    """Returns the preset whose configs most stages of the run were made with, at least one; else None."""
    configs = [stage["config"] for stage in settings.values() if stage.get("config")]
    matches = {name: sum(artifacts.as_json(dataclasses.asdict(getattr(preset, field))) in configs
                         for field in ("classifier", "maps", "seeds", "segmenter"))
               for name, preset in presets.PRESETS.items()}
    best = max(matches, key=lambda name: matches[name])
    return best if matches[best] else None


def _log(path: pathlib.Path) -> list[dict[str, float]]:
    return artifacts.read_numbers(path) if path.exists() else []


def _seconds(directory: pathlib.Path, run: dict[str, Any], result: dict[str, Any]) -> float | None:
    """Returns what the pipeline measured, or else from first start to finish; None where files were copied since."""
    measured = result.get("seconds", {}).get(directory.name)
    if measured is not None or not run.get("finished"):
        return measured
    settings = directory / layout.SETTINGS
    finished = calendar.timegm(time.strptime(run["finished"], "%Y-%m-%dT%H:%M:%SZ"))
    taken = finished - int(settings.stat().st_mtime) if settings.exists() else -1
    return float(taken) if taken >= 0 else None
