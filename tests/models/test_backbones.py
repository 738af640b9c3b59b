"""Backbones: stride, size, and what is trained."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf

from ficklenet_tf.models import backbones


@pytest.mark.parametrize("name, channels", [("vgg16", 512), ("resnet50", 2048), ("small", 128)])
def test_backbones_have_stride_8(name, channels):
    model = backbones.build(name, "head")
    assert model(tf.zeros([1, 65, 97, 3])).shape == (1, 9, 13, channels)
    assert not model.trainable_variables


def test_vgg16_gives_41_positions_for_321_pixels():
    assert backbones.build("vgg16").compute_output_shape((1, 321, 321, 3)) == (1, 41, 41, 512)


def test_only_the_last_block_is_trained():
    names = {v.path.split("/")[0] for v in backbones.build("vgg16", "last_block").trainable_variables}
    assert names == {"block5_conv1", "block5_conv2", "block5_conv3"}


@pytest.mark.parametrize("trainable, kept, trained", [
    ("last_block", "block4_pool", {"block5"}), ("last_two_blocks", "block3_pool", {"block4", "block5"})])
def test_the_cut_parts_are_the_backbone(trainable, kept, trained):
    """The two parts, one after the other, give the whole's features; only what is above the cut is trained."""
    model = backbones.build("vgg16", trainable)
    below, above = backbones.cut(model, trainable)
    assert {v.path.split("_")[0] for v in model.trainable_variables} == trained
    assert [v is w for v, w in zip(above.trainable_variables, model.trainable_variables, strict=True)]
    assert not below.trainable_variables and below.output_shape == model.get_layer(kept).output.shape
    x = tf.random.stateless_normal([1, 33, 49, 3], [1, 2])
    np.testing.assert_allclose(above(below(x)), model(x), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("name", backbones.BACKBONES)
def test_every_backbone_can_be_cut(name):
    for trainable in ("last_block", "last_two_blocks"):
        below, above = backbones.cut(backbones.build(name, trainable), trainable)
        assert above.output_shape == backbones.build(name, "head").output_shape
        assert above.trainable_variables and not below.trainable_variables


def test_a_cut_that_a_backbone_does_not_have_is_refused(monkeypatch):
    with pytest.raises(ValueError, match="trainable_layers: expected one of head, last_block, .* found 'none'"):
        backbones.build("small", "none")
    monkeypatch.setitem(backbones.BACKBONES, "small", dataclasses.replace(backbones.BACKBONES["small"], cuts={}))
    with pytest.raises(ValueError, match="trainable_layers: expected head, all or a cut of small"):
        backbones.build("small", "last_block")
