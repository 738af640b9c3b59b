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
