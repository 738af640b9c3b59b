"""The skeleton of a stage: begin its directory, leave if it is finished, work, write run.json."""

import contextlib
import pathlib
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Protocol

from ficklenet_tf import distribution
from ficklenet_tf.errors import UserError
from ficklenet_tf.runs import artifacts, layout, lock, progress, record, restart, shards


class _Images(Protocol):  # the part of a `datasets.Split` that counts here
    @property
    def image_ids(self) -> Sequence[str]: ...

    def __len__(self) -> int: ...


@contextlib.contextmanager
def _putting_back(directories: Iterable[pathlib.Path]) -> Iterator[None]:
    """Inside, an error puts back what was removed on request, where the stage has left no result yet."""
    try:
        yield
    except Exception:
        if not any(map(_results, directories)):
            restart.put_back()
        raise
    finally:
        restart.settle()


def begin_stage(directory: str | pathlib.Path, settings: dict[str, Any]) -> None:
    """Marks a stage's directory as belonging to these settings, or checks that it already does.

    What an earlier run with other settings began here, and left without any result, is begun anew.

    Args:
      directory: the stage's; made if missing.
      settings: what JSON can hold.

    Raises:
      UserError: an earlier run with other settings has left results here, or is at work; the message names what
        differs.
    """
    _begin({pathlib.Path(directory): settings})


def _begin(settings: Mapping[pathlib.Path, dict[str, Any]]) -> None:
    """As `begin_stage` for several directories: none is marked, and none removed, where one of them is refused."""
    for directory, wanted in settings.items():
        if (directory / layout.SETTINGS).exists() and not restart.is_requested(directory) and _keeps_others(
                directory, wanted):
            raise _other_settings(directory, wanted)
    for directory in settings:
        restart.remove(directory)
    new, anew = {}, []
    for directory, wanted in settings.items():
        path = directory / layout.SETTINGS
        if not path.exists():
            new[path] = _marked(wanted)
        elif not same(artifacts.read_json(path), _marked(wanted)):
            if _keeps_others(directory, wanted):
                raise _other_settings(directory, wanted)
            anew.append(directory)
    for directory in anew:
        _begin_anew(directory, settings[directory])
    for path in new:
        begun = sorted(each.name for each in path.parent.glob("[!.]*") if each.name != record.DIRECTORY)
        if begun and not path.exists():  # else another worker has just begun here
            raise UserError(f"{path.parent}: expected {layout.SETTINGS} beside what is there ({begun[0]}"
                            f"{', ...' if len(begun) > 1 else ''}), found none: nobody can say what it was made with. "
                            "Give another directory or remove this one")
    for path, wanted in new.items():
        record.begin(path.parent)
        artifacts.write_json(path, wanted)


def _begin_anew(directory: pathlib.Path, wanted: dict[str, Any]) -> None:
    """Marks a directory without results anew: one of several processes does, the others wait until it has."""
    deadline, path = time.monotonic() + _PATIENCE, directory / layout.SETTINGS
    while not same(artifacts.read_json(path), _marked(wanted)):
        if _keeps_others(directory, wanted):
            raise _other_settings(directory, wanted)
        try:
            if distribution.is_chief():
                with lock.hold(directory / lock.NAME, str(directory)):  # nobody is about to leave a result there
                    before = artifacts.read_json(path)
                    if same(before, _marked(wanted)) or _results(directory):
                        continue
                    changes = ", ".join(differences(before, _marked(wanted)))
                    progress.say(f"{directory.name}: begun anew ({changes}); the earlier try has left no result")
                    (directory / layout.LOG).unlink(missing_ok=True)
                    shutil.rmtree(directory / layout.TENSORBOARD, ignore_errors=True)
                    artifacts.write_json(path, _marked(wanted))
        except UserError:
            if time.monotonic() > deadline:
                raise
        if time.monotonic() > deadline:
            raise _other_settings(directory, wanted)
        time.sleep(0.05)


_PATIENCE = 10.0  # seconds in which a process that begins a stage anew beside this one does so
# What a stage has written before its first result.
_NO_RESULTS = (layout.SETTINGS, layout.LOG, layout.TENSORBOARD, record.DIRECTORY)


def _results(directory: pathlib.Path) -> bool:
    """Whether a stage's directory holds anything that it would be a pity to lose."""
    return any(path.is_file() for entry in directory.glob("[!.]*") if entry.name not in _NO_RESULTS
               for path in (entry, *entry.rglob("*")))


def _keeps_others(directory: pathlib.Path, wanted: dict[str, Any]) -> bool:
    """Whether results of other settings lie there; settings are read last, for somebody may just begin it anew."""
    return _results(directory) and not same(artifacts.read_json(directory / layout.SETTINGS), _marked(wanted))


# Compared where both have them: what an earlier version did not note, or what cannot be known any more, as of a file
# of weights that was removed when the training had ended.
_WHERE_BOTH = {"weights_digest", "saliency_digest"}


def same(before: Mapping[str, Any], now: Mapping[str, Any], beside: Iterable[str] = ()) -> bool:
    """Whether two settings are the same; all that is not in `beside` counts."""
    left_out = (_WHERE_BOTH - (before.keys() & now.keys())).union(beside)
    first, second = ({key: value for key, value in settings.items() if key not in left_out}
                     for settings in (before, now))
    return first == second


def _marked(settings: dict[str, Any]) -> Any:
    return artifacts.as_json({**settings, "format": artifacts.FORMAT})


def _other_settings(directory: pathlib.Path, wanted: dict[str, Any]) -> UserError:
    changes = ", ".join(differences(artifacts.read_json(directory / layout.SETTINGS), _marked(wanted)))
    if directory.parent.name == layout.MAP_SCORES:
        return UserError(f"{directory}: was begun with other settings ({changes}); give the --map_images and settings "
                         f"of before, another --output_dir, or remove {directory.parent}")
    return UserError(f"{directory}: was begun with other settings ({changes}); give another --output_dir, or remove "
                     f"this directory, as {restart.request_for(directory.name)}")


def _check_mine(settings: Mapping[pathlib.Path, dict[str, Any]]) -> None:
    """Raises UserError where another process has begun a directory anew since `_begin`."""
    for directory, wanted in settings.items():
        if not same(artifacts.read_json(directory / layout.SETTINGS), _marked(wanted)):
            raise _other_settings(directory, wanted)


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

    Raises:
      UserError: see `begin_stage`; or another process is at work there.
    """
    directory = pathlib.Path(directory)
    with _putting_back([directory]):
        begin_stage(directory, settings)
        finished = artifacts.read_run(directory)
        if finished and not record.is_lost(directory / layout.WEIGHTS):  # else from the last checkpoint, the same
            return finished
        with lock.hold(directory / lock.NAME, str(directory)) if distribution.is_chief() else contextlib.nullcontext():
            _check_mine({directory: settings})
            facts = work()
            distribution.on_chief(lambda: artifacts.write_run(
                directory, (finished or {}).get("finished"), **settings, **facts()))
    return artifacts.read_json(directory / layout.RUN)


def run_per_image(settings: Mapping[pathlib.Path, dict[str, Any]], split: _Images, *,
                  files: Callable[[str], list[pathlib.Path]], work: Callable[[list[int]], Iterable[Any]],
                  facts: Callable[[pathlib.Path], dict[str, Any] | None],
                  shard: shards.Shard = shards.WHOLE) -> dict[str, Any]:
    """Does a stage that makes files for each image; what is there is not made again.

    Args:
      settings: {directory: all that the files there are a function of}, see `begin_stage`. The first directory is the
        stage's own; the others are made and finished together with it.
      split: `datasets.Split`.
      files: image id -> list of the paths that are there when the image is done.
      work: indices of the images to do -> iterable, one element for each that is done.
      facts: directory -> a dict for its run.json, or None to keep the run.json that is there; called when all images
        are done.
      shard: (index, number of shards): this shard's images only, see shards.py.

    Returns:
      The content of the stage's run.json; of a shard with work to do its settings, because facts need every image.
    """
    with _putting_back(settings):
        return _run_per_image(settings, split, files, work, facts, shard)


def _run_per_image(settings: Mapping[pathlib.Path, dict[str, Any]], split: _Images,
                   files: Callable[[str], list[pathlib.Path]], work: Callable[[list[int]], Iterable[Any]],
                   facts: Callable[[pathlib.Path], dict[str, Any] | None], shard: shards.Shard) -> dict[str, Any]:
    _begin(settings)
    directory = next(iter(settings))
    indices, started = shards.indices_of(shard, len(split)), time.monotonic()
    pending = [i for i in indices if not all(record.has_size(path) for path in files(split.image_ids[i]))]
    earlier = {each: artifacts.read_run(each) for each in settings}
    if all(earlier.values()) and not pending:
        return artifacts.read_json(directory / layout.RUN)
    shards.check_complete(directory, shard, [split.image_ids[i] for i in pending])
    with contextlib.ExitStack() as locks:
        for each in settings:
            locks.enter_context(lock.hold(each / lock.NAME, str(each), wait=True, shared=True))
        _check_mine(settings)
        for _ in progress.bar(work(pending), total=len(indices), initial=len(indices) - len(pending),
                              desc=directory.name, unit="img"):
            restart.settle()
    shards.write_manifest(directory, shard, [split.image_ids[i] for i in indices], len(pending), started)
    if shard != shards.WHOLE:
        return settings[directory]
    for each in reversed(list(settings)):
        new_facts = facts(each)
        if new_facts is not None:
            before = (earlier[each] or {}).get("finished")  # what is made again of the same settings is the same
            artifacts.write_run(each, before, **settings[each], images=len(split), **new_facts)
    return artifacts.read_json(directory / layout.RUN)


def differences(before: dict[str, Any], now: dict[str, Any], prefix: str = "") -> Iterator[str]:
    """Yields "name: before -> now" for what differs in two settings, those inside them included.

    Args:
      before: JSON's dict.
      now: likewise.
      prefix: of the names.

    Yields:
      str; of fingerprints what they stand for.
    """
    for name in sorted(before.keys() | now.keys()):
        old, new = before.get(name), now.get(name)
        if isinstance(old, dict) and isinstance(new, dict):
            yield from differences(old, new, f"{prefix}{name}.")
        elif old != new and name == "fingerprint":
            yield f"{prefix.replace('.', ': ')}other photographs, tags or masks"
        elif old != new and not (name in _WHERE_BOTH and None in (old, new)):
            yield f"{prefix}{name}: {old} -> {new}"
