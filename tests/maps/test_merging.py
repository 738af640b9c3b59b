"""Merged maps: by hand, as a union, on the disk in shards, and seeds that notice what has changed below them."""

import dataclasses
import shutil

import numpy as np
import pytest

from ficklenet_tf import presets
from ficklenet_tf.errors import UserError
from ficklenet_tf.maps import extraction, merging
from ficklenet_tf.maps.image_maps import ImageMaps
from ficklenet_tf.runs import artifacts
from ficklenet_tf.seeds import extraction as seed_extraction
from tests import tiny_run

CONFIG = presets.MapsConfig(num_maps=10, sizes=(33,))
PHOTOGRAPHS = tiny_run.Photographs()
STATISTICS = ("mean", "max", "std")


def _maps(mean, highest, std, num_maps=1, tag_ids=(0,)):
    """Maps `[1, 2, 1]` of the two numbers of each statistic."""
    mean, highest, std = (np.array(values, np.float32).reshape(1, 2, -1) for values in (mean, highest, std))
    return ImageMaps(np.array(tag_ids, np.int32), mean, highest, std, mean[None], num_maps, (8, 16))


def test_two_maps_by_hand():
    a, b = _maps([0.2, 0.6], [0.5, 0.7], [0.1, 0.2], 10), _maps([0.4, 0.2], [0.4, 0.9], [0.3, 0.0], 20)
    both = merging.joined([a, b], "max")
    np.testing.assert_allclose([getattr(both, name).ravel() for name in STATISTICS],
                               [[0.4, 0.6], [0.5, 0.9], [0.3, 0.2]])  # the spread of the map that is highest
    mean = merging.joined([a, b], "mean")
    spread = np.sqrt([(0.1**2 + 0.3**2) / 2 + 0.1**2, (0.2**2 + 0) / 2 + 0.2**2])  # within and between
    np.testing.assert_allclose([getattr(mean, name).ravel() for name in STATISTICS],
                               [[0.3, 0.4], [0.5, 0.9], spread], rtol=1e-6)
    for joined in (both, mean):
        assert joined.num_maps == 20 and joined.shape == (8, 16) and joined.gradient is None
        np.testing.assert_array_equal(joined.samples, a.samples)
    probs = [np.full((1, 2, 2), value, np.float32) for value in (0.1, 0.9)]
    for rule in merging.RULES:
        with_probs = [dataclasses.replace(part, probs=values) for part, values in zip((a, b), probs, strict=True)]
        np.testing.assert_allclose(merging.joined(with_probs, rule).probs, np.full((1, 2, 2), 0.5))
        assert merging.joined([with_probs[0], b], rule).probs is None  # of one part's alone nobody can tell


def test_the_maximum_is_what_oaas_code_keeps():
    """Its loop: each map over its own maximum, the greater of it and what is kept so far, rounded to 8 bits there."""
    rng = np.random.default_rng(6)
    raw = rng.random((3, 4, 5, 2)).astype(np.float32)
    kept = np.zeros((4, 5, 2))
    for activation in raw:
        kept = np.maximum(kept, np.round(activation / (activation.max((0, 1)) + 1e-8) * 255))
    divided = [each / each.max((0, 1)) for each in raw]
    parts = [ImageMaps(np.array([1, 4], np.int32), each, each, 0 * each, each[None], 1, (32, 40)) for each in divided]
    np.testing.assert_allclose(merging.joined(parts, "max").mean * 255, kept, atol=0.51)
    assert np.abs(merging.joined(parts, "mean").mean * 255 - kept).max() > 50


def test_the_union_of_what_is_above_a_threshold_is_the_maximum_above_it():
    rng = np.random.default_rng(0)
    parts = [ImageMaps(np.arange(2), *rng.random((3, 5, 6, 2), np.float32) ** 3, np.zeros((1, 5, 6, 2)), 1, (40, 48))
             for _ in range(3)]
    for name in ("mean", "max"):
        for theta in (0.2, 0.35, 0.8):
            union = np.any([getattr(part, name) > theta for part in parts], 0)
            np.testing.assert_array_equal(getattr(merging.joined(parts, "max"), name) > theta, union)
            assert 0 < union.mean() < 1


def test_parts_of_other_sizes_take_the_first_ones():
    large = ImageMaps(np.zeros(1, np.int32), *np.ones((3, 4, 4, 1), np.float32), np.ones((1, 4, 4, 1), np.float32), 1,
                      (8, 16))
    joined = merging.joined([_maps([0.2, 0.6], [0.5, 0.7], [0.1, 0.2]), large], "max")
    np.testing.assert_array_equal(joined.mean, np.ones((1, 2, 1)))


@pytest.fixture
def run_dir(tmp_path):
    """A classifier of random weights and three sets of its maps, which other seeds drew."""
    root = tiny_run.make_classifier(tmp_path)
    for seed, name in enumerate("abc"):
        extraction.extract(root, PHOTOGRAPHS, CONFIG, extraction.Options(seed=seed), name=f"maps_{name}")
    return root


def test_seeds_are_made_of_merged_maps_whatever_the_shards(run_dir):
    names = ["maps_b", "maps_a"]
    run = merging.merge(run_dir, PHOTOGRAPHS, names, "max")
    for shard in ((1, 2), (0, 2), (0, 1)):
        merging.merge(run_dir, PHOTOGRAPHS, names, "max", name="shards", shard=shard)
    (run_dir / "shards" / "b.npz").unlink()
    merging.merge(run_dir, PHOTOGRAPHS, names, "max", name="shards", shard=(1, 2))  # what is missing is made again
    assert run["images"] == 3 and run["seed"] == 1 and run["merged"]["rule"] == "max"
    assert [part["seed"] for part in run["merged"]["parts"].values()] == [1, 0]
    for image_id in "abc":
        parts = [ImageMaps.read(run_dir / name / f"{image_id}.npz") for name in names]
        for name in ("maps", "shards"):
            maps = ImageMaps.read(run_dir / name / f"{image_id}.npz")
            np.testing.assert_array_equal(maps.max, np.maximum(parts[0].max, parts[1].max))
            np.testing.assert_array_equal(maps.samples, parts[0].samples)
    made = seed_extraction.make(run_dir, PHOTOGRAPHS, presets.SeedsConfig(theta=0.5))
    assert made["maps"]["merged"]["parts"].keys() == set(names) and len(list((run_dir / "seeds").glob("*.png"))) == 3


def test_seeds_notice_what_was_made_again_below_merged_maps(run_dir):
    merging.merge(run_dir, PHOTOGRAPHS, ["maps_a", "maps_b"], name="inner")
    merging.merge(run_dir, PHOTOGRAPHS, ["maps_c", "inner"])
    shutil.rmtree(run_dir / "maps_a")
    config = presets.SeedsConfig(theta=0.5)
    seed_extraction.make(run_dir, PHOTOGRAPHS, config)  # what is gone may be gone
    extraction.extract(run_dir, PHOTOGRAPHS, CONFIG, extraction.Options(seed=7), name="maps_a")
    with pytest.raises(UserError, match="inner: expected that it is merged of .*maps_a as it is"):
        seed_extraction.make(run_dir, PHOTOGRAPHS, config)
    with pytest.raises(UserError, match="inner: was begun with other settings .merged.parts.maps_a.seed: 0 -> 7"):
        merging.merge(run_dir, PHOTOGRAPHS, ["maps_a", "maps_b"], name="inner")
    shutil.rmtree(run_dir / "maps_a")
    artifacts.write_run(run_dir / "classifier", **{**artifacts.read_run(run_dir / "classifier"), "finished": None})
    run = artifacts.read_json(run_dir / "classifier" / "run.json")
    artifacts.write_json(run_dir / "classifier" / "run.json", {**run, "finished": "later"})
    with pytest.raises(UserError, match="found those of an earlier classifier there"):
        seed_extraction.make(run_dir, PHOTOGRAPHS, config)


def test_what_cannot_be_merged(run_dir, monkeypatch):
    with pytest.raises(UserError, match="rule: expected one of max, mean, found 'min'"):
        merging.merge(run_dir, PHOTOGRAPHS, ["maps_a"], "min")
    for names in ([], ["maps_a", "maps_a"], ["maps", "maps_a"]):
        with pytest.raises(UserError, match="names: expected maps to merge into maps, each once, found"):
            merging.merge(run_dir, PHOTOGRAPHS, names)
    with pytest.raises(FileNotFoundError, match="expected a finished set of maps"):
        merging.merge(run_dir, PHOTOGRAPHS, ["maps_a", "maps_d"])
    maps = ImageMaps.read(run_dir / "maps_b" / "b.npz")
    dataclasses.replace(maps, tag_ids=maps.tag_ids - 1).write(run_dir / "maps_b" / "b.npz")
    with pytest.raises(UserError, match=r"maps_b.b.npz: expected maps of the tags \[1\] as in maps_a, found \[0\]"):
        merging.merge(run_dir, PHOTOGRAPHS, ["maps_a", "maps_b"])
    monkeypatch.setattr(tiny_run.Photographs, "fingerprint", "other")
    with pytest.raises(UserError, match="maps_a: expected maps of made train, found those of other images"):
        merging.merge(run_dir, PHOTOGRAPHS, ["maps_a"], name="others")
