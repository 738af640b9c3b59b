"""STC's three networks: what each learns, how long, and from what."""

import dataclasses

import pytest

from ficklenet_tf import presets
from ficklenet_tf.data import datasets
from ficklenet_tf.errors import UserError
from ficklenet_tf.training import rounds
from ficklenet_tf.training import segmenter as segmenter_training

CONFIG = dataclasses.replace(presets.TINY.segmenter, steps=100, losses=("stc",), simple_first=True, growing="dsrg",
                             learning_rate=0.25, retrain_learning_rate=0.125)
Options = segmenter_training.Options


@pytest.fixture
def split(drawings_dir):
    return datasets.load_split("shapes", "train", cache_dir=drawings_dir, max_images=8)


@pytest.fixture
def calls(monkeypatch):
    """What is trained and labelled, in order; nothing of it is done."""
    made = []
    monkeypatch.setattr(segmenter_training, "train", lambda _, learned, config, options, name: made.append(
        (name, learned.image_ids, config.losses, config.steps, config.growing, config.learning_rate, options.seeds,
         options.initial)))
    monkeypatch.setattr(rounds, "label_split", lambda _, learned, segmenter, name: made.append(
        (name, learned.image_ids, segmenter)))
    return made


def test_from_simple_to_complex(split, calls):
    """Half of the steps on the photographs of one tag by their saliency, a quarter by their labels, a quarter all."""
    simple = tuple(split.image_ids[i] for i in range(len(split)) if split[i]["tags"].sum() == 1)
    assert 0 < len(simple) < len(split)
    assert rounds.train_rounds("run", split, CONFIG) == "segmenter_retrained"
    default = Options()
    assert calls == [
        ("segmenter", simple, ("stc",), 50, "dsrg", 0.25, default.seeds, default.initial),
        ("segmenter_labels", simple, "segmenter"),
        ("segmenter_simple", simple, ("full",), 25, "none", 0.25, "segmenter_labels", "segmenter"),
        ("segmenter_simple_labels", split.image_ids, "segmenter_simple"),
        ("segmenter_retrained", split.image_ids, ("full",), 25, "none", 0.25, "segmenter_simple_labels",
         "segmenter_simple")]


def test_the_second_round_of_others(split, calls):
    """DSRG's: all photographs by the first network's labels, by cross-entropy, at the second round's own rate."""
    config = dataclasses.replace(CONFIG, simple_first=False, losses=("seed", "boundary"), retrain_steps=40)
    assert rounds.train_rounds("run", split, config) == "segmenter_retrained"
    default = Options()
    assert calls == [
        ("segmenter", split.image_ids, ("seed", "boundary"), 100, "dsrg", 0.25, default.seeds, default.initial),
        ("segmenter_labels", split.image_ids, "segmenter"),
        ("segmenter_retrained", split.image_ids, ("full",), 40, "none", 0.125, "segmenter_labels", "segmenter")]
    calls.clear()
    assert rounds.train_rounds("run", split, config, Options(supervision="full")) == "segmenter"
    assert len(calls) == 1


def test_what_has_no_simple_photographs_or_other_rounds(split, calls):
    tagged = split.select([i for i in range(len(split)) if split[i]["tags"].sum() != 1])
    with pytest.raises(UserError, match="simple_first: expected photographs of one tag in shapes train, found none"):
        rounds.train_rounds("run", tagged, CONFIG)
    with pytest.raises(UserError, match="no retrain_steps and supervision weak.*found 10 and weak"):
        rounds.train_rounds("run", split, dataclasses.replace(CONFIG, retrain_steps=10))
    assert not calls
