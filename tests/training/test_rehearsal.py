"""What cannot be trained is found before the long work, and a rehearsal leaves nothing behind."""

import dataclasses

import pytest

from ficklenet_tf import presets
from ficklenet_tf.data import datasets, feature_cache
from ficklenet_tf.runs import artifacts
from ficklenet_tf.seeds import extraction
from ficklenet_tf.training import classifier as classifier_training
from ficklenet_tf.training import losses, optimizers, rehearsal, segmenter

pytestmark = pytest.mark.trains
SIZE = 33
CLASSIFIER = dataclasses.replace(presets.CPU.classifier, backbone="small", input_size=SIZE, kernel_size=3,
                                 batch_size=4)
MAPS = dataclasses.replace(presets.TINY.maps, sizes=(SIZE,), num_maps=5)
SEGMENTER = dataclasses.replace(presets.CPU.segmenter, channels=8, dilation=1, retrain_steps=5)


@pytest.fixture(scope="module")
def splits(tmp_path_factory):
    cache = tmp_path_factory.mktemp("data")
    return [datasets.load_split("shapes", name, cache_dir=cache, max_images=9) for name in ("train", "val")]


def _rehearse(run_dir, splits, segmenter=SEGMENTER):
    preset = presets.Preset("test", CLASSIFIER, MAPS, presets.TINY.seeds, segmenter)
    rehearsal.rehearse_run(run_dir, *splits, preset, classifier_training.Options("random"), deterministic=CLASSIFIER)


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


def test_what_has_been_begun_is_not_rehearsed(splits, tmp_path, monkeypatch):
    monkeypatch.setattr(extraction, "extract", None)  # would fail
    (tmp_path / "segmenter" / "checkpoints").mkdir(parents=True)
    _rehearse(tmp_path, splits)
    (tmp_path / "segmenter" / "checkpoints").rmdir()
    with pytest.raises(TypeError):
        _rehearse(tmp_path, splits)


def test_the_images_of_a_semi_supervised_rehearsal_are_those_of_the_training(splits, tmp_path, monkeypatch):
    """Every second image has its mask in use: the few weak ones are others, and the share is the whole splits'."""
    split, seen = splits[0], {}
    masked = split.select(range(0, 9, 2))
    monkeypatch.setattr(rehearsal.rounds, "train_rounds", lambda run_dir, few, config, options, name: seen.update(
        few=few, config=config, strong=options.strong, name=name))
    artifacts.write_json(tmp_path / "classifier" / "settings.json", {"config": {"precision": "float32"}})
    config = dataclasses.replace(SEGMENTER, strong_share=0.0)
    rehearsal.rehearse_segmenter(tmp_path, split, config, segmenter.Options(strong=masked, supervision="semi"),
                                 name="semi")
    assert seen["few"].image_ids == split.image_ids[1::2] and seen["strong"].image_ids == masked.image_ids
    assert seen["config"].strong_share == 5 / 9 and seen["config"].steps == 1
    assert seen["name"] == ".rehearsal_semi/segmenter"
