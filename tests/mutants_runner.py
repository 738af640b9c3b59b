"""Runs pytest for mutants.py, each time in a fork of this process, which has imported TensorFlow already.

Reads {"tree": ..., "arguments": [...], "seconds": ...} from each line of its input; answers with pytest's exit code,
or "slow" after so many seconds. What pytest said last is in `LOG` of the tree.
"""

import contextlib
import json
import os
import signal
import sys
import time

import cv2  # noqa: F401
import keras  # noqa: F401
import pytest
import scipy.stats  # noqa: F401
import tensorflow  # noqa: F401

LOG = "tests.log"


def run(tree: str, arguments: list[str], seconds: float) -> int | str:
    """Returns how pytest ends in `tree`."""
    child = os.fork()
    if not child:
        os.setsid()
        os.chdir(tree)
        sys.path.insert(0, tree)  # as python -m pytest does
        log = os.open(LOG, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(log, 1)
        os.dup2(log, 2)
        os._exit(pytest.main(arguments))
    ended, deadline = (0, 0), time.monotonic() + seconds
    while not ended[0] and time.monotonic() < deadline:
        time.sleep(0.05)
        ended = os.waitpid(child, os.WNOHANG)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child, signal.SIGKILL)  # itself if it is slow, and what it has started
    if ended[0]:
        return os.waitstatus_to_exitcode(ended[1])
    os.waitpid(child, 0)
    return "slow"


if __name__ == "__main__":
    for line in sys.stdin:
        print(run(**json.loads(line)), flush=True)
