"""Files by which the stages meet: written whole or not at all, described by run.json, checked when they are read."""

import csv
import hashlib
import io
import json
import os
import pathlib
import platform
import tempfile
import time
from collections.abc import Mapping, Sequence
from importlib import metadata
from typing import Any, Protocol

from ficklenet_tf.errors import UserError
from ficklenet_tf.runs import hardware, layout, record

FORMAT = 2  # of a run's directories; 1 had no number
os.umask(_UMASK := os.umask(0o077))  # which cannot be asked for otherwise


class _Weights(Protocol):  # a keras.Model or Layer
    def save_weights(self, filepath: str) -> None: ...

    def load_weights(self, filepath: str) -> None: ...


_PACKAGES = ("tensorflow", "tensorflow-cpu", "keras", "tensorflow-datasets", "numpy", "opencv-python-headless")


def write_bytes(path: str | pathlib.Path, data: bytes) -> None:
    """Writes `data` to `path` under a temporary name, then renames it; a stage's directory records what it is.

    Args:
      path: the file; missing parent directories are made.
      data: the file's content.

    Raises:
      OSError: the directory cannot be written; the message names it.
    """
    path = pathlib.Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
        os.chmod(temporary, 0o666 & ~_UMASK)
        record.note(path, record.fact_of(data))
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise


def read_bytes(path: str | pathlib.Path) -> bytes:
    """Reads a file of a stage.

    Raises:
      FileNotFoundError: there is no such file.
      UserError: it is not what was written there, see record.py.
    """
    data = pathlib.Path(path).read_bytes()
    record.check(path, record.fact_of(data))
    return data


def save_weights(network: _Weights, path: str | pathlib.Path) -> None:
    """Writes a Keras network's weights, whole or not at all."""
    path = pathlib.Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{os.getpid()}.{path.name}")  # Keras goes by the ending
    try:
        network.save_weights(str(temporary))
        record.note(path, record.fact_of_file(temporary))
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def load_weights(network: _Weights, path: str | pathlib.Path) -> None:
    """Gives a Keras network the weights of a file.

    Raises:
      FileNotFoundError: there is no such file.
      UserError: it is not what was written there, or of another network.
    """
    if not pathlib.Path(path).exists():
        raise FileNotFoundError(f"{path}: expected the weights of a finished training, found none")
    record.check_file(path)
    try:
        network.load_weights(str(path))
    except (OSError, ValueError, KeyError) as error:  # of h5py, of Keras
        raise UserError(f"{path}: expected weights of this network, found {error}") from error


def write_json(path: str | pathlib.Path, value: Any) -> None:
    """Writes `value` as indented JSON, whole or not at all."""
    write_bytes(path, (json.dumps(value, indent=1, sort_keys=False) + "\n").encode())


def read_json(path: str | pathlib.Path) -> Any:
    """Reads a JSON file; an absent or broken one is an error that names it.

    Raises:
      UserError: the file is not JSON, or not what was written there.
      FileNotFoundError: it does not exist.
    """
    try:
        return json.loads(read_bytes(path))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: expected JSON, found {error}") from error


def read_numbers(path: str | pathlib.Path) -> list[dict[str, float]]:
    """Reads a CSV file of numbers with a line of names, as the log of a training; one dict a row.

    Raises:
      FileNotFoundError: there is no such file.
      UserError: it is not what was written there, or a row is cut or has a word that is no number.
    """
    text = read_bytes(path).decode("utf-8", "replace")
    try:
        return [{name: float(value) for name, value in row.items()} for row in csv.DictReader(io.StringIO(text))]
    except (TypeError, ValueError) as error:
        raise UserError(f"{path}: expected rows of numbers, found {error}; remove it, then run the stage again"
                        ) from error


def write_numbers(path: str | pathlib.Path, rows: Sequence[Mapping[str, float]]) -> None:
    """Writes what `read_numbers` reads, whole or not at all.

    Args:
      path: the CSV file.
      rows: at least one, of the same names.
    """
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, fieldnames=list(rows[0]))
    writer.writeheader()
    writer.writerows(rows)
    write_bytes(path, buffer.getvalue().encode())


def versions() -> dict[str, str]:
    """Returns the versions of Python and of the packages that shape a result."""
    installed = {"python": platform.python_version()}
    for name in _PACKAGES:
        try:
            installed[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return installed


def write_run(directory: str | pathlib.Path, finished: str | None = None, **facts: Any) -> None:
    """Writes `directory`/run.json: what was run, with what, and what came out.

    A stage writes it last, so its presence says that the stage is finished.

    Args:
      directory: the stage's directory.
      finished: when it was, in UTC, by which other stages know it; None: now.
      **facts: anything JSON can hold (flags, preset, dataset fingerprint, metrics).
    """
    write_json(pathlib.Path(directory) / layout.RUN,
               {"format": FORMAT, **facts, "versions": versions(), "hardware": hardware.describe(),
                "finished": finished or time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())})


def read_run(directory: str | pathlib.Path) -> dict[str, Any] | None:
    """Returns `directory`/run.json, or None where the stage has not finished.

    Raises:
      UserError: another version of this software wrote it, in another format.
    """
    path = pathlib.Path(directory) / layout.RUN
    if not path.exists():
        return None
    run = read_json(path)
    # Neither format nor versions: a user wrote it, for seeds of their own.
    format_number = run.get("format", 1 if "versions" in run else FORMAT)
    if format_number != FORMAT:
        raise UserError(f"{path}: expected format {FORMAT}, found {format_number}: another version of this software "
                        "made it; use that version, or make the run again in another directory")
    return run


def finished_run(directory: str | pathlib.Path, stage_name: str, tool: str) -> dict[str, Any]:
    """Returns `directory`/run.json of a stage that another one needs.

    Args:
      directory: the stage's.
      stage_name: the stage in words ("classifier"), for the message.
      tool: the binary that makes it.

    Raises:
      FileNotFoundError: the stage has not finished there.
    """
    run = read_run(directory)
    if run is None:
        raise FileNotFoundError(f"{pathlib.Path(directory) / layout.RUN}: expected a finished {stage_name}, found "
                                f"none; run {tool} first")
    return run


def identity(directory: str | pathlib.Path) -> str:
    """Returns 16 hex digits that tell what a finished stage made from what it would have made with other settings.

    Made again with the same settings it is the same. Of files that a user brings, which have none, it is run.json's.
    """
    settings = pathlib.Path(directory) / layout.SETTINGS
    content = read_bytes(settings) if settings.exists() else json.dumps(read_run(directory)).encode()
    return hashlib.sha256(content).hexdigest()[:16]


def as_json(value: Any) -> Any:
    """Returns `value` as it would be read back from a JSON file (tuples become lists)."""
    return json.loads(json.dumps(value))
