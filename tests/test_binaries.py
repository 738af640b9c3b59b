"""The binaries as a user meets them: help, flag files, one clear line and a non-zero exit for a mistake."""

import ast
import os
import pathlib
import subprocess
import sys

import pytest

from ficklenet_tf.errors import UserError
from tools import cli

ROOT = pathlib.Path(__file__).parents[1]
BINARIES = sorted(p for folder in ("tools", "export") for p in (ROOT / folder).glob("*.py")
                  if "__main__" in p.read_text() and "absl" in p.read_text())


def _start(*arguments):
    return subprocess.Popen([sys.executable, "-m", *map(str, arguments)], cwd=ROOT, stdout=subprocess.PIPE,
                            stderr=subprocess.PIPE, text=True, env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"})


@pytest.mark.parametrize("path", BINARIES, ids=lambda p: p.stem)
def test_help_has_a_command_to_copy(path):
    text = ast.get_docstring(ast.parse(path.read_text()))
    assert f"python -m {path.parent.name}.{path.stem}" in text


def test_mistakes_end_in_one_line_and_a_non_zero_exit(tmp_path):
    (tmp_path / "flags").write_text(f"--output_dir={tmp_path / 'none'}\n--dataset=shapes\n--cache_dir={tmp_path}\n"
                                    "--max_images=4\n")
    (tmp_path / "mine" / "images").mkdir(parents=True)
    (tmp_path / "mine" / "images" / "a.jpg").write_bytes(b"\xff\xd8 truncated")
    (tmp_path / "mine" / "tags.csv").write_text("image,tags\na.jpg,dog\n")
    (tmp_path / "file").write_text("")
    cases = {
        "absent.npz": _start("tools.train_classifier", f"--flagfile={tmp_path / 'flags'}", "--weights=absent.npz"),
        "expected a finished classifier": _start("tools.extract_seeds", f"--flagfile={tmp_path / 'flags'}"),
        "expected a finished segmenter": _start("tools.predict", f"--output_dir={tmp_path / 'none'}", "x.jpg"),
        "different names": _start("tools.predict", f"--output_dir={tmp_path / 'none'}", "a/x.jpg", "b/x.png"),
        "a.jpg": _start("tools.train_classifier", "--dataset=folder", f"--data_dir={tmp_path / 'mine'}",
                        "--split=all", f"--cache_dir={tmp_path}", f"--output_dir={tmp_path / 'r'}"),
        "rate: expected a number from 0 to 1": _start(
            "tools.train_classifier", "--dataset=shapes", f"--cache_dir={tmp_path}",
                                      "--max_images=4", "--rate=1.5", f"--output_dir={tmp_path / 's'}"),
        str(tmp_path / "file"): _start("tools.train_classifier", "--dataset=shapes", f"--cache_dir={tmp_path}",
                                       "--max_images=4", f"--output_dir={tmp_path / 'file' / 'below'}"),
    }
    for expected, process in cases.items():
        _, errors = process.communicate(timeout=500)
        lines = [line for line in errors.splitlines() if line.startswith("error: ")]
        assert process.returncode == 1 and len(lines) == 1 and expected in lines[0], (expected, errors[-2000:])
        assert "Traceback" not in errors
        assert not list(tmp_path.glob("*/classifier/run.json"))


def test_a_flag_by_its_old_name_is_told_the_new_one(tmp_path):
    process = _start("tools.extract_maps", f"--output_dir={tmp_path / 'run'}", "--selections=5")
    output, errors = process.communicate(timeout=500)
    assert process.returncode == 1 and not output
    assert errors.splitlines()[-1] == "error: --selections is called --num_maps now"
    assert errors.count("error: ") == 1 and "Traceback" not in errors and not (tmp_path / "run").exists()


@pytest.mark.parametrize("error, line", [
    (UserError("rate: expected 0..1, found 2"), "error: rate: expected 0..1, found 2"),
    (UserError("in user code:\n\n    File \"x.py\", line 1\n\n    UserError: rate: expected 0..1"),
     "error: rate: expected 0..1"),
    (FileNotFoundError("no such file"), "error: no such file"),
    (KeyError("rate"), None), (ValueError("shapes differ"), None)], ids=lambda value: type(value).__name__)
def test_a_mistake_is_one_line_and_a_bug_keeps_its_traceback(monkeypatch, capsys, error, line):
    def main():
        raise error

    monkeypatch.setattr(cli.app, "run", lambda wrapped: wrapped(["binary"]))
    with pytest.raises(SystemExit) as raised:
        cli.start(main)
    last, *earlier = capsys.readouterr().err.splitlines()[::-1]
    assert raised.value.code == 1
    if line:
        assert last == line and not any("Traceback" in text for text in earlier)
    else:
        assert last == f"{type(error).__name__}: {error}" and "Traceback (most recent call last):" in earlier


_ENDLESS = """
import sys, time
import numpy as np, tensorflow as tf
from ficklenet_tf.data import indexed_dataset
from ficklenet_tf.errors import UserError
from tools import cli

def read(index):
    time.sleep(0.02)
    if index == 3:
        raise (UserError if sys.argv[1] == "user" else KeyError)("x.png: expected a mask, found none")
    return {"index": np.int64(index)}

def main(_):
    data = iter(indexed_dataset.dataset(range(10**6), read, {"index": tf.TensorSpec([], tf.int64)}))
    while True:
        next(data)

cli.start(main, arguments=True)
"""


@pytest.mark.parametrize("kind", ["user", "bug"])
def test_an_error_in_the_input_pipeline_ends_the_process(kind):
    """Its threads wait for Python's lock; while a frame holds the pipeline, the interpreter waits for its threads."""
    command = [sys.executable, "-c", _ENDLESS, kind]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert ended.returncode == 1
    assert ("error: x.png: expected a mask, found none" in ended.stderr.splitlines()) == (kind == "user")
    assert ("Traceback" in ended.stderr) == (kind == "bug")


def test_help_and_an_unknown_flag():
    help_, unknown = _start("tools.train_classifier", "--help"), _start("tools.evaluate", "--nonsense=1")
    output, _ = help_.communicate(timeout=500)
    assert "python -m tools.train_classifier" in output[:400] and "--rate" in output
    _, errors = unknown.communicate(timeout=500)
    assert unknown.returncode == 1 and "nonsense" in errors
