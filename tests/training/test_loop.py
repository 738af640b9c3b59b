"""The loop: a resumed run is the uninterrupted one, and nothing that is not finite is kept."""

import os
import re
import shutil

import keras
import numpy as np
import pytest
import tensorflow as tf

from ficklenet_tf.errors import UserError
from ficklenet_tf.runs import restart, stage
from ficklenet_tf.training import loop, optimizers


def _fit(directory, steps, rate=0.1, save_every=3, log_every=2):
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dropout(0.5), keras.layers.Dense(1)])
    optimizer = keras.optimizers.Adam(optimizers.staircase(rate, 0.5, 4))

    def losses(batch):
        return {"loss": tf.reduce_mean((model(batch, training=True) - 1) ** 2)}

    def batches(start, _):
        return tf.data.Dataset.range(start, 1000).map(lambda k: tf.random.stateless_normal([4, 3], [k, k]))

    rows = loop.fit(directory, loop.Learner(model, optimizer, losses), batches, steps,
                    loop.Options(save_every=save_every, log_every=log_every))
    return model.get_weights(), rows


def test_a_resumed_training_is_the_uninterrupted_one(tmp_path):
    """Stopped at step 6 of 12; dropout's generator, Adam's moments and the schedule go on where they were."""
    weights, rows = _fit(tmp_path / "a", 12)
    _fit(tmp_path / "b", 6)
    resumed_weights, resumed_rows = _fit(tmp_path / "b", 12)
    for weight, resumed_weight in zip(weights, resumed_weights, strict=True):
        np.testing.assert_array_equal(weight, resumed_weight)
    assert [row["step"] for row in resumed_rows] == [row["step"] for row in rows] == [1, 2, 4, 6, 8, 10, 12]
    assert [row["loss"] for row in resumed_rows] == pytest.approx([row["loss"] for row in rows])


def test_a_loss_that_is_not_finite_stops(tmp_path):
    with pytest.raises(FloatingPointError, match="step"):
        _fit(tmp_path / "logged", 40, rate=1e30)
    with pytest.raises(FloatingPointError, match="step"):
        _fit(tmp_path / "saved", 40, rate=1e30, save_every=4, log_every=100)
    assert not list((tmp_path / "saved").rglob("ckpt-*"))


def test_what_was_removed_for_a_training_lies_aside_until_its_first_checkpoint(tmp_path, monkeypatch):
    aside = tmp_path / ".removed-a-1"
    aside.mkdir()
    monkeypatch.setattr(restart, "_aside", [(aside, tmp_path / "a")])
    with pytest.raises(FloatingPointError, match="step"):
        _fit(tmp_path / "diverging", 40, rate=1e30)
    assert aside.exists()
    with pytest.raises(FloatingPointError, match="step"):
        _fit(tmp_path / "later", 40, rate=1e30, save_every=1)
    assert not aside.exists()


@pytest.mark.parametrize("broken, steps", [(4, 12), (6, 6)])
def test_weights_that_are_not_finite_are_never_saved(tmp_path, broken, steps):
    """At a step the loss is finite and its gradient is not: at a checkpoint's and at the last one."""
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])

    def losses(batch):
        size = tf.reduce_sum(model(batch["x"]) ** 2)
        return {"loss": tf.sqrt(size * tf.cast(batch["step"] + 1 != broken, tf.float32))}  # sqrt(0): no slope

    def batches(start, _):
        return tf.data.Dataset.range(start, 1000).map(lambda step: {"x": tf.ones([2, 3]), "step": step})

    with pytest.raises(FloatingPointError, match=f"test: .*not finite after step {broken}"):
        loop.fit(tmp_path / "test", loop.Learner(model, keras.optimizers.Adam(), losses), batches, steps,
                 loop.Options(save_every=2, log_every=100))
    kept = sorted(path.stem for path in (tmp_path / "test" / "checkpoints").glob("ckpt-*.index"))
    assert kept == [f"ckpt-{step}" for step in range(2, broken, 2)][-2:]


def _flip(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 255
    path.write_bytes(data)


@pytest.mark.parametrize("harm", [
    lambda kept: _flip(kept / "ckpt-12.data-00000-of-00001"), lambda kept: os.truncate(kept / "ckpt-12.index", 40),
    lambda kept: (kept / "ckpt-12.data-00000-of-00001").unlink(),
    lambda kept: [_flip(kept / "ckpt-12.index"), (kept / "checkpoint").write_text("rubbish")]],
    ids=["data", "index", "lost", "list"])
def test_a_damaged_checkpoint_falls_back_to_the_one_before(tmp_path, capfd, harm):
    weights, rows = _fit(tmp_path, 12)
    harm(tmp_path / "checkpoints")
    again, rows_again = _fit(tmp_path, 12)
    assert re.search(r"ckpt-12: damaged \(.+\); goes on from the one before", capfd.readouterr().err)
    for weight, other in zip(weights, again, strict=True):
        np.testing.assert_array_equal(weight, other)
    assert rows_again == rows


def test_without_a_whole_checkpoint_nothing_is_guessed(tmp_path):
    _fit(tmp_path, 12)
    for path in (tmp_path / "checkpoints").glob("ckpt-*.data*"):
        _flip(path)
    with pytest.raises(UserError, match="expected a whole checkpoint, found 2, all damaged; remove"):
        _fit(tmp_path, 12)


def test_a_first_checkpoint_that_a_kill_has_cut_is_begun_anew(tmp_path, capfd):
    weights, _ = _fit(tmp_path, 4)
    kept = sorted((tmp_path / "checkpoints").glob("ckpt-*.index"))
    for path in kept[:-1]:
        path.unlink()
    os.truncate(kept[-1], 0)
    (tmp_path / "checkpoints" / "checkpoint").unlink()
    again, _ = _fit(tmp_path, 4)
    assert re.search(r"damaged \(.+\); begins anew", capfd.readouterr().err)
    for weight, other in zip(weights, again, strict=True):
        np.testing.assert_array_equal(weight, other)


def test_a_lost_log_does_not_end_the_training_and_a_cut_one_is_named(tmp_path, capfd):
    stage.begin_stage(tmp_path, {"seed": 0})
    _fit(tmp_path, 6)
    (tmp_path / "log.csv").unlink()
    assert [row["step"] for row in _fit(tmp_path, 12)[1]] == [8, 10, 12]
    assert "log.csv: missing; the curve begins after step 6" in capfd.readouterr().err
    (tmp_path / "log.csv").unlink()
    assert _fit(tmp_path, 12)[1] == []
    for length in (60, 20):
        (tmp_path / "log.csv").write_text("step,learning_rate,loss\n1,0.1,2.5\n2,0.1,2.25\n"[:length])
        with pytest.raises(UserError, match="log.csv: expected "):
            _fit(tmp_path, 12)
    shutil.rmtree(tmp_path / "record")  # as of an earlier version: what can be seen in the rows alone
    (tmp_path / "log.csv").write_text("step,learning_rate,loss\n1,0.1")
    with pytest.raises(UserError, match="log.csv: expected rows of numbers, found"):
        _fit(tmp_path, 12)
