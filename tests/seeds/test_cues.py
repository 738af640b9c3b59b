"""Background cues by hand."""

import dataclasses

import cv2
import numpy as np
import pytest

from ficklenet_tf import presets
from ficklenet_tf.errors import UserError
from ficklenet_tf.maps.image_maps import ImageMaps
from ficklenet_tf.seeds import cues
from ficklenet_tf.seeds.evidence import Evidence

CONFIG = presets.SeedsConfig()
GRADIENT = presets.SeedsConfig(background_cue="gradient")


def _evidence(mean, shape, gradient=None, config=CONFIG, image_id="a", saliency_dir=None):
    maps = ImageMaps(np.arange(mean.shape[-1]), mean, mean, mean, mean[None], 1, shape, gradient)
    return Evidence(image_id, np.zeros((*shape, 3), np.uint8), maps, config, saliency_dir)


def test_activation_needs_every_class_to_be_low():
    mean = np.array([[[0.05, 0.05], [0.05, 0.2]]], "float32")
    assert cues.activation(_evidence(mean, (1, 2))).tolist() == [[True, False]]


def test_gradient_takes_the_lowest_tenth_at_the_photographs_size():
    gradient = np.tile(np.arange(100, dtype="float32") / 100, (100, 1))
    cue = cues.gradient(_evidence(np.zeros((2, 2, 1), "float32"), (50, 200), gradient))
    assert cue.shape == (50, 200) and cue[:, :18].all() and not cue[:, 22:].any()
    with pytest.raises(UserError, match="a: expected maps with the gradient"):
        cues.gradient(_evidence(np.zeros((2, 2, 1), "float32"), (50, 200), config=GRADIENT))


def test_the_gradients_median_leaves_out_single_places():
    """By hand: the median of 3 x 3 wipes out one low place; of a low block of 3 x 3 it leaves a cross."""
    gradient = np.ones((10, 10), "float32")
    gradient[4, 4] = 0
    assert not cues.least_salient(gradient, 0.1).any()
    gradient[3:6, 3:6] = 0
    expected = np.zeros((10, 10), bool)
    expected[3:6, 4] = expected[4, 3:6] = True
    np.testing.assert_array_equal(cues.least_salient(gradient, 0.1), expected)


def test_saliency_reads_a_map(tmp_path):
    saliency = np.zeros((4, 4), np.uint8)
    saliency[:, 2:] = 255
    cv2.imwrite(str(tmp_path / "a.png"), saliency)
    mean, config = np.zeros((2, 2, 1), "float32"), dataclasses.replace(CONFIG, background_threshold=0.06)
    cue = cues.saliency(_evidence(mean, (4, 4), config=config, saliency_dir=tmp_path))
    assert cue.tolist() == [[True, True, False, False]] * 4
    with pytest.raises(FileNotFoundError, match="b.png"):
        cues.saliency(_evidence(mean, (4, 4), image_id="b", saliency_dir=tmp_path))
    with pytest.raises(UserError, match="b: expected saliency maps"):
        cues.saliency(_evidence(mean, (4, 4), image_id="b"))
