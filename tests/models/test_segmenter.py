"""DeepLab's heads against slow NumPy, and how a prediction's views are warped, mirrored back and averaged."""

import dataclasses

import keras
import numpy as np
import pytest
import tensorflow as tf

from ficklenet_tf import presets
from ficklenet_tf.data import images
from ficklenet_tf.errors import UserError
from ficklenet_tf.models import segmenter

CONFIG = dataclasses.replace(presets.PAPER.segmenter, channels=3, dilation=2, precision="float32")
CLASSES = 2


def _convolved(x, layer, dilation):
    """`[h, w, k]` by a layer's kernel, tap by tap, zeros beyond the border."""
    kernel, bias = (weight.numpy().astype(np.float64) for weight in layer.weights)
    height, width, _ = x.shape
    out = np.tile(bias, (height, width, 1))
    for y, x_, dy, dx in np.ndindex(height, width, *kernel.shape[:2]):
        row, column = y + (dy - kernel.shape[0] // 2) * dilation, x_ + (dx - kernel.shape[1] // 2) * dilation
        if 0 <= row < height and 0 <= column < width:
            out[y, x_] += x[row, column] @ kernel[dy, dx]
    return out


def _pooled(x, reduce):
    """3 x 3 windows, step 1; what lies beyond the border does not count."""
    return np.stack([np.stack([reduce(x[max(0, y - 1):y + 2, max(0, z - 1):z + 2], (0, 1)) for z in range(x.shape[1])])
                     for y in range(x.shape[0])])


def _largefov(x, head, dilations):
    pooled = _pooled(_pooled(x, np.max), np.mean)
    total = 0.0
    for d in dilations:
        hidden = np.maximum(_convolved(pooled, head.get_layer(f"fc6_{d}"), d), 0)
        hidden = np.maximum(_convolved(hidden, head.get_layer(f"fc7_{d}"), 1), 0)
        total = total + _convolved(hidden, head.get_layer(f"fc8_{d}"), 1)
    return total


BY_HAND = {"largefov": lambda x, head: _largefov(x, head, [2]),
           "largefov4": lambda x, head: _largefov(x, head, [6, 12, 18, 24]),
           "aspp": lambda x, head: sum(_convolved(x, head.get_layer(f"fc8_{d}"), d) for d in (6, 12, 18, 24))}


@pytest.mark.parametrize("name", segmenter.HEADS)
def test_a_head_is_what_its_paper_says(name):
    """26 rows: a tap at a dilation of 24 or 25 falls on the map and beside it."""
    rng = np.random.default_rng(0)
    head = segmenter.build_head(dataclasses.replace(CONFIG, head=name), (None, None, 4), CLASSES)
    for weight in head.weights:
        weight.assign(rng.normal(0, 0.5, weight.shape))
    x = rng.random((26, 5, 4))
    found = head(x[None].astype(np.float32), training=False).numpy()[0]
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, BY_HAND[name](x, head), rtol=1e-4, atol=1e-4)


def test_new_layers_start_as_asked_and_the_classes_near_nothing():
    for initializer, spread in (("normal", 0.01), ("he_normal", np.sqrt(2 / (9 * 64)))):
        config = dataclasses.replace(CONFIG, channels=128, initializer=initializer)
        head = segmenter.build_head(config, (None, None, 64), CLASSES)
        kernel, bias = head.get_layer("fc6_2").weights
        assert kernel.numpy().std() == pytest.approx(spread, rel=0.03) and not bias.numpy().any()
        assert head.get_layer("fc8_2").weights[0].numpy().std() == pytest.approx(0.01, rel=0.2)


def test_in_training_units_of_both_hidden_layers_drop_out():
    head = segmenter.build_head(dataclasses.replace(CONFIG, dropout=0.25), (None, None, 4), CLASSES)
    assert [(layer.name, layer.rate) for layer in head.layers if isinstance(layer, keras.layers.Dropout)] == [
        ("drop6_2", 0.25), ("drop7_2", 0.25)]
    head.get_layer("fc6_2").weights[1].assign([1.0, 1.0, 1.0])  # of zero features: the hidden layer is the bias
    before, after = (keras.Model(head.input, head.get_layer(name).output) for name in ("fc6_2", "drop6_2"))
    x = tf.zeros([1, 100, 100, 4])
    assert (before(x, training=True).numpy() == 1).all() and (after(x, training=False).numpy() == 1).all()
    dropped = after(x, training=True).numpy()
    assert (dropped == 0).mean() == pytest.approx(0.25, abs=0.02) and dropped.max() == pytest.approx(4 / 3)


@pytest.mark.parametrize("changes", [{"head": "fcn"}, {"initializer": "ones"}, {"precision": "float8"}])
def test_what_is_not_known_is_refused(changes):
    with pytest.raises(UserError, match=f"{next(iter(changes))}: expected one of"):
        segmenter.build_head(dataclasses.replace(CONFIG, **changes), (None, None, 4), CLASSES)


class _Columns(keras.Model):
    """Class 1 is sure in the left quarter of what it sees, class 0 elsewhere; of stride 8."""

    def call(self, x, training):
        assert not training
        side = x.shape[1] // 8
        left = tf.cast(tf.range(side) < side // 4, tf.float32)
        logits = tf.stack([tf.zeros([side, side]), tf.broadcast_to(left * 4, [side, side])], -1)
        return tf.repeat(logits[None], x.shape[0], 0)


def test_a_mirrored_view_is_mirrored_back():
    views = (tf.zeros([2, 32, 32, 3]), tf.zeros([2, 64, 64, 3]))
    plain, small, flipped, large, _ = (*segmenter.grids(_Columns(), views[:1], False),
                                       *segmenter.grids(_Columns(), views, True))
    sure = np.exp(4) / (1 + np.exp(4))
    np.testing.assert_allclose(plain[0, 0, :, 1], [sure, 0.5, 0.5, 0.5], rtol=1e-6)
    np.testing.assert_array_equal(small, plain)
    np.testing.assert_allclose(flipped[1, 0, :, 1], [0.5, 0.5, 0.5, sure], rtol=1e-6)
    assert large.shape == (2, 8, 8, 2)


def test_views_are_averaged_at_the_photographs_size():
    """Two grids, one of a single cell: at each pixel the mean of both, and the classes sum to 1."""
    one = tf.constant([[[[0.2, 0.8]]]])
    four = tf.constant([[[[0.6, 0.4], [1.0, 0.0]]]])
    merged = segmenter.merge((one, four), (1, 4)).numpy()
    np.testing.assert_allclose(merged[0, 0, :, 0], [0.4, 0.45, 0.55, 0.6], rtol=1e-6)
    np.testing.assert_allclose(merged.sum(-1), 1, rtol=1e-6)
    np.testing.assert_allclose(segmenter.merge((3 * four,), (1, 2)), four, rtol=1e-6)


def test_a_prediction_takes_every_size_of_the_photograph():
    rng = np.random.default_rng(1)
    photograph = rng.integers(0, 256, (2, 20, 30, 3)).astype(np.uint8)
    views = segmenter.views(photograph, (16, 24), images.CAFFE)
    assert [view.shape.as_list() for view in views] == [[2, 16, 16, 3], [2, 24, 24, 3]]
    for view, size in zip(views, (16, 24), strict=True):
        expected = images.normalize(images.warp(photograph[1], size), images.CAFFE)
        np.testing.assert_allclose(view[1], expected, rtol=1e-5, atol=1e-4)
    network = keras.Sequential([keras.Input((None, None, 3)), keras.layers.AveragePooling2D(8),
                                keras.layers.Conv2D(CLASSES, 1, kernel_initializer=keras.initializers.RandomNormal(
                                    stddev=0.01, seed=2))])
    for flip in (False, True):
        found = segmenter.predict_probs(network, photograph, images.CAFFE, (16, 24), flip)
        grids = segmenter.grids(network, views, flip)
        assert found.shape == (2, 20, 30, CLASSES) and len(grids) == (4 if flip else 2)
        np.testing.assert_allclose(found, segmenter.merge(grids, (20, 30)), rtol=1e-5)
    assert float(tf.reduce_max(tf.abs(found - segmenter.predict_probs(
        network, photograph, images.CAFFE, (16,), True)))) > 1e-4


@pytest.mark.parametrize("trainable", ["head", "last_block", "last_two_blocks", "all"])
def test_what_is_above_the_cut_is_the_rest_of_the_network(trainable):
    config = dataclasses.replace(CONFIG, trainable_layers=trainable)
    network, backbone, head, _ = segmenter.build(config, CLASSES, "small")
    above = segmenter.above_cut(network, trainable)
    assert {"head": above is head, "all": above is network}.get(trainable, True)
    x = tf.random.stateless_uniform([1, 33, 33, 3], [1, 2])
    below = {"head": backbone.output, "all": backbone.input}.get(trainable)
    if below is None:
        layer = {"last_block": "block4_relu", "last_two_blocks": "block2_relu"}[trainable]
        below = backbone.get_layer(layer).output
    kept = x if trainable == "all" else keras.Model(backbone.input, below)(x, training=False)
    np.testing.assert_allclose(above(kept, training=False), network(x, training=False), rtol=1e-4, atol=1e-6)
