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


class _Split:
    """Three photographs, or some of them."""

    dataset, name, fingerprint, class_names = "made", "val", "none", tuple(tiny_run.CLASS_NAMES)

    def __init__(self, indices=(0, 1, 2)):
        self.examples = [tiny_run.Photographs()[index] for index in indices]
        self.image_ids = tuple(example["image_id"] for example in self.examples)

    def __len__(self):
        return len(self.examples)

    def __getitem__(self, index):
        return self.examples[index]

    def select(self, indices):
        return _Split(indices)


@pytest.fixture
def run_dir(tmp_path):
    """A finished run of random weights; two segmenters in it are as those of which a part alone was trained."""
    directory = tiny_run.make(tmp_path / "run", sizes=(48,), flip=False)
    for trained in ("head", "last_block"):
        shutil.copytree(directory / "segmenter", directory / trained)
        run = artifacts.read_run(directory / trained)
        run["config"]["trainable_layers"] = trained
        artifacts.write_run(directory / trained, **run)
    return directory


@pytest.mark.parametrize("trained", ["head", "last_block"])
def test_kept_features_give_the_networks_answer(trained, run_dir, monkeypatch):
    """To float16's rounding; the frozen layers see each photograph once for two segmenters."""
    filled = []
    fill = feature_cache.FeatureCache.fill
    monkeypatch.setattr(feature_cache.FeatureCache, "fill", lambda *args, **options: filled.append(
        fill(*args, **options)))
    split = _Split()
    for _ in range(2):
        predictor = prediction.Predictor(run_dir / trained)
        answer = predictor.of_split(split, run_dir)
        for example in split.examples:
            image_id, image = example["image_id"], tf.io.decode_png(example["image"]).numpy()
            kept, live = answer(image_id, image), predictor(image)
            assert kept.shape == (*image.shape[:2], 4) and np.ptp(live, axis=(0, 1)).max() > 0.1
            np.testing.assert_allclose(kept, live, atol=5e-3)
    assert filled == [3, 0]


@pytest.mark.parametrize("stage, options", [
    ("segmenter", {}), ("head", {"flip": True}), ("head", {"sizes": (48, 64)})])
def test_nothing_is_kept_where_all_is_trained_or_several_views_are_predicted(run_dir, stage, options):
    assert prediction.Predictor(run_dir / stage, **options).of_split(_Split(), run_dir) is None
    assert not (run_dir / "features").exists()


def test_a_split_is_predicted_from_kept_features(run_dir):
    """Those of the photographs that are missing are kept."""
    split, options = _Split(), prediction.Options(crf.DSRG_TEST)
    prediction.predict_split(run_dir, split, options, stage_name="head", name="live")
    for name in ("", "_crf"):
        shutil.copytree(run_dir / f"live{name}", run_dir / f"kept{name}",
                        ignore=shutil.ignore_patterns("b.png", "c.png", "run.json"))
    prediction.predict_split(run_dir, split, dataclasses.replace(options, keep_features=True), stage_name="head",
                             name="kept")
    assert sorted(path.stem for path in (run_dir / "features").glob("*/*.npy")) == ["b", "c"]
    assert [artifacts.read_run(run_dir / name)["kept_features"] for name in ("live", "kept")] == [False, True]
    for name in ("", "_crf"):
        for image_id in split.image_ids:
            live, kept = (tf.io.decode_png((run_dir / f"{part}{name}" / f"{image_id}.png").read_bytes())
                          for part in ("live", "kept"))
            assert np.mean(live != kept) < 0.01


def test_a_damaged_answer_is_made_again(run_dir):
    split, options = _Split(), prediction.Options(None)
    prediction.predict_split(run_dir, split, options, stage_name="head", name="live")
    path = run_dir / "live" / "b.png"
    whole = path.read_bytes()
    path.write_bytes(whole[:-9])
    prediction.predict_split(run_dir, split, options, stage_name="head", name="live")
    assert path.read_bytes() == whole
