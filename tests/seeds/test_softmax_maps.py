"""Seeds of the softmax maps of a head with a background, by hand."""

import dataclasses

import numpy as np
import pytest

from ficklenet_tf import presets
from ficklenet_tf.errors import UserError
from ficklenet_tf.maps.image_maps import ImageMaps
from ficklenet_tf.seeds import extraction
from ficklenet_tf.seeds.evidence import Evidence

# Four pixels; the classes 3 and 7, then the background; the rest is of classes that the photograph has no tags of.
PROBS = np.array([[[0.8, 0.0, 0.1], [0.15, 0.02, 0.7], [0.3, 0.1, 0.25], [0.1, 0.04, 0.8]]], np.float32)


def _seeds(probs, tag_ids=(2, 6), **changes):
    config = dataclasses.replace(presets.SeedsConfig(), refine="eps", **changes)
    maps = np.zeros((1, 4, len(tag_ids)), np.float32)
    image_maps = ImageMaps(np.array(tag_ids, int), maps, maps, maps, maps[None], 1, (1, 4), None, probs)
    return extraction.make_seed(Evidence("a", np.zeros((1, 4, 3), np.uint8), image_maps, config)).tolist()


def test_the_published_rule_divides_each_map_by_its_maximum():
    """Class 3: 1, 0.19, 0.38, 0.13; class 7: 0, 0.2, 1, 0.4; the background 0.2 in the code, or more."""
    assert _seeds(PROBS, eps_background=0.21) == [[3, 0, 7, 7]]
    assert _seeds(PROBS, eps_background=0.5) == [[3, 0, 7, 0]]
    assert presets.SeedsConfig().eps_background == 0.2


def test_the_heads_own_background_against_the_maps_as_they_are():
    assert _seeds(PROBS, eps_background="head") == [[3, 0, 3, 0]]


def test_without_tags_and_without_softmax_maps():
    for score in (0.2, "head"):
        assert _seeds(PROBS[..., 2:], (), eps_background=score) == [[0, 0, 0, 0]]
    with pytest.raises(UserError, match="a: expected maps of a classifier with --head=eps"):
        _seeds(None)
