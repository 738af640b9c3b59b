"""Progress on a person's screen: a bar where there is a terminal, else a line every ten seconds at most."""

import contextlib
import sys
from collections.abc import Iterable, Iterator
from typing import Any

from tqdm import tqdm

_SECONDS = 10  # between lines of a log
_LINE = "{desc}: {n_fmt}/{total_fmt} {unit} [{elapsed}<{remaining}, {rate_fmt}{postfix}]"
_silent = False


class _Lines:
    """A file for `tqdm` that gets whole lines in place of a bar drawn over itself."""

    def write(self, text: str) -> None:
        """Writes a state on a line of its own, and nothing where the text only moves the cursor."""
        text = text.strip()
        if text:
            print(text, file=sys.stderr)

    def flush(self) -> None:
        """Flushes standard error."""
        sys.stderr.flush()


def bar(iterable: Iterable[Any] | None = None, disable: bool = False, **options: Any) -> tqdm:
    """Returns a `tqdm` over `iterable`, on standard error.

    Args:
      iterable: what to go through, or None for a bar that is moved by `update`.
      disable: show nothing.
      **options: further arguments of `tqdm`.
    """
    disable = disable or _silent
    if sys.stderr.isatty():
        return tqdm(iterable, disable=disable, **options)
    return tqdm(iterable, disable=disable, file=_Lines(), mininterval=_SECONDS, miniters=1, delay=_SECONDS,
                bar_format=_LINE, **options)


def say(text: str) -> None:
    """Writes one line to standard error, beside a bar if there is one."""
    if not _silent:
        tqdm.write(text, file=sys.stderr)


@contextlib.contextmanager
def silent() -> Iterator[None]:
    """Inside, neither bars nor lines are shown."""
    global _silent
    before, _silent = _silent, True
    try:
        yield
    finally:
        _silent = before
