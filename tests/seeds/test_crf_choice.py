"""The choice of the dense CRF, worked out by hand; in a whole run: tests/test_pipeline.py."""

import numpy as np
import pytest

from ficklenet_tf import crf
from ficklenet_tf.seeds import crf_choice


class _Predictor:
    """Says class 1 in the left half and background in the right one, everywhere unsure."""

    class_names = ("background", "x")

    def __call__(self, image):
        probs = np.full((*image.shape[:2], 2), 0.6, np.float32)
        probs[:, :2, 0] = probs[:, 2:, 1] = 0.4
        return probs


def test_agreement_is_the_miou_with_the_seeds_that_are_known():
    """Four columns, one of them 255: background 1 of 2 and x 1 of 2 agree, or IoU 1/2 each. A flat photograph."""
    seed = np.tile(np.array([1, 0, 0, 255], np.uint8), (3, 1))
    image = np.full((3, 4, 3), 128, np.uint8)
    agreement = crf_choice._agreement(_Predictor(), iter([(image, seed)] * 2), 2)
    assert list(agreement) == list(crf_choice.CANDIDATES)
    assert agreement["none"] == pytest.approx(1 / 2)
    flipped = crf_choice._agreement(_Predictor(), iter([(image, np.where(seed == 255, 0, seed).astype(np.uint8))]), 1)
    assert flipped["none"] == pytest.approx((2 / 3 + 1 / 2) / 2)


def test_a_crf_that_agrees_better_has_the_greater_number():
    """The bright column is x to its seeds and to its colour, but not to the network alone."""
    class Unsure(_Predictor):
        def __call__(self, image):
            probs = np.full((*image.shape[:2], 2), 0.45, np.float32)
            probs[..., 0] = 0.55
            probs[image[..., 0] > 128] = (0.1, 0.9)
            probs[:2, image[0, :, 0] > 128] = (0.55, 0.45)  # its upper end is lost
            return probs

    image = np.zeros((24, 24, 3), np.uint8)
    image[:, 8:12] = 255
    seed = (image[..., 0] > 128).astype(np.uint8)
    agreement = crf_choice._agreement(Unsure(), iter([(image, seed)]), 1)
    for key in ("dsrg_relative", "deeplab_relative"):
        assert crf.SPECS[key].relative and agreement[key] > agreement["none"]
