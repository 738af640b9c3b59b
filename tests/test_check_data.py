"""tools.check_data as a person meets it: one page, the exit code, and a table made of folders."""

import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

ROOT = pathlib.Path(__file__).parents[1]


def _start(*arguments):
    return subprocess.Popen([sys.executable, "-m", "tools.check_data", *map(str, arguments)], cwd=ROOT, text=True,
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                            env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"})


def _errors(text):
    return [line for line in text.splitlines() if line.startswith("error: ")]


@pytest.fixture
def folder(tmp_path):
    """Twelve dogs and three cats in folders, one photograph twice; the last dog is held out."""
    rng, root = np.random.default_rng(0), tmp_path / "mine"
    for name in [f"dog/{k:02d}.png" for k in range(12)] + [f"cat/c{k}.png" for k in range(3)]:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (64, 80, 3)).astype(np.uint8)).save(root / name)
    (root / "cat" / "c2.png").write_bytes((root / "dog" / "11.png").read_bytes())
    (root / "val.txt").write_text("11\n")
    return root


PAGE = """: 15 photographs
14 to train on, 1 held out

tag  to train on  held out
dog           11         1
cat            3         0

TO THINK ABOUT
  photographs to train on that are held out too (=), or look like one that is (~): 1
      cat/c2.png = dog/11.png
    -> the scores are too good by them: keep all alike on one side, by splits/val.txt, or drop some
  tags on fewer than 10 photographs to train on: 1
      cat: 3
    -> the classifier may learn them by heart, and not the thing: add some, or leave the tag out
  photographs that are there several times: 1
      cat/c2.png, dog/11.png (their tags differ)
    -> keep one of each, with all its tags

Training can begin.
"""


def test_a_page_and_the_exit_code(folder, tmp_path):
    sound, odd = _start(f"--data_dir={folder}"), tmp_path / "odd"
    (odd / "images").mkdir(parents=True)
    (odd / "tags.csv").write_text("image,tags\n" + "".join(f"a{k}.jpg,cat\n" for k in range(9)) + "b\33[2J.jpg,cat\n")
    broken, drawn = _start(f"--data_dir={odd}", "--names=2"), _start("--dataset=shapes")
    output, errors = sound.communicate(timeout=500)
    assert sound.returncode == 0 and output == f"{folder}{PAGE}" and not _errors(errors)
    output, errors = broken.communicate(timeout=500)
    assert broken.returncode == 1 and not _errors(errors) and "Traceback" not in errors
    assert ("\nTO PUT RIGHT FIRST\n  photographs that are listed and not there: 10\n      a0.jpg\n      a1.jpg\n"
            "      and 8 more\n    -> put them there") in output
    assert "names of files made of them: 1\n      b\\x1b[2J.jpg\n    -> rename them" in output and "\33" not in output
    assert output.endswith("before that is put right; --on_error=skip leaves out what is broken.\n")
    _, errors = drawn.communicate(timeout=500)
    assert drawn.returncode == 1 and len(_errors(errors)) == 1 and "found shapes" in _errors(errors)[0]


def test_a_folder_of_masks_beside_those_of_classes_is_refused(folder):
    (folder / "masks").mkdir()
    (folder / "masks" / "c0.png").write_bytes((folder / "cat" / "c0.png").read_bytes())
    process = _start(f"--data_dir={folder}")
    output, errors = process.communicate(timeout=500)
    assert process.returncode == 1 and not output and "found masks/: rename it" in _errors(errors)[0]


def test_write_tags_writes_a_table_once(folder):
    process = _start(f"--data_dir={folder}", "--write_tags")
    output, _ = process.communicate(timeout=500)
    assert process.returncode == 0 and output == f"the folders' tags -> {folder}/tags.csv\n"
    text = (folder / "tags.csv").read_text()
    assert text.startswith("image,tags\ncat/c0.png,cat\n") and text.endswith("dog/11.png,dog\n")
    again, nothing = _start(f"--data_dir={folder}", "--write_tags"), _start("--write_tags")
    _, errors = again.communicate(timeout=500)
    assert again.returncode == 1 and "expected no table, which would be overwritten" in _errors(errors)[0]
    assert (folder / "tags.csv").read_text() == text
    _, errors = nothing.communicate(timeout=500)
    assert nothing.returncode == 1 and "write_tags: expected --dataset=folder and the directory" in _errors(errors)[0]
