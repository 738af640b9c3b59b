"""Several systems in one run's directory, from photographs to the page that says which to take."""

import os
import pathlib
import subprocess
import sys

import pytest

from ficklenet_tf.runs import artifacts
from tests.report import pages
from tests.test_pipeline import SETTINGS

ROOT = pathlib.Path(__file__).parents[1]
FLAGS = [*(flag for flag in SETTINGS if flag not in ("--nobaseline", "--segmenter.retrain_steps=4")),
         "--max_images=12", "--norehearsal", "--rows=2"]


def _compare(drawings_dir, tmp_path, *flags, code=0):
    ended = subprocess.run([sys.executable, "-m", "tools.compare", *FLAGS, f"--cache_dir={drawings_dir}",
                            f"--output_dir={tmp_path / 'run'}", *flags], cwd=ROOT, capture_output=True, text=True,
                           env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}, timeout=900)
    assert ended.returncode == code, (ended.stdout + ended.stderr)[-3000:]
    return ended.stdout + ended.stderr


def test_what_systems_share_is_made_once_and_a_third_is_added(tmp_path, drawings_dir):
    run = tmp_path / "run"
    output = _compare(drawings_dir, tmp_path, "--systems=deterministic,sec_crf")
    assert "Undecided between " in output and "name a third with --systems" in output
    names = {path.name for path in run.iterdir()}
    assert {"classifier", "classifier_deterministic_seed0", "maps_of_classifier_deterministic_seed0",
            "seeds_sec_crf_seed0", "segmenter_largefov_deterministic_seed0"} <= names
    assert not {"classifier_sec_crf_seed0", "maps_sec_crf_seed0", "maps"} & names
    kept = {path: path.stat().st_mtime_ns for path in run.glob("*/*") if path.parent.name != "evaluation"}
    output = _compare(drawings_dir, tmp_path, "--systems=deterministic,sec_crf,ficklenet", "--crf=none")
    assert {path: path.stat().st_mtime_ns for path in kept} == kept
    assert not (run / "classifier_ficklenet_seed0").exists()  # the run's own has its settings
    result = artifacts.read_json(run / "comparison.json")
    first, *_, last = result["systems"]
    assert [system["key"] for system in result["systems"]] == ["deterministic", "sec_crf", "ficklenet"]
    assert first["seconds"] > 0 and first["seed_milliseconds"] > 0 and 0 <= first["miou"] <= 1
    assert last["predictions"] == "predictions_largefov_ficklenet_seed0" and last["seeds"] == "seeds_ficklenet_seed0"
    assert result["recommendation"] in output and result["verdict"]["photographs"] == 12
    text = (run / "comparison.html").read_text()
    assert result["recommendation"] in pages.Page(text).text
    binary, flags = pages.flags(pages.commands(text)[0])
    assert binary == "tools.run_pipeline" and flags["system"] == result["verdict"]["names"][0]
    assert flags["output_dir"] == f"{run}_{flags['system']}" and "systems" not in flags and "rows" not in flags


@pytest.mark.parametrize(("flag", "error"), [
    ("--systems=ficklenet", "expected all, or two or more of"), ("--systems=sec,sec", "each once"),
    ("--systems=ficklenet,mine", "expected all, or two or more of"),
    ("--systems=ficklenet,ficklenet_theta,gain --seeds.refine=crf",
     "found ficklenet and ficklenet_theta equal with the flags given (--"),
    ("--held_out=train", "held_out: expected photographs from which nothing learns, found 12 of train in train")])
def test_what_cannot_be_compared_is_refused_before_any_training(tmp_path, drawings_dir, flag, error):
    systems = [] if flag.startswith("--systems") else ["--systems=ficklenet,deterministic"]
    assert error in _compare(drawings_dir, tmp_path, *flag.split(), *systems, code=1)
    assert not (tmp_path / "run" / "classifier").exists()
