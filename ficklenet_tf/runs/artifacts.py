"""Files by which the stages meet: written whole or not at all, described by run.json."""

import json
import os
import pathlib
import platform
import tempfile
import time
from importlib import metadata

from ficklenet_tf.runs import hardware

_PACKAGES = ("tensorflow", "tensorflow-cpu", "keras", "tensorflow-datasets", "numpy", "opencv-python-headless")


def write_bytes(path, data):
    """Writes `data` to `path` under a temporary name, then renames it.

    Args:
      path: the file; missing parent directories are made.
      data: bytes.

    Raises:
      OSError: the directory cannot be written; the message names it.
    """
    path = pathlib.Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise


def write_json(path, value):
    """Writes `value` as indented JSON, whole or not at all."""
    write_bytes(path, (json.dumps(value, indent=1, sort_keys=False) + "\n").encode())


def read_json(path):
    """Reads a JSON file; an absent or broken one is an error that names it.

    Raises:
      ValueError: the file is not JSON.
      FileNotFoundError: it does not exist.
    """
    path = pathlib.Path(path)
    try:
        return json.loads(path.read_text())
    except json.JSONDecodeError as error:
        raise ValueError(f"{path}: expected JSON, found {error}") from error


def versions():
    """Returns the versions of Python and of the packages that shape a result."""
    found = {"python": platform.python_version()}
    for name in _PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def write_run(directory, **facts):
    """Writes `directory`/run.json: what was run, with what, and what came out.

    A stage writes it last, so its presence says that the stage is finished.

    Args:
      directory: the stage's directory.
      **facts: anything JSON can hold (flags, preset, dataset fingerprint, metrics).
    """
    write_json(pathlib.Path(directory) / "run.json",
               {**facts, "versions": versions(), "hardware": hardware.describe(),
                "finished": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())})


def read_run(directory):
    """Returns `directory`/run.json, or None where the stage has not finished."""
    path = pathlib.Path(directory) / "run.json"
    return read_json(path) if path.exists() else None


def finished_run(directory, what, tool):
    """Returns `directory`/run.json of a stage that another one needs.

    Args:
      directory: the stage's.
      what: the stage in words ("classifier"), for the message.
      tool: the binary that makes it.

    Raises:
      FileNotFoundError: the stage has not finished there.
    """
    run = read_run(directory)
    if run is None:
        raise FileNotFoundError(f"{pathlib.Path(directory) / 'run.json'}: expected a finished {what}, found none; "
                                f"run {tool} first")
    return run


def as_json(value):
    """Returns `value` as it would be read back from a JSON file (tuples become lists)."""
    return json.loads(json.dumps(value))


def _changes(before, now, prefix=""):
    """Yields "name: before -> now" for what differs in two dicts, those inside them included."""
    for name in sorted(before.keys() | now.keys()):
        old, new = before.get(name), now.get(name)
        if isinstance(old, dict) and isinstance(new, dict):
            yield from _changes(old, new, f"{prefix}{name}.")
        elif old != new:
            yield f"{prefix}{name}: {old} -> {new}"


def claim(directory, settings):
    """Marks a stage's directory as belonging to these settings, or checks that it already does.

    Args:
      directory: the stage's; made if missing.
      settings: what JSON can hold.

    Raises:
      ValueError: an earlier run with other settings began here; the message names what differs.
    """
    directory = pathlib.Path(directory)
    path = directory / "settings.json"
    if path.exists():
        before = read_json(path)
        now = as_json(settings)
        if before != now:
            raise ValueError(f"{directory}: was begun with other settings ({', '.join(_changes(before, now))}); "
                             "give another --output_dir or remove this directory")
    else:
        write_json(path, settings)
