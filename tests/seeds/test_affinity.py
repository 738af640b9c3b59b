"""AffinityNet and its random walk, against slow NumPy and by hand; its training on a tiny run."""

import dataclasses
import itertools
import pathlib
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

from ficklenet_tf import presets
from ficklenet_tf.data import datasets
from ficklenet_tf.errors import UserError
from ficklenet_tf.maps import extraction as map_extraction
from ficklenet_tf.models import affinity as network
from ficklenet_tf.runs import artifacts
from ficklenet_tf.seeds import affinity, extraction
from ficklenet_tf.training import affinity as affinity_training
from ficklenet_tf.training import classifier as classifier_training

ROOT = pathlib.Path(__file__).parents[2]
CLASSIFIER = dataclasses.replace(presets.TINY.classifier, input_size=65, kernel_size=3, epochs=1, batch_size=4,
                                 photometric=0.0, trainable_layers="last_block")
MAPS = presets.MapsConfig(num_maps=10, sizes=(65,))


def test_there_are_34_offsets_within_radius_5_and_none_twice():
    offsets = network.offsets()
    assert len(offsets) == 34 and (0, 1) in offsets and (3, -3) in offsets and (4, 3) not in offsets
    both = offsets + [(-dy, -dx) for dy, dx in offsets]
    near = {(dy, dx) for dy, dx in itertools.product(range(-4, 5), repeat=2) if 0 < dy * dy + dx * dx < 25}
    assert set(both) == near


def _dense(embedding, beta):
    """The transition matrix by a double loop over all pairs of positions."""
    height, width, _ = embedding.shape
    matrix = np.zeros((height * width,) * 2)
    for (i, (y, x)), (j, (v, u)) in itertools.product(enumerate(np.ndindex(height, width)), repeat=2):
        if (y - v) ** 2 + (x - u) ** 2 < 25:
            matrix[i, j] = np.exp(-np.abs(embedding[y, x] - embedding[v, u]).mean()) ** beta
    return matrix / matrix.sum(1, keepdims=True)


def test_the_walk_is_the_dense_matrices_power():
    rng = np.random.default_rng(0)
    embedding, maps = rng.normal(size=(7, 9, 3)), rng.random((7, 9, 2)).astype(np.float32)
    expected = np.linalg.matrix_power(_dense(embedding, 8.0), 16) @ maps.reshape(-1, 2)
    matrix = affinity.transitions(tf.constant(embedding, tf.float32))
    np.testing.assert_allclose(tf.sparse.to_dense(matrix), _dense(embedding, 8.0), atol=1e-6)
    np.testing.assert_allclose(affinity.walk(matrix, tf.constant(maps), 16), expected.reshape(7, 9, 2), atol=1e-5)


def test_a_walk_stays_on_its_side_of_an_edge():
    embedding = np.zeros((5, 10, 2), np.float32)
    embedding[:, 6:] = 4.0
    maps = np.zeros((5, 10, 1), np.float32)
    maps[2, 1] = 1.0
    walked = affinity.walk(affinity.transitions(tf.constant(embedding)), tf.constant(maps)).numpy()[..., 0]
    assert walked[:, :6].min() > 0.5 * walked.max() and walked[:, 6:].max() < 1e-6 * walked.max()


def test_the_loss_by_hand():
    """Three positions in a row, embeddings 0, 1, 3: affinities exp(-1), exp(-2) and, two apart, exp(-3)."""
    embedding = tf.constant([[[[0.0], [1.0], [3.0]]]])
    values = affinity_training.loss(embedding, tf.constant([[[0, 0, 2]]], tf.uint8))
    assert float(values["background_loss"]) == pytest.approx(1, abs=1e-3)
    differing = -(np.log(1 - np.exp(-2)) + np.log(1 - np.exp(-3))) / 2
    assert float(values["differing_loss"]) == pytest.approx(differing, abs=1e-3)
    assert float(values["foreground_loss"]) == 0
    assert float(values["loss"]) == pytest.approx(1 / 4 + differing / 2, abs=1e-3)
    values = affinity_training.loss(embedding, tf.constant([[[2, 255, 2]]], tf.uint8))
    assert float(values["foreground_loss"]) == pytest.approx(3, abs=1e-3) and float(values["differing_loss"]) == 0


def test_a_network_is_trained_and_its_walk_makes_seeds(tmp_path):
    split = datasets.load_split("shapes", "train", cache_dir=tmp_path / "data", max_images=8)
    few = split.select(range(4))  # the walk needs kept features of the others too
    classifier_training.train(tmp_path / "classifier", few, few, CLASSIFIER, classifier_training.Options("random"))
    map_extraction.extract(tmp_path, split, MAPS)
    config = presets.SeedsConfig(refine="affinity")
    with pytest.raises(FileNotFoundError, match="affinity network.*tools.train_affinity"):
        extraction.make(tmp_path, split, config, name="early")
    training = presets.AffinityConfig(steps=30, batch_size=4, learning_rate=0.01, label_scale=1.0)
    run = affinity_training.train(tmp_path, split, training)
    first = affinity_training.loop._read_log(tmp_path / "affinity" / "log.csv", 1)[0]["loss"]
    assert run["metrics"]["loss"] < 0.9 * first
    assert affinity_training.train(tmp_path, split, training) == run
    assert extraction.make(tmp_path, split, config)["affinity"] == run["finished"]
    walker = affinity.Walker(tmp_path)
    maps = np.random.default_rng(0).random((9, 9, 2)).astype(np.float32)
    walked = walker(split.image_ids[0], maps)
    np.testing.assert_allclose(walked.max((0, 1)), 1, atol=1e-6)
    assert walked.shape == (9, 9, 2) and walked.std() < maps.std()
    assert walker(split.image_ids[0], maps[::2, ::2]).shape == (9, 9, 2)  # maps of another size
    _by_the_binary(tmp_path, split)
    artifacts.write_run(tmp_path / "affinity", **{**run, "classifier": "another"})
    with pytest.raises(UserError, match="affinity: expected affinities on classifier, found those on an earlier"):
        extraction.make(tmp_path, split, config, name="refused")


def _by_the_binary(run_dir, split):
    """The flags reach the stage: the same seeds, and their uncertainty."""
    command = [sys.executable, "-m", "tools.make_seeds", "--dataset=shapes", f"--cache_dir={run_dir / 'data'}",
               f"--output_dir={run_dir}", "--max_images=8", "--refine=affinity", "--refine_scale=0.5",
               "--refine_low=0.03", "--refine_high=0.03", "--uncertainty", "--name=by_binary"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    for image_id in split.image_ids:
        assert (run_dir / "by_binary" / f"{image_id}.png").read_bytes() == (
            run_dir / "seeds" / f"{image_id}.png").read_bytes()
        assert (run_dir / "by_binary_uncertainty" / f"{image_id}.png").exists()


def test_a_classifier_that_was_trained_whole_is_refused(tmp_path):
    split = datasets.load_split("shapes", "train", cache_dir=tmp_path / "data", max_images=4)
    classifier_training.train(tmp_path / "classifier", split, split, dataclasses.replace(
        CLASSIFIER, trainable_layers="all"))
    map_extraction.extract(tmp_path, split, MAPS)
    with pytest.raises(UserError, match="affinity: expected a classifier with frozen layers"):
        affinity_training.train(tmp_path, split, presets.AffinityConfig())
