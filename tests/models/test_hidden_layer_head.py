"""The head with a hidden layer: it is the linear head on that layer, its maps by closed form are the gradient's."""

import dataclasses

import keras
import numpy as np
import pytest
import tensorflow as tf

from ficklenet_tf import presets
from ficklenet_tf.maps import aggregation
from ficklenet_tf.maps import extraction as map_extraction
from ficklenet_tf.models import classifier
from ficklenet_tf.models.dilated_convolution import DilatedConv2D
from ficklenet_tf.models.stochastic import StochasticHead
from ficklenet_tf.training import classifier as classifier_training
from tests import tiny_run

CONFIG = dataclasses.replace(presets.TINY.classifier, input_size=33, kernel_size=3, rate=0.7, head="hidden", hidden=6)


@pytest.fixture
def head():
    keras.utils.set_random_seed(5)
    layer = classifier.HEADS["hidden"](CONFIG, 3)
    layer.build((None, 4, 5, 7))
    return layer


def _features():
    return tf.random.stateless_normal([2, 4, 5, 7], [1, 2])


def test_it_is_the_linear_head_on_the_hidden_units(head):
    linear = StochasticHead(3, 3, 0.7)
    linear.build((None, 4, 5, 6))
    linear.kernel.assign(head.kernel)
    x, rng_seeds = _features(), tf.constant([[1, 2], [3, 4]])
    kernel, bias = head.convolution.weights
    units = tf.nn.relu(tf.nn.conv2d(x, kernel, 1, "SAME") + bias)
    np.testing.assert_allclose(head.units(x), units, atol=1e-5)
    assert 0.1 < (units.numpy() > 0).mean() < 0.9
    for training in (False, True):
        np.testing.assert_allclose(head(x, training=training, rng_seeds=rng_seeds),
                                   linear(units, training=training, rng_seeds=rng_seeds), atol=1e-5)
    np.testing.assert_allclose(head.expected_logits(x), linear.expected_logits(units), atol=1e-5)


def test_maps_by_closed_form_are_those_by_the_gradient_of_the_hidden_units(head):
    options = [aggregation.Options(num_maps=7, method=method, samples=3) for method in ("closed_form", "tape")]
    closed, tape = (aggregation.localize(head, _features()[0], tf.constant([0, 2]), tf.constant([4, 5]), each)
                    for each in options)
    assert closed["mean"].numpy().max() > 0.1
    for name in ("mean", "max", "samples"):
        np.testing.assert_allclose(closed[name], tape[name], atol=1e-4)


def test_it_is_trained_saved_and_loaded(tmp_path):
    split = tiny_run.Photographs()
    config = dataclasses.replace(CONFIG, batch_size=3, epochs=2)
    classifier_training.train(tmp_path / "classifier", split, split, config)
    trained = classifier.load(tmp_path / "classifier")
    assert trained.model.head.kernel.shape == (3, 3, 6, 3)
    copy = type(trained.model.head).from_config(trained.model.head.get_config())
    assert copy.hidden == 6 and copy.rate == 0.7
    localizer, _ = map_extraction.open_localizer(tmp_path, split, presets.MapsConfig(num_maps=5, sizes=(33,)),
                                                 map_extraction.Options())
    assert localizer(split[0], 1).mean.shape == (5, 5, 2)


def test_the_first_random_weights_are_drawn_as_they_always_were(head):
    """A run of one layer without dropout goes on from what an earlier version began."""
    keras.utils.set_random_seed(5)
    linear = StochasticHead(3, 3, 0.7)
    convolution = DilatedConv2D(6, 3, padding="same", kernel_initializer="he_normal")
    convolution.build((None, 4, 5, 7))
    linear.build((None, 4, 5, 6))
    np.testing.assert_array_equal(head.convolution.kernel, convolution.kernel)
    np.testing.assert_array_equal(head.kernel, linear.kernel)
    assert [v.path.split("/")[-2:] for v in head.trainable_variables[:2]] == [
        [head.name, "kernel"], [head.name, "bias"]] and len(head.trainable_variables) == 4


def _deep(**changes):
    keras.utils.set_random_seed(6)
    layer = classifier.HEADS["hidden"](dataclasses.replace(CONFIG, hidden_layers=3, **changes), 3)
    layer.build((None, 4, 5, 7))
    for convolution in (layer.convolution, *layer.further):
        convolution.bias.assign(tf.fill([6], 0.1))
    return layer


@pytest.mark.parametrize("delta", [1.0, 0.4])
def test_layers_by_hand(delta):
    """Three convolutions with ReLU; with DRS the features and each of the three are cut."""
    def cut(x):
        return np.minimum(x, np.float32(delta) * x.max((1, 2), keepdims=True))

    head, x = _deep(suppression=delta), tf.nn.relu(_features())
    units = cut(x.numpy())
    kernels = [v for v in head.trainable_variables if v.shape[0] == 3 and v.shape[-1] == 6]
    assert len(kernels) == 3
    for kernel in kernels:
        units = cut(np.maximum(tf.nn.conv2d(units, kernel, 1, "SAME").numpy() + 0.1, 0))
    np.testing.assert_allclose(head.units(x), units, atol=1e-5)
    assert ((units == units.max((1, 2), keepdims=True)) & (units > 0)).sum() > 24 or delta == 1


def test_dropout_is_in_training_alone_and_after_each_layer():
    head, plain, x = _deep(hidden_dropout=0.5), _deep(), _features()
    head.set_weights(plain.get_weights())
    np.testing.assert_array_equal(head.units(x), plain.units(x))
    np.testing.assert_allclose(head.expected_logits(x), plain.expected_logits(x), rtol=1e-6)
    # The last dropout alone: what stays is doubled.
    head.dropouts[:2] = [lambda units, training: units] * 2
    dropped, units = head.units(x, training=True).numpy(), plain.units(x).numpy()
    active = units > 0
    kept = dropped[active] > 0
    assert 0.3 < kept.mean() < 0.7
    np.testing.assert_allclose(dropped[active][kept], 2 * units[active][kept], rtol=1e-5)
    assert np.any(head.units(x, training=True) != dropped)  # drawn anew


def test_each_layer_has_its_dropout(monkeypatch):
    head, x, calls = _deep(hidden_dropout=0.5, training_mode="deterministic"), _features(), []
    for dropout in head.dropouts:
        monkeypatch.setattr(dropout, "call", lambda units, training: calls.append(training) or units)
    head(x, training=True)
    head(x)
    assert calls == [True] * 3 + [False] * 3


def test_maps_of_deep_suppressed_layers_by_closed_form_are_the_gradients():
    head = _deep(suppression=0.5, hidden_dropout=0.3)
    for mode in ("stochastic", "deterministic"):
        closed, tape = (aggregation.localize(head, _features()[0], tf.constant([0, 2]), tf.constant([4, 5]),
                                             aggregation.Options(num_maps=7, method=method, mode=mode))
                        for method in ("closed_form", "tape"))
        assert closed["mean"].numpy().max() > 0.1
        np.testing.assert_allclose(closed["mean"], tape["mean"], atol=1e-4)


@pytest.mark.trains
def test_secs_network_is_trained_saved_and_loaded(tmp_path):
    """Dropout makes a step another one; what is loaded gives what was saved."""
    split, losses = tiny_run.Photographs(), {}
    for rate in (0.0, 0.5):
        config = dataclasses.replace(CONFIG, kernel_size=1, hidden_layers=2, hidden_dropout=rate, suppression=0.9,
                                     training_mode="deterministic", inference_mode="deterministic", batch_size=3,
                                     epochs=2)
        run = classifier_training.train(tmp_path / f"{rate}", split, split, config)
        losses[rate] = run["metrics"]["loss"]
        head = classifier.load(tmp_path / f"{rate}").model.head
        assert (head.hidden_layers, head.hidden_dropout, head.delta, len(head.further)) == (2, rate, 0.9, 1)
        copy = type(head).from_config(head.get_config())
        copy.build((None, 5, 5, 128))
        copy.set_weights(head.get_weights())
        x = tf.random.stateless_normal([2, 5, 5, 128], [1, 2])
        np.testing.assert_array_equal(copy(x), head(x))
    assert losses[0.0] != losses[0.5]
