"""TensorFlow loaded without its chatter, for the binaries."""

import contextlib
import importlib
import os
import pathlib
import sys
import tempfile
from collections.abc import Iterator


def hush() -> None:
    """Lets TensorFlow's C++ part say fatal errors only, once it is loaded; whoever sets the variable decides."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")


def load_tensorflow() -> None:
    """Imports TensorFlow; of what its C++ part says only fatal errors are shown.

    What stops a run comes as a Python exception, and `training.rehearsal` says which device computes. Whoever sets
    TF_CPP_MIN_LOG_LEVEL sees as much as it asks for, and with 0 also what is said while TensorFlow is loaded.
    """
    hush()
    if "tensorflow" in sys.modules:
        return
    with contextlib.nullcontext() if os.environ["TF_CPP_MIN_LOG_LEVEL"] == "0" or _may_abort() else _kept_back():
        importlib.import_module("tensorflow")


def _may_abort() -> bool:
    """Whether this may be a processor without AVX, on which TensorFlow says so and ends the process."""
    path = pathlib.Path("/proc/cpuinfo")
    return path.exists() and "flags" in path.read_text() and " avx " not in path.read_text()


@contextlib.contextmanager
def _kept_back() -> Iterator[None]:
    """Standard error goes to a file, which is shown if an exception ends the block."""
    sys.stderr.flush()
    try:
        shown = os.dup(2)
    except OSError:  # it is closed
        yield
        return
    with tempfile.TemporaryFile() as kept:
        os.dup2(kept.fileno(), 2)
        try:
            yield
        except BaseException:
            kept.seek(0)
            os.write(shown, kept.read())
            raise
        finally:
            os.dup2(shown, 2)
            os.close(shown)
