"""One process at a time where two would spoil each other's work: a lock that a killed process leaves by itself."""

import contextlib
import errno
import fcntl
import json
import os
import pathlib
import platform
import time
from collections.abc import Iterator

from ficklenet_tf.errors import UserError
from ficklenet_tf.runs import progress

NAME = ".lock"  # of a stage's lock file
_NO_LOCKS = (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP)


@contextlib.contextmanager
def hold(path: str | pathlib.Path, what: str, wait: bool = False, shared: bool = False) -> Iterator[None]:
    """Holds a lock; the operating system takes it back when the process ends, however it ends.

    Args:
      path: of the lock's file, which stays: its content says who holds it, or held it last. Its directory is made.
      what: is locked, for the message: a directory.
      wait: for whoever holds it, in place of an error.
      shared: with others that share it, but not with one that wants it alone.

    Raises:
      UserError: another process holds it; names it.
    """
    path = pathlib.Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "a+", encoding="utf-8") as file:
        try:
            fcntl.flock(file, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            raise UserError(f"{what}: {_owner(path)} is at work here; wait until it has ended, or give another "
                            "directory") from None
        except OSError as error:
            if error.errno not in _NO_LOCKS:
                raise
            progress.say(f"{path}: this file system has no locks ({error.strerror}); see that one process works there")
        file.truncate(0)
        file.write(json.dumps({"process": os.getpid(), "machine": platform.node(), "since": time.time()}))
        file.flush()
        yield


def _owner(path: pathlib.Path) -> str:
    try:
        owner = json.loads(path.read_text("utf-8"))
        minutes = (time.time() - owner["since"]) / 60
        return f"process {owner['process']} on {owner['machine']}, for {minutes:.0f} minutes,"
    except (ValueError, KeyError, TypeError):
        return "another process"
