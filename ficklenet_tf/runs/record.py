"""What each file of a stage is: its size and checksum, written before the file and compared when it is read.

A directory that a stage has begun holds `record/`, one journal per process that wrote there: lines of CRC-32, size and
file name. A file counts as sound where any line of its name fits: one written again is either the old one or the new
one, whatever was killed in between, and shards on different machines may each have made it. Directories without
`record/` (a user's own seeds, runs of earlier versions) are not checked.
"""

import functools
import json
import os
import pathlib
import zlib

from ficklenet_tf.errors import UserError
from ficklenet_tf.runs import layout

DIRECTORY = "record"
_JOURNAL = f"{os.getpid()}-{os.urandom(4).hex()}.txt"
_CHUNK = 2**24  # bytes read at a time

Fact = tuple[int, int]  # (CRC-32, size in bytes)


def begin(directory: str | pathlib.Path) -> None:
    """From now on what is written into a directory is recorded, and what is read there is checked."""
    (pathlib.Path(directory) / DIRECTORY).mkdir(parents=True, exist_ok=True)
    _seen.pop(pathlib.Path(directory).absolute(), None)  # a directory that was removed and is begun again


def note(path: str | pathlib.Path, fact: Fact) -> None:
    """Records what a file is about to be; nothing where its directory has no record."""
    path = pathlib.Path(path)
    journal = path.parent / DIRECTORY / _journal()
    if journal.parent.is_dir():
        with open(journal, "a", encoding="utf-8") as file:
            file.write(f"{fact[0]:08x} {fact[1]} {path.name}\n")


def fact_of(data: bytes) -> Fact:
    """Returns the `Fact` of a file's content."""
    return zlib.crc32(data), len(data)


def fact_of_file(path: str | pathlib.Path) -> Fact:
    """Returns the `Fact` of a file, read in parts."""
    crc, size = 0, 0
    with open(path, "rb") as file:
        while chunk := file.read(_CHUNK):
            crc, size = zlib.crc32(chunk, crc), size + len(chunk)
    return crc, size


def check(path: str | pathlib.Path, fact: Fact) -> None:
    """Checks that a file's content, whose `fact` is given, is what was written there.

    Raises:
      UserError: it was damaged, swapped or written by somebody else; says what to do.
    """
    path = pathlib.Path(path).absolute()
    if fact in _seen.get(path.parent, {}).get(path.name, ()):
        return
    facts = _facts(path.parent)
    if facts is None or fact in facts.get(path.name, ()):
        return
    written = " or ".join(f"{size} bytes of checksum {crc:08x}" for crc, size in facts.get(path.name, ()))
    raise UserError(f"{path}: expected {f'the {written} that were' if written else 'a file that was'} written here, "
                    f"found {fact[1]} bytes of checksum {fact[0]:08x}: damaged, or not of this stage. "
                    f"{_remedy(path)}")


def check_file(path: str | pathlib.Path) -> None:
    """Checks a file that another library is going to read; see `check`. Reads it once more."""
    if (pathlib.Path(path).parent / DIRECTORY).is_dir():
        check(path, fact_of_file(path))


def has_size(path: pathlib.Path) -> bool:
    """Whether a file is there, as long as it was written: what can be said without reading it."""
    try:
        size = path.stat().st_size
    except FileNotFoundError:
        return False
    facts = _facts(path.parent.absolute())
    return facts is None or any(size == written for _, written in facts.get(path.name, ()))


def is_lost(path: pathlib.Path) -> bool:
    """Whether a file was written by its stage and is not there any more."""
    return not path.exists() and path.name in (_facts(path.parent.absolute()) or ())


def _remedy(path: pathlib.Path) -> str:
    if path.name == layout.SETTINGS:  # nobody can say what the rest was made with
        return f"Remove {path.parent}, then run the stage that makes it again"
    if path.name == layout.BEST:  # of one moment of a training, which comes once
        return f"Remove {path.parent}, then run the stage that makes it again"
    settings = path.parent / layout.SETTINGS
    whole = path.suffix == ".h5" and settings.exists() and json.loads(settings.read_text("utf-8")).get("snapshot_of")
    if whole:
        return f"Remove {path.parent.with_name(whole)}, then run the stage that makes it again"
    return f"Remove {path}, then run the stage that makes {path.parent.name}/ again"


def _journal() -> str:
    """A process forked from this one writes a journal of its own."""
    return _JOURNAL if _JOURNAL.startswith(f"{os.getpid()}-") else f"{os.getpid()}-{_JOURNAL}"


# What was last read of a few directories. Journals only grow, so what fits there fits: the journals of many shards
# are looked through once, and again where a file does not fit.
_seen: dict[pathlib.Path, dict[str, list[Fact]]] = {}
_DIRECTORIES = 16


def _facts(directory: pathlib.Path) -> dict[str, list[Fact]] | None:
    """Returns {file name: what it was written as}, or None where nothing is recorded."""
    _seen.pop(directory, None)
    try:
        with os.scandir(directory / DIRECTORY) as entries:
            state = tuple(sorted((entry.name, entry.stat().st_size, entry.stat().st_mtime_ns) for entry in entries))
    except (FileNotFoundError, NotADirectoryError):
        return None
    if len(_seen) >= _DIRECTORIES:
        _seen.clear()
    facts = _seen[directory] = _read(directory, state)
    return facts


@functools.lru_cache(_DIRECTORIES)
def _read(directory: pathlib.Path, state: tuple[tuple[str, int, int], ...]) -> dict[str, list[Fact]]:
    facts: dict[str, list[Fact]] = {}
    for name, _, _ in state:
        for line in (directory / DIRECTORY / name).read_text("utf-8", "replace").split("\n"):
            crc, _, rest = line.partition(" ")
            size, _, file = rest.partition(" ")
            try:
                facts.setdefault(file, []).append((int(crc, 16), int(size)))
            except ValueError:
                continue  # the end of a line is lost: a process was killed
    return facts
