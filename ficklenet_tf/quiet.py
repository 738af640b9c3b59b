"""TensorFlow loaded without its chatter, for the binaries."""

import importlib
import os
import sys
import tempfile


def load_tensorflow():
    """Imports TensorFlow; what its C++ part says below the rank of an error is not shown.

    Some of it is said while it is loaded, before TF_CPP_MIN_LOG_LEVEL counts. So standard error goes to a file for
    that time, which is shown if the import fails. An environment that sets TF_CPP_MIN_LOG_LEVEL to 0 sees everything.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # what goes wrong comes as a Python exception too
    if os.environ["TF_CPP_MIN_LOG_LEVEL"] == "0" or "tensorflow" in sys.modules:
        return
    sys.stderr.flush()
    shown = os.dup(2)
    with tempfile.TemporaryFile() as kept:
        os.dup2(kept.fileno(), 2)
        try:
            importlib.import_module("tensorflow")
        except BaseException:
            kept.seek(0)
            os.write(shown, kept.read())
            raise
        finally:
            os.dup2(shown, 2)
            os.close(shown)
