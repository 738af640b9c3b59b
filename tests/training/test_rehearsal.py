"""What cannot be trained is found before the long work, and a rehearsal leaves nothing behind."""

import dataclasses

import pytest

from ficklenet_tf import presets
from ficklenet_tf.data import datasets
from ficklenet_tf.runs import artifacts
from ficklenet_tf.training import rehearsal, segmenter

SEGMENTER = dataclasses.replace(presets.CPU.segmenter, channels=8, dilation=1, retrain_steps=5)


@pytest.fixture(scope="module")
def splits(drawings_dir):
    return [datasets.load_split("shapes", name, cache_dir=drawings_dir, max_images=9) for name in ("train", "val")]


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


def test_settings_of_more_than_one_step_are_rehearsed_in_one(splits, tmp_path, monkeypatch):
    """Several moments of a training, a photograph to watch beside a batch of one, STC's photographs of one tag."""
    split = splits[0]
    for changes in ({"snapshots": 3}, {"early_stopping": 5}):
        config = dataclasses.replace(presets.TINY.classifier, input_size=33, batch_size=1, epochs=0, steps=40,
                                     **changes)
        rehearsal.rehearse_classifier(tmp_path, split, split, config)
    assert [rehearsal.images_of(dataclasses.replace(config, batch_size=4, early_stopping=n)) for n in (0, 5)] == [4, 5]
    monkeypatch.setattr(rehearsal, "batch_size", lambda config: config.batch_size)  # as on a GPU
    for size in (1, 9, 18, 19, 32, 64, 500):
        few = range(rehearsal.images_of(dataclasses.replace(config, batch_size=size)))
        assert len(few) - max(1, len(few) // 10) >= size
    several_first = split.select(sorted(range(len(split)), key=lambda i: -split[i]["tags"].sum()))
    config = dataclasses.replace(presets.TINY.segmenter, simple_first=True)
    tags = [several_first[i]["tags"].sum() for i in range(9)]
    assert max(tags) > 1 and rehearsal.one_tag_first(several_first, config)[0]["tags"].sum() == 1
    assert rehearsal.one_tag_first(several_first, presets.TINY.segmenter) is several_first
    seen = []
    monkeypatch.setattr(rehearsal.rounds, "train_rounds", lambda run_dir, few, *_, **__: seen.append(few))
    monkeypatch.setattr(rehearsal, "_LOOKED_AT", 1)
    monkeypatch.setattr(rehearsal, "batch_size", lambda config: 1)
    rehearsal.rehearse_segmenter(tmp_path, several_first, config)
    assert [few[0]["tags"].sum() for few in seen] == [1]
