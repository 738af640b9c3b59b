"""Wrong values of flags: one line that names the flag, before anything is written."""

import dataclasses
import pathlib
import subprocess
import sys

import pytest

from ficklenet_tf import presets
from ficklenet_tf.training import settings

ROOT = pathlib.Path(__file__).parents[2]
STAGES = ("classifier", "maps", "seeds", "affinity", "segmenter")
_WRONG_NAMES = ("", "../up", "a/b", ".hidden", "x" * 101)


def _numbers(stage):
    """Yields (field, a value that no field of its kind takes)."""
    for field in dataclasses.fields(getattr(presets.PAPER, stage)):
        if field.type is bool or field.name in settings.WORDS.get(stage, {}):
            continue
        yield field.name, "-3"


WHOLE = [("tools.run_pipeline", f"{stage}.{field}", value) for stage in STAGES for field, value in _numbers(stage)]
WHOLE += [("tools.run_pipeline", f"{stage}.{field}", "foo") for stage, fields in settings.WORDS.items()
          for field in fields]
WHOLE += [("tools.run_pipeline", "maps.auto_tolerance", "nan"), ("tools.run_pipeline", "seed", "-1"),
          ("tools.run_pipeline", "max_images", "0"), ("tools.run_pipeline", "save_every", "0"),
          ("tools.run_pipeline", "crf", "foo"), ("tools.run_pipeline", "held_out", "nowhere"),
          ("tools.reproduce", "table", "9"), ("tools.reproduce", "seeds", "0"), ("tools.reproduce", "systems", "foo"),
          ("tools.extract_maps", "num_maps", "0"), ("tools.extract_maps", "sizes", "1"),
          ("tools.extract_maps", "num_shards", "0"), ("tools.make_seeds", "refine", "foo"),
          ("tools.train_segmenter", "strong_images", "0"), ("tools.train_segmenter", "losses", "foo"),
          ("tools.train_segmenter", "growing", "foo"), ("export.export_saved_model", "version", "1" * 23),
          ("export.export_saved_model", "max_pixels", "1")]
WHOLE += [(tool, flag, name) for tool, flag in (
    ("tools.train_classifier", "name"), ("tools.extract_seeds", "name"), ("tools.train_segmenter", "seeds"),
    ("tools.evaluate", "stage"), ("tools.make_saliency", "closer")) for name in _WRONG_NAMES]
SHORT = (("tools.run_pipeline", "segmenter.head", "foo"), ("tools.train_classifier", "name", "../up"),
         ("export.export_saved_model", "version", "1" * 23), ("tools.extract_maps", "sizes", "1"))


@pytest.mark.parametrize("tool, flag, value", [
    pytest.param(*case, marks=[] if case in SHORT else [pytest.mark.slow], id=f"{case[0]} --{case[1]}={case[2][:9]}")
    for case in WHOLE])
def test_a_wrong_value_is_refused_before_anything_is_written(tmp_path, tool, flag, value):
    place = "--run_dir" if tool.startswith("export") else "--output_dir"
    command = [sys.executable, "-m", tool, f"{place}={tmp_path / 'run'}", f"--{flag}={value}"]
    if place == "--output_dir":
        command += ["--dataset=shapes", "--preset=tiny", f"--cache_dir={tmp_path / 'data'}"]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    message = ended.stderr + ended.stdout  # absl's own errors: a usage text
    assert ended.returncode == 1, message
    assert flag.split(".")[-1] in message and "Traceback" not in message
    assert any(words in message for words in ("expected", "should be", "is not an integer")), message
    assert not (tmp_path / "run").exists()
    assert flag in ("held_out", "losses") or not (tmp_path / "data").exists()  # what depends on the data's splits
