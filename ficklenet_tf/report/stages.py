"""What the stages left in a run's directory, and the flags that it was made with."""

import calendar
import dataclasses
import pathlib
import time
from collections.abc import Iterator, Mapping
from typing import Any

from ficklenet_tf.report import run_flags
from ficklenet_tf.runs import artifacts, layout

TITLES = {
    layout.CLASSIFIER: "Classifier", layout.PLAIN_CLASSIFIER: "Deterministic classifier", layout.MAPS: "Maps",
    layout.SEEDS: "Seeds", layout.PLAIN_SEEDS: "Seeds of the plain Grad-CAM", layout.SEGMENTER: "Segmenter",
    layout.FIRST_LABELS: "Labels for the second round", layout.SECOND_SEGMENTER: "Segmenter, second round",
    layout.PREDICTIONS: "Predictions", layout.REFINED_PREDICTIONS: "Predictions with dense CRF"}


@dataclasses.dataclass(frozen=True)
class Stage:
    """One stage of a run.

    Attributes:
      name: its directory below the run's.
      settings: content of settings.json, {} where the stage never began.
      run: content of run.json, {} until the stage is finished.
      log: rows of log.csv, each a dict of floats.
      seconds: what it took, or None.
    """

    name: str
    settings: dict[str, Any]
    run: dict[str, Any]
    log: list[dict[str, float]]
    seconds: float | None

    @property
    def title(self) -> str:
        """Its name for people."""
        return TITLES[self.name]

    @property
    def state(self) -> str:
        """One of "finished", "begun" and "missing"."""
        return "finished" if self.run else "begun" if self.settings or self.log else "missing"


@dataclasses.dataclass(frozen=True)
class Run:
    """Everything that the page says about a run, except its images.

    Attributes:
      directory: the run's.
      stages: name -> `Stage`, one for each of `TITLES`.
      scores: "seeds", "seeds_deterministic", "predictions", "predictions_crf" -> what
        `scoring.score_directory` returned, only those that are there.
      result: content of result.json, or {}: tools.run_pipeline writes it in the end.
      exported: version directories below saved_model/.
      outdated: whether the predictions are of a segmenter that has been trained again since: they count as missing.
      flags: name -> value, those that the run was made with as far as its files or the caller know them.
      changed: stage -> a sentence: what it was made of has been made again since.
    """

    directory: pathlib.Path
    stages: dict[str, Stage]
    scores: dict[str, dict[str, Any]]
    result: dict[str, Any]
    exported: tuple[str, ...]
    flags: dict[str, Any]
    outdated: bool = False
    changed: dict[str, str] = dataclasses.field(default_factory=dict)


def read(directory: str | pathlib.Path, dataset: str, flags: Mapping[str, Any] | None = None) -> Run:
    """Reads a run's directory.

    Args:
      directory: the run's directory; any stage may be missing.
      dataset: name of its data set.
      flags: that the caller was given (--data_dir and the like), for what the run's files do not say.

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
    settings = {name: _json(directory / name / layout.SETTINGS) for name in TITLES}
    runs = {name: artifacts.read_run(directory / name) or {} for name in TITLES}
    outdated = _outdated(runs)
    if outdated:
        for name in (layout.PREDICTIONS, layout.REFINED_PREDICTIONS):
            settings[name], runs[name] = {}, {}
    stages = {name: Stage(name, settings[name], runs[name], _log(directory / name / layout.LOG),
                          _seconds(directory / name, runs[name], result)) for name in TITLES}
    scores = {name: runs[name]["metrics"] for name in (layout.SEEDS, layout.PLAIN_SEEDS) if runs[name].get("metrics")}
    for name in (layout.PREDICTIONS, layout.REFINED_PREDICTIONS):
        path = layout.scores(directory, name)
        if path.exists() and not outdated:
            scores[name] = artifacts.read_json(path)
    versions = [path.name for path in (directory / layout.SAVED_MODEL).glob("[0-9]*") if path.is_dir()]
    return Run(directory, stages, scores, result, tuple(sorted(versions, key=int)),
               run_flags.read(directory, dataset, settings, result, flags or {}), outdated,
               dict(_changed(directory, settings, runs, result)))


def _changed(directory: pathlib.Path, settings: Mapping[str, dict[str, Any]], runs: Mapping[str, dict[str, Any]],
             result: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yields (stage, what of it has changed since) for maps, segmenter and export."""
    again = "; with --restart={0} its command makes it again."
    for seeds, name in ((layout.SEEDS, layout.CLASSIFIER), (layout.PLAIN_SEEDS, layout.PLAIN_CLASSIFIER)):
        maps, now = settings[seeds].get("maps", {}), runs[name].get("finished")
        if now and "merged" not in maps and maps.get("classifier_name") == name and maps["classifier"] != now:
            yield seeds, f"{seeds}/ is of an earlier classifier than {name}/" + again.format(seeds)
    learned = settings[layout.SEGMENTER]
    of_seeds = learned.get("seeds")
    if of_seeds and learned.get("seeds_made") and (directory / of_seeds).exists() and (
            artifacts.identity(directory / of_seeds) != learned["seeds_made"]):
        yield layout.SEGMENTER, f"The segmenter has learned other seeds than those in {of_seeds}/ now" + again.format(
            layout.SEGMENTER)
    served, now = result.get("served_segmenter"), _finished(runs)
    if served and now and served not in now:
        yield layout.SAVED_MODEL, "The exported model was compared with an earlier segmenter than that which is here."


def _finished(runs: Mapping[str, dict[str, Any]]) -> set[str]:
    return {runs[name]["finished"] for name in (layout.SEGMENTER, layout.SECOND_SEGMENTER) if runs[name]}


def _outdated(runs: Mapping[str, dict[str, Any]]) -> bool:
    """Whether predictions are of another segmenter than those that are there."""
    finished = _finished(runs)
    made_by = {runs[name].get("segmenter") for name in (layout.PREDICTIONS, layout.REFINED_PREDICTIONS)} - {None}
    return bool(finished) and not made_by <= finished


def _json(path: pathlib.Path) -> dict[str, Any]:
    return artifacts.read_json(path) if path.exists() else {}


def _log(path: pathlib.Path) -> list[dict[str, float]]:
    return artifacts.read_numbers(path) if path.exists() else []


def _seconds(directory: pathlib.Path, run: dict[str, Any], result: dict[str, Any]) -> float | None:
    """Returns what the pipeline measured, None of a stage that was interrupted.

    Where it has measured nothing, from first start to finish; None where files were copied since.
    """
    measured: dict[str, float | None] = result.get("seconds", {})
    if directory.name in measured or not run.get("finished"):
        return measured.get(directory.name)
    settings = directory / layout.SETTINGS
    finished = calendar.timegm(time.strptime(run["finished"], "%Y-%m-%dT%H:%M:%SZ"))
    taken = finished - int(settings.stat().st_mtime) if settings.exists() else -1
    return float(taken) if taken >= 0 else None
