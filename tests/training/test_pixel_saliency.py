"""EPS' and STC's losses against slow NumPy and numbers worked out by hand."""

import dataclasses
import types

import numpy as np
import pytest
import tensorflow as tf

from ficklenet_tf import presets
from ficklenet_tf.training import classifier_losses, pixel_saliency


def _slow_eps(logits, saliency, tags, tau, blend):
    """Image by image, class by class, position by position."""
    total = 0.0
    for b, positions in enumerate(logits):
        probs = np.exp(positions) / np.exp(positions).sum(-1, keepdims=True)
        foreground, background = np.zeros(saliency.shape[1:]), probs[..., -1].copy()
        for c in np.flatnonzero(tags[b]):
            common = claimed = 0.0
            for u in np.ndindex(*saliency.shape[1:]):
                common += np.round(probs[u][c]) * np.round(saliency[b][u])
                claimed += np.round(probs[u][c]) + 1e-4
            target = foreground if common / claimed > tau else background
            target += probs[..., c]
        total += np.mean((blend * foreground + (1 - blend) * (1 - background) - saliency[b])**2)
    return total / len(logits)


def test_eps_is_that_of_slow_numpy():
    rng = np.random.default_rng(1)
    logits = rng.normal(0, 3, (4, 5, 6, 4)).astype(np.float32)
    saliency = rng.random((4, 5, 6)).astype(np.float32)
    tags = np.array([[1, 0, 1], [0, 1, 0], [1, 1, 1], [0, 0, 0]], np.float32)
    for tau, blend in ((0.4, 0.5), (0.6, 0.3)):
        loss = float(pixel_saliency.eps_loss(logits, saliency, tags, tau, blend))
        assert loss == pytest.approx(_slow_eps(logits, saliency, tags, tau, blend), rel=1e-5)
    assert float(pixel_saliency.eps_loss(logits, saliency, tags, 0.4)) != pytest.approx(
        float(pixel_saliency.eps_loss(logits, saliency, tags, 0.6)), rel=1e-3)


def test_a_map_beside_the_salient_region_counts_as_background():
    """Two positions, the left one salient: a class that claims the right one is background."""
    saliency = np.array([[[1, 0]]], np.float32)
    tag = np.array([[1]], np.float32)
    left, right = np.zeros((2, 1, 1, 2, 2), np.float32)
    left[0, 0, 0, 0] = left[0, 0, 1, 1] = 20  # class at the salient position, background at the other
    right[0, 0, 0, 1] = right[0, 0, 1, 0] = 20
    assert float(pixel_saliency.eps_loss(left, saliency, tag)) == pytest.approx(0, abs=1e-6)
    # F = 0, B = 1 everywhere: S^ = 0, wrong at the salient position alone.
    assert float(pixel_saliency.eps_loss(right, saliency, tag)) == pytest.approx(0.5, abs=1e-6)
    assert float(pixel_saliency.eps_loss(right, saliency, tag, tau=0.0)) == pytest.approx(0.5, abs=1e-6)
    # A class that claims both overlaps by half, above 0.4 and below 0.6: S^ = 1, or 0.
    both = np.zeros((1, 1, 2, 2), np.float32)
    both[..., 0] = 20
    trusted = saliency * 0.8  # so that the two answers are not equally wrong
    # 1 / (2 + 2e-4) is below 0.49997: the public code adds its 1e-4 at each position.
    losses = [float(pixel_saliency.eps_loss(both, trusted, tag, tau)) for tau in (0.4, 0.49994, 0.49997, 0.6)]
    assert losses == pytest.approx([(0.2**2 + 1) / 2] * 2 + [(0.8**2 + 0) / 2] * 2, abs=1e-5)


def test_the_gradient_of_a_trusted_and_of_an_untrusted_map():
    """By hand: 2 (S^ - S) (lambda dF - (1 - lambda) dB) / n, with dP_c = P_c (1 - P_c), dP_d = -P_c P_d."""
    logits = tf.Variable([[[[2.0, 0.0, 1.0], [-1.0, 0.5, 0.0]]]])
    tags, saliency = tf.constant([[1.0, 0.0]]), np.array([[[0.9, 0.2]]], np.float32)
    probs = tf.nn.softmax(logits).numpy()[0, 0].astype(float)
    for tau, trusted in ((0.4, 1.0), (1.0, 0.0)):  # the tag's map claims the salient position alone: 1 / (1 + 2e-4)
        with tf.GradientTape() as tape:
            loss = pixel_saliency.eps_loss(logits, saliency, tags, tau, 0.3)
        foreground = trusted * probs[:, 0]
        background = probs[:, 2] + (1 - trusted) * probs[:, 0]
        answer = 0.3 * foreground + 0.7 * (1 - background)
        slopes = np.zeros((2, 3))
        for u, p in enumerate(probs):
            jacobian = np.diag(p) - np.outer(p, p)
            of_answer = 0.3 * trusted * jacobian[0] - 0.7 * (jacobian[2] + (1 - trusted) * jacobian[0])
            slopes[u] = 2 * (answer[u] - saliency[0, 0, u]) * of_answer / 2
        np.testing.assert_allclose(tape.gradient(loss, logits)[0, 0], slopes, rtol=1e-4, atol=1e-7)


def test_a_step_takes_both_numbers_from_the_config():
    config = dataclasses.replace(presets.TINY.classifier, head="eps", objectives=("tags", "saliency"), eps_tau=0.6,
                                 eps_lambda=0.3)
    rng = np.random.default_rng(2)
    logits, tags = tf.constant(rng.normal(0, 3, (2, 4, 5, 3)), tf.float32), tf.constant([[1.0, 0], [1, 1]])
    saliency = tf.constant(rng.random((2, 4, 5)), tf.float32)
    step = types.SimpleNamespace(head=types.SimpleNamespace(position_logits=lambda *_, **__: logits), features=None,
                                 rng_seeds=None, batch={"saliency": saliency}, tags=tags, config=config)
    expected = _slow_eps(logits.numpy(), saliency.numpy(), tags.numpy(), 0.6, 0.3)
    assert float(classifier_losses.LOSSES["saliency"](step)) == pytest.approx(expected, rel=1e-5)
    assert _slow_eps(logits.numpy(), saliency.numpy(), tags.numpy(), 0.3, 0.6) != pytest.approx(expected, rel=1e-2)


def test_a_class_without_a_tag_is_neither():
    """P = (untagged 1): F = 0 and B = 0, so S^ = 1 - lambda."""
    logits = np.array([[[[0, 30, 0]]]], np.float32)
    loss = pixel_saliency.eps_loss(logits, np.ones((1, 1, 1), np.float32), np.array([[1, 0]], np.float32), 0.4, 0.3)
    assert float(loss) == pytest.approx((0.7 - 1)**2, abs=1e-5)


def test_stc_by_hand():
    """Of three photographs one has a single tag: its two pixels alone count."""
    probs = np.full((3, 1, 2, 3), 1 / 3)
    probs[0, 0] = [[0.5, 0.2, 0.3], [0.9, 0.04, 0.06]]
    saliency = np.array([[[0.75, 0.0]]] * 3, np.float32)
    tags = np.array([[0, 1], [1, 1], [0, 0]], np.float32)
    logits = tf.constant(np.log(probs) + 2, tf.float32)
    expected = -(0.75 * np.log(0.3) + 0.25 * np.log(0.5) + np.log(0.9)) / 2
    assert float(pixel_saliency.stc_loss(logits, saliency, tags)) == pytest.approx(expected, rel=1e-5)
    assert float(pixel_saliency.stc_loss(logits[1:], saliency[1:], tags[1:])) == 0
    with tf.GradientTape() as tape:
        tape.watch(logits)
        loss = pixel_saliency.stc_loss(logits, saliency, tags)
    gradient = tape.gradient(loss, logits).numpy()
    target = np.array([[0.25, 0, 0.75], [1, 0, 0]])
    np.testing.assert_allclose(gradient[0, 0], (probs[0, 0] - target) / 2, rtol=1e-4, atol=1e-6)
    assert not gradient[1:].any()
