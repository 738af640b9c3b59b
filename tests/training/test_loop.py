"""The loop: a resumed run is the uninterrupted one, and nothing that is not finite is kept."""

import keras
import numpy as np
import pytest
import tensorflow as tf

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
