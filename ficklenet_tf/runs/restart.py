"""Stages that are removed on request, to be made again with other settings.

A request is kept until the stage begins (`stage.py`). What is removed then lies aside until the stage has a first
result, and is put back where it fails before that: a command that is refused removes nothing.
"""

import contextlib
import os
import pathlib
import re
import shutil
from collections.abc import Iterable

from ficklenet_tf.errors import UserError
from ficklenet_tf.runs import artifacts, layout, lock, progress, record

_LABELS = layout.labels_of(layout.AFFINITY)
_PLAIN_MAPS = layout.deterministic(layout.MAPS)
_PLAIN_CLOSER = layout.closer_of(_PLAIN_MAPS)
_PLAIN_AFFINITY = layout.deterministic(layout.AFFINITY)
_PLAIN_LABELS = layout.labels_of(_PLAIN_AFFINITY)
# Directory of a whole run, by its usual name -> the directories that are made from it. Versions of a served model are
# not among them: a server may be at work with one, and another segmenter gets the next number.
_MADE_FROM = {
    layout.SALIENCY: (layout.CLOSER, layout.SEEDS, _PLAIN_CLOSER, layout.PLAIN_SEEDS),
    layout.CLASSIFIER: (layout.MAPS, layout.SEGMENTER),
    layout.MAPS: (layout.CLOSER, _LABELS, layout.SEEDS),
    layout.CLOSER: (layout.SEEDS,),
    _LABELS: (layout.AFFINITY,),
    layout.AFFINITY: (layout.SEEDS,),
    layout.SEEDS: (layout.SEGMENTER,),
    layout.SEGMENTER: (layout.FIRST_LABELS, layout.SECOND_SEGMENTER, layout.PREDICTIONS, layout.REFINED_PREDICTIONS),
    layout.FIRST_LABELS: (layout.SECOND_SEGMENTER,),
    layout.SECOND_SEGMENTER: (layout.PREDICTIONS, layout.REFINED_PREDICTIONS),
    layout.PREDICTIONS: (), layout.REFINED_PREDICTIONS: (), layout.HELD_OUT_SALIENCY: (),
    layout.PLAIN_CLASSIFIER: (_PLAIN_MAPS,),
    _PLAIN_MAPS: (_PLAIN_CLOSER, _PLAIN_LABELS, layout.PLAIN_SEEDS),
    _PLAIN_CLOSER: (layout.PLAIN_SEEDS,),
    _PLAIN_LABELS: (_PLAIN_AFFINITY,),
    _PLAIN_AFFINITY: (layout.PLAIN_SEEDS,),
    layout.PLAIN_SEEDS: (),
}
STAGES = tuple(_MADE_FROM)
# Of stages that have rounds or moments, the endings of the other ones' names: they go where it goes. What a user has
# named seeds_attempt2 does not.
_ROUNDS = re.compile(f"({layout.in_round('', '')}|{layout.at_step('', '')})[0-9]+")
_SIMPLE = re.compile(f"{layout.simple('')}({layout.labels_of('')})?")
_OTHERS = {layout.CLASSIFIER: _ROUNDS, layout.MAPS: _ROUNDS, layout.SEGMENTER: _SIMPLE}

_REMOVED = ".removed-"  # how names begin of what lies aside
_requested: dict[pathlib.Path, list[pathlib.Path]] = {}  # a directory -> what goes with it
_aside: list[tuple[pathlib.Path, pathlib.Path]] = []  # (where it is now, where it belongs)


def with_followers(names: Iterable[str]) -> list[str]:
    """Returns directories of a whole run and all that is made from them, in the order in which they are made.

    Args:
      names: some of `STAGES`.

    Raises:
      UserError: a whole run has no such directory.
    """
    wanted: set[str] = set()
    pending = list(names)
    while pending:
        name = pending.pop()
        if name not in _MADE_FROM:
            raise UserError(f"restart: expected some of {', '.join(STAGES)}, found {name!r}")
        if name not in wanted:
            wanted.add(name)
            pending += _MADE_FROM[name]
    return [name for name in STAGES if name in wanted]


def request(run_dir: str | pathlib.Path, names: Iterable[str], followers: bool) -> None:
    """Lets directories below a run's be removed when their stages begin; those that are not there are left out.

    Args:
      run_dir: the run's directory.
      names: of directories of stages.
      followers: whether what is made from them goes with them, see `with_followers`.

    Raises:
      UserError: a process is at work in one of them, or it is no stage's.
    """
    run_dir = pathlib.Path(run_dir).absolute()
    if followers:
        names = [*names, *_taught_by_saliency(run_dir, names)]
    for name in names:
        together = [run_dir / name]
        if followers:
            together = [path for each in with_followers([name]) for path in (run_dir / each, *_others(run_dir, each))]
        together = [directory for directory in together if directory.exists()]
        for directory in together:
            _check(directory)
        # Whichever begins first: that of a stage in rounds is not the one that has its name.
        first = _others(run_dir, name) if followers else []
        _requested.update({path: together for path in (run_dir / name, *first)})


def _others(run_dir: pathlib.Path, name: str) -> list[pathlib.Path]:
    """Returns the directories of a stage's other rounds and moments."""
    return [path for path in sorted(run_dir.glob(f"{name}_*"))
            if name in _OTHERS and _OTHERS[name].fullmatch(path.name.removeprefix(name))]


def request_for(name: str) -> str:
    """Returns which command makes a directory again, and by which flag: of another round or moment its stage's.

    Args:
      name: the directory's.
    """
    for stage, endings in _OTHERS.items():
        if name.startswith(f"{stage}_") and endings.fullmatch(name.removeprefix(stage)):
            return f"tools.run_pipeline does with --restart={stage}"
    return f"the stage's own command does with --restart={name}"


def say_left() -> None:
    """Says what was to be made again and was not, as no stage of the command that has ended begins there."""
    for path, together in _requested.items():
        if together and together[0] == path and path.exists():
            progress.say(f"restart: {path.name} stays as it is, this command does not make it")


def _taught_by_saliency(run_dir: pathlib.Path, names: Iterable[str]) -> list[str]:
    """Returns the classifiers that have learned the saliency maps that are to be made again (EPS)."""
    paths = [run_dir / name / layout.SETTINGS for name in (layout.CLASSIFIER, layout.PLAIN_CLASSIFIER)
             if layout.SALIENCY in names]
    return [path.parent.name for path in paths if path.exists() and "saliency" in artifacts.read_json(path)]


def is_requested(directory: str | pathlib.Path) -> bool:
    """Whether a directory is to be removed when its stage begins."""
    return pathlib.Path(directory).absolute() in _requested


def remove(directory: str | pathlib.Path) -> None:
    """Lays a directory aside, and what goes with it, where that was requested; says so.

    Raises:
      UserError: see `request`.
    """
    together = _requested.get(pathlib.Path(directory).absolute(), [])
    for path in [path for path, others in _requested.items() if others is together]:
        del _requested[path]
    directories = [each for each in together if each.exists()]
    with contextlib.ExitStack() as locks:
        for each in directories:
            _check(each)
            locks.enter_context(lock.hold(each / lock.NAME, str(each)))
        for each in directories:  # at once: a kill leaves no half of it under its name
            scores = [layout.scores(each.parent, each.name, suffix) for suffix in ("json", "csv", "txt")]
            for place in (each, *filter(pathlib.Path.exists, scores)):
                now = place.with_name(f"{_REMOVED}{place.name}-{os.getpid()}")
                place.rename(now)
                _aside.append((now, place))
            progress.say(f"{each.name}: removed, to be made again")


def settle() -> None:
    """Deletes what lies aside, as there is a result in its place; and what a killed command has left aside."""
    parents = {now.parent for now, _ in _aside}
    _aside.clear()
    for parent in parents:
        for gone in parent.glob(f"{_REMOVED}*"):
            if gone.is_dir():
                shutil.rmtree(gone, ignore_errors=True)
            else:
                gone.unlink(missing_ok=True)


def put_back() -> None:
    """Puts back what lies aside, in place of stages that were begun and have left no result; says so."""
    for now, place in _aside:
        if now.is_dir():
            shutil.rmtree(place, ignore_errors=True)
            progress.say(f"{place.name}: is as it was")
        now.rename(place)
    _aside.clear()


def _check(directory: pathlib.Path) -> None:
    if directory.is_symlink() or not directory.is_dir():
        raise UserError(f"restart: expected a directory, found a link or a file: {directory}; remove it by hand")
    others = {each.name for each in directory.iterdir()} - {lock.NAME, record.DIRECTORY}
    if not (directory / layout.SETTINGS).exists() and others:
        raise UserError(f"restart: expected a stage's directory, found none of a stage in {directory}")
    with lock.hold(directory / lock.NAME, str(directory)):
        pass
