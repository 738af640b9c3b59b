"""IRN's boundaries: paths against their code's table, affinities by hand and by a slow walk along each path."""

import collections
import itertools

import keras
import numpy as np
import tensorflow as tf

from ficklenet_tf.models import boundary, neighbours


def test_paths_are_those_of_the_published_code():
    """What `PathIndex(5)` of jiwoon-ahn/irn gives (run by hand): 34 paths, how many there are of each length."""
    lengths = collections.Counter(len(boundary.path(offset)) for offset in neighbours.offsets())
    assert lengths == {2: 2, 3: 2, 4: 4, 5: 2, 6: 4, 7: 2, 8: 8, 10: 6, 11: 4}
    far = collections.Counter(len(boundary.path(offset)) for offset in neighbours.offsets(10))
    assert sum(far.values()) == 152 and (far[2], far[16], far[22]) == (2, 22, 6)


def test_a_path_by_hand():
    assert boundary.path((0, 3)) == [(0, 0), (0, 1), (0, 2), (0, 3)]
    assert boundary.path((1, -1)) == [(0, -1), (0, 0), (1, -1), (1, 0)]  # a wall of single steps has no hole
    assert boundary.path((2, 1)) == [(0, 0), (0, 1), (1, 0), (1, 1), (2, 0), (2, 1)]
    assert (0, 2) not in boundary.path((2, 2)) and (1, 1) in boundary.path((2, 2))
    assert (1, 3) not in boundary.path((3, 4))  # one position from the line, not nearer


def _affinities(values):
    """{((y, x), (v, u)): affinity} of `[h, w]` by a walk along each path."""
    height, width = values.shape
    result = {}
    for (y, x), (dy, dx) in itertools.product(np.ndindex(height, width), neighbours.offsets()):
        if y + dy < height and 0 <= x + dx < width:
            crossed = [values[y + j, x + k] for j in range(dy + 1) for k in range(min(0, dx), max(0, dx) + 1)
                       if abs(dy * k - dx * j) / np.hypot(dy, dx) < 1 - 1e-9]
            result[(y, x), (y + dy, x + dx)] = 1 - max(crossed)
    return result


def _computed(values):
    numbers = np.arange(values.size).reshape(1, *values.shape)
    result = {}
    for offset, pair in zip(neighbours.offsets(), boundary.affinities(tf.constant(values[None, ..., None])),
                            strict=True):
        ends = [[np.unravel_index(i, values.shape) for i in part.ravel()]
                for part in neighbours.pairs(numbers, offset)]
        for one, other, affinity in zip(*ends, pair.numpy().ravel(), strict=True):
            result[tuple(map(int, one)), tuple(map(int, other))] = affinity
    return result


def test_affinities_are_those_of_a_slow_walk():
    for shape in ((6, 8), (3, 4)):  # the second: less than the radius
        values = np.random.default_rng(0).random(shape).astype(np.float32)
        expected, computed = _affinities(values), _computed(values)
        assert expected.keys() == computed.keys()
        np.testing.assert_allclose([computed[pair] for pair in expected], list(expected.values()), atol=1e-6)


def test_a_wall_parts_what_is_on_both_sides_and_nothing_else():
    values = np.zeros((5, 9), np.float32)
    values[:, 4] = 1.0
    computed = _computed(values)
    for ((y, x), (v, u)), affinity in computed.items():
        assert affinity == float(x < 4 and u < 4 or x > 4 and u > 4), ((y, x), (v, u))
    assert computed[(0, 2), (0, 5)] == 0 and computed[(0, 3), (4, 3)] == 1  # across; along


def test_the_gradient_reaches_the_greatest_position_of_the_path_alone():
    values = tf.Variable([[0.1, 0.4, 0.3, 0.9, 0.2]])  # a row: paths are stretches of it
    with tf.GradientTape() as tape:
        pairs = dict(zip(neighbours.offsets(), boundary.affinities(values[None, ..., None]), strict=True))
        affinity = pairs[0, 2][0, 0, 0]  # from 0.1 by 0.4 to 0.3
    assert float(affinity) == np.float32(0.6)
    np.testing.assert_array_equal(tape.gradient(affinity, values), [[0, -1, 0, 0, 0]])


def test_the_network_gives_one_number_a_position_of_maps_of_any_depth():
    network = boundary.build([(5, 6, 12), (5, 6, 20)])
    maps = [tf.constant(np.random.default_rng(k).normal(size=(2, 5, 6, c)), tf.float32)
            for k, c in enumerate((12, 20))]
    output = network(maps).numpy()
    assert output.shape == (2, 5, 6, 1) and 0 < output.min() < output.max() < 1
    joined = keras.Model(network.inputs, network.get_layer("boundary").input)(maps).numpy()
    assert joined.shape[-1] == 64 and joined.min() == 0  # rectified
    assert sum(v.shape[-1] == 32 for v in network.trainable_variables if len(v.shape) == 4) == 2  # branches
    # Two affine numbers a channel, and the branches' kernels have no bias: 32 (12 + 20) + 4 * 32 + 64 + 1.
    assert network.count_params() == 1024 + 128 + 65
    # Normalised: features that are brighter throughout give the same.
    np.testing.assert_allclose(network([maps[0] * 3, maps[1] * 3]), output, atol=1e-3)
