"""Wrong numbers and words of every stage are refused by the config itself or before the first stage."""

import dataclasses
import math
import subprocess
import sys

import numpy as np
import pytest

from ficklenet_tf import configs, presets, setting
from ficklenet_tf.errors import UserError
from ficklenet_tf.maps import erased, grad_cam
from ficklenet_tf.models import affinity, backbones, classifier, precision, segmenter, stochastic
from ficklenet_tf.seeds import cues, refinement
from ficklenet_tf.training import classifier_losses, losses, objective, settings

STAGES = tuple(configs.STAGES)
TABLES = {  # what the words in configs.py name
    "classifier": {"backbone": backbones.BACKBONES, "trainable_layers": backbones.TRAINABLE,
                   "head": classifier.HEADS, "training_mode": stochastic.MODES, "inference_mode": stochastic.MODES,
                   "form": stochastic.FORMS, "objectives": classifier_losses.LOSSES,
                   "erase": erased.FORMS, "precision": (*precision.PRECISIONS, precision.AUTO)},
    "maps": {"method": grad_cam.METHODS, "cam": grad_cam.CAMS, "gradient": ("none", *cues.GRADIENTS.values())},
    "seeds": {"background_cue": cues.CUES, "refine": refinement.REFINEMENTS},
    "segmenter": {"head": segmenter.HEADS, "initializer": ("normal", "he_normal"),
                  "trainable_layers": backbones.TRAINABLE, "optimizer": ("sgd", "adam"),
                  "schedule": ("staircase", "poly"), "log_probs": losses.FORMS, "crf_unaries": losses.UNARIES,
                  "full_loss": losses.MEANS, "losses": objective.LOSSES, "growing": objective.GROWINGS,
                  "precision": (*precision.PRECISIONS, precision.AUTO)},
    "affinity": {"kind": affinity.KINDS}}


@pytest.mark.parametrize("stage", STAGES)
def test_the_words_are_those_of_the_tables(stage):
    """--help and the configs know them without loading what they name."""
    fields = {field.name: setting.setting_of(field) for field in dataclasses.fields(configs.STAGES[stage])}
    words = {name: known.words for name, known in fields.items() if known.words and not known.limits}
    assert {name: set(legal) for name, legal in words.items()} == {
        name: set(table) for name, table in TABLES[stage].items()}


def test_every_setting_says_what_it_is_for():
    for config in configs.STAGES.values():
        for field in dataclasses.fields(config):
            known = setting.setting_of(field)
            assert known.meaning.endswith(".") and known.meaning[0] != " ", field.name
            assert known.limits or known.words or isinstance(field.default, bool), field.name


@pytest.mark.parametrize("name", presets.PRESETS)
def test_the_presets_go_together(name):
    settings.check(presets.PRESETS[name], "imagenet")


@pytest.mark.parametrize("name, trains", [("cpu", False), ("evening", False), ("paper", True), ("tiny", True)])
def test_frozen_layers_want_weights(name, trains, capsys):
    """Frozen layers of random numbers are refused, or asked for by name; a large network trained from them is told."""
    settings.check(presets.PRESETS[name], "random")
    if trains:
        settings.check(presets.PRESETS[name], "")
        assert ("NO PRETRAINED WEIGHTS: vgg16" in capsys.readouterr().err) == (name == "paper")
    else:
        with pytest.raises(UserError, match="weights: expected --weights=imagenet or a file, because"):
            settings.check(presets.PRESETS[name], "")


def test_every_number_is_checked():
    """Of each config each field that holds a number, or several, refuses nan, infinity, a far one and a wrong kind."""
    for stage in STAGES:
        config = getattr(presets.PAPER, stage)
        for field in dataclasses.fields(config):
            value = getattr(config, field.name)
            if not setting.setting_of(field).limits:
                continue
            words = () if "str" in str(field.type) else ("many",)
            for wrong in (math.nan, math.inf, -1, 1e12, None, True, *words):
                wrong = (wrong,) if isinstance(value, tuple) else wrong
                with pytest.raises(UserError, match=rf"^{field.name}: expected (a )?(whole )?numbers? from"):
                    dataclasses.replace(config, **{field.name: wrong})


@pytest.mark.parametrize("name, field, wrong, message", [
    ("classifier", "objectives", "tags", "expected some of tags, .* found 'tags'"),
    ("maps", "sizes", 321, "expected whole numbers from .* found 321"),
    ("classifier", "rate", (0.5, 0.9), r"expected a number from .* found \(0.5, 0.9\)"),
    ("classifier", "head", ("stochastic",), "expected one of .* found")])
def test_one_and_several_are_told_apart(name, field, wrong, message):
    with pytest.raises(UserError, match=f"^{field}: {message}"):
        configs.STAGES[name](**{field: wrong})


def test_numpys_numbers_are_numbers_and_what_runs_recorded_before_is_read():
    config = presets.ClassifierConfig(batch_size=np.int64(5), rate=np.float32(0.5))
    assert (type(config.batch_size), type(config.rate)) == (int, float) and config.batch_size == 5
    assert [presets.MapsConfig(gradient=old).gradient for old in (False, True)] == ["none", "pixels"]


@pytest.mark.parametrize("stage", STAGES)
def test_every_word_is_checked(stage):
    for name, table in TABLES[stage].items():
        some = "some" if name in ("losses", "objectives") else "one"
        expected = rf"^{name}: expected {some} of {', '.join(table)}, (each once, )?found 'foo'"
        with pytest.raises(UserError, match=expected if name != "backbone" else "^backbone: expected one of vgg16"):
            configs.STAGES[stage](**{name: "foo"})
    for field in dataclasses.fields(configs.STAGES[stage]):
        if isinstance(field.default, bool):
            with pytest.raises(UserError, match=f"{field.name}: expected one of .*, found 'no'"):
                configs.STAGES[stage](**{field.name: "no"})


@pytest.mark.parametrize("changes, message", [
    ({"seeds": {"refine_low": 0.2, "refine_high": 0.1}}, "refine_low: expected at most refine_high"),
    ({"affinity": {"low": 0.2, "high": 0.1}}, "low: expected at most high, 0.1, found 0.2"),
    ({"classifier": {"kernel_size": 4}}, "kernel_size: expected an odd number"),
    ({"classifier": {"hidden_layers": 2}}, "head stochastic: expected hidden_layers 1.*, found 2, 0 and 1"),
    ({"classifier": {"head": "mdc", "suppression": 0.55}}, "head mdc: expected .*, found 1, 0 and 0.55"),
    ({"classifier": {"epochs": 0}}, "steps: expected a number from 1"),
    ({"maps": {"sizes": ()}}, "sizes: expected whole numbers from"),
    ({"segmenter": {"trainable_layers": "head", "photometric": 0.2}}, "photometric: expected none"),
    ({"seeds": {"refine_low": "many"}}, "refine_low: expected a number from 0 to 1 or auto")], ids=str)
def test_what_cannot_be_together(changes, message):
    with pytest.raises(UserError, match=message):
        preset = dataclasses.replace(presets.PAPER, **{
            stage: dataclasses.replace(getattr(presets.PAPER, stage), **fields) for stage, fields in changes.items()})
        settings.check(preset, "imagenet")


@pytest.mark.parametrize("flag, message", [
    ("--segmenter.head=foo", "segmenter.head: expected one of largefov, largefov4, aspp, found 'foo'"),
    ("--segmenter.dropout=2", "segmenter.dropout: expected a number from 0 to 0.999, found 2.0"),
    ("--maps.auto_tolerance=nan", "maps.auto_tolerance: expected a number from 1e-09 to 1, found nan"),
    ("--maps.sizes=1", "maps.sizes: expected whole numbers from 16 to 8192, found (1,)")])
def test_a_wrong_flag_of_a_later_stage_ends_the_whole_job_at_once(tmp_path, flag, message):
    command = [sys.executable, "-m", "tools.run_pipeline", "--dataset=shapes", "--preset=tiny", flag,
               f"--output_dir={tmp_path / 'run'}", f"--cache_dir={tmp_path / 'data'}"]
    ended = subprocess.run(command, capture_output=True, text=True)
    assert ended.returncode == 1 and ended.stderr.splitlines()[-1] == f"error: {message}"
    assert not list(tmp_path.iterdir())
