"""Wrong values of flags: one line that names the flag, before anything is written."""

import json
import os
import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[2]
BINARIES = sorted(f"{path.parent.name}.{path.stem}" for place in ("tools", "export")
                  for path in (ROOT / place).glob("*.py") if "cli.start(" in path.read_text())
SHORT = {"tools.run_pipeline": ("segmenter.head", "segmenter.dropout", "maps.auto_tolerance"),
         "tools.train_segmenter": ("name", "split", "losses", "weights", "output_dir"),
         "export.export_saved_model": ("version", "test_sizes", "output_dir")}


def _tried(binary, directory, *chosen):
    directory.mkdir()
    ended = subprocess.run([sys.executable, "tests/faults/wrong_flags.py", binary, str(directory), *chosen], cwd=ROOT,
                           env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=True)
    return [json.loads(line) for line in ended.stdout.splitlines()]


def _refused(tried):
    """Whether a value ended in the exit code 1 and a line that names flag or file, and left nothing behind."""
    file = tried["value"] if "/" in tried["value"] or "." in tried["value"] else tried["flag"]
    named = tried["flag"].split(".")[-1] in tried["text"] or file in tried["text"]
    return tried["code"] == 1 and named and "Traceback" not in tried["text"] and not tried["left"]


@pytest.mark.parametrize("binary", SHORT)
def test_a_wrong_value_is_refused_before_anything_is_written(tmp_path, binary):
    tried = _tried(binary, tmp_path / "place", *SHORT[binary])
    assert {each["flag"] for each in tried} == set(SHORT[binary])
    assert [each for each in tried if not _refused(each)] == []


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("binary", BINARIES)
def test_every_flag_refuses_wrong_values(tmp_path, binary):
    """Says how many values there were, and how long the slowest took."""
    tried = _tried(binary, tmp_path / "place")
    assert tried or binary in ("tools.make_api", "tools.make_tour")
    print(f"\n{binary}: {len(tried)} values of {len({each['flag'] for each in tried})} flags, at most "
          f"{max((each['seconds'] for each in tried), default=0)} s")
    assert [each for each in tried if not _refused(each)] == []
