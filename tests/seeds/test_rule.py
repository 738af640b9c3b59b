"""Seeds by hand: who gets a pixel, who does not (FickleNet, Section 3.3)."""

import cv2
import numpy as np
import pytest

from ficklenet_tf.data import images, labels
from ficklenet_tf.seeds import cues, rule


def test_allotment_by_hand():
    highest = np.array([[[0.9, 0.2], [0.5, 0.6], [0.1, 0.35]]], "float32")
    mean = np.array([[[0.1, 0.9], [0.3, 0.2], [0.1, 0.1]]], "float32")
    # Pixel 0: tag 4 alone claims it, though the other tag's mean is higher. Pixel 1: both claim it, the mean decides.
    # Pixel 2: 0.35 is not above theta.
    assert rule.allot(highest, mean, np.array([4, 7]), 0.35).tolist() == [[5, 5, 255]]
    assert rule.allot(highest, 1 - mean, np.array([4, 7]), 0.35).tolist() == [[5, 8, 255]]


def test_an_image_without_tags_is_all_background():
    no_maps = np.zeros((2, 2, 0), "float32")
    label = rule.allot(no_maps, no_maps, np.array([], int), 0.35)
    assert (label == 255).all()
    assert (rule.add_background(label, cues.low_everywhere(no_maps, 0.1)) == 0).all()


def test_background_takes_only_what_no_class_claims():
    label = np.array([[3, 255, 255]], np.uint8)
    assert rule.add_background(label, np.array([[True, True, False]])).tolist() == [[3, 0, 255]]


def test_seed_images_survive_the_disk(tmp_path):
    label = np.arange(256, dtype=np.uint8).reshape(16, 16)
    labels.write_label(tmp_path / "x.png", label)
    np.testing.assert_array_equal(labels.read_label(tmp_path / "x.png"), label)


def test_uncertainty_by_hand(tmp_path):
    """On objects relative to the mean of the pixel's own class, elsewhere the greatest spread."""
    std = np.array([[[0.1, 0.3], [0.1, 0.2], [0.0, 0.05], [0.0, 0.0]]], "float32")
    mean = np.array([[[0.3, 0.1], [0.3, 0.6], [0.5, 0.5], [0.0, 0.0]]], "float32")
    label = np.array([[5, 8, 0, 5]], np.uint8)
    uncertain = rule.uncertainty(std, mean, np.array([4, 7]), label)
    np.testing.assert_allclose(uncertain, [[0.1 / 0.4, 0.2 / 0.8, 0.05, 0.0]], atol=1e-6)
    label[0, 1] = 255
    uncertain = rule.uncertainty(std, mean, np.array([4, 7]), label)
    np.testing.assert_allclose(uncertain[0, 1], 0.2, atol=1e-6)
    assert rule.leave_out(label, uncertain, 0.15).tolist() == [[255, 255, 0, 5]]
    assert rule.uncertainty(std[..., :0], mean[..., :0], np.array([], int), label).tolist() == [[0, 0, 0, 0]]
    images.write_grey(tmp_path / "u.png", np.array([[0, 0.5, 1]], "float32"))
    assert cv2.imread(str(tmp_path / "u.png"), cv2.IMREAD_UNCHANGED).tolist() == [[0, 128, 255]]
    np.testing.assert_allclose(rule.read_uncertainty(tmp_path / "u.png"), [[0, 0.5, 1]], atol=0.002)
    with pytest.raises(FileNotFoundError, match="v.png"):
        rule.read_uncertainty(tmp_path / "v.png")
