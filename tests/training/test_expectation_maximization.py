"""EM-Fixed and EM-Adapt: by hand, against the authors' layer in slow NumPy, shares reached, gradients."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf

from ficklenet_tf import presets
from ficklenet_tf.training import expectation_maximization, objective


def _tags(*rows):
    return tf.constant(rows, tf.float32)


def test_fixed_biases_by_hand():
    """Three pixels, tag 1 of two: the background gets 3, class 1 gets 5, class 2 nothing and may win all the same."""
    logits = tf.constant([[[[2.0, 0.5, 0.0], [3.0, 0.5, 0.0], [0.0, 0.0, 6.0]]]])
    labels = expectation_maximization.fixed_labels(logits, _tags([1, 0]), 3, 5)  # a config may have whole numbers
    assert labels.dtype == tf.uint8 and labels.numpy().tolist() == [[[1, 0, 2]]]


def test_adaptive_biases_by_hand():
    """Five pixels in a row, the background 0, the tag's score falling: it gets the one (0.2 of 5, the second nearest).

    Behind are 1, 2, 3, 4, 5; the tag's n = 1 gives b = 2: the first pixel is won, the second tied, which the
    background keeps. The absent class is far above both.
    """
    logits = np.zeros((1, 1, 5, 3), "float32")
    logits[0, 0, :, 1], logits[..., 2] = [-1, -2, -3, -4, -5], 50
    labels = expectation_maximization.adapted_labels(tf.constant(logits), _tags([1, 0]), 0.4, 0.2)
    assert labels.dtype == tf.uint8 and labels.numpy().tolist() == [[[1, 0, 0, 0, 0]]]


def _authors_layer(scores, tags, shares, rounds=5, margin=1e-5):
    """Labels of one image `[classes, pixels]` by each step of the AdaptiveBiasChannelLayer, tags in their order."""
    scores, present = scores.astype("float64").copy(), [0, *(1 + np.flatnonzero(tags))]
    lowest = scores[present].min(0)
    for c in set(range(len(scores))) - set(present):
        scores[c] = np.where(scores[c] > lowest, lowest - margin, scores[c])
    highest = scores[present].max(0)
    mean = highest.mean()
    for _ in range(rounds):
        for c in present:
            behind = sorted(highest - scores[c])
            scores[c] += behind[min(int(shares[min(c, 1)] * len(behind)), len(behind) - 1)]
            highest = np.maximum(highest, scores[c])
    return (scores + mean - highest.mean()).argmax(0)


@pytest.mark.parametrize("shares", [(0.4, 0.2), (0.0, 0.7), (0.1, 0.5), (1.0, 1.0)])
def test_adaptive_biases_are_the_authors(shares):
    """Images of no, one, three and all tags in one batch; the scores of a class differ in level and spread.

    They are multiples of 1/64, of which sums are exact: so a tie, which each bias makes, is one in any arithmetic.
    """
    rng = np.random.default_rng(0)
    logits = rng.normal(rng.normal(0, 3, 6), rng.uniform(0.3, 2, 6), (4, 7, 6, 6))
    logits = (np.round(64 * logits) / 64).astype("float32")
    tags = np.float32([[0, 0, 0, 0, 0], [0, 0, 1, 0, 0], [1, 0, 1, 0, 1], [1, 1, 1, 1, 1]])
    labels = expectation_maximization.adapted_labels(tf.constant(logits), tf.constant(tags), *shares).numpy()
    expected = [_authors_layer(image.reshape(-1, 6).T, row, shares) for image, row in zip(logits, tags, strict=True)]
    np.testing.assert_array_equal(labels.reshape(4, -1), expected)
    compiled = tf.function(expectation_maximization.adapted_labels, jit_compile=True)
    np.testing.assert_array_equal(compiled(tf.constant(logits), tf.constant(tags), *shares), labels)


def test_each_class_of_an_image_takes_about_its_share():
    """Unbiased, the background or an absent class would win everywhere."""
    logits = np.random.default_rng(1).normal(size=(2, 20, 20, 4)).astype("float32")
    logits[..., 0] += 9
    logits[..., 3] += 12
    labels = expectation_maximization.adapted_labels(tf.constant(logits), _tags([1, 0, 0], [1, 1, 0]), 0.4, 0.2)
    shares = [np.bincount(label.ravel(), minlength=4) / 400 for label in labels.numpy()]
    np.testing.assert_allclose(shares, [[0.8, 0.2, 0, 0], [0.6, 0.2, 0.2, 0]], atol=0.01)
    labels = expectation_maximization.adapted_labels(tf.constant(logits), _tags([0, 0, 1], [0, 0, 1]), 0.4, 0.2)
    share = np.bincount(labels.numpy().ravel(), minlength=4) / 800  # this tag is above the background, which gets 0.4
    np.testing.assert_allclose(share, [0.4, 0, 0, 0.6], atol=0.01)


@pytest.mark.parametrize("name", ["em_fixed", "em_adapt"])
def test_the_m_step_alone_has_a_gradient(name):
    """It is that of cross-entropy against constant labels: (softmax - Y) / pixels; the labels are the E-step's."""
    logits = tf.Variable(tf.random.stateless_normal([2, 3, 4, 4], [1, 2]))
    batch = {"tags": _tags([1, 0, 1], [0, 1, 0])}
    config = dataclasses.replace(presets.PAPER.segmenter, em_background_share=0.3, em_foreground_share=0.25,
                                 em_background_bias=1.0, em_foreground_bias=1.5)
    arguments = {"em_fixed": (expectation_maximization.fixed_labels, 1.0, 1.5),
                 "em_adapt": (expectation_maximization.adapted_labels, 0.3, 0.25)}
    e_step, *numbers = arguments[name]
    with tf.GradientTape() as tape:
        loss = objective.LOSSES[name](objective.Step(logits, batch, config))
    labels = e_step(logits, batch["tags"], *numbers)
    assert len(np.unique(labels)) > 2
    target, probs = tf.one_hot(tf.cast(labels, tf.int32), 4), tf.nn.softmax(logits)
    np.testing.assert_allclose(loss, -tf.reduce_mean(tf.reduce_sum(target * tf.math.log(probs), -1)), rtol=1e-5)
    np.testing.assert_allclose(tape.gradient(loss, logits), (probs - target) / 24, atol=1e-6)
