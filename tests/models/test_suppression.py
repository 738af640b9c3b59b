"""DRS' suppression: numbers by hand, and the gradient of the authors' code."""

import numpy as np
import pytest
import tensorflow as tf

from ficklenet_tf.models import suppression

# Two images of 2 x 2 positions and two channels; the second image's second channel is silent.
UNITS = np.array([[[[4, 1], [3, 0]], [[1, 8], [0, 5]]], [[[2, 0], [1, 0]], [[0, 0], [10, 0]]]], np.float32)


@pytest.mark.parametrize("delta, expected", [
    (0.5, [[[[2, 1], [2, 0]], [[1, 4], [0, 4]]], [[[2, 0], [1, 0]], [[0, 0], [5, 0]]]]),
    (0.125, [[[[.5, 1], [.5, 0]], [[.5, 1], [0, 1]]], [[[1.25, 0], [1, 0]], [[0, 0], [1.25, 0]]]])])
def test_what_is_above_a_share_of_its_channels_maximum_is_cut(delta, expected):
    np.testing.assert_array_equal(suppression.suppress(tf.constant(UNITS), delta), expected)


def test_all_of_the_maximum_changes_nothing():
    x = tf.constant(UNITS)
    assert suppression.suppress(x, 1.0) is x


def test_the_gradient_of_a_cut_position_goes_to_the_maximum():
    """As by autograd of the authors' code, whose maximum is not detached: delta times the sum over what was cut."""
    x = tf.constant(UNITS[:1])
    upstream = np.array([[[[1, 10], [2, 20]], [[3, 30], [4, 40]]]], np.float32)
    with tf.GradientTape() as tape:
        tape.watch(x)
        total = tf.reduce_sum(suppression.suppress(x, 0.5) * upstream)
    # Channel 0: 4 (the maximum) and 3 are cut to 2. Channel 1: 8 (the maximum) and 5 are cut to 4.
    np.testing.assert_array_equal(tape.gradient(total, x), [[[[0.5 * (1 + 2), 10], [0, 20]],
                                                             [[3, 0.5 * (30 + 40)], [4, 0]]]])
