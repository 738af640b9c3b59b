"""What each stage of a compared system cost when it was made: time and memory, kept beside the stages."""

import pathlib
import time
from collections.abc import Callable
from typing import TypeVar

from ficklenet_tf.errors import UserError
from ficklenet_tf.runs import artifacts, hardware

DIRECTORY = "costs"
_R = TypeVar("_R")


def measured(run_dir: pathlib.Path, stage: str, make: Callable[[], _R]) -> _R:
    """Makes a stage and keeps what that cost; of one that was begun before nobody knows, and nothing is kept.

    Of a stage that was removed and is made anew, the new cost is kept.

    Args:
      run_dir: the run's directory.
      stage: name of the stage's directory below it.
      make: makes the stage.

    Returns:
      What `make` returns.
    """
    path = run_dir / DIRECTORY / f"{stage}.json"
    begun = path.with_suffix(".begun")
    if begun.exists() or (run_dir / stage).exists():
        return make()
    path.unlink(missing_ok=True)  # of a stage that is gone
    artifacts.write_bytes(begun, b"")  # of what is killed nobody will know it
    hardware.restart_peak()
    wall, processor = time.monotonic(), time.process_time()
    try:
        result = make()
    except UserError:
        if not (run_dir / stage).exists():  # refused before anything was made
            begun.unlink()
        raise
    artifacts.write_json(path, {
        "seconds": time.monotonic() - wall, "processor_seconds": time.process_time() - processor,
        "peak_mib": hardware.peak_mib()})
    begun.unlink()
    return result


def of(run_dir: pathlib.Path, stages: list[str]) -> dict[str, float] | None:
    """Returns the sum of the seconds and the greatest memory of some stages; None where one's cost is not known.

    Args:
      run_dir: the run's directory.
      stages: names of their directories below it.
    """
    paths = [run_dir / DIRECTORY / f"{stage}.json" for stage in stages]
    if not all(path.exists() for path in paths):
        return None
    costs = [artifacts.read_json(path) for path in paths]
    return {"seconds": sum(cost["seconds"] for cost in costs),
            "processor_seconds": sum(cost["processor_seconds"] for cost in costs),
            "peak_mib": max(cost["peak_mib"] or 0 for cost in costs)}
