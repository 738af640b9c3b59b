"""Lets binaries read the flags of command lines, without running them.

    python tests/report/read_commands.py < lines

TensorFlow is imported once; each line, split as by a shell, is read in a fork of this process. Prints for each of them
one line of JSON: the line, and "" or what its binary says against it.
"""

import contextlib
import io
import json
import runpy
import shlex
import sys

from absl import app, flags

from tests.faults import wrong_flags
from tools import checks


def complaint(line):
    """Returns what a line's binary says against its flags, "" where it takes them."""
    _, module, binary, *arguments = shlex.split(line)
    assert module == "-m"

    def read(main, flags_parser):
        rest = flags.FLAGS([binary, *arguments])
        checks.check_names()
        checks.check_places()
        if len(rest) > 1 and binary != "tools.predict":
            raise ValueError(f"unexpected words: {rest[1:]}")

    def tried():
        app.run = read
        sys.argv = [binary, *arguments]
        printed = io.StringIO()
        try:
            with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
                runpy.run_module(binary, run_name="__main__", alter_sys=True)
        except (Exception, SystemExit) as error:
            return f"{error} {printed.getvalue()}"
        return ""

    return wrong_flags.in_fork(tried)


if __name__ == "__main__":
    for each in sys.stdin.read().splitlines():
        print(json.dumps([each, complaint(each)]), flush=True)
