"""Seeds by the dense CRF on two background scores: the rule behind every headline seed, by hand."""

import types

import numpy as np
import pytest

from ficklenet_tf import crf, presets
from ficklenet_tf.errors import UserError
from ficklenet_tf.seeds import refinement

NO_MESSAGES = crf.CRFSpec(0.0, 50.0, 5.0, 0.0, 3.0, 10)  # each pixel decides by itself
IMAGE = np.zeros((1, 5, 3), np.uint8)
# Five pixels, classes 3 and 7: nothing, between the scores, above both (twice), both classes between them.
MEAN = np.array([[[0.1, 0.0], [0.3, 0.1], [0.6, 0.2], [0.2, 0.9], [0.3, 0.35]]], np.float32)


def _seeds(low, high, mean=MEAN):
    return refinement.crf_refine(IMAGE, mean, np.array([2, 6]), low, high, spec=NO_MESSAGES, backend="exact").tolist()


def test_the_crf_is_that_of_irns_code():
    assert refinement.IRN == crf.CRFSpec(10.0, 50.0, 5.0, 3.0, 3.0, 10) and refinement.CONFIDENCE == 0.7
    logits = refinement._log_probs(np.array([[0, 2]]), 3)
    np.testing.assert_allclose(np.exp(logits), [[[0.7, 0.15, 0.15], [0.15, 0.15, 0.7]]], rtol=1e-6)


def test_foreground_by_the_higher_score_background_by_the_lower_one():
    assert _seeds(0.2, 0.5) == [[0, 255, 3, 7, 255]]
    assert _seeds(0.2, 0.2) == [[0, 3, 3, 7, 7]]
    assert _seeds(0.5, 0.5) == [[0, 0, 3, 7, 0]]
    assert _seeds(0.05, 0.95) == [[255, 255, 255, 255, 255]]
    with pytest.raises(UserError, match="expected 0 <= low <= high, found 0.5 and 0.2"):
        _seeds(0.5, 0.2)
    with pytest.raises(UserError, match="expected 0 <= low <= high, found -0.1 and 0.2"):
        _seeds(-0.1, 0.2)


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


def test_on_a_reduced_photograph_the_widths_are_reduced_too():
    """Half of a photograph of doubled pixels is the small one, and its CRF has half the widths, not the colour's."""
    rng = np.random.default_rng(0)
    image = np.repeat(rng.integers(0, 2, (24, 30, 1)), 3, 2).astype(np.uint8) * 4
    blocks = rng.random((4, 5, 2), np.float32).repeat(6, 0).repeat(6, 1)
    mean, tag_ids = 0.6 * blocks + 0.4 * rng.random((24, 30, 2), np.float32), np.array([0, 1])

    def refined(image, scale, *widths):
        spec = crf.CRFSpec(4.0, widths[0], 5.0, 3.0, widths[1], 10)
        return refinement.crf_refine(image, mean, tag_ids, 0.4, 0.6, scale=scale, spec=spec, backend="exact")

    small, doubled = refined(image, 1.0, 2.0, 1.5), image.repeat(2, 0).repeat(2, 1)
    np.testing.assert_array_equal(refined(doubled, 0.5, 4.0, 3.0), small.repeat(2, 0).repeat(2, 1))
    for other in ((3.5, 1.5), (2.0, 2.5)):
        assert (refined(image, 1.0, *other) != small).any()


def test_the_crfs_refinement_takes_the_mean_maps_and_both_scores():
    image, rng = np.zeros((6, 7, 3), np.uint8), np.random.default_rng(1)
    maps = types.SimpleNamespace(tag_ids=np.array([0, 2]), mean=rng.random((6, 7, 2), np.float32))
    config = presets.SeedsConfig(refine="crf", refine_low=0.2, refine_high=0.5, refine_scale=0.5)
    evidence = types.SimpleNamespace(config=config, maps=maps, image=image)
    np.testing.assert_array_equal(refinement.REFINEMENTS["crf"](evidence, None),
                                  refinement.crf_refine(image, maps.mean, maps.tag_ids, 0.2, 0.5, scale=0.5))
    evidence.config = presets.SeedsConfig(refine="crf", refine_low="auto")
    with pytest.raises(UserError, match="refine_low: expected a number, found 'auto'"):
        refinement.REFINEMENTS["crf"](evidence, None)


def test_the_affinity_refinement_takes_the_walked_maps_and_one_score():
    config = presets.SeedsConfig(refine="affinity", walked_background=0.3, refine_scale=0.5)
    rng = np.random.default_rng(1)
    image = rng.integers(0, 256, (12, 14, 3)).astype(np.uint8)
    for tag_ids in (np.array([0, 2]), np.array([], int)):
        maps = types.SimpleNamespace(tag_ids=tag_ids)
        evidence = types.SimpleNamespace(config=config, maps=maps, image=image, shape=(12, 14),
                                         walked=rng.random((12, 14, len(tag_ids)), np.float32))
        found = refinement.REFINEMENTS["affinity"](evidence, None)
        expected = refinement.crf_refine(image, evidence.walked, tag_ids, 0.3, 0.3, scale=0.5)
        whole = refinement.crf_refine(image, evidence.walked, tag_ids, 0.3, 0.3)
        assert (whole != expected).any() == bool(len(tag_ids))
        np.testing.assert_array_equal(found, expected)
        assert found.any() == bool(len(tag_ids))


def test_the_growing_refinement_takes_the_distance_and_the_scale(monkeypatch):
    """Four doubled columns of colours 0, 10, 100 and 0 with a seed on the first one."""
    image = np.repeat(np.repeat(np.array([0, 10, 100, 0], np.uint8), 2)[None, :, None], 3, 2).repeat(4, 0)
    seed = np.full((4, 8), 255, np.uint8)
    seed[:, :2] = 3
    for distance, expected in ((5.0, [3, 3] + [255] * 6), (20.0, [3] * 4 + [255] * 4), (442.0, [3] * 8)):
        config = presets.SeedsConfig(refine="srg", srg_distance=distance, refine_scale=0.5)
        evidence = types.SimpleNamespace(config=config, image=image)
        grown = refinement.REFINEMENTS["srg"](evidence, lambda: seed)
        np.testing.assert_array_equal(grown, [expected] * 4)
    scales = []
    monkeypatch.setattr(refinement, "_reduce", lambda image, scale: scales.append(scale) or image)
    refinement.REFINEMENTS["srg"](evidence, lambda: seed)
    assert scales == [0.5]


@pytest.mark.parametrize("side", [37, 38])
def test_seeds_made_on_a_reduced_photograph_stay_in_their_place(side):
    """A square in the middle: mirrored it has the same seeds. (OpenCV takes the pixel nearest to a corner.)"""
    mean = np.zeros((side, side, 1), np.float32)
    mean[10:-10, 10:-10] = 1
    image = np.zeros((side, side, 3), np.uint8)
    for scale in (0.5, 0.3):
        seeds = refinement.crf_refine(image, mean, np.array([0]), 0.5, 0.5, scale=scale, spec=NO_MESSAGES)
        np.testing.assert_array_equal(seeds, seeds[:, ::-1])
        label = np.where(mean[..., 0] > 0, 2, 255).astype(np.uint8)
        grown = refinement.srg_refine(image, np.where(seeds > 0, label, 255).astype(np.uint8), 0.0, scale)
        np.testing.assert_array_equal(grown, grown[::-1, ::-1])
