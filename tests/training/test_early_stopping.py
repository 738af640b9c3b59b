"""The training that ends where the tags of photographs that are not learned from are predicted best."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf

from ficklenet_tf import presets
from ficklenet_tf.data import datasets
from ficklenet_tf.errors import UserError
from ficklenet_tf.models import classifier
from ficklenet_tf.training import classifier as classifier_training
from ficklenet_tf.training import early_stopping

CONFIG = dataclasses.replace(presets.TINY.classifier, input_size=33, kernel_size=3, batch_size=2, epochs=0, steps=20,
                             trainable_layers="head", photometric=0.0, flips=False, early_stopping=2)
LOSSES = (0.5, 0.3, 0.4, 0.3, 0.35, 0.1)  # the best before three that are no better: the second


@pytest.fixture(scope="module")
def split(drawings_dir):
    return datasets.load_split("shapes", "train", cache_dir=drawings_dir, max_images=12)


@pytest.mark.parametrize("count, watched", [(2, [1]), (12, [6]), (25, [6, 18]), (3700, None)])
def test_a_tenth_is_watched_evenly_spaced_and_not_learned_from(count, watched, split):
    many = split.select([i % len(split) for i in range(count)])
    learned, seen = early_stopping.divide(many)
    assert len(learned) + len(seen) == count
    if watched is None:
        assert len(seen) == 200
    else:
        assert list(seen.image_ids) == [many.image_ids[i] for i in watched]


def test_one_photograph_cannot_be_divided(split):
    with pytest.raises(UserError, match="early_stopping: expected at least 2 photographs"):
        early_stopping.divide(split.select([0]))


def test_snapshots_are_spaced_over_the_whole_training():
    with pytest.raises(UserError, match="early_stopping: expected 0 beside 3 snapshots"):
        dataclasses.replace(CONFIG, snapshots=3)


def test_looks_that_would_never_come_are_refused(split, tmp_path):
    with pytest.raises(UserError, match="early_stopping: expected at most the 1 steps of the training, found 2"):
        classifier_training.train(tmp_path, split, split, dataclasses.replace(CONFIG, steps=1, early_stopping=2),
                                  classifier_training.Options("random"))


def _train(directory, split, monkeypatch, losses=LOSSES, **changes):
    """Trains with made-up losses of the looks; returns run.json and the weights of the head at each look."""
    weights = {}
    def look(self, done, real=early_stopping.EarlyStopping.look):
        self._loss = lambda: losses[done // CONFIG.early_stopping - 1]
        real(self, done)
        weights[done] = [np.array(w) for w in self._network.head.get_weights()]
    monkeypatch.setattr(early_stopping.EarlyStopping, "look", look)
    run = classifier_training.train(directory / "classifier", split, split, dataclasses.replace(CONFIG, **changes),
                                    classifier_training.Options("random"))
    monkeypatch.undo()
    return run, weights


def test_after_three_looks_without_a_better_one_the_best_weights_are_taken(split, tmp_path, monkeypatch, capsys):
    run, weights = _train(tmp_path, split, monkeypatch)
    assert run["looks"] == [[2, 0.5], [4, 0.3], [6, 0.4], [8, 0.3], [10, 0.35]]
    assert run["best_step"] == 4
    taken = classifier.load(tmp_path / "classifier").model.head.get_weights()
    for w, expected, last in zip(taken, weights[4], weights[10], strict=True):
        np.testing.assert_array_equal(w, expected)
        assert np.abs(w - last).max() > 0
    assert "weights of step 4, where the watched photographs' loss was least (0.3000)" in capsys.readouterr().err


def test_what_is_best_in_the_end_is_taken_when_the_steps_are_over(split, tmp_path, monkeypatch):
    run, weights = _train(tmp_path, split, monkeypatch, (0.5, 0.6, 0.4), steps=7)
    assert run["best_step"] == 6 and len(run["looks"]) == 3
    for w, expected in zip(classifier.load(tmp_path / "classifier").model.head.get_weights(), weights[6], strict=True):
        np.testing.assert_array_equal(w, expected)


def test_the_loss_is_that_of_the_tags_that_are_watched(split, tmp_path):
    """Of the trained network as it stands: mean of -log of each tag's probability, or of its absence's."""
    run = classifier_training.train(tmp_path / "classifier", split, split, dataclasses.replace(CONFIG, steps=2),
                                    classifier_training.Options("random"))
    _, watched = early_stopping.divide(split)
    trained = classifier.load(tmp_path / "classifier")
    logits = classifier_training.predictor(trained.model, trained.normalization, 33)(watched).astype(np.float64)
    tags = watched[0]["tags"]
    probability = 1 / (1 + np.exp(-logits[0]))
    expected = -np.mean(np.where(tags > 0, np.log(probability), np.log(1 - probability)))
    assert run["looks"] == [[2, pytest.approx(expected, abs=2e-3)]]  # what frozen layers gave is kept as float16


@pytest.mark.parametrize("killed, after", [(4, "look"), (6, "look"), (6, "save"), (10, "look"), (10, "save")])
def test_a_training_that_was_killed_ends_the_same(killed, after, split, tmp_path, monkeypatch):
    expected, _ = _train(tmp_path / "whole", split, monkeypatch)
    with monkeypatch.context() as patch:
        save = tf.train.CheckpointManager.save
        def dying(self, checkpoint_number):
            if after == "save":
                save(self, checkpoint_number=checkpoint_number)
            if checkpoint_number == killed:
                raise KeyboardInterrupt
            return save(self, checkpoint_number=checkpoint_number)
        patch.setattr(tf.train.CheckpointManager, "save", dying)
        with pytest.raises(KeyboardInterrupt):
            _train(tmp_path / "killed", split, monkeypatch)
    run, _ = _train(tmp_path / "killed", split, monkeypatch)
    assert (run["looks"], run["best_step"]) == (expected["looks"], expected["best_step"])
    for w, whole in zip(classifier.load(tmp_path / "killed" / "classifier").model.head.get_weights(),
                        classifier.load(tmp_path / "whole" / "classifier").model.head.get_weights(), strict=True):
        np.testing.assert_array_equal(w, whole)
