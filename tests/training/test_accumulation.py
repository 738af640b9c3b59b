"""Snapshots of a training, the same whenever it is killed, and the maps that are accumulated over them."""

import dataclasses
import shutil

import numpy as np
import pytest

from ficklenet_tf import presets
from ficklenet_tf.data import datasets
from ficklenet_tf.errors import UserError
from ficklenet_tf.maps import extraction
from ficklenet_tf.maps.image_maps import ImageMaps
from ficklenet_tf.models import classifier
from ficklenet_tf.runs import artifacts, restart
from ficklenet_tf.training import accumulation, loop, snapshots
from ficklenet_tf.training import classifier as classifier_training

CONFIG = dataclasses.replace(presets.TINY.classifier, input_size=33, kernel_size=3, batch_size=4, epochs=0, steps=7,
                             trainable_layers="head", photometric=0.0, snapshots=3, learning_rate=0.05)
OPTIONS = classifier_training.Options("random", training=loop.Options(save_every=3, log_every=100))
NAMES = {"classifier_at2": 2, "classifier_at4": 4, "classifier_at7": 7}
MAPS = presets.MapsConfig(num_maps=10, sizes=(33,))

pytestmark = pytest.mark.trains


@pytest.fixture(scope="module")
def split(drawings_dir):
    return datasets.load_split("shapes", "train", cache_dir=drawings_dir, max_images=8)


def _train(run_dir, split, **changes):
    return classifier_training.train(run_dir / "classifier", split, split.select([0, 1]),
                                     dataclasses.replace(CONFIG, **changes), OPTIONS)


@pytest.fixture(scope="module")
def run_dir(split, tmp_path_factory):
    """A training that nothing disturbed."""
    root = tmp_path_factory.mktemp("run")
    assert _train(root, split)["snapshots"] == NAMES
    return root


def _weights(directory):
    return classifier.load(directory).model.get_weights()


def _check_equal(one, other):
    for a, b in zip(one, other, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("count, steps, expected", [(0, 9, []), (1, 9, [9]), (4, 10, [2, 5, 7, 10]),
                                                    (3, 3, [1, 2, 3])])
def test_snapshots_are_evenly_spaced_and_the_last_is_the_end(count, steps, expected):
    assert snapshots.steps_of(count, steps) == expected


def test_a_snapshot_is_the_classifier_of_a_shorter_training(run_dir, split, tmp_path):
    _train(tmp_path, split, steps=4, snapshots=0)
    assert "snapshots" not in artifacts.read_run(tmp_path / "classifier")
    assert not list(tmp_path.glob("classifier_at*"))
    _check_equal(_weights(run_dir / "classifier_at4"), _weights(tmp_path / "classifier"))
    _check_equal(_weights(run_dir / "classifier_at7"), _weights(run_dir / "classifier"))
    moved = np.abs(_weights(run_dir / "classifier_at2")[-2] - _weights(run_dir / "classifier_at4")[-2]).max()
    assert moved > 1e-3


@pytest.mark.parametrize("killed", [2, 4, 7])
def test_a_training_that_was_killed_leaves_the_same_snapshots(run_dir, split, tmp_path, monkeypatch, killed):
    keep = snapshots._keep

    def dying(directory, *arguments):
        if directory.name == f"classifier_at{killed}":
            raise RuntimeError("killed")
        keep(directory, *arguments)

    monkeypatch.setattr(snapshots, "_keep", dying)
    with pytest.raises(RuntimeError, match="killed"):
        _train(tmp_path, split)
    assert artifacts.read_run(tmp_path / f"classifier_at{killed}") is None
    assert (tmp_path / "classifier" / "checkpoints" / f"ckpt-{killed}.index").exists()
    monkeypatch.undo()
    assert _train(tmp_path, split)["snapshots"] == NAMES
    for name in NAMES:
        _check_equal(_weights(tmp_path / name), _weights(run_dir / name))


def test_what_a_training_found_at_any_of_them_is_found(run_dir, split):
    assert accumulation.maps_of_snapshots(run_dir, split, MAPS, extraction.Options(seed=3)) == "maps"
    run = artifacts.read_run(run_dir / "maps")
    assert list(run["merged"]["parts"]) == ["maps_at7", "maps_at4", "maps_at2"]
    assert run["classifier_name"] == "classifier_at7" and run["seed"] == 3
    differ = 0
    for image_id in split.image_ids:
        parts = [ImageMaps.read(run_dir / f"maps_at{step}" / f"{image_id}.npz") for step in NAMES.values()]
        both = ImageMaps.read(run_dir / "maps" / f"{image_id}.npz")
        np.testing.assert_array_equal(both.max, np.max([part.max for part in parts], 0))
        np.testing.assert_array_equal(both.mean, np.max([part.mean for part in parts], 0))  # what seeds are made of
        differ += (both.mean > parts[-1].mean).sum()
    assert differ > 0
    accumulation.maps_of_snapshots(run_dir, split, MAPS, extraction.Options(seed=3))
    assert artifacts.read_run(run_dir / "maps") == run


def test_a_training_begun_again_takes_its_snapshots_along(run_dir, split, tmp_path):
    for name in ("classifier", *NAMES):
        shutil.copytree(run_dir / name, tmp_path / name)
    shutil.rmtree(tmp_path / "classifier")
    with pytest.raises(UserError, match="classifier_at2: was begun with other settings .config.learning_rate"):
        _train(tmp_path, split, learning_rate=0.1)
    shutil.copytree(run_dir / "classifier", tmp_path / "classifier", dirs_exist_ok=True)
    restart.request(tmp_path, ["classifier"], followers=False)
    _train(tmp_path, split, learning_rate=0.1)
    _check_equal(_weights(tmp_path / "classifier_at7"), _weights(tmp_path / "classifier"))


def test_snapshots_of_a_classifier_whose_weights_were_lost_stay_those_they_were(run_dir, tmp_path, split):
    shutil.copytree(run_dir, tmp_path / "run")
    lost = tmp_path / "run" / "classifier" / "model.weights.h5"
    runs = {name: artifacts.read_run(tmp_path / "run" / name) for name in ("classifier", *NAMES)}
    for name, run in runs.items():
        artifacts.write_run(tmp_path / "run" / name, **{**run, "finished": "2026-01-01T00:00:00Z"})
    lost.unlink()
    _train(tmp_path / "run", split)
    _check_equal(_weights(lost.parent), _weights(run_dir / "classifier"))
    assert {artifacts.read_run(tmp_path / "run" / name)["finished"] for name in runs} == {"2026-01-01T00:00:00Z"}


def test_what_cannot_be_accumulated(split, tmp_path):
    with pytest.raises(UserError, match="snapshots: expected at most the 7 steps of the training, found 8"):
        _train(tmp_path, split, snapshots=8)
    with pytest.raises(FileNotFoundError, match="expected a finished classifier"):
        accumulation.maps_of_snapshots(tmp_path, split, MAPS)
    shutil.rmtree(tmp_path / "classifier")
    _train(tmp_path, split, snapshots=0, steps=1)
    with pytest.raises(UserError, match="expected a classifier trained with --snapshots, found one that kept none"):
        accumulation.maps_of_snapshots(tmp_path, split, MAPS)
