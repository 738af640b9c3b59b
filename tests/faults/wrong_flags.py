"""Gives each flag of a binary a wrong value and prints, as JSON lines, what came of it.

    python tests/faults/wrong_flags.py tools.train_segmenter DIRECTORY [FLAG ...]

TensorFlow is imported once; each value is tried in a fork of this process, as a binary of its own. DIRECTORY is empty;
what a value leaves there is said and removed.
"""

import contextlib
import io
import json
import os
import pathlib
import runpy
import shutil
import signal
import sys
import time

from absl import app, flags

import tools  # first: it hushes TensorFlow
from ficklenet_tf import presets  # noqa: F401 - what the binaries import, before the forks
from ficklenet_tf.experiments import plan  # noqa: F401
from ficklenet_tf.training import rounds  # noqa: F401
from tools import checks

_LONGEST = 60  # seconds
NAMES = ("", "../up", "a/b", ".hidden", "x" * 101)  # of directories below another
# Flags that take any text; and those of paths and splits, which have no kind of their own.
ANY = ("title", "picture", "to", "beam_options")
PATHS = {"data_dir": "nowhere/at/all", "weights": "nowhere.npz", "table2_weights": "nowhere.npz", "split": "nowhere",
         "held_out": "nowhere", "strong_split": "nowhere", "saliency_dir": "nowhere/at/all", "import": "nowhere",
         "photographs": "nowhere/at/all", "trained_run": "nowhere/at/all", "restart": "nowhere",
         "peers_python": "nowhere/python", "beside": "nowhere.md", "update": "nowhere.md",
         "saliency_model": "nowhere.onnx"}
OUTPUTS = ("output_dir", "cache_dir")  # a file is in the way
NEEDS = {"strong_split": ["--supervision=semi"], "saliency_dir": ["--refine=saliency"]}  # else the flag is not used
WORDS = {"tools.benchmark": "serving", "tools.benchmark_export": "a.jpg", "tools.predict": "a.jpg"}  # after the flags
MORE = {"version": ("1" * 23,), "max_pixels": ("1",), "test_sizes": ("1",), "max_images": ("0",)}


def values(flag):
    """Returns values that a flag must not take."""
    return (*_values(flag), *MORE.get(flag.name, ()))


def _values(flag):
    kind = type(flag.parser).__name__
    if flag.name in checks.NAMES and kind == "ArgumentParser":
        return NAMES
    if flag.name in PATHS:
        return (PATHS[flag.name],)
    if flag.name in OUTPUTS:
        return ("in_the_way",)
    if kind == "FloatParser" or kind == "_NumberOrWord":
        return ("-3", "nan", "foo")
    return {"BooleanParser": ("maybe",), "IntegerParser": ("-3", "1.5", "foo"), "ListParser": ("foo", "-3")}.get(
        kind, ("foo",))


def in_fork(function):
    """Returns what a function returns in a fork, by JSON, and its exit code."""
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        os.close(reader)
        signal.alarm(_LONGEST)  # what is not refused would run for long
        with os.fdopen(writer, "w") as file:
            file.write(json.dumps(function()))
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as file:
        answer = file.read()
    _, status = os.waitpid(child, 0)
    return json.loads(answer) if answer else ["", f"died of {status}", status]


def flags_of(binary):
    """Returns (flag's name, its wrong values) for each flag of a binary, by importing it without running it."""
    def listed():
        found = []
        def note(*_, **__):
            own = [flag for module, there in flags.FLAGS.flags_by_module_dict().items()
                   if module == "tools.define" or module.endswith(binary.replace(".", "/") + ".py") for flag in there]
            found.extend((flag.name, list(values(flag))) for flag in own if flag.name not in ANY)
        app.run = note
        sys.argv = [binary]
        runpy.run_module(binary, run_name="__main__", alter_sys=True)
        return found
    return in_fork(listed)


def run(binary, arguments):
    """Runs a binary in a fork; returns [exit code, what it printed]."""
    def ran():
        printed, code = io.StringIO(), 0
        with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
            sys.argv = [binary, *arguments]
            try:
                runpy.run_module(binary, run_name="__main__", alter_sys=True)
            except SystemExit as end:
                code = end.code if isinstance(end.code, int) else 1
        return [code, printed.getvalue()]
    return in_fork(ran)


def main(binary, directory, chosen):
    """Tries every flag, or the chosen ones."""
    directory = pathlib.Path(directory).absolute()
    root = pathlib.Path(tools.__file__).parents[1]
    os.chdir(root)
    common = {"dataset": "shapes", "preset": "tiny", "output_dir": str(directory / "run"),
              "trained_run": str(directory), "cache_dir": str(directory / "data"), "table": "1"}
    listed = flags_of(binary)
    known = {name for name, _ in listed}
    for name, wrong in listed:
        for value in wrong if not chosen or name in chosen else ():
            (directory / "in_the_way").write_text("a file")
            given = {**{key: common[key] for key in common if key in known},
                     name: str(directory / value) if value == "in_the_way" else value}
            arguments = [f"--{key}={text}" for key, text in given.items()] + [
                more for more in NEEDS.get(name, []) if more[2:].split("=")[0] in known]
            arguments += [WORDS[binary]] if binary in WORDS else []
            start = time.monotonic()
            code, text = run(binary, arguments)[-2:]
            left = sorted(path.name for path in directory.iterdir() if path.name != "in_the_way")
            print(json.dumps({"flag": name, "value": value, "code": code, "text": text[-2000:], "left": left,
                              "seconds": round(time.monotonic() - start, 1)}), flush=True)
            for path in left:
                shutil.rmtree(directory / path)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3:])
