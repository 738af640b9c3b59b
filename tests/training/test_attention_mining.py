"""GAIN: the attention and what it erases by slow NumPy, the gradient through the mask, the drawn tag, masks."""

import dataclasses

import cv2
import keras
import numpy as np
import pytest
import tensorflow as tf

from ficklenet_tf import presets
from ficklenet_tf.models import classifier
from ficklenet_tf.training import attention_mining, classifier_losses
from tests.training import descent

TAG = np.array([[0, 1, 0], [1, 0, 0]], np.float64)
CONFIG = dataclasses.replace(presets.TINY.classifier, kernel_size=3, rate=0.5, objectives=("tags", "mining"))


class _Head(keras.layers.Layer):
    """Scores in float64 that are not linear in the features: mean_u (f W)^2."""

    def __init__(self, kernel):
        super().__init__(dtype="float64")
        self.kernel = tf.Variable(kernel)

    def call(self, x, training=False, rng_seeds=None):
        return tf.reduce_mean((x @ self.kernel)**2, [1, 2])


def _made_up():
    rng = np.random.default_rng(2)
    return rng.random((2, 3, 4, 5)), rng.normal(size=(5, 3))


def _slow_attention(features, kernel):
    """Of scores mean_u (f W)^2: d/df = 2 (f W)_c W_c / hw, its mean over u weighs the channels."""
    maps = np.zeros((2, 3, 4))
    for b in range(2):
        c = TAG[b].argmax()
        weights = sum(2 * (features[b, i, j] @ kernel[:, c]) * kernel[:, c] / 12 for i in range(3) for j in range(4))
        weights = weights / 12
        for i in range(3):
            for j in range(4):
                maps[b, i, j] = max(0, weights @ features[b, i, j])
        maps[b] = (maps[b] - maps[b].min()) / (maps[b].max() - maps[b].min())
    return maps


def test_the_attention_and_what_it_erases():
    features, kernel = _made_up()
    maps = attention_mining.attention(_Head(kernel), tf.constant(features), tf.constant(TAG), None)
    expected = _slow_attention(features, kernel)
    np.testing.assert_allclose(maps[..., 0], expected, atol=1e-12)
    rest = attention_mining.erased(tf.constant(features), maps)  # of the same size: nothing is enlarged
    kept = 1 - 1 / (1 + np.exp(-10 * (expected - 0.5)))
    np.testing.assert_allclose(rest, features * kept[..., None], atol=1e-5)
    image = tf.ones([2, 6, 8, 3])
    large = attention_mining.erased(image, maps).numpy()
    enlarged = [cv2.resize(each, (8, 6), interpolation=cv2.INTER_LINEAR) for each in expected]
    assert max(each.max() for each in enlarged) < 0.95  # no new pixel's centre is an old one's but in the corners
    for b, each in enumerate(enlarged):  # stretched after it is enlarged: from sigmoid(5) to sigmoid(-5)
        each = (each - each.min()) / (each.max() - each.min())
        np.testing.assert_allclose(large[b, ..., 0], 1 - 1 / (1 + np.exp(-10 * (each - 0.5))), atol=1e-4)
    flat = attention_mining.erased(image, tf.zeros([2, 3, 4, 1])).numpy()
    np.testing.assert_allclose(flat, 1 / (1 + np.e**-5), rtol=1e-5)  # no attention: hardly anything is erased


def _erased_in_float64(x, maps):
    """As `erased`, which enlarges in float32."""
    return x - tf.sigmoid(10 * (maps - 0.5)) * x


def _mining(kernel, features, erased=_erased_in_float64):
    head, x, tag = _Head(kernel), tf.constant(features), tf.constant(TAG)
    with tf.GradientTape() as tape:
        maps = attention_mining.attention(head, x, tag, None)
        loss = attention_mining.mining_loss(head(erased(x, maps)), tag)
    return float(loss), tape.gradient(loss, head.kernel).numpy()


def test_the_gradient_reaches_the_weights_through_the_mask():
    """By finite differences, and as the training erases; without the mask's part it is another one."""
    features, kernel = _made_up()
    _, gradient = _mining(kernel, features)
    slopes, step = np.zeros_like(kernel), 1e-6
    for index in np.ndindex(*kernel.shape):
        shift = np.zeros_like(kernel)
        shift[index] = step
        slopes[index] = (_mining(kernel + shift, features)[0] - _mining(kernel - shift, features)[0]) / (2 * step)
    np.testing.assert_allclose(gradient, slopes, atol=1e-7)
    in_training = _mining(kernel, features, attention_mining.erased)[1]
    np.testing.assert_allclose(in_training, gradient, atol=1e-4 * np.abs(gradient).max())
    around = _mining(kernel, features, lambda x, maps: _erased_in_float64(x, tf.stop_gradient(maps)))[1]
    assert np.abs(gradient - around).max() > 0.05 * np.abs(gradient).max()


@pytest.mark.trains
def test_a_step_learns_through_the_mask():
    """The gradient of a step's loss is that of the parts one after another, and another one without the mask's."""
    config = dataclasses.replace(CONFIG, kernel_size=1, training_mode="deterministic", mining_weight=2.0)
    keras.utils.set_random_seed(0)
    head = classifier.HEADS["stochastic"](config, 3)
    features = tf.constant(np.random.default_rng(5).random((2, 5, 5, 8)), tf.float32)
    head.build(features.shape)
    head.kernel.assign(3 * tf.random.stateless_normal(head.kernel.shape, [1, 2]))
    batch = {"features": features, "tags": tf.constant(TAG, tf.float32), "rng_seeds": tf.constant([[1, 2], [3, 4]])}

    def parts(passed):
        maps = passed(attention_mining.attention(head, features, batch["tags"], batch["rng_seeds"]))
        logits = head(attention_mining.erased(features, maps), training=True, rng_seeds=batch["rng_seeds"])
        return 2 * attention_mining.mining_loss(logits, batch["tags"])

    gradients = []
    for loss in (lambda: classifier_losses.LOSSES["mining"](classifier_losses.Step(head, batch, config)),
                 lambda: parts(tf.identity), lambda: parts(tf.stop_gradient)):
        with tf.GradientTape() as tape:
            value = loss()
        gradients.append(tape.gradient(value, head.trainable_variables)[0].numpy())
    scale = np.abs(gradients[1]).max()
    np.testing.assert_allclose(gradients[0], gradients[1], atol=1e-4 * scale)
    assert np.abs(gradients[2] - gradients[1]).max() > 0.05 * scale


def test_of_the_tags_one_is_drawn_each_as_likely():
    tags = tf.constant([[1, 0, 1, 1], [0, 1, 0, 0], [0, 0, 0, 0]], tf.float32)
    every = tf.repeat(tags, 900, axis=0)
    rng_seeds = tf.stack([tf.fill([2700], 7), tf.range(2700)], 1)
    drawn = tf.reshape(tf.function(attention_mining.draw_tag)(every, rng_seeds), [3, 900, 4]).numpy()
    assert set(np.unique(drawn)) == {0, 1}
    np.testing.assert_array_equal(drawn.sum(-1), np.repeat([[1], [1], [0]], 900, 1))
    np.testing.assert_allclose(drawn.mean(1), [[1 / 3, 0, 1 / 3, 1 / 3], [0, 1, 0, 0], [0] * 4], atol=0.06)
    again = attention_mining.draw_tag(tags, rng_seeds[:3])
    np.testing.assert_array_equal(again, attention_mining.draw_tag(tags, rng_seeds[:3]))


def test_the_losses_by_hand():
    logits = tf.constant([[0.0, 2.0, 9.0], [np.log(3), 0.0, 0.0], [5.0, 5.0, 5.0]])
    tag = tf.constant(np.concatenate([TAG, [[0, 0, 0]]]), tf.float32)
    expected = (1 / (1 + np.e**-2) + 0.75 + 0) / 3
    assert float(attention_mining.mining_loss(logits, tag)) == pytest.approx(expected, rel=1e-6)
    maps = tf.constant([[[0.5, 0.25]], [[1.0, 0.5]], [[1.0, 1.0]]])[..., None]
    label = tf.constant([[[2, 255]], [[0, 1]], [[1, 1]]], tf.uint8)  # the last one has no tag
    masks = float(attention_mining.masks_loss(maps, tag, label))
    assert masks == pytest.approx((0.25 + (1 + 0.25) / 2) / 2)
    assert float(attention_mining.masks_loss(maps, tag, tf.fill([3, 1, 2], tf.constant(255, tf.uint8)))) == 0


def _step(target, config, **extra):
    rng = np.random.default_rng(0)
    batch = {"image": tf.constant(rng.normal(size=(2, 33, 33, 3)), tf.float32), "tags": tf.constant(TAG, tf.float32),
             "rng_seeds": tf.constant([[1, 2], [3, 4]]), **extra}
    return classifier_losses.Step(target, batch, config)


@pytest.mark.parametrize("mode, head", [("stochastic", "stochastic"), ("deterministic", "hidden")])
def test_a_step_erases_photographs_in_the_same_selections(mode, head):
    """By the whole network as it is written, and the parts add up."""
    config = dataclasses.replace(CONFIG, head=head, hidden=6, training_mode=mode, mining_weight=2.0)
    keras.utils.set_random_seed(1)
    model, _ = classifier.build(dataclasses.replace(config, input_size=33), 3)
    step, start = _step(model, config), model.get_weights()
    features = model.backbone(step.x, training=True)
    maps = attention_mining.attention(model.head, features, tf.constant(TAG, tf.float32), step.rng_seeds)
    rest = model.backbone(attention_mining.erased(step.x, maps), training=False)
    logits = model.head(rest, training=True, rng_seeds=step.rng_seeds)
    expected = np.sum(TAG / (1 + np.exp(-logits.numpy().astype(float)))) / 2
    model.set_weights(start)  # batch norm has moved
    values = classifier_losses.total_loss(_step(model, config))
    assert float(values["mining_loss"]) == pytest.approx(2 * expected, rel=1e-4)
    assert float(values["loss"]) == pytest.approx(float(values["mining_loss"] + values["tags_loss"]), rel=1e-6)
    assert maps.numpy().std() > 0.05


def test_masks_move_the_attention_and_mining_what_is_left():
    """On two made-up feature maps that a head learns: less is left than by tags alone; masks draw the attention."""
    rng = np.random.default_rng(5)
    features = np.abs(rng.normal(size=(2, 5, 5, 8))).astype(np.float32) * 0.1
    features[0, 0:2, 3:5, 0] += 2  # what the class goes with
    features[0, 1:4, 0:3, 1] += 1  # the class itself
    features[1, 2:4, 0:3, 2] += 2
    label = np.zeros((2, 5, 5), np.uint8)
    label[0, 1:4, 0:3], label[1] = 2, 255
    batch = {"features": tf.constant(features), "tags": tf.constant(TAG, tf.float32), "label": tf.constant(label),
             "rng_seeds": tf.constant([[1, 2], [3, 4]])}

    def learned(*losses):
        config = dataclasses.replace(CONFIG, kernel_size=1, training_mode="deterministic", objectives=losses)
        keras.utils.set_random_seed(0)
        head = classifier.HEADS["stochastic"](config, 3)
        head.build((None, 5, 5, 8))
        descent.learn(head, batch, config)
        every = dataclasses.replace(config, objectives=("tags", "mining", "mining_masks"))
        return {name: float(value) for name, value in classifier_losses.total_loss(
            classifier_losses.Step(head, batch, every)).items()}

    alone, mined, masked = learned("tags"), learned("tags", "mining"), learned("tags", "mining", "mining_masks")
    assert mined["mining_loss"] < 0.9 * alone["mining_loss"] and mined["tags_loss"] < 0.3
    assert masked["mining_masks_loss"] < 0.7 * min(alone["mining_masks_loss"], mined["mining_masks_loss"])
