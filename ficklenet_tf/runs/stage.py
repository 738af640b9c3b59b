"""The skeleton of a stage: begin its directory, leave if it is finished, work, write run.json."""

import pathlib
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Protocol

from ficklenet_tf import distribution
from ficklenet_tf.errors import UserError
from ficklenet_tf.runs import artifacts, layout, progress, shards


class _Images(Protocol):  # the part of a `datasets.Split` that counts here
    @property
    def image_ids(self) -> Sequence[str]: ...

    def __len__(self) -> int: ...


def begin_stage(directory: str | pathlib.Path, settings: dict[str, Any]) -> None:
    """Marks a stage's directory as belonging to these settings, or checks that it already does.

    Args:
      directory: the stage's; made if missing.
      settings: what JSON can hold.

    Raises:
      UserError: an earlier run with other settings began here; the message names what differs.
    """
    path = pathlib.Path(directory) / layout.SETTINGS
    settings = artifacts.as_json({**settings, "format": artifacts.FORMAT})
    if not path.exists():
        artifacts.write_json(path, settings)
        return
    before = artifacts.read_json(path)
    if before != settings:
        raise UserError(f"{directory}: was begun with other settings ({', '.join(_changes(before, settings))}); "
                        "give another --output_dir or remove this directory")


def run(directory: str | pathlib.Path, settings: dict[str, Any],
        work: Callable[[], Callable[[], dict[str, Any]]]) -> dict[str, Any]:
    """Does a stage as a whole, unless it is finished.

    Args:
      directory: the stage's.
      settings: all that the result is a function of, see `begin_stage`; part of run.json.
      work: function of no arguments, called by every worker. It returns another function, which the chief calls: it
        writes what the chief alone has to write, and returns the facts for run.json, a dict.

    Returns:
      The content of run.json.
    """
    begin_stage(directory, settings)
    finished = artifacts.read_run(directory)
    if finished:
        return finished
    facts = work()
    distribution.on_chief(lambda: artifacts.write_run(directory, **settings, **facts()))
    return artifacts.read_json(pathlib.Path(directory) / layout.RUN)


def run_per_image(directory: str | pathlib.Path, settings: dict[str, Any], split: _Images, *,
                  files: Callable[[str], list[pathlib.Path]], work: Callable[[list[int]], Iterable[Any]],
                  facts: Callable[[], dict[str, Any] | None], shard: shards.Shard = shards.WHOLE) -> dict[str, Any]:
    """Does a stage that makes files for each image; what is there is not made again.

    Args:
      directory: the stage's.
      settings: see `run`.
      split: `datasets.Split`.
      files: image id -> list of the paths that are there when the image is done.
      work: indices of the images to do -> iterable, one element for each that is done.
      facts: function of no arguments, called when all images are done: returns a dict for run.json, or None to keep
        the run.json that is there.
      shard: (index, number of shards): this shard's images only, see shards.py.

    Returns:
      The content of run.json; of a shard the settings, because facts need every image.
    """
    begin_stage(directory, settings)
    indices, started = shards.indices_of(shard, len(split)), time.monotonic()
    pending = [i for i in indices if not all(path.exists() for path in files(split.image_ids[i]))]
    finished = artifacts.read_run(directory)
    if finished and not pending:
        return finished
    shards.check_complete(directory, shard, [split.image_ids[i] for i in pending])
    for _ in progress.bar(work(pending), total=len(indices), initial=len(indices) - len(pending),
                          desc=pathlib.Path(directory).name, unit="img"):
        pass
    shards.write_manifest(directory, shard, [split.image_ids[i] for i in indices], len(pending), started)
    if shard != shards.WHOLE:
        return settings
    new_facts = facts()
    if new_facts is not None:
        artifacts.write_run(directory, **settings, images=len(split), **new_facts)
    return artifacts.read_json(pathlib.Path(directory) / layout.RUN)


def _changes(before: dict[str, Any], now: dict[str, Any], prefix: str = "") -> Iterator[str]:
    """Yields "name: before -> now" for what differs in two dicts, those inside them included."""
    for name in sorted(before.keys() | now.keys()):
        old, new = before.get(name), now.get(name)
        if isinstance(old, dict) and isinstance(new, dict):
            yield from _changes(old, new, f"{prefix}{name}.")
        elif old != new:
            yield f"{prefix}{name}: {old} -> {new}"
