"""How every binary begins and ends: help, checks of its flags, one clear line for a user's mistake."""

import builtins
import gc
import importlib
import io
import logging
import os
import re
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterable, Sequence
from types import FrameType
from typing import NoReturn

import absl.logging
from absl import app, flags

from ficklenet_tf.errors import UserError
from ficklenet_tf.runs import quiet, restart
from tools import checks, help_page

FLAGS = flags.FLAGS
_PATIENCE = 10.0  # seconds for what cleans up after an interrupt
_interrupted = threading.Event()


def start(main: Callable[..., None], arguments: bool, modules: Iterable[str], groups: help_page.Groups) -> None:
    """Runs a binary; see `cli.start`.

    Args:
      main: the function to run.
      arguments: whether it takes the list of what follows the flags; otherwise such words are an error.
      modules: that define its flags.
      groups: `help_page.Groups`.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):  # a file's name may be none of the locale's text
        sys.stdout.reconfigure(errors="backslashreplace")
    if help_page.asked(sys.argv[1:]):
        by_module = FLAGS.flags_by_module_dict()
        defined = [flag for module in modules for flag in by_module.get(module, [])]
        help_page.show(sys.modules["__main__"].__doc__ or "", defined, groups, sys.argv[1:])
        sys.exit(0)

    def wrapped(argv: list[str]) -> None:
        failed = True
        try:
            if len(argv) > 1 and not arguments:
                raise UserError(f"expected flags alone, found {' '.join(argv[1:])}")
            checks.check_names()
            quiet.load_tensorflow()  # from here on: what is above answers at once
            _hush()
            import_modules(FLAGS["import"].value or [] if "import" in FLAGS else [])
            checks.check_places()
            if arguments:
                main(argv[1:])
            else:
                main()
            restart.say_left()
            failed = False
        except KeyboardInterrupt:
            _stop()
        except Exception as error:
            if _interrupted.is_set():  # TensorFlow made another error of it (seen: SystemError)
                _stop()
            text = _text(error)
            if text is None or os.environ.get("FICKLENET_TRACEBACK"):
                traceback.print_exc()
            else:
                print(f"error: {text}", file=sys.stderr)
        if failed:  # here, where the error and its frames are gone: an input pipeline that one holds would never end
            gc.collect()
            sys.exit(1)

    checks.check_renamed(sys.argv[1:])
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # not where it is ignored, as by nohup
        signal.signal(signal.SIGINT, _interrupt)
    app.run(wrapped, flags_parser=_parse)


def _stop() -> NoReturn:
    without = " without --restart" if "restart" in FLAGS and FLAGS["restart"].value else ""
    print(f"stopped; a stage that was begun goes on with the same command{without}", file=sys.stderr)
    sys.stdout.flush()
    os._exit(130)  # not by way of the input pipelines, whose threads would speak of it


def _interrupt(signum: int, frame: FrameType | None) -> NoReturn:
    """Raises KeyboardInterrupt; Python drops it where it falls into a __del__, so a timer sees to it that all ends."""
    timer = threading.Timer(_PATIENCE, _stop)
    timer.daemon = True
    timer.start()
    _interrupted.set()
    raise KeyboardInterrupt


# What absl says of a wrong value, and our own words for it.
_PLAIN = ((r"invalid literal for int.*", "expected a whole number"),
          (r"could not convert string to float.*", "expected a number"),
          (r"Flag --\S+ must have a value other than None\.?", "expected a value"),
          (r"value should be one of <(.*)>", lambda match: f"expected one of {match[1].replace('|', ', ')}"),
          (r"\('Non-boolean argument.*", "expected true or false"))


def _parse(arguments: list[str]) -> list[str]:
    """Returns what follows the flags; a wrong flag ends in one line."""
    try:
        return FLAGS(arguments)
    except flags.Error as error:
        found = re.fullmatch(r"(?s)flag --([\w.]+)=(.*?): (.*)", str(error).strip())
        text = re.sub(r"Unknown command line flag '(.*?)'\.?(?: Did you mean: (.*?) \?)?", _unknown, str(error))
        if found:
            text = found[3]
            for pattern, plain in _PLAIN:
                text = re.sub(rf"(?s)^{pattern}$", plain, text)
            text = f"{found[1]}: {text}, found {'none' if found[2] == 'None' else found[2]}"
        print(f"error: {text}; --help tells the flags", file=sys.stderr)
        sys.exit(1)


def _unknown(match: re.Match[str]) -> str:
    near = f"; near it: {', '.join(f'--{name}' for name in match[2].split(', ')[:5])}" if match[2] else ""
    return f"there is no flag --{match[1]}{near}"


def _hush() -> None:
    """Leaves out what TensorFlow and TFDS say, which means nothing to a user."""
    logging.basicConfig(format="%(levelname)s: %(message)s")
    absl.logging.set_verbosity(absl.logging.ERROR)
    logging.getLogger("tensorflow").setLevel(logging.ERROR)  # many networks in one run: tracing again is right


def import_modules(modules: Sequence[str]) -> None:
    """Imports a user's modules, as those that register a backbone.

    Raises:
      UserError: there is no such module.
    """
    for module in modules:
        try:
            importlib.import_module(module)
        except ModuleNotFoundError as error:
            if error.name is None or not f"{module}.".startswith(f"{error.name}."):
                raise  # not the module itself, but one that it imports
            raise UserError(f"import: expected a Python module that can be imported from here, found none named "
                            f"{module}") from error


def _text(error: Exception) -> str | None:
    """Returns the message of a user's mistake or of the machine's trouble, None for a bug.

    Of an error in a function that a graph called (indexed_dataset.py), TensorFlow keeps the class' name and the text;
    of one while it traces, AutoGraph puts the lines of code before the text.
    """
    if isinstance(error, UserError | OSError | FloatingPointError):
        return re.split(r"\n\s*UserError: ", str(error))[-1].strip()
    import tensorflow as tf

    if not isinstance(error, tf.errors.OpError):
        return None
    inner = re.search(r"(\w*Error): (.*?)\nTraceback", error.message, re.DOTALL)
    if inner:
        return inner[2] if inner[1] == "UserError" or _is_os_error(inner[1]) else None
    of_machine = (tf.errors.NotFoundError, tf.errors.PermissionDeniedError, tf.errors.ResourceExhaustedError,
                  tf.errors.DataLossError, tf.errors.UnavailableError, tf.errors.AbortedError,
                  tf.errors.DeadlineExceededError)  # by which TensorFlow speaks of the machine, not of our graphs
    return error.message if isinstance(error, of_machine) else None


def _is_os_error(name: str) -> bool:
    return issubclass(getattr(builtins, name, object), OSError)
