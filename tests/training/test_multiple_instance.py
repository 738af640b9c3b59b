"""MIL-seg's and MIL-FCN's losses: by hand, against slow NumPy, and where their gradients are."""

import numpy as np
import pytest
import tensorflow as tf

from ficklenet_tf.training import multiple_instance

TAGS = np.float32([[1, 0, 1], [0, 1, 0]])
LOGITS = np.random.default_rng(0).normal(size=(2, 3, 2, 4)).astype("float32")


def test_lse_by_hand():
    """Two pixels, r = 1: of e^f = 1, 3 the mean is 2; scores of ln 1, ln 2, ln 1: the tag has 1/2, the others 1/4."""
    logits = tf.constant([[[[0, np.log(3), 0], [0, 0, 0]]]], tf.float32)
    loss = multiple_instance.lse_loss(logits, tf.constant([[1.0, 0.0]]), 1.0)
    assert float(loss) == pytest.approx((np.log(2) + np.log(4)) / 2, rel=1e-5)
    no_tag = multiple_instance.lse_loss(logits, tf.constant([[0.0, 0.0]]), 1.0)
    assert float(no_tag) == pytest.approx(np.log(4), rel=1e-5)


def test_max_by_hand():
    """Two pixels of two classes, p of the tag 3/4 and 1/2: it has 3/4, the background 1/2, each at its own pixel."""
    logits = tf.constant([[[[0, np.log(3)], [0, 0]]]], tf.float32)
    loss = multiple_instance.max_loss(logits, tf.constant([[1.0]]))
    assert float(loss) == pytest.approx((np.log(4 / 3) + np.log(2)) / 2, rel=1e-5)


def _log_softmax(x):
    return x - np.log(np.exp(x).sum(-1, keepdims=True))


@pytest.mark.parametrize("sharpness", [0.5, 5.0])
def test_losses_against_slow_numpy(sharpness):
    lse, greatest = 0.0, 0.0
    for image, tags in zip(LOGITS.astype("float64"), TAGS, strict=True):
        pixels, present = image.reshape(-1, 4), [0, *(1 + np.flatnonzero(tags))]
        scores = np.array([np.log(np.mean([np.exp(sharpness * p[c]) for p in pixels])) / sharpness for c in range(4)])
        lse -= np.mean([_log_softmax(scores)[c] for c in present]) / 2
        greatest -= np.mean([max(_log_softmax(p)[c] for p in pixels) for c in present]) / 2
    assert float(multiple_instance.lse_loss(LOGITS, TAGS, sharpness)) == pytest.approx(lse, rel=1e-5)
    assert float(multiple_instance.max_loss(LOGITS, TAGS)) == pytest.approx(greatest, rel=1e-5)


def test_a_great_sharpness_takes_the_maximum():
    logits = tf.Variable(50 * LOGITS)  # exp(50 f) alone would overflow
    with tf.GradientTape() as tape:
        loss = multiple_instance.lse_loss(logits, TAGS, 50.0)
    present = np.concatenate([[[1], [1]], TAGS], 1)
    expected = -(present * _log_softmax(50 * LOGITS.max((1, 2)).astype("float64"))).sum(1) / present.sum(1)
    assert float(loss) == pytest.approx(expected.mean(), rel=1e-2)
    assert (np.count_nonzero(np.abs(tape.gradient(loss, logits)) > 1e-3, (1, 2)) <= 1).all()


def test_lses_gradient_is_shared_out_by_the_scores():
    """Of class c at a pixel: (P(c | I) - 1 / number of an image's classes, of these) * exp(r f) / sum exp(r f)."""
    logits = tf.Variable(LOGITS)
    with tf.GradientTape() as tape:
        loss = multiple_instance.lse_loss(logits, TAGS, 5.0)
    present = np.concatenate([[[1], [1]], TAGS], 1)
    powers = np.exp(5 * LOGITS.astype("float64"))
    probs = np.exp(_log_softmax(np.log(powers.mean((1, 2))) / 5))
    parts = powers / powers.sum((1, 2), keepdims=True)
    expected = (probs - present / present.sum(1, keepdims=True))[:, None, None] * parts
    np.testing.assert_allclose(tape.gradient(loss, logits), expected / 2, atol=1e-6)


def test_maxs_gradient_is_at_one_pixel_of_each_class():
    """Where a present class has its greatest probability; a pixel that none has chosen learns nothing."""
    logits = tf.Variable(LOGITS)
    with tf.GradientTape() as tape:
        loss = multiple_instance.max_loss(logits, TAGS)
    gradient = tape.gradient(loss, logits).numpy().reshape(2, 6, 4)
    probs = np.exp(_log_softmax(LOGITS)).reshape(2, 6, 4)
    expected = np.zeros((2, 6, 4))
    for image, tags, row in zip(probs, TAGS, expected, strict=True):
        present = [0, *(1 + np.flatnonzero(tags))]
        for c in present:
            pixel = image[:, c].argmax()
            row[pixel] += (image[pixel] - np.eye(4)[c]) / len(present) / 2
    assert (expected == 0).all(-1).sum(-1).min() > 2
    np.testing.assert_allclose(gradient, expected, atol=1e-6)
