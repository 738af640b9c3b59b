"""AffinityNet and its random walk, against slow NumPy and by hand; its training on a tiny run."""

import dataclasses
import itertools
import pathlib
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf

from ficklenet_tf import presets
from ficklenet_tf.data import datasets, images, labels
from ficklenet_tf.errors import UserError
from ficklenet_tf.maps import extraction as map_extraction
from ficklenet_tf.models import affinity as network
from ficklenet_tf.models import backbones, neighbours
from ficklenet_tf.models import classifier as classifiers
from ficklenet_tf.runs import artifacts
from ficklenet_tf.seeds import affinity, extraction
from ficklenet_tf.training import affinity as affinity_training
from ficklenet_tf.training import classifier as classifier_training

ROOT = pathlib.Path(__file__).parents[2]
CLASSIFIER = dataclasses.replace(presets.TINY.classifier, input_size=65, kernel_size=3, epochs=1, batch_size=4,
                                 photometric=0.0, trainable_layers="last_block")
MAPS = presets.MapsConfig(num_maps=10, sizes=(65,))
EMBEDDING, BOUNDARY = network.KINDS["embedding"], network.KINDS["boundary"]
IMAGE = np.zeros((65, 65, 3), np.uint8)  # where features are kept, the walk needs none


def test_there_are_34_offsets_within_radius_5_and_none_twice():
    offsets = neighbours.offsets()
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
    matrix = affinity.transitions(tf.constant(embedding, tf.float32), EMBEDDING)
    np.testing.assert_allclose(tf.sparse.to_dense(matrix), _dense(embedding, 8.0), atol=1e-6)
    np.testing.assert_allclose(affinity.walk(matrix, tf.constant(maps), 16), expected.reshape(7, 9, 2), atol=1e-5)
    published = np.linalg.matrix_power(_dense(embedding, 8.0), 256) @ maps.reshape(-1, 2)  # both papers' t = 2^8
    assert np.abs(published - expected).max() > 0.01
    np.testing.assert_allclose(affinity.walk(matrix, tf.constant(maps)), published.reshape(7, 9, 2), atol=1e-4)


def test_a_walk_stays_on_its_side_of_an_edge():
    embedding = np.zeros((5, 10, 2), np.float32)
    embedding[:, 6:] = 4.0
    maps = np.zeros((5, 10, 1), np.float32)
    maps[2, 1] = 1.0
    walked = affinity.walk(affinity.transitions(tf.constant(embedding), EMBEDDING), tf.constant(maps)).numpy()[..., 0]
    assert walked[:, :6].min() > 0.5 * walked.max() and walked[:, 6:].max() < 1e-6 * walked.max()


def test_the_loss_by_hand():
    """Three positions in a row, embeddings 0, 1, 3: affinities exp(-1), exp(-2) and, two apart, exp(-3)."""
    embedding = tf.constant([[[[0.0], [1.0], [3.0]]]])
    values = affinity_training.loss(embedding, tf.constant([[[0, 0, 2]]], tf.uint8), EMBEDDING)
    assert float(values["background_loss"]) == pytest.approx(1, abs=1e-3)
    differing = -(np.log(1 - np.exp(-2)) + np.log(1 - np.exp(-3))) / 2
    assert float(values["differing_loss"]) == pytest.approx(differing, abs=1e-3)
    assert float(values["foreground_loss"]) == 0
    assert float(values["loss"]) == pytest.approx(1 / 4 + differing / 2, abs=1e-3)
    values = affinity_training.loss(embedding, tf.constant([[[2, 255, 2]]], tf.uint8), EMBEDDING)
    assert float(values["foreground_loss"]) == pytest.approx(3, abs=1e-3) and float(values["differing_loss"]) == 0


def test_the_gradient_moves_both_of_a_pair_against_each_other():
    """By hand: of exp(-mean_k |f - g|) it is -sign(f - g) aff / k for f and the opposite for g."""
    values = tf.Variable([[[[0.5, -1.0], [0.1, 1.0]]]])
    with tf.GradientTape() as tape:
        pairs = dict(zip(neighbours.offsets(), EMBEDDING.affinities(values), strict=True))
        affinities = pairs[0, 1]
    expected = np.exp(-(0.4 + 2.0) / 2)
    np.testing.assert_allclose(affinities, [[[expected]]], rtol=1e-6)
    np.testing.assert_allclose(tape.gradient(affinities, values)[0, 0],
                               np.array([[-1, 1], [1, -1]]) * expected / 2, rtol=1e-5)


def test_the_network_of_affinities_is_as_published():
    """1 x 1 layers of 64 and 128 channels, groups of 8 (their 16 of 128), ELU, joined and mixed with a gain of 4."""
    keras.utils.set_random_seed(0)
    model = EMBEDDING.build([(5, 6, 12), (5, 6, 20)])
    maps = [tf.constant(np.random.default_rng(k).normal(size=(2, 5, 6, c)), tf.float32)
            for k, c in enumerate((12, 20))]
    output = model(maps).numpy()
    assert output.shape == (2, 5, 6, 192) and -1 <= output.min() < -0.5 and output.max() > 1  # ELU
    assert model.count_params() == 12 * 64 + 20 * 128 + 2 * (64 + 128) + 192 * 192  # no bias but the normalisation's
    kernel = model.get_layer("embedding").kernel.numpy()
    bound = 4 * np.sqrt(6 / (192 + 192))  # Xavier's uniform distribution, times 4
    assert 0.98 * bound < np.abs(kernel).max() <= bound
    joined = keras.Model(model.inputs, model.get_layer("embedding").input)(maps).numpy()
    for branch, groups in ((joined[..., :64], 8), (joined[..., 64:], 16)):
        before = np.where(branch > 0, branch, np.log1p(branch)).reshape(2, 30, groups, 8)  # ELU undone
        np.testing.assert_allclose(before.mean((1, 3)), 0, atol=1e-4)
        np.testing.assert_allclose(before.std((1, 3)), 1, atol=1e-3)
        assert np.abs(before.reshape(2, 30, 2 * groups, 4).mean((1, 3))).max() > 0.05  # no smaller groups
    np.testing.assert_allclose(model([maps[0] * 0.05, maps[1] * 0.05]), output, atol=0.05)  # epsilon is small


def test_a_network_is_trained_and_its_walk_makes_seeds(tmp_path, drawings_dir):
    split = datasets.load_split("shapes", "train", cache_dir=drawings_dir, max_images=8)
    few = split.select(range(4))  # the walk needs kept features of the others too
    classifier_training.train(tmp_path / "classifier", few, few, CLASSIFIER, classifier_training.Options("random"))
    map_extraction.extract(tmp_path, split, MAPS)
    config = presets.SeedsConfig(refine="affinity")
    with pytest.raises(FileNotFoundError, match="affinity network.*tools.train_affinity"):
        extraction.make(tmp_path, split, config, name="early")
    training = presets.AffinityConfig(steps=30, batch_size=4, learning_rate=0.01, label_scale=1.0)
    run = affinity_training.train(tmp_path, split, training)
    rows = affinity_training.loop._read_log(tmp_path / "affinity" / "log.csv", 100)
    assert run["metrics"]["loss"] < 0.9 * rows[0]["loss"]
    for row in rows:  # the public codes' polynomial
        assert row["learning_rate"] == pytest.approx(0.01 * (1 - row["step"] / 30)**0.9, rel=1e-4)
    _learned_where_two_scores_agree(tmp_path, split, training)
    assert affinity_training.train(tmp_path, split, training) == run
    assert extraction.make(tmp_path, split, config)["affinity"] == run["finished"]
    walker = affinity.Walker(tmp_path)
    maps = np.random.default_rng(0).random((9, 9, 2)).astype(np.float32)
    walked = walker(split.image_ids[0], IMAGE, maps)
    np.testing.assert_allclose(walked.max((0, 1)), 1, atol=1e-6)
    assert walked.shape == (9, 9, 2) and walked.std() < maps.std()
    assert walker(split.image_ids[0], IMAGE, maps[::2, ::2]).shape == (9, 9, 2)  # maps of another size
    _by_the_binary(tmp_path, split, drawings_dir)
    artifacts.write_run(tmp_path / "affinity", **{**run, "classifier": "another"})
    with pytest.raises(UserError, match="affinity: expected affinities on classifier, found those on an earlier"):
        extraction.make(tmp_path, split, config, name="refused")


def _learned_where_two_scores_agree(run_dir, split, training):
    """What teaches the network: objects by the high background score, background by the low one, else nothing."""
    low_dir, high_dir = (_seeds_by(run_dir, split, f"by_{score}", score) for score in (training.low, training.high))
    undecided = 0
    for image_id in split.image_ids[::4]:
        label, low, high = (labels.read_label(run_dir / name / f"{image_id}.png", len(split.class_names))
                            for name in ("affinity_labels", low_dir, high_dir))
        np.testing.assert_array_equal(label, np.where(high != 0, high, np.where(low == 0, 0, 255)))
        undecided += (label == 255).sum()
    assert undecided > 0


def _seeds_by(run_dir, split, name, score):
    """Makes seeds of every fourth image by the CRF of one background score; returns their directory's name."""
    config = presets.SeedsConfig(refine="crf", refine_low=score, refine_high=score, refine_scale=1.0)
    extraction.make(run_dir, split, config, name=name, shard=(0, 4))
    return name


def _by_the_binary(run_dir, split, drawings_dir):
    """The flags reach the stage: the same seeds, and their uncertainty."""
    command = [sys.executable, "-m", "tools.make_seeds", "--dataset=shapes", f"--cache_dir={drawings_dir}",
               f"--output_dir={run_dir}", "--max_images=8", "--refine=affinity", "--refine_scale=0.5",
               "--refine_low=0.03", "--refine_high=0.03", "--uncertainty", "--name=by_binary"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    for image_id in split.image_ids:
        assert (run_dir / "by_binary" / f"{image_id}.png").read_bytes() == (
            run_dir / "seeds" / f"{image_id}.png").read_bytes()
        assert (run_dir / "by_binary_uncertainty" / f"{image_id}.png").exists()


def _walled(height, width, column):
    """B of a wall from top to bottom, which leaves a little through."""
    values = np.full((height, width, 1), 0.05, np.float32)
    values[:, column] = 0.9
    return values


def test_a_walk_by_boundaries_is_the_dense_matrices_power():
    """Affinity 1 - max B on the path, to the power of 10; what lies on a boundary does not begin (IRN's code)."""
    boundary = _walled(4, 7, 3)
    matrix = np.eye(28)
    for (i, (y, x)), (j, (v, u)) in itertools.product(enumerate(np.ndindex(4, 7)), repeat=2):
        if 0 < (y - v) ** 2 + (x - u) ** 2 < 25:
            matrix[i, j] = (0.1 if min(x, u) <= 3 <= max(x, u) else 0.95) ** 10
    matrix /= matrix.sum(1, keepdims=True)
    computed = affinity.transitions(tf.constant(boundary), BOUNDARY)
    np.testing.assert_allclose(tf.sparse.to_dense(computed), matrix, atol=1e-6)
    maps = np.random.default_rng(0).random((4, 7, 2)).astype(np.float32)
    maps[..., 1] *= 0.2  # each is stretched to 1 first, so that a weak one does not vanish beside the other
    stretched = maps / maps.max((0, 1))
    expected = (np.linalg.matrix_power(matrix, 256) @ (stretched * (1 - boundary)).reshape(28, 2)).reshape(4, 7, 2)
    walker = affinity.Walker.__new__(affinity.Walker)
    walker._network = lambda x, training: tf.constant(boundary[None])
    walker._below, walker._kind = network.Frozen(lambda x, training: x, None, 65, None, None), BOUNDARY
    walked = walker._graph(tf.zeros([65, 65, 3]), tf.constant(maps)).numpy()
    np.testing.assert_allclose(walked, expected / expected.max(), atol=1e-4)  # by the maximum of both maps


def test_a_walk_stays_on_its_side_of_a_boundary():
    maps = np.zeros((5, 10, 1), np.float32)
    maps[2, 1] = 1.0
    walked = affinity.walk(affinity.transitions(tf.constant(_walled(5, 10, 5)), BOUNDARY), tf.constant(maps)).numpy()
    assert walked[:, :5].min() > 0.9 * walked.max() and walked[:, 6:].max() < 1e-3 * walked.max()


def test_a_classifier_that_was_trained_whole_gives_the_maps_of_its_cue_layer_and_its_last():
    config = dataclasses.replace(CLASSIFIER, trainable_layers="all")
    model, normalization = classifiers.build(config, 6)
    below = network.frozen(classifiers.Trained(model, normalization, {"features": None}, config), "")
    x = below.network_input("any", np.random.default_rng(0).integers(0, 256, (50, 80, 3), np.uint8))
    assert below.features is None and x.shape == (65, 65, 3)
    middle, last = below.model(x[None], training=False)
    np.testing.assert_allclose(last, model.backbone(x[None], training=False), atol=1e-5)
    conv, _ = backbones.after(model.backbone, "block5_relu")
    np.testing.assert_allclose(middle, conv(x[None], training=False), atol=1e-5)
    assert middle.shape[1:3] == last.shape[1:3] == (9, 9) and not below.model.trainable_variables


@pytest.mark.parametrize("kind", ["boundary", pytest.param("embedding", marks=pytest.mark.slow)])
def test_a_classifier_that_was_trained_whole_is_trained_upon_and_a_stopped_training_goes_on(kind, tmp_path,
                                                                                            drawings_dir):
    split = datasets.load_split("shapes", "train", cache_dir=drawings_dir, max_images=4)
    classifier_training.train(tmp_path / "classifier", split, split, dataclasses.replace(
        CLASSIFIER, trainable_layers="all"))
    map_extraction.extract(tmp_path, split, MAPS)
    training = presets.AffinityConfig(steps=30, batch_size=4, learning_rate=0.01, label_scale=1.0, kind=kind)
    every_15 = affinity_training.Options(training=affinity_training.loop.Options(save_every=15))
    run = affinity_training.train(tmp_path, split, training, every_15)
    first = affinity_training.loop._read_log(tmp_path / "affinity" / "log.csv", 1)[0]["loss"]
    assert run["metrics"]["loss"] < 0.9 * first and not (tmp_path / "features").exists()
    trained = network.load(tmp_path)
    extraction.make(tmp_path, split, presets.SeedsConfig(refine="affinity"))
    as_walked = _loss_as_walked(trained, split, tmp_path / "affinity_labels")
    assert as_walked == pytest.approx(run["metrics"]["loss"], rel=0.2)

    (tmp_path / "affinity" / "run.json").unlink()  # as if killed after step 15
    for path in (tmp_path / "affinity" / "checkpoints").glob("ckpt-30*"):
        path.unlink()
    affinity_training.train(tmp_path, split, training, every_15)
    for weight, resumed in zip(trained.network.get_weights(), network.load(tmp_path).network.get_weights(),
                               strict=True):
        np.testing.assert_allclose(resumed, weight, atol=1e-5)


def _loss_as_walked(trained, split, labels_dir):
    """The loss of what a walk sees of the photographs: what the last step saw of them, but for the mirror."""
    examples = [split[i] for i in range(len(split))]
    x = tf.stack([trained.below.network_input(e["image_id"], images.decode_image(e["image"])) for e in examples])
    label = np.stack([images.nearest(labels.read_label(labels_dir / f"{e['image_id']}.png"), (9, 9))
                      for e in examples])
    return float(affinity_training.loss(trained.network(trained.below.model(x, training=False)), tf.constant(label),
                                        trained.kind)["loss"])


def test_frozen_layers_need_no_features_on_the_disk(tmp_path):
    """Of a run that was moved, or whose cache is gone: they are computed again when they are wanted."""
    config = dataclasses.replace(CLASSIFIER, trainable_layers="last_block")
    model, normalization = classifiers.build(config, 6)
    gone = {"features": {"directory": "old/place/features/shapes-small", "flips": False}}
    below = network.frozen(classifiers.Trained(model, normalization, gone, config), tmp_path)
    assert below.features.directory == tmp_path / "features" / "shapes-small"
    x = below.below(np.zeros((1, 65, 65, 3), np.float32))
    assert below.model.inputs[0].shape == (None, *x.shape[1:]) and below.model(x)[-1].shape[1:3] == (9, 9)
