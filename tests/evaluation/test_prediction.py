"""Segmenters that share frozen layers predict from what these gave once."""

import dataclasses
import shutil

import numpy as np
import pytest
import tensorflow as tf

from ficklenet_tf import crf
from ficklenet_tf.data import feature_cache
from ficklenet_tf.evaluation import prediction
from ficklenet_tf.runs import artifacts
from tests import tiny_run


class _Split(tiny_run.Photographs):
    class_names = tuple(tiny_run.CLASS_NAMES)


@pytest.fixture
def run_dir(tmp_path):
    """A finished run of random weights; `frozen` in it is the segmenter as one whose head alone was trained."""
    directory = tiny_run.make(tmp_path / "run", sizes=(48, 64), flip=False)
    shutil.copytree(directory / "segmenter", directory / "frozen")
    run = artifacts.read_run(directory / "frozen")
    run["config"]["trainable_layers"] = "head"
    artifacts.write_run(directory / "frozen", **run)
    return directory


def _examples(split):
    for index, image_id in enumerate(split.image_ids):
        yield image_id, tf.io.decode_png(split[index]["image"]).numpy()


def test_kept_features_give_the_networks_answer(run_dir, monkeypatch):
    """To float16's rounding; the frozen layers see each photograph once for two segmenters."""
    filled = []
    fill = feature_cache.FeatureCache.fill
    monkeypatch.setattr(feature_cache.FeatureCache, "fill", lambda *args, **options: filled.append(
        fill(*args, **options)))
    split = _Split()
    for _ in range(2):
        predictor = prediction.Predictor(run_dir / "frozen")
        answer = predictor.of_split(split, run_dir)
        for image_id, image in _examples(split):
            kept, live = answer(image_id, image), predictor(image)
            assert kept.shape == (*image.shape[:2], 4) and np.ptp(live, axis=(0, 1)).max() > 0.1
            np.testing.assert_allclose(kept, live, atol=5e-3)
    assert filled == [3, 3, 0, 0]  # of two sizes


@pytest.mark.parametrize("stage, flip", [("segmenter", False), ("frozen", True)])
def test_nothing_is_kept_where_all_is_trained_or_mirror_images_are_predicted(run_dir, stage, flip):
    split, predictor = _Split(), prediction.Predictor(run_dir / stage, flip=flip)
    answer = predictor.of_split(split, run_dir)
    for image_id, image in _examples(split):
        np.testing.assert_array_equal(answer(image_id, image), predictor(image))
    assert not (run_dir / "features").exists()


def test_a_split_is_predicted_from_kept_features(run_dir):
    split, options = _Split(), prediction.Options(crf.DSRG_TEST)
    prediction.predict_split(run_dir, split, options, stage_name="frozen", name="live")
    prediction.predict_split(run_dir, split, dataclasses.replace(options, keep_features=True), stage_name="frozen",
                             name="kept")
    assert len(list((run_dir / "features").glob("*/*.npy"))) == 6
    for name in ("", "_crf"):
        for image_id in split.image_ids:
            live, kept = (tf.io.decode_png((run_dir / f"{part}{name}" / f"{image_id}.png").read_bytes())
                          for part in ("live", "kept"))
            assert np.mean(live != kept) < 0.01
