"""Extraction: what is written beside the seeds, on request and afterwards, and that shards change nothing."""

import dataclasses
import shutil

import cv2
import numpy as np
import pytest
import tensorflow as tf

from ficklenet_tf import presets
from ficklenet_tf.data import feature_cache, images, labels
from ficklenet_tf.maps import aggregation
from ficklenet_tf.models import classifier
from ficklenet_tf.runs import artifacts
from ficklenet_tf.seeds import extraction, rule
from tests import tiny_run

PRESET = presets.Seeds(selections=20, sizes=(33,), theta=0.5)


class _Photographs:
    """What `extraction.extract` needs of a `datasets.Split`."""

    dataset, name, fingerprint, has_labels = "made", "train", "none", False
    image_ids, class_names = ("a", "b", "c"), ("background", "x", "y", "z")

    def __len__(self):
        return 3

    def __getitem__(self, index):
        photo = tiny_run.photograph(40 + 8 * index, 48, index)
        return {"image_id": self.image_ids[index], "image": tf.io.encode_png(photo).numpy(),
                "tags": np.eye(3, dtype=np.float32)[index] + np.eye(3, dtype=np.float32)[2] * (index == 0)}


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory):
    """A classifier of random weights, in the layout of a finished stage."""
    root = tmp_path_factory.mktemp("run")
    tf.keras.utils.set_random_seed(3)
    preset = dataclasses.replace(presets.TINY.classifier, input_size=33, kernel_size=3, rate=0.7)
    model, _ = classifier.build(preset, 3)
    (root / "classifier").mkdir()
    model.save_weights(root / "classifier" / "model.weights.h5")
    artifacts.write_run(root / "classifier", preset=dataclasses.asdict(preset), class_names=["background", *"xyz"],
                        normalization=dataclasses.asdict(images.TORCH), features_dir=None)
    extraction.extract(root, _Photographs(), PRESET, seed=5)
    return root


def _seeds(directory):
    return {path.name: path.read_bytes() for path in directory.glob("*.png")}


def test_what_is_written_beside_is_added_afterwards_without_changing_the_seeds(run_dir):
    before, finished = _seeds(run_dir / "seeds"), artifacts.read_run(run_dir / "seeds")["finished"]
    assert len(before) == 3 and not (run_dir / "seeds_uncertainty").exists() and finished
    extraction.extract(run_dir, _Photographs(), PRESET, seed=5, maps=True, uncertainty=True)
    assert _seeds(run_dir / "seeds") == before
    for image_id in "abc":
        label = labels.read_label(run_dir / "seeds" / f"{image_id}.png")
        with np.load(run_dir / "seeds_maps" / f"{image_id}.npz") as maps:
            expected = rule.uncertainty(maps["std"].astype("f4"), maps["mean"].astype("f4"), maps["classes"], label)
        grey = cv2.imread(str(run_dir / "seeds_uncertainty" / f"{image_id}.png"), cv2.IMREAD_UNCHANGED)
        np.testing.assert_allclose(grey / 255, expected, atol=0.005)
        assert grey.max() > 20


def test_uncertain_seeds_are_left_out(run_dir):
    localizer = extraction.Localizer(*classifier.load(run_dir / "classifier")[:2], PRESET, "stochastic")
    found = localizer(_Photographs()[0], 5)
    whole = extraction.make_seed(found, PRESET)
    uncertain = rule.uncertainty(found["std"], found["mean"], found["classes"], whole)
    limit = float(np.median(uncertain[(whole > 0) & (whole < 255)]))
    left = extraction.make_seed(found, dataclasses.replace(PRESET, max_uncertainty=limit))
    assert (left == np.where(uncertain > limit, 255, whole)).all() and (left != whole).any() and (left == whole).any()
    assert (whole == labels.read_label(run_dir / "seeds" / "a.png")).all()


def test_uncertainty_is_that_of_the_seeds_before_any_was_left_out(run_dir):
    preset = dataclasses.replace(PRESET, max_uncertainty=0.1)
    extraction.extract(run_dir, _Photographs(), PRESET, name="all", seed=5, uncertainty=True)
    extraction.extract(run_dir, _Photographs(), preset, name="sure", seed=5, uncertainty=True)
    assert _seeds(run_dir / "all_uncertainty") == _seeds(run_dir / "sure_uncertainty")
    assert _seeds(run_dir / "all") != _seeds(run_dir / "sure")


def test_what_an_extraction_refuses(run_dir):
    class Others(_Photographs):
        class_names = ("background", "x", "z", "y")

    saliency = {"refine": "none", "background_cue": "saliency"}
    for split, changes, message in ((Others(), {}, "knows the classes background, x, y, z; found background, x, z, y"),
                                    (_Photographs(), {"selections": 0}, "expected at least 1, found 0"),
                                    (_Photographs(), saliency, "saliency_dir")):
        with pytest.raises(ValueError, match=message):
            extraction.extract(run_dir, split, dataclasses.replace(PRESET, **changes), name="refused", seed=5)
        shutil.rmtree(run_dir / "refused", ignore_errors=True)


def test_cached_features_are_those_of_this_photograph(run_dir, tmp_path):
    example, model = _Photographs()[1], classifier.load(run_dir / "classifier")[:2]
    artifacts.write_json(tmp_path / "features.json", {"shape": [5, 5, 128], "size": 33})
    np.save(feature_cache.path_of(tmp_path, "b"), np.full((5, 5, 128), 0.5, np.float16))
    artifacts.write_json(tmp_path / "photographs.json", {"b": feature_cache.checksum(example["image"])})
    own = extraction.Localizer(*model, PRESET, "stochastic", tmp_path).prepare(example)["views"][0]
    assert own.shape == (5, 5, 128) and (own.numpy() == 0.5).all()
    artifacts.write_json(tmp_path / "photographs.json", {"b": feature_cache.checksum(b"another of the same name")})
    assert extraction.Localizer(*model, PRESET, "stochastic", tmp_path).prepare(example)["views"][0].shape == (
        1, 33, 33, 3)


def test_several_views_of_an_image_without_tags_are_background(run_dir):
    preset = dataclasses.replace(PRESET, sizes=(33, 41), flip_views=True)
    localizer = extraction.Localizer(*classifier.load(run_dir / "classifier")[:2], preset, "stochastic")
    found = localizer({**_Photographs()[0], "tags": np.zeros(3, np.float32)}, 5)
    assert found["mean"].shape == (5, 5, 0) and (extraction.make_seed(found, preset) == 0).all()


def test_selections_auto_tells_what_it_took_whatever_the_shards(run_dir):
    preset = dataclasses.replace(PRESET, selections="auto", auto_tolerance=0.1, auto_most=160)
    whole = extraction.extract(run_dir, _Photographs(), preset, name="auto", seed=5)
    for shard in ((1, 2), (0, 2), (0, 1)):
        parts = extraction.extract(run_dir, _Photographs(), preset, name="shards", seed=5, shard=shard)
    assert _seeds(run_dir / "auto") == _seeds(run_dir / "shards") and whole["selections"] == parts["selections"]
    taken = [artifacts.read_json(run_dir / "auto_selections" / f"{image_id}.json")["selections"] for image_id in "abc"]
    assert whole["selections"] == {"median": np.median(taken), "max": max(taken)} and set(taken) <= {20, 40, 80, 160}
    with pytest.raises(ValueError, match="selections"):
        extraction.Localizer(None, None, dataclasses.replace(PRESET, selections="many"), "stochastic")


def test_views_are_joined_and_cam_is_chosen(run_dir):
    model, normalization, *_ = classifier.load(run_dir / "classifier")
    preset = dataclasses.replace(PRESET, sizes=(33, 49), flip_views=True, cam="cam")
    example = _Photographs()[1]
    found = extraction.Localizer(model, normalization, preset, "deterministic")(example, 5)
    maps = []
    for size in (33, 49):
        x = images.normalize(images.warp(images.decode(example["image"]), size), normalization)[None]
        for mirrored in (False, True):
            features = model.backbone(x[:, :, ::-1] if mirrored else x)[0]
            one = aggregation.localize(model.head, features, tf.constant([1]), tf.constant([0, 0]), selections=1,
                                       selection="deterministic", cam="cam")["mean"].numpy()
            maps.append(images.resize_maps(one[:, ::-1] if mirrored else one, found["mean"].shape[:2]))
    np.testing.assert_allclose(found["mean"], np.mean(maps, 0), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(found["max"], np.max(maps, 0), rtol=1e-4, atol=1e-5)
