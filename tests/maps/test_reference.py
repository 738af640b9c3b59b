"""The large-N reference against every selection there is, counted out on a map of 2 x 2 positions."""

import itertools

import numpy as np
import pytest
import scipy.stats
import tensorflow as tf

from ficklenet_tf.maps import aggregation, grad_cam, reference
from ficklenet_tf.models import hidden_units, stochastic

RATE = 0.6


def _head(rng, bias=0.0):
    head = stochastic.StochasticHead(2, 3, RATE)
    head.build((None, 2, 2, 3))
    head.kernel.assign(rng.normal(bias, 1, head.kernel.shape))
    return head


def _every_selection(head, x):
    """All 2^12 selections of a 2 x 2 map: normalised maps `[4096, 4, 2]`, responses before, probabilities."""
    seen = hidden_units.inside(2, 2, 3)
    free = np.argwhere(seen & (np.arange(9) != 4))
    choices = np.array(list(itertools.product((False, True), repeat=len(free))))
    bits = np.zeros((4, len(choices), 9), bool)
    for column, (u, d) in enumerate(free):
        bits[u, :, d] = choices[:, column]
    raw = grad_cam.closed_form(head, x, tf.constant([0, 1]), "stochastic")(tf.constant(bits))
    raw = raw.numpy().transpose(1, 0, 2)
    maps = np.maximum(raw, 0)
    highest = maps.max(1, keepdims=True)
    maps = np.divide(maps, highest, out=np.zeros_like(maps), where=highest > 0)
    return maps, raw, np.prod(np.where(choices, 1 - RATE, RATE), -1)


@pytest.mark.parametrize("bias", [0.0, 0.7, -0.7])
def test_closed_forms_equal_the_sum_over_every_selection(bias):
    rng = np.random.default_rng(3)
    head, x = _head(rng, bias), tf.constant(rng.random((2, 2, 3)), tf.float32)
    maps, raw, weight = _every_selection(head, x)
    assert len(weight) == 4096 and weight.sum() == pytest.approx(1)
    exact = {name: value.numpy().reshape(4, 2)
             for name, value in reference.exact(head, x, tf.constant([0, 1])).items()}
    mean = np.einsum("s,suc->uc", weight, raw)
    np.testing.assert_allclose(exact["response_mean"], mean, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(exact["response_std"], np.sqrt(np.einsum("s,suc->uc", weight, (raw - mean)**2)),
                               rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(exact["max_limit"], maps.max(0), rtol=1e-4, atol=1e-6)


def test_a_large_n_is_near_the_sum_over_every_selection_and_its_error_is_as_said():
    rng = np.random.default_rng(4)
    head, x = _head(rng), tf.constant(rng.random((2, 2, 3)), tf.float32)
    maps, _, weight = _every_selection(head, x)
    target = reference.reference(head, x, tf.constant([0, 1]), tf.constant([1, 2]), num_maps=1500)
    difference = np.abs(target["mean"].numpy().reshape(4, 2) - np.einsum("s,suc->uc", weight, maps))
    assert (difference < 4 * target["mean_error"].numpy().reshape(4, 2) + 1e-6).all()
    assert 0.001 < target["mean_error"].numpy().max() < 0.5 / np.sqrt(1500)


def test_the_normal_approximation_is_near_on_a_map_of_many_positions():
    rng = np.random.default_rng(5)
    head = stochastic.StochasticHead(1, 5, 0.7)
    head.build((None, 12, 12, 8))
    head.kernel.assign(rng.normal(0.15, 1, head.kernel.shape))
    x = tf.constant(rng.random((12, 12, 8)), tf.float32)
    target = reference.reference(head, x, tf.constant([0]), tf.constant([1, 2]), num_maps=1500)
    error = float(tf.reduce_mean(tf.abs(target["normal"] - target["mean"])))
    assert error < 0.05 * float(tf.reduce_mean(target["mean"]))
    few = aggregation.localize(head, x, tf.constant([0]), tf.constant([3, 4]), aggregation.Options(num_maps=10))
    assert error < float(tf.reduce_mean(tf.abs(few["mean"] - target["mean"])))


def test_the_normal_approximation_by_hand():
    """Two positions, of N(0.5, 0.2) and N(0.3, 0.4), and a grid of three steps up to the greater mean + 6 std, 2.7."""
    mean, std = np.array([0.5, 0.3]), np.array([0.2, 0.4])
    at = 0.9 * np.arange(4)
    below = scipy.stats.norm.cdf((at[:, None] - mean) / std).prod(1)
    inverse = sum((below[i + 1] - below[i]) / (0.45 + 0.9 * i) for i in range(3))
    rectified = mean * scipy.stats.norm.cdf(mean / std) + std * scipy.stats.norm.pdf(mean / std)  # E[ReLU]
    found = reference.normal(tf.constant(mean.reshape(1, 2, 1), tf.float32),
                             tf.constant(std.reshape(1, 2, 1), tf.float32), points=3).numpy()
    np.testing.assert_allclose(found.ravel(), rectified * inverse, rtol=1e-5)


def test_distance_by_hand():
    maps = {"mean": tf.constant([[[0.2, 0.1], [0.1, 0.3], [0.2, 0.1]]]),
            "max": tf.constant([[[0.5, 0.2], [0.3, 0.3], [0.3, 0.2]]])}
    target = {"mean": tf.constant([[[0.2, 0.3], [0.1, 0.3], [0.2, 0.1]]]),
              "max": tf.constant([[[0.5, 0.6], [0.3, 0.5], [0.3, 0.2]]])}
    # Position 0: class 0 before, class 1 in the reference; 1: nobody before, class 1 in the reference; 2: nobody.
    assert reference.distance(maps, target, 0.35) == pytest.approx(
        {"mean": 0.2 / 6, "max": 0.6 / 6, "labels": 2 / 3, "unclaimed": 1 / 3})
    assert reference.distance(target, target, 0.35) == {"mean": 0, "max": 0, "labels": 0, "unclaimed": 0}
