"""What flags must be beside each other and beside the run that is there, before a binary begins."""

import dataclasses

import pytest
from absl import flags

from ficklenet_tf import presets
from ficklenet_tf.errors import UserError
from ficklenet_tf.runs import artifacts, layout
from tools import checks, cli, start


@pytest.fixture
def parse(tmp_path, monkeypatch):
    """Returns the function that lets the tools have these flags, as if a person had given them."""
    def parsed(*given):
        known = flags.FlagValues()
        flags.DEFINE_enum("preset", "tiny", list(presets.PRESETS), "", flag_values=known)
        flags.DEFINE_string("output_dir", str(tmp_path), "", flag_values=known)
        flags.DEFINE_string("dataset", "shapes", "", flag_values=known)
        flags.DEFINE_string("weights", "imagenet", "", flag_values=known)
        flags.DEFINE_integer("classifier.input_size", None, "", flag_values=known)
        flags.DEFINE_string("classifier.backbone", None, "", flag_values=known)
        flags.DEFINE_list("maps.sizes", None, "", flag_values=known)
        flags.DEFINE_string("data_dir", None, "", flag_values=known)
        flags.DEFINE_string("to", None, "", flag_values=known)
        known(["binary", *given])
        monkeypatch.setattr(checks, "FLAGS", known)
        monkeypatch.setattr(cli, "FLAGS", known)

    return parsed


def _begin(run_dir, preset, **changes):
    config = dataclasses.replace(presets.PRESETS[preset].classifier, **changes)
    artifacts.write_json(run_dir / layout.CLASSIFIER / layout.SETTINGS, {"config": dataclasses.asdict(config)})


@pytest.mark.parametrize("given, words", [([], ""), (["--restart=seeds"], " without --restart")])
def test_who_stops_a_restart_is_told_to_leave_it_out(monkeypatch, capsys, given, words):
    """With it the same command would remove what was begun."""
    known = flags.FlagValues()
    flags.DEFINE_list("restart", [], "", flag_values=known)
    known(["binary", *given])
    monkeypatch.setattr(start, "FLAGS", known)
    monkeypatch.setattr(start.os, "_exit", lambda code: None)
    start._stop()
    assert capsys.readouterr().err == f"stopped; a stage that was begun goes on with the same command{words}\n"


def test_a_path_may_begin_at_home(tmp_path, parse, monkeypatch):
    """A shell leaves --data_dir=~/mine as it is."""
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "mine").mkdir()
    parse("--data_dir=~/mine", "--output_dir=~/runs", "--weights=random", "--to=~/masks")
    checks.check_places()
    assert [checks.FLAGS[name].value for name in ("data_dir", "output_dir", "to", "weights")] == [
        str(tmp_path / "mine"), str(tmp_path / "runs"), str(tmp_path / "masks"), "random"]
    parse("--data_dir=~/other")
    with pytest.raises(UserError, match=f"data_dir: expected a directory, found no {tmp_path}/other"):
        checks.check_places()


@pytest.mark.parametrize("name", ["run[1]", "run*", "why?"])
def test_what_is_written_has_no_place_that_tensorflow_takes_for_a_pattern(tmp_path, parse, name):
    """It finds no checkpoint there: a training would begin anew, and a model could not be loaded."""
    parse(f"--output_dir={tmp_path / name}", "--weights=random")
    with pytest.raises(UserError, match="output_dir: expected a path without "):
        checks.check_places()


def test_photographs_without_a_preset_are_told_what_the_default_is(parse, capsys):
    checks._say_default.cache_clear()
    for given in ([], ["--dataset=folder", "--preset=tiny"]):
        parse(*given)
        cli.preset(trains=False)
    assert not capsys.readouterr().err
    for _ in range(2):
        parse("--dataset=folder")
        cli.preset(trains=False)
    assert capsys.readouterr().err == (
        "preset: tiny, the default, is a small network for drawings that begins from nothing; for photographs give "
        "--preset=cpu --weights=imagenet\n")


@pytest.mark.parametrize("preset", ["cpu", "evening"])
def test_the_runs_preset_is_not_taken_for_the_default(tmp_path, parse, preset):
    """cpu and evening have one classifier; what flags changed and what the hardware settled does not hide it."""
    _begin(tmp_path, preset, precision="float32", backbone="resnet50", steps=300)
    parse()
    for refused in (lambda: cli.config(presets.MapsConfig), lambda: cli.preset(trains=False)):
        with pytest.raises(UserError) as raised:
            refused()
        assert str(raised.value) == (
            f"preset: expected cpu or evening, by {tmp_path / 'classifier' / 'settings.json'}, found tiny, the "
            "default; give --preset=cpu, or --preset=tiny where that is meant")
    parse("--preset=evening")
    assert cli.config(presets.MapsConfig) == presets.EVENING.maps
    parse("--preset=tiny")  # who says so means it
    assert cli.config(presets.MapsConfig) == presets.TINY.maps


@pytest.mark.parametrize("changes", [{}, {"backbone": "resnet50", "precision": "bfloat16", "epochs": 3, "hidden": 8,
                                          "input_size": 321}], ids=len)
def test_a_run_of_the_default_goes_on_without_the_flag(tmp_path, parse, changes):
    _begin(tmp_path, "tiny", **changes)
    parse()
    assert cli.config(presets.MapsConfig) == presets.TINY.maps


def test_the_command_that_began_a_run_goes_on_with_it(tmp_path, parse):
    """Its flags made the default's numbers much like another preset's."""
    _begin(tmp_path, "tiny", backbone="vgg16", input_size=321, batch_size=10, learning_rate=0.001)
    parse()
    with pytest.raises(UserError, match="preset: expected paper, by "):
        cli.config(presets.ClassifierConfig)
    parse("--classifier.backbone=vgg16", "--classifier.input_size=321")
    assert cli.config(presets.ClassifierConfig).backbone == "vgg16"


def test_a_directory_that_says_nothing_is_begun_with_the_default(tmp_path, parse):
    parse()
    assert cli.preset(trains=False) == presets.TINY
    artifacts.write_json(tmp_path / layout.CLASSIFIER / layout.SETTINGS, {"stage": "classifier"})
    artifacts.write_json(tmp_path / layout.RESULT, {"crf": "dsrg"})
    assert cli.config(presets.SeedsConfig) == presets.TINY.seeds


def test_a_whole_run_says_its_preset_itself(tmp_path, parse):
    _begin(tmp_path, "tiny")
    artifacts.write_json(tmp_path / layout.RESULT, {"preset": "evening"})
    parse()
    with pytest.raises(UserError, match=r"expected evening, by .*result.json, found tiny.*; give --preset=evening,"):
        cli.config(presets.SeedsConfig)
    _begin(tmp_path, "cpu")
    artifacts.write_json(tmp_path / layout.RESULT, {"preset": "tiny"})
    assert cli.config(presets.SeedsConfig) == presets.TINY.seeds


def test_another_size_of_training_wants_maps_of_that_size(parse):
    parse("--preset=cpu", "--classifier.input_size=513")
    with pytest.raises(UserError) as raised:
        cli.preset()
    assert str(raised.value) == (
        "classifier.input_size: expected --maps.sizes beside it, as maps would be of 321 pixels; found 513 alone; "
        "give --maps.sizes=513, and --segmenter.test_sizes in place of 241,321,401")
    parse("--preset=cpu", "--classifier.input_size=513", "--maps.sizes=513")
    assert cli.preset().maps.sizes == (513,)
    parse("--preset=cpu", "--classifier.input_size=321")  # what it would be
    assert cli.preset().maps.sizes == (321,)


def test_weights_that_a_segmenter_would_not_load_are_refused():
    checks.check_weights("weights", "vgg16.npz")
    checks.check_weights("classifier", "")
    with pytest.raises(UserError, match="weights: expected --initial=weights beside it, found --initial=classifier"):
        checks.check_weights("classifier", "vgg16.npz")
