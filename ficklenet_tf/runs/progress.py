"""Progress on a person's screen: a bar where there is a terminal, else a line every ten seconds at most."""

import contextlib
import sys

from tqdm import tqdm

_SECONDS = 10  # between lines of a log
_LINE = "{desc}: {n_fmt}/{total_fmt} {unit} [{elapsed}<{remaining}, {rate_fmt}{postfix}]"
_silent = False


class _Lines:
    """A file for `tqdm` that gets whole lines in place of a bar drawn over itself."""

    def write(self, text):
        """Writes a state on a line of its own; nothing for what only moves the cursor."""
        text = text.strip()
        if text:
            print(text, file=sys.stderr)

    def flush(self):
        """Flushes standard error."""
        sys.stderr.flush()


def bar(iterable=None, disable=False, **options):
    """Returns a `tqdm` over `iterable`, on standard error.

    Args:
      iterable: what to go through, or None for a bar that is moved by `update`.
      disable: shows nothing.
      **options: of `tqdm`.
    """
    disable = disable or _silent
    if sys.stderr.isatty():
        return tqdm(iterable, disable=disable, **options)
    return tqdm(iterable, disable=disable, file=_Lines(), mininterval=_SECONDS, miniters=1, delay=_SECONDS,
                bar_format=_LINE, **options)


def say(text):
    """Writes one line to standard error, beside a bar if there is one."""
    if not _silent:
        tqdm.write(text, file=sys.stderr)


@contextlib.contextmanager
def silent():
    """Inside, neither bars nor lines are shown."""
    global _silent
    before, _silent = _silent, True
    try:
        yield
    finally:
        _silent = before
