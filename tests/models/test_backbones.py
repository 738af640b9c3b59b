"""Backbones: stride, size, and what is trained."""

import pytest
import tensorflow as tf

from ficklenet_tf.models import backbones


@pytest.mark.parametrize("name, channels", [("vgg16", 512), ("resnet50", 2048), ("small", 128)])
def test_backbones_have_stride_8(name, channels):
    model = backbones.build(name, "none")
    assert model(tf.zeros([1, 65, 97, 3])).shape == (1, 9, 13, channels)
    assert not model.trainable_variables


def test_vgg16_gives_41_positions_for_321_pixels():
    assert backbones.build("vgg16").compute_output_shape((1, 321, 321, 3)) == (1, 41, 41, 512)


def test_only_the_last_block_is_trained():
    names = {v.path.split("/")[0] for v in backbones.build("vgg16", "last_block").trainable_variables}
    assert names == {"block5_conv1", "block5_conv2", "block5_conv3"}
