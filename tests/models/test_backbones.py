"""Backbones: stride, size, and what is trained."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf
from keras import layers

from ficklenet_tf import configs, presets
from ficklenet_tf.errors import UserError
from ficklenet_tf.models import backbones


@pytest.mark.parametrize("name, channels", [("vgg16", 512), ("resnet50", 2048), ("small", 128)])
def test_backbones_have_stride_8(name, channels):
    model = backbones.build(name, "head")
    assert model(tf.zeros([1, 65, 97, 3])).shape == (1, 9, 13, channels)
    assert not model.trainable_variables


def _convolutions_of(model):
    return [(layer.filters, layer.strides[0], layer.dilation_rate[0]) for layer in model.layers
            if isinstance(layer, layers.Conv2D)]


def test_the_convolutions_of_vgg16_and_the_small_backbone():
    """Channels, stride, dilation; and as many parameters as Keras' own VGG-16 without its top has."""
    model = backbones.build("vgg16")
    assert _convolutions_of(model) == [(64, 1, 1)] * 2 + [(128, 1, 1)] * 2 + [(256, 1, 1)] * 3 + [
        (512, 1, 1)] * 3 + [(512, 1, 2)] * 3
    assert model.count_params() == 14_714_688
    small = backbones.build("small")
    assert _convolutions_of(small) == [(24, 2, 1), (32, 1, 1), (48, 2, 1), (64, 1, 1), (96, 2, 1), (128, 1, 1)]
    assert all(layer.trainable for layer in small.layers)  # its batch norm, too: there are no pretrained weights


@pytest.mark.parametrize("name, depths, parameters", [
    ("resnet50", (3, 4, 6, 3), 23_587_712), ("resnet101", (3, 4, 23, 3), 42_658_176)])
def test_the_convolutions_of_a_resnet(name, depths, parameters):
    """Stride 8 by dilation (DeepLab-v2); and as many parameters as Keras' own ResNets without their tops have."""
    expected = [(64, 2, 1)]
    for depth, channels, stride, dilation in zip(depths, (64, 128, 256, 512), (1, 2, 1, 1), (1, 1, 2, 4), strict=True):
        expected += [(4 * channels, stride, 1), (channels, stride, 1), (channels, 1, dilation), (4 * channels, 1, 1)]
        expected += [(channels, 1, 1), (channels, 1, dilation), (4 * channels, 1, 1)] * (depth - 1)
    model = backbones.build(name)
    assert sorted(_convolutions_of(model)) == sorted(expected)
    assert model.count_params() == parameters
    assert not any(layer.trainable for layer in model.layers if isinstance(layer, layers.BatchNormalization))


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


def _convolutions(strides, last="last"):
    def made(x):
        for number, stride in enumerate(strides):
            x = layers.Conv2D(4, 3, strides=stride, padding="same", activation="relu", name=f"c{number}")(x)
        return layers.Conv2D(6, 3, padding="same", activation="relu", name=last)(x)

    return made


@pytest.fixture
def registry():
    """What is registered goes again."""
    before = dict(backbones.BACKBONES)
    yield backbones.BACKBONES
    for name in backbones.BACKBONES.keys() - before.keys():
        del backbones.BACKBONES[name]


def test_a_registered_backbone_is_built_and_cut_like_the_others(registry):
    with pytest.raises(UserError, match="backbone: expected one of vgg16, .* found 'mine'; one of your own is regist"):
        backbones.build("mine")
    backbones.register_backbone("mine", _convolutions((2, 2, 2)), cuts={"last_block": "c2"}, cue_layer="c2")
    model = backbones.build("mine", "last_block")
    assert model(tf.zeros([1, 65, 97, 3])).shape == (1, 9, 13, 6)
    assert {v.path.split("/")[0] for v in model.trainable_variables} == {"last"}
    assert presets.ClassifierConfig(backbone="mine").backbone == "mine"
    assert registry["mine"] == backbones.Backbone(registry["mine"].layers, {"last_block": "c2"}, "c2", False)
    with pytest.raises(UserError, match="expected head, all or a cut of mine"):
        backbones.build("mine", "last_two_blocks")


def test_a_registered_backbone_keeps_its_batch_norm_frozen_where_it_says_so(registry):
    def normed(x):
        return layers.BatchNormalization(name="norm")(_convolutions((2, 2, 2))(x))

    for name, frozen in (("frozen", True), ("free", False)):
        backbones.register_backbone(name, normed, frozen_norm=frozen)
        assert backbones.build(name).get_layer("norm").trainable is not frozen


def test_a_function_that_was_mended_replaces_the_one_before(registry):
    """As where a notebook's cell is run again."""
    backbones.register_backbone("mine", _convolutions((2, 2)))
    with pytest.raises(UserError, match="backbone mine: expected features of stride 8"):
        backbones.build("mine")
    backbones.register_backbone("mine", _convolutions((2, 2, 2)), cuts={"last_block": "c2"})
    assert backbones.build("mine", "last_block").output_shape == (None, None, None, 6)
    assert configs.BACKBONES.count("mine") == 1


@pytest.mark.parametrize("name", ["vgg16", "a b", "", "a/b"])
def test_a_name_that_is_taken_or_odd_is_refused(registry, name):
    with pytest.raises(UserError, match="backbone: expected a (new name|name of letters)"):
        backbones.register_backbone(name, _convolutions((2, 2, 2)))
    with pytest.raises(UserError, match="cuts of mine: expected last_block and last_two_blocks, found first_block"):
        backbones.register_backbone("mine", _convolutions((2, 2, 2)), cuts={"first_block": "c0"})
    assert "mine" not in registry


@pytest.mark.parametrize("build, options, message", [
    (_convolutions((2, 2)), {}, r"backbone odd: expected features of stride 8, .* found \(1, 81, 81, 6\)"),
    (_convolutions((2, 2, 2, 2)), {}, r"found \(1, 21, 21, 6\)"),
    (lambda x: layers.GlobalAveragePooling2D()(x), {}, r"stride 8, .* found \(1, 3\)"),
    (lambda x: layers.Conv2D(4, 9, strides=8)(x), {}, r"found \(1, 40, 40, 4\)"),
    (lambda x: [x, x], {}, "expected one symbolic tensor of features, found list"),
    (lambda x: None, {}, "expected one symbolic tensor of features, found NoneType"),
    (_convolutions((2, 2, 2)), {"cuts": {"last_block": "c3"}}, "expected a layer 'c3', found image, c0, c1, c2, last"),
    (_convolutions((2, 2, 2)), {"cue_layer": "c9"}, "expected a layer 'c9'"),
    (_convolutions((2, 2, 2), "conv2d_3"), {"cue_layer": "conv2d_3"}, "names the layers where .* found 'conv2d_3'")])
def test_what_a_backbone_cannot_give_is_told_when_it_is_built(registry, build, options, message):
    backbones.register_backbone("odd", build, **options)
    with pytest.raises(UserError, match=message):
        backbones.build("odd")


def test_a_connection_past_the_cut_is_told(registry):
    def skipping(x):
        x = _convolutions((2, 2, 2))(x)
        return layers.Add(name="sum")([layers.Conv2D(6, 3, padding="same", name="within")(x), x])

    backbones.register_backbone("skipping", skipping, cuts={"last_block": "within"})
    with pytest.raises(UserError, match="backbone skipping: expected that everything passes through 'within', where"):
        backbones.build("skipping", "last_block")


def test_sides_that_are_no_8_k_plus_1_are_told(capsys):
    backbones.say_sides((129, 321, 513))
    assert not capsys.readouterr().err
    backbones.say_sides((320, 129, 512, 257))
    assert "sides of 320, 512: what is computed lies up to 4 pixels to one side of the photograph; at 321, 513, of" \
        in capsys.readouterr().err


@pytest.mark.parametrize("name", ["small", "vgg16", "resnet50"])
def test_at_a_side_of_8_k_plus_1_units_lie_evenly_on_the_photograph(name):
    """With kernels that are symmetric the mirrored photograph has the mirrored features; at 8 k it has others."""
    network = backbones.build(name)
    for variable in network.trainable_variables:
        if len(variable.shape) == 4:
            variable.assign((variable + tf.reverse(variable, [1])) / 2)
    for side, even in ((65, True), (64, False)):
        image = tf.random.stateless_normal([1, side, side, 3], [1, 2])
        features, mirrored = network(image), network(tf.reverse(image, [2]))
        apart = float(tf.reduce_max(tf.abs(features - tf.reverse(mirrored, [2]))) / tf.reduce_max(features))
        assert (apart < 1e-3) == even, apart


def test_a_cut_that_a_backbone_does_not_have_is_refused(monkeypatch):
    with pytest.raises(ValueError, match="trainable_layers: expected one of head, last_block, .* found 'none'"):
        backbones.build("small", "none")
    monkeypatch.setitem(backbones.BACKBONES, "small", dataclasses.replace(backbones.BACKBONES["small"], cuts={}))
    with pytest.raises(ValueError, match="trainable_layers: expected head, all or a cut of small"):
        backbones.build("small", "last_block")
