"""What cannot be trained is found before the long work of a job, and its rehearsal leaves nothing behind."""

import dataclasses
import re

import pytest

from ficklenet_tf import presets
from ficklenet_tf.data import datasets, feature_cache
from ficklenet_tf.errors import UserError
from ficklenet_tf.experiments import job, rehearsed, systems
from ficklenet_tf.runs import lock
from ficklenet_tf.seeds import extraction
from ficklenet_tf.training import losses, objective, optimizers, rehearsal

SIZE = 33
CLASSIFIER = dataclasses.replace(presets.CPU.classifier, backbone="small", input_size=SIZE, kernel_size=3,
                                 batch_size=4)
MAPS = dataclasses.replace(presets.TINY.maps, sizes=(SIZE,), num_maps=5)
SEGMENTER = dataclasses.replace(presets.CPU.segmenter, channels=8, dilation=1, retrain_steps=5)


@pytest.fixture(scope="module")
def splits(drawings_dir):
    return [datasets.load_split("shapes", name, cache_dir=drawings_dir, max_images=9) for name in ("train", "val")]


def _rehearse(run_dir, splits, segmenter=SEGMENTER):
    preset = presets.Preset("test", CLASSIFIER, MAPS, presets.TINY.seeds, segmenter)
    plain = job.Names("classifier_deterministic", "maps_deterministic", seeds="seeds_deterministic")
    work = job.Job(run_dir, *splits, preset, systems.System("", {}), "random")
    rehearsed.rehearse(work, dataclasses.replace(work, names=plain))


def test_every_training_takes_a_step_of_a_few_images_and_nothing_is_left(splits, tmp_path, monkeypatch, capsys):
    num_images, fill = [], feature_cache.FeatureCache.fill
    monkeypatch.setattr(feature_cache.FeatureCache, "fill", lambda cache, split, *args, **kwargs: (
        num_images.append(len(split)), fill(cache, split, *args, **kwargs))[1])
    steps, make_optimizer = [], optimizers.segmenter_optimizer
    monkeypatch.setattr(optimizers, "segmenter_optimizer", lambda config, *args: (
        steps.append(config.steps), make_optimizer(config, *args))[1])
    _rehearse(tmp_path, splits)
    assert [path.name for path in tmp_path.iterdir()] == ["precision.json"]
    assert steps == [1, 1] and max(num_images) == 4  # two rounds
    text = capsys.readouterr().err
    assert "rehearsal, one step of each training, on " in text and "rehearsal passed (" in text
    assert "features" not in text


def test_a_segmenter_that_cannot_be_trained_is_found_before_the_classifier(splits, tmp_path, monkeypatch):
    def broken(*_):
        raise ValueError("no such loss here")

    monkeypatch.setattr(losses, "seed_loss", broken)
    with pytest.raises(ValueError, match="no such loss here"):
        _rehearse(tmp_path, splits)
    assert [path.name for path in tmp_path.iterdir()] == ["precision.json"]


def test_a_system_that_cannot_be_trained_is_named_where_there_are_several(splits, tmp_path, monkeypatch):
    def refused(*_, **__):
        raise UserError("expected another backbone")

    monkeypatch.setattr(job.Job, "localize", refused)
    work = job.Job(tmp_path, *splits, presets.TINY, systems.SYSTEMS["mdc"], "random")
    for segmenters, named in ((True, f"{systems.SYSTEMS['mdc'].title}: "), (False, "")):
        with pytest.raises(UserError, match=f"^{re.escape(named)}expected another backbone$"):
            rehearsed.rehearse(work, segmenters=segmenters)


def test_a_second_process_does_not_remove_what_the_first_rehearses(tmp_path):
    hidden = tmp_path / ".rehearsal_run"
    (hidden / "left by a killed one").mkdir(parents=True)
    with rehearsal.hidden(tmp_path, "run") as directory:
        assert directory == hidden and [path.name for path in directory.iterdir()] == [lock.NAME]
        (directory / "classifier").mkdir()
        second = rehearsal.hidden(tmp_path, "run")
        with pytest.raises(UserError, match=f"{tmp_path}: process .* is at work here"), second:
            pass
        assert (directory / "classifier").exists()
    assert not hidden.exists()


def test_of_strong_photographs_those_with_a_mask_are_rehearsed(splits, tmp_path):
    """The first five of seven have none: two are strong, and four others are learned from their seeds."""
    split, held_out = splits
    split = dataclasses.replace(split, labelled=(False,) * 5 + (True,) * 4)
    preset = presets.Preset("test", CLASSIFIER, MAPS, presets.TINY.seeds, SEGMENTER)
    work = job.Job(tmp_path, split, held_out, preset, systems.System("", {}), strong=split.select(range(7)))
    few = rehearsed._reduced(work, tmp_path / "rehearsal")
    assert few.strong.image_ids == split.image_ids[5:7] and all(few.strong.labelled)
    weak, strong = objective.divide("semi", few.split, few.strong)
    assert weak.image_ids == split.image_ids[:4] and strong.image_ids == few.strong.image_ids


def test_what_has_been_begun_is_not_rehearsed(splits, tmp_path, monkeypatch):
    monkeypatch.setattr(extraction, "make", None)  # would fail
    last = tmp_path / "segmenter_retrained" / "checkpoints"
    last.mkdir(parents=True)
    _rehearse(tmp_path, splits)
    last.rmdir()
    with pytest.raises(TypeError):
        _rehearse(tmp_path, splits)
