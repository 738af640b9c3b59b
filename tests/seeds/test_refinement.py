"""Seeds by the dense CRF on two background scores: the rule behind every headline seed, by hand."""

import numpy as np
import pytest

from ficklenet_tf import crf
from ficklenet_tf.errors import UserError
from ficklenet_tf.seeds import refinement

NO_MESSAGES = crf.CRFSpec(0.0, 50.0, 5.0, 0.0, 3.0, 10)  # each pixel decides by itself
IMAGE = np.zeros((1, 5, 3), np.uint8)
# Five pixels, classes 3 and 7: nothing, between the scores, above both (twice), both classes between them.
MEAN = np.array([[[0.1, 0.0], [0.3, 0.1], [0.6, 0.2], [0.2, 0.9], [0.3, 0.35]]], np.float32)


def _seeds(low, high, mean=MEAN):
    return refinement.crf_refine(IMAGE, mean, np.array([2, 6]), low, high, spec=NO_MESSAGES, backend="exact").tolist()


def test_foreground_by_the_higher_score_background_by_the_lower_one():
    assert _seeds(0.2, 0.5) == [[0, 255, 3, 7, 255]]
    assert _seeds(0.2, 0.2) == [[0, 3, 3, 7, 7]]
    assert _seeds(0.5, 0.5) == [[0, 0, 3, 7, 0]]
    assert _seeds(0.05, 0.95) == [[255, 255, 255, 255, 255]]
    with pytest.raises(UserError, match="expected 0 <= low <= high, found 0.5 and 0.2"):
        _seeds(0.5, 0.2)


def test_an_image_without_tags_is_background():
    assert refinement.crf_refine(IMAGE, MEAN[..., :0], np.array([], int), 0.1, 0.2).tolist() == [[0] * 5]


def test_the_messages_of_like_pixels_decide():
    """A pixel just above the score amid nine of the same colour below it becomes background."""
    mean = np.full((1, 10, 1), 0.1, np.float32)
    mean[0, 5] = 0.25
    image = np.zeros((1, 10, 3), np.uint8)
    alone, together = (refinement.crf_refine(image, mean, np.array([0]), 0.2, 0.2, spec=spec, backend="exact")
                       for spec in (NO_MESSAGES, refinement.IRN))
    assert alone.tolist() == [[0] * 5 + [1] + [0] * 4] and not together.any()
