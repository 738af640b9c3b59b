"""docs/tutorial.md, followed: its commands one after the other, on fewer drawings and with less training."""

import os
import pathlib
import re
import shutil
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[1]
PYTHON = ".venv/bin/python "
# What makes a command small; each must stand in the tutorial.
LESS = {"tools.make_sample": "--cache_dir=data", "tools.check_data": "",
        "tools.run_pipeline": "--cache_dir=data --norehearsal --classifier.epochs=1 --segmenter.steps=3 "
                              "--maps.num_maps=5",
        "tools.predict": "", "export.client": ""}


def _blocks():
    """Returns the tutorial's indented blocks, each a list of lines; lines that a backslash ends are joined."""
    text = (ROOT / "docs" / "tutorial.md").read_text().replace("\\\n", "")
    lines = [line[4:] if line.startswith("    ") else None for line in text.splitlines()]
    return [[line for line in block.split("\n") if line] for block in "\n".join(
        "\0" if line is None else line for line in lines).split("\0") if block.strip()]


def _run(command, cwd):
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "TF_CPP_MIN_LOG_LEVEL": "3"}
    done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, f"{command}\n{done.stdout[-2000:]}\n{done.stderr[-3000:]}"
    return done.stdout


@pytest.fixture
def server(tmp_path):
    """Starts the stand-in server when it is asked for; returns its address."""
    started = []

    def start():
        process = subprocess.Popen([sys.executable, "-m", "tests.serving.stand_in",
                                    str(tmp_path / "runs" / "mine" / "saved_model"), "0"], cwd=ROOT,
                                   stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        started.append(process)
        return process.stdout.readline().strip()

    yield start
    for process in started:
        process.kill()
        process.wait()


def test_the_tutorial(tmp_path, server):
    said, seen = {}, set()
    for block in _blocks():
        if block[0].startswith("import "):
            said["python"] = _run([sys.executable, "-c", "\n".join(block)], tmp_path)
        for line in block:
            if not line.startswith(PYTHON):
                continue
            words = line.removeprefix(PYTHON).split()
            module = words[1]
            if module == "tools.predict":
                shutil.copy(sorted((tmp_path / "mine").glob("*/*.png"))[0], tmp_path / "new.png")
            address = server() if module == "export.client" else ""
            words = [re.sub("localhost:8500", address, word).replace("--count=300", "--count=24") for word in words]
            said[module] = _run([sys.executable, *words, *LESS[module].split()], tmp_path)
            seen.add(module)
    assert seen == set(LESS)
    assert "Training can begin." in said["tools.check_data"]
    found = re.search(r"new.png: (.*)", said["tools.predict"])[1]
    assert (tmp_path / "masks" / "new.png").exists() and said["export.client"].startswith("new.png: ")
    assert (tmp_path / "answers" / "new.png").exists()
    names = re.findall(r"[a-z]+(?= \d+ %)", found)
    assert all(name in said["python"] for name in names)
    closing = said["tools.run_pipeline"]
    assert "tools.predict --output_dir=runs/mine" in closing and "saved_model/1" in closing
    rows = re.findall(r"^\| `([a-z_ ]+)", (ROOT / "docs" / "tutorial.md").read_text(), re.M)
    assert rows and all(re.search(rf"^{row.split(':')[0]}", closing, re.M) for row in rows), rows
