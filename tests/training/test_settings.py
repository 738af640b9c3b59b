"""Wrong numbers and words of every stage are refused by the config itself or before the first stage."""

import dataclasses
import math
import subprocess
import sys

import numpy as np
import pytest

from ficklenet_tf import presets
from ficklenet_tf.errors import UserError
from ficklenet_tf.training import settings

STAGES = ("classifier", "maps", "seeds", "affinity", "segmenter")


@pytest.mark.parametrize("preset", presets.PRESETS.values(), ids=presets.PRESETS)
def test_the_presets_pass_and_every_word_is_known(preset):
    for stage in STAGES:
        settings.check_words(stage, getattr(preset, stage))
    settings.check(preset)
    for stage in STAGES:
        config = getattr(preset, stage)
        words = {name for name, value in dataclasses.asdict(config).items() if isinstance(value, str)}
        assert words <= {*settings.WORDS.get(stage, {}), *settings.NUMBER_OR.get(stage, {})}, stage


def test_every_number_is_checked():
    """Of each config each field that holds a number, or several, refuses nan, infinity, a far one and a wrong kind."""
    for stage in STAGES:
        config = getattr(presets.PAPER, stage)
        for field in dataclasses.fields(config):
            value = getattr(config, field.name)
            if isinstance(value, bool) or (isinstance(value, str) and field.type is str):
                continue
            words = () if "str" in str(field.type) else ("many",)
            for wrong in (math.nan, math.inf, -1, 1e12, None, True, *words):
                wrong = (wrong,) if isinstance(value, tuple) else wrong
                with pytest.raises(UserError, match=rf"^{field.name}: expected a (whole )?number from"):
                    dataclasses.replace(config, **{field.name: wrong})


def test_numpys_numbers_are_numbers_and_what_runs_recorded_before_is_read():
    config = presets.ClassifierConfig(batch_size=np.int64(5), rate=np.float32(0.5))
    assert (type(config.batch_size), type(config.rate)) == (int, float) and config.batch_size == 5
    assert [presets.MapsConfig(gradient=old).gradient for old in (False, True)] == ["none", "pixels"]


@pytest.mark.parametrize("stage", settings.WORDS)
def test_every_word_is_checked(stage):
    for field in settings.WORDS[stage]:
        config = dataclasses.replace(getattr(presets.PAPER, stage), **{field: "foo"})
        with pytest.raises(UserError, match=rf"{stage}.{field}: expected one of .*, found 'foo'"):
            settings.check_words(stage, config)


@pytest.mark.parametrize("changes, message", [
    ({"seeds": {"refine_low": 0.2, "refine_high": 0.1}}, "refine_low: expected at most refine_high"),
    ({"classifier": {"kernel_size": 4}}, "kernel_size: expected an odd number"),
    ({"classifier": {"epochs": 0}}, "steps: expected a number from 1"),
    ({"maps": {"sizes": ()}}, "sizes: expected a whole number"),
    ({"segmenter": {"trainable_layers": "head", "photometric": 0.2}}, "photometric: expected none"),
    ({"seeds": {"refine_low": "many"}}, "seeds.refine_low: expected a number or auto")], ids=str)
def test_what_cannot_be_together(changes, message):
    with pytest.raises(UserError, match=message):
        preset = dataclasses.replace(presets.PAPER, **{
            stage: dataclasses.replace(getattr(presets.PAPER, stage), **fields) for stage, fields in changes.items()})
        for stage in STAGES:
            settings.check_words(stage, getattr(preset, stage))
        settings.check(preset)


@pytest.mark.parametrize("flag, message", [
    ("--segmenter.head=foo", "segmenter.head: expected one of largefov, largefov4, aspp, found 'foo'"),
    ("--segmenter.dropout=2", "dropout: expected a number from 0 to 0.999, found 2.0"),
    ("--maps.auto_tolerance=nan", "auto_tolerance: expected a number from 1e-09 to 1, found nan"),
    ("--maps.sizes=1", "sizes: expected a whole number from 16 to 8192, found (1,)")])
def test_a_wrong_flag_of_a_later_stage_ends_the_whole_job_at_once(tmp_path, flag, message):
    command = [sys.executable, "-m", "tools.run_pipeline", "--dataset=shapes", "--preset=tiny", flag,
               f"--output_dir={tmp_path / 'run'}", f"--cache_dir={tmp_path / 'data'}"]
    ended = subprocess.run(command, capture_output=True, text=True)
    assert ended.returncode == 1 and ended.stderr.splitlines()[-1] == f"error: {message}"
    assert not list(tmp_path.iterdir())
