"""Augmentation: image and label move together; colours change as the formulas say; a seed repeats."""

import numpy as np
import tensorflow as tf

from ficklenet_tf import random_seeds
from ficklenet_tf.data import augmentation

RNG = np.random.default_rng(0)


def test_scale_and_crop_pads_with_ignored_labels_and_keeps_pairs():
    ids = np.tile(np.arange(20, dtype=np.uint8)[:, None], (1, 20))
    image = np.repeat(ids[..., None], 3, -1)
    for k in range(8):
        crop, label = augmentation.scale_and_crop(image, ids, 32, np.random.default_rng(k), scales=(1.0, 1.0))
        inside = label < 255
        assert inside.sum() == 400
        np.testing.assert_array_equal(crop[..., 0][inside], label[inside])
        np.testing.assert_array_equal(crop[~inside], 10)  # the mean, 9.5, rounded to even


def test_scale_and_crop_stays_inside_and_reaches_everywhere():
    image, ids = np.zeros((40, 60, 3), np.uint8), np.arange(40 * 60).reshape(40, 60)
    starts = {augmentation.scale_and_crop(image, ids, 16, np.random.default_rng(k), scales=(1.0, 1.0))[1][0, 0]
              for k in range(400)}
    rows, columns = np.divmod(sorted(starts), 60)
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (0, 24, 0, 44)
    shapes = {augmentation.scale_and_crop(image, ids, 16, np.random.default_rng(k), scales=(0.1, 2.0))[0].shape
              for k in range(50)}
    assert shapes == {(16, 16, 3)}


def test_mirror_turns_left_to_right():
    pixels = RNG.integers(0, 256, (4, 5, 3), np.uint8)
    np.testing.assert_array_equal(augmentation.mirror(pixels, True)[:, 0], pixels[:, 4])
    np.testing.assert_array_equal(augmentation.mirror(pixels, False), pixels)


def test_photometric_by_hand():
    """Brightness, contrast about the mean colour and saturation about the grey, one after the other."""
    batch = RNG.integers(60, 190, (3, 6, 7, 3), np.uint8)
    seeds = tf.constant([[1, 2], [3, 4], [1, 2]])
    changed = augmentation.photometric(batch, seeds, 0.2).numpy()
    for image, seed, result in zip(batch.astype(np.float64), seeds, changed, strict=True):
        draws = 0.4 * random_seeds.uniform(random_seeds.fold_in(seed, 3), 3).numpy() - 0.2
        expected = image + 127.5 * draws[0]
        mean = expected.mean((0, 1))
        expected = (expected - mean) * (1 + draws[1]) + mean
        grey = expected @ [[0.299], [0.587], [0.114]]
        expected = np.clip(grey + (expected - grey) * (1 + draws[2]), 0, 255)
        np.testing.assert_allclose(result, expected, atol=1e-3)
        assert np.abs(result - image).max() > 2
    again = augmentation.photometric(batch[::-1], seeds[::-1], 0.2).numpy()
    np.testing.assert_allclose(again[::-1], changed, atol=1e-4)  # of an image and its seed alone, not of its batch


def test_xla_draws_the_same_colours():
    batch = RNG.integers(60, 190, (6, 5, 5, 3), np.uint8)
    seeds = tf.constant([[1, 2], [-3, 4], [5, -6], [-7, -8], [2**31 - 1, 9], [-2**31, 10]], tf.int32)
    plain = augmentation.photometric(batch, seeds, 0.2)
    compiled = tf.function(augmentation.photometric, jit_compile=True)(batch, seeds, 0.2)
    np.testing.assert_allclose(compiled, plain, atol=1e-2)
    assert len({float(image[0, 0, 0]) for image in plain.numpy()}) == 6


def test_draws_are_uniform():
    draws = np.stack([random_seeds.uniform(tf.constant([5, k]), 3) for k in range(400)])
    assert 0 <= draws.min() < 0.01 and 0.99 < draws.max() < 1
    np.testing.assert_allclose(draws.mean(0), 0.5, atol=0.05)  # of 400: deviation 0.0144
    np.testing.assert_allclose(draws.std(0), 12**-0.5, atol=0.03)
    np.testing.assert_allclose(np.corrcoef(draws.T), np.eye(3), atol=0.2)
