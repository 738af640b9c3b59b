"""Stages that are removed on request, to be made again with other settings."""

import pathlib
import shutil
from collections.abc import Iterable

from ficklenet_tf.errors import UserError
from ficklenet_tf.runs import layout, lock, progress

# Directory of a whole run, by its usual name -> the directories that are made from it at once. Versions of a served
# model are not among them: a server may be at work with one, and another segmenter gets the next number.
_MADE_FROM = {
    layout.SALIENCY: (layout.CLOSER, layout.SEEDS),
    layout.CLASSIFIER: (layout.MAPS, layout.SEGMENTER),
    layout.MAPS: (layout.CLOSER, layout.AFFINITY, layout.SEEDS),
    layout.CLOSER: (layout.SEEDS,),
    layout.AFFINITY: (layout.SEEDS,),
    layout.SEEDS: (layout.SEGMENTER,),
    layout.SEGMENTER: (layout.FIRST_LABELS, layout.SECOND_SEGMENTER, layout.PREDICTIONS, layout.REFINED_PREDICTIONS),
    layout.FIRST_LABELS: (layout.SECOND_SEGMENTER,),
    layout.SECOND_SEGMENTER: (layout.PREDICTIONS, layout.REFINED_PREDICTIONS),
    layout.PREDICTIONS: (),
    layout.REFINED_PREDICTIONS: (),
    layout.PLAIN_CLASSIFIER: (layout.deterministic(layout.MAPS),),
    layout.deterministic(layout.MAPS): (layout.PLAIN_SEEDS, layout.deterministic(layout.AFFINITY),
                                        layout.closer_of(layout.deterministic(layout.MAPS))),
    layout.closer_of(layout.deterministic(layout.MAPS)): (layout.PLAIN_SEEDS,),
    layout.deterministic(layout.AFFINITY): (layout.PLAIN_SEEDS,),
    layout.PLAIN_SEEDS: (),
}
STAGES = tuple(_MADE_FROM)


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


def remove(run_dir: str | pathlib.Path, names: Iterable[str]) -> None:
    """Removes directories below a run's, where they are, and says so.

    Args:
      run_dir: the run's directory.
      names: of directories of stages.

    Raises:
      UserError: a process is at work in one of them, or it is no stage's.
    """
    for directory in (pathlib.Path(run_dir) / name for name in names):
        if not directory.is_dir():
            continue
        if not (directory / layout.SETTINGS).exists() and any(directory.iterdir()):
            raise UserError(f"restart: expected a stage's directory, found none of a stage in {directory}")
        with lock.hold(directory / lock.NAME, str(directory)):
            shutil.rmtree(directory)
        progress.say(f"{directory.name}: removed, to be made again")
