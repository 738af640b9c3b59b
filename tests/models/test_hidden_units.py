"""Drawn selections: the rate is exact, entries are as good as independent, both forms of a mask agree."""

import numpy as np
import pytest
import tensorflow as tf

from ficklenet_tf.models import hidden_units

RATES = (0.0, 0.0001, 0.3, 0.5, 0.9, 0.997, 0.99999, 1.0)


@pytest.mark.parametrize("rate", RATES)
def test_an_entry_is_kept_where_its_number_reaches_the_rate(rate, monkeypatch):
    """A number has 24 bits, eight the entry's own, sixteen its group's: here each own byte with each shared number."""
    border = round(rate * 2**24) % 2**16
    shared = np.array([0, border - 1, border, border + 1, 2**16 - 1, 1, 2, 3], np.int64).clip(0, 2**16 - 1)
    group_shared = np.repeat(shared, 4)  # 4 groups with the same shared number hold each own byte once
    own_bytes = np.tile(np.arange(256).reshape(8, 4, 8), (1, 8, 1))  # word in the group, group, byte
    words = np.concatenate([own_bytes.astype(np.uint8).ravel().view("<u8"), group_shared.astype("<u2").view("<u8")])
    monkeypatch.setattr(tf.random, "stateless_uniform", lambda shape, *_: tf.reshape(tf.constant(words), shape))
    kept = hidden_units.keep_bits(tf.constant([0, 0]), (8, 32, 8), rate).numpy()
    numbers = own_bytes.astype(np.int64) * 2**16 + group_shared[None, :, None]
    np.testing.assert_array_equal(kept, numbers >= round(rate * 2**24))


@pytest.mark.parametrize("rate", RATES)
def test_drawn_entries_have_the_asked_rate(rate):
    kept = hidden_units.keep_bits(tf.constant([1, 2]), (1000, 1001), rate).numpy()
    assert abs(kept.mean() - (1 - rate)) <= 4 * np.sqrt(rate * (1 - rate) / kept.size)


def test_entries_do_not_follow_one_another():
    """Neighbours, bytes of one word and words of one group: correlations of less than four standard errors."""
    kept = hidden_units.keep_bits(tf.constant([3, 4]), (8 * 10_000, 8), 0.9).numpy().astype(float)
    low, high = kept[:40_000], kept[40_000:]  # word j and word j + 4 * groups share their low bits
    for a, b in ((low, high), (low[:, :-1], low[:, 1:]), (low[:, 0], low[:, 7]), (low[1:], low[:-1])):
        assert abs(np.corrcoef(a.ravel(), b.ravel())[0, 1]) < 4 / np.sqrt(a.size)


def test_compiled_and_uncompiled_draws_are_the_same():
    draw = lambda seed: hidden_units.keep_bits(seed, (7, 10, 25), 0.9)  # noqa: E731
    for seed in (tf.constant([5, 6]), tf.constant([-5, 6])):
        np.testing.assert_array_equal(tf.function(draw, jit_compile=True)(seed), draw(seed))


@pytest.mark.parametrize("s, middle", [(3, 1), (5, 2)])
def test_windows_by_hand(s, middle):
    """Window v sees position v + d - middle through d: its mask is t at that position, 0 beyond the border."""
    height, width = 3, 4
    t = np.random.default_rng(0).random((1, height * width, s * s)).astype("float32")
    windows = hidden_units.windows_of(tf.constant(t), height, width, s).numpy()[0].reshape(height, width, s, s)
    for y in range(height):
        for x in range(width):
            for dy in range(s):
                for dx in range(s):
                    uy, ux = y + dy - middle, x + dx - middle
                    inside = 0 <= uy < height and 0 <= ux < width
                    expected = t[0, uy * width + ux, dy * s + dx] if inside else 0
                    assert windows[y, x, dy, dx] == expected


@pytest.mark.parametrize(("rate", "rescale", "survivor"), [(0.75, False, 1.0), (0.75, True, 4.0), (1.0, True, 1.0)])
def test_a_selection_keeps_the_centre_and_nothing_beyond_the_border(rate, rescale, survivor):
    """Position u is seen through d by the window centred at u - (d - 1), if that lies on the map."""
    height, width, s = 3, 4, 3
    keep = np.random.default_rng(1).random((2, height * width, s * s)) < 0.5
    selection = hidden_units.weights_of(tf.constant(keep), height, width, s, rate, rescale).numpy()
    assert selection.dtype == np.float32
    selection = selection.reshape(2, height, width, s, s)
    for y, x, dy, dx in np.ndindex(height, width, s, s):
        on_map = 0 <= y - (dy - 1) < height and 0 <= x - (dx - 1) < width
        assert hidden_units.inside(height, width, s)[y * width + x, dy * s + dx] == on_map
        expected = np.ones(2) if (dy, dx) == (1, 1) else survivor * keep[:, y * width + x, dy * s + dx] * on_map
        np.testing.assert_array_equal(selection[:, y, x, dy, dx], expected)


def test_each_image_draws_by_its_own_seed():
    seeds = tf.constant([[7, 8], [9, 10]])
    drawn = hidden_units.draw(seeds, 3, 4, 3, 0.5, True).numpy()
    masks = hidden_units.general_mask(seeds, (3, 4), 0.75).numpy()
    for i in range(2):
        keep = hidden_units.keep_bits(seeds[i], (12, 9), 0.5)
        np.testing.assert_array_equal(drawn[i], hidden_units.weights_of(keep, 3, 4, 3, 0.5, True))
        np.testing.assert_array_equal(masks[i], 4.0 * hidden_units.keep_bits(seeds[i], (3, 4), 0.75).numpy())
    assert (drawn[0] != drawn[1]).any() and (hidden_units.general_mask(seeds, (3, 4), 1.0).numpy() == 0).all()
