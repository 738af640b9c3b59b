"""Adversarial erasing: what maps have found is not seen again, in training and in localization; rounds of it."""

import dataclasses
import pathlib

import numpy as np
import pytest
import tensorflow as tf

from ficklenet_tf import presets
from ficklenet_tf.data import datasets, images, input_pipeline
from ficklenet_tf.errors import UserError
from ficklenet_tf.maps import erased, extraction
from ficklenet_tf.maps.image_maps import ImageMaps
from ficklenet_tf.maps.localizer import Localizer
from ficklenet_tf.models import classifier
from ficklenet_tf.runs import artifacts
from ficklenet_tf.training import classifier as classifier_training
from ficklenet_tf.training import classifier_losses, erasing

SIDE, MAP = 64, 8
CONFIG = dataclasses.replace(presets.TINY.classifier, input_size=SIDE, kernel_size=3, batch_size=4, epochs=0, steps=2,
                             photometric=0.0)
MAPS = presets.MapsConfig(num_maps=10, sizes=(SIDE,))
SECOND = np.s_[5:7, 5:8]  # positions of the object that the maps have not found


def _write(directory, image_id, *maps, tag_ids=(0,)):
    """Writes an image's mean maps, one for each tag."""
    mean = np.stack(maps, -1).astype(np.float32)
    directory.mkdir(parents=True, exist_ok=True)
    ImageMaps(np.array(tag_ids, np.int32), mean, mean, mean, mean[None], 1, (70, 90)).write(
        directory / f"{image_id}.npz")


def _square(height=0.5, rows=slice(1, 4), columns=slice(0, 3)):
    found = np.zeros((MAP, MAP))
    found[rows, columns] = height
    return found


class TwoObjects:
    """One photograph with two objects of one tag on a noisy ground; nothing in it is the mean colour."""

    dataset, name, fingerprint, has_labels = "made", "train", "two", False
    image_ids, class_names = ("two",), ("background", "x")

    def __len__(self):
        return 1

    def __getitem__(self, index):
        pixels = np.random.default_rng(0).integers(0, 60, (SIDE, SIDE, 3)).astype(np.uint8)
        for rows, columns in ((slice(1, 4), slice(0, 3)), SECOND):
            pixels[8 * rows.start:8 * rows.stop, 8 * columns.start:8 * columns.stop] = (250, 250, 0)
        return {"image_id": "two", "image": tf.io.encode_png(pixels).numpy(), "tags": np.ones(1, np.float32)}


def test_what_is_kept_by_hand(tmp_path):
    """Of two tags and two rounds the union, each map against its own maximum; a map of nothing erases nothing."""
    low = _square(0.125, slice(6, 7), slice(6, 7))
    low[0, 0], low[0, 1] = 0.03125, 0.0313  # a share of 0.25 of 0.125, and just above it
    _write(tmp_path / "a", "i", _square(), low, tag_ids=(0, 1))
    _write(tmp_path / "b", "i", np.zeros((MAP, MAP)), _square(1.0, slice(7, 8), slice(0, 8)), tag_ids=(0, 1))
    expected = np.ones((MAP, MAP))
    expected[1:4, 0:3] = expected[6, 6] = expected[0, 1] = expected[7] = 0
    both = erased.Erased((tmp_path / "a", tmp_path / "b"), 0.25, "pixels")
    np.testing.assert_array_equal(both.keep("i", MAP), expected)
    assert both.keep("i", MAP).dtype == np.uint8
    _write(tmp_path / "b", "none", np.zeros((MAP, MAP)))
    untagged = np.zeros((MAP, MAP, 0), np.float32)
    ImageMaps(np.zeros(0, np.int32), *[untagged] * 3, untagged[None], 1, (70, 90)).write(tmp_path / "a" / "none.npz")
    assert both.keep("none", 5).all()
    coarse = erased.Erased((tmp_path / "b",), 0.2, "pixels").keep("i", 4)  # rows 1, 3, 5 and 7
    np.testing.assert_array_equal(coarse, np.repeat([[1], [1], [1], [0]], 4, 1))


def test_what_is_erased_by_hand():
    keep = np.array([[[1, 0], [0, 1]]], np.uint8)
    x = np.arange(1, 26, dtype=np.float32).reshape(1, 5, 5, 1)
    rows = np.array([0, 0, 1, 1, 1])  # the nearest of two to each of five: 0.2, 0.6, 1.0, 1.4, 1.8
    expected = x * keep[:, rows][:, :, rows][..., None]
    np.testing.assert_array_equal(erased.covered(tf.constant(x), keep), expected)
    half = erased.covered(tf.constant(x, tf.bfloat16), tf.constant(keep))
    assert half.dtype == tf.bfloat16 and float(half[0, 0, 4, 0]) == 0
    infinite = tf.constant(np.full_like(x, np.inf))
    assert np.isfinite(erased.covered(infinite, keep)[0, 0, 4, 0])


@pytest.fixture
def two(tmp_path):
    """Maps that have found the first of two objects, and what they leave: (directory, `[64, 64]` bool)."""
    _write(tmp_path / "found", "two", _square())
    left = np.ones((SIDE, SIDE), bool)
    left[8:32, 0:24] = False
    return tmp_path / "found", left


def _step(directory, form, flips, model):
    covering = erased.Erased((directory,), 0.2, form)
    reader = input_pipeline.ExampleReader(TwoObjects(), 0, SIDE, flips=flips, keep=covering.keep, keep_side=MAP)
    batch = next(iter(input_pipeline.training_batches(reader, batch_size=8, start_step=0)))
    plain = {name: value for name, value in batch.items() if name != "keep"}
    config = dataclasses.replace(CONFIG, erase=form)
    return [classifier_losses.Step(model, input_pipeline.prepared(each, images.TORCH), config)
            for each in (batch, plain)]


def test_a_network_in_training_sees_nothing_there_and_all_of_the_rest(two):
    directory, left = two
    model, _ = classifier.build(CONFIG, 1)
    step, plain = _step(directory, "pixels", True, model)
    mirrored = [not np.array_equal(x, plain.x[0]) for x in plain.x]
    mirrored = mirrored if plain.x[0, 30, 2, 0] > plain.x[0, 30, 61, 0] else [not each for each in mirrored]
    assert any(mirrored) and not all(mirrored)
    for x, whole, turned in zip(step.x.numpy(), plain.x.numpy(), mirrored, strict=True):
        np.testing.assert_array_equal((x == 0).all(-1), ~(left[:, ::-1] if turned else left))
        np.testing.assert_array_equal(x[x != 0], whole[x != 0])
    np.testing.assert_array_equal(step.features, step.features_of(step.x))  # once, not in the features again


def test_features_in_training_are_0_there_and_as_before_elsewhere(two):
    directory, _ = two
    model, _ = classifier.build(CONFIG, 1)
    step, plain = _step(directory, "features", False, model)
    np.testing.assert_array_equal(step.x, plain.x)
    keep = _square() == 0
    np.testing.assert_array_equal(step.features.numpy()[:, keep], plain.features.numpy()[:, keep])
    assert (step.features.numpy()[:, ~keep] == 0).all() and (plain.features.numpy()[:, ~keep] != 0).any()


def test_attention_mining_does_not_see_what_was_found_before(two):
    """GAIN's second pass is of the photograph without the attended region; features are covered after it."""
    directory, _ = two
    model, _ = classifier.build(CONFIG, 1)
    step, plain = _step(directory, "features", False, model)
    keep = _square() == 0
    assert (step.rest.numpy()[:, ~keep] == 0).all() and (plain.rest.numpy()[:, ~keep] != 0).any()


@pytest.mark.parametrize("form", erased.FORMS)
def test_the_localizer_sees_what_the_training_saw(two, form):
    directory, left = two
    model, _ = classifier.build(CONFIG, 1)
    config = dataclasses.replace(MAPS, sizes=(SIDE, 2 * SIDE), flip_views=True, gradient="pixels")
    covering = erased.Erased((directory,), 0.2, form)
    localizer, whole = (Localizer(model, images.TORCH, config, covering=each) for each in (covering, None))
    prepared, before = localizer.prepare(TwoObjects()[0]), whole.prepare(TwoObjects()[0])
    lefts = [left, left[:, ::-1], *(np.kron(each, np.ones((2, 2))) > 0 for each in (left, left[:, ::-1]))]
    for view, old, kept in zip(prepared["views"], before["views"], lefts, strict=True):
        kept = kept if form == "pixels" else np.ones_like(kept)
        np.testing.assert_array_equal(view[0], np.where(kept[..., None], old[0], 0))
        assert (old.numpy() != 0).all()
    for features, old, kept in zip(localizer.features(prepared), whole.features(prepared), lefts, strict=True):
        kept = kept[4::8, 4::8] if form == "features" else np.ones(features.shape[:2], bool)
        np.testing.assert_array_equal(features, np.where(kept[..., None], old, 0))
    maps = localizer.localize(prepared, 0)
    assert (maps.mean.max() > 0) and (form == "pixels" or (maps.max[1:4, 0:3] == 0).all())
    if form == "pixels":
        gradient = whole._gradient(prepared["views"][0]).numpy()
        np.testing.assert_array_equal(maps.gradient, gradient.astype(np.float16))
    else:
        assert np.abs(maps.gradient - whole.localize(before, 0).gradient).max() > 0


@pytest.fixture(scope="module")
def split(drawings_dir):
    return datasets.load_split("shapes", "train", cache_dir=drawings_dir, max_images=8)


def _rounds(run_dir, split, config, rounds=2, **options):
    return erasing.train_rounds(run_dir, split, split.select([0, 1]), config, MAPS,
                                classifier_training.Options("random", **options), rounds=rounds)


@pytest.mark.trains
@pytest.mark.parametrize("changes", [{}, {"trainable_layers": "head", "erase": "features", "erase_share": 0.5}],
                         ids=["pixels", "features"])
def test_two_rounds_find_what_one_has_not(split, tmp_path, changes):
    config = dataclasses.replace(CONFIG, **changes)
    assert _rounds(tmp_path, split, config) == "maps"
    runs = {path.parent.name: artifacts.read_run(path.parent) for path in tmp_path.glob("*/run.json")}
    assert runs.keys() == {"classifier", "classifier_round2", "maps_round1", "maps_round2", "maps"}
    assert "erased" not in runs["classifier"] and "erased" not in runs["maps_round1"]
    assert list(runs["classifier_round2"]["erased"]) == ["maps_round1"]
    assert runs["classifier_round2"]["erased"] == runs["maps_round2"]["erased"]
    share, found_more = config.erase_share, 0
    for image_id in split.image_ids:
        first, second, both = (ImageMaps.read(tmp_path / name / f"{image_id}.npz")
                               for name in ("maps_round1", "maps_round2", "maps"))
        np.testing.assert_array_equal(both.mean, np.maximum(first.mean, second.mean))
        gone = (first.mean > share * first.mean.max((0, 1))).any(-1)
        assert config.erase == "pixels" or (second.max[gone] == 0).all()
        found_more += (both.mean > first.mean).sum()
    assert found_more > 0
    _rounds(tmp_path, split, config)
    assert runs == {path.parent.name: artifacts.read_run(path.parent) for path in tmp_path.glob("*/run.json")}


def test_a_third_round_is_spared_what_both_have_found(split, tmp_path, monkeypatch):
    calls = []
    monkeypatch.setattr(classifier_training, "train", lambda directory, *rest: calls.append(
        (directory.name, rest[-1].erased)))
    monkeypatch.setattr(extraction, "extract", lambda *rest, name: calls.append(
        (name, rest[-1].classifier, rest[-1].erased)))
    monkeypatch.setattr(erasing.merging, "merge", lambda *arguments, name: calls.append((name, *arguments[2:])))
    _rounds(pathlib.Path("nowhere"), split, CONFIG, 3)
    assert calls[-3:] == [("classifier_round3", ("maps_round1", "maps_round2")),
                          ("maps_round3", "classifier_round3", ("maps_round1", "maps_round2")),
                          ("maps", ("maps_round1", "maps_round2", "maps_round3"), "max")]


def test_what_cannot_be_erased(split, tmp_path):
    frozen = dataclasses.replace(CONFIG, trainable_layers="head")
    with pytest.raises(UserError, match="erase: expected features where layers are frozen"):
        _rounds(tmp_path, split, frozen)
    with pytest.raises(UserError, match="rounds: expected a number from 1, found 0"):
        _rounds(tmp_path, split, CONFIG, 0)
    with pytest.raises(FileNotFoundError, match="maps_a.run.json: expected a finished set of maps"):
        classifier_training.train(tmp_path / "classifier", split, split, CONFIG,
                                  classifier_training.Options(erased=("maps_a",)))
    assert not list(tmp_path.iterdir())


@pytest.mark.trains
def test_maps_made_again_are_noticed_by_what_did_not_see_what_they_had_found(split, tmp_path):
    config = dataclasses.replace(CONFIG, trainable_layers="head", erase="features")
    _rounds(tmp_path, split, config)
    (tmp_path / "maps_round1" / "settings.json").rename(tmp_path / "kept.json")
    settings = artifacts.read_json(tmp_path / "kept.json")
    artifacts.write_json(tmp_path / "maps_round1" / "settings.json", {**settings, "seed": 1})
    with pytest.raises(UserError, match="classifier_round2: expected the maps of .*maps_round1 that were erased"):
        extraction.open_localizer(tmp_path, split, MAPS, extraction.Options("classifier_round2"))
    with pytest.raises(UserError, match="classifier_round2: was begun with other settings .erased.maps_round1"):
        classifier_training.train(tmp_path / "classifier_round2", split, split, config,
                                  classifier_training.Options("random", erased=("maps_round1",)))
