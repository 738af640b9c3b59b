"""The optimizers' learning rates by layer."""

import dataclasses

import keras
import numpy as np
import pytest
import tensorflow as tf

from ficklenet_tf import presets
from ficklenet_tf.models import segmenter
from ficklenet_tf.training import optimizers


def test_multipliers():
    config = dataclasses.replace(presets.PAPER.segmenter, channels=8)
    network, _, head, _ = segmenter.build(config, 3, "small")
    factors = dict(zip([v.path for v in network.trainable_variables],
                       optimizers.multipliers(network.trainable_variables, head.trainable_variables),
                       strict=True))
    assert {v for k, v in factors.items() if "fc" in k and "kernel" in k} == {10.0}
    assert {v for k, v in factors.items() if "fc" in k and "bias" in k} == {20.0}
    assert {v for k, v in factors.items() if k.startswith("block") and "kernel" in k} == {1.0}


def test_sgd_by_hand():
    """Two steps of momentum 0.9 at rate 0.1, gradient 1 + 0.5 of the weight itself; new: times 10, of a bias 20."""
    inputs = keras.Input((1,))
    model = keras.Model(inputs, keras.layers.Dense(1, name="fc8", kernel_initializer="ones")(inputs))
    config = dataclasses.replace(presets.PAPER.segmenter, learning_rate=0.01, weight_decay=0.5)
    optimizer = optimizers.segmenter_optimizer(config, model, model.trainable_variables)
    optimizer.build(model.trainable_variables)
    decayed = optimizers.weight_decay(model, config)
    kernel, bias = model.trainable_variables
    expected, speed = {"kernel": 1.0, "bias": 0.0}, {"kernel": 0.0, "bias": 0.0}
    for _ in range(2):
        gradients = decayed([tf.ones([1, 1]), tf.ones([1])])
        assert float(gradients[0][0, 0]) == pytest.approx(1 + 0.5 * float(kernel[0, 0]))
        assert float(gradients[1][0]) == 1  # biases do not decay
        optimizer.apply(gradients, model.trainable_variables)
        for name, rate, gradient in (("kernel", 0.1, 1 + 0.5 * expected["kernel"]), ("bias", 0.2, 1)):
            speed[name] = 0.9 * speed[name] - rate * gradient
            expected[name] += speed[name]
    np.testing.assert_allclose([float(kernel[0, 0]), float(bias[0])], [expected["kernel"], expected["bias"]],
                               rtol=1e-5)
    assert optimizers.weight_decay(model, dataclasses.replace(config, optimizer="adam")) is None


def test_sgd_decays_kernels_alone():
    """Neither biases nor the scales and shifts of batch norm."""
    inputs = keras.Input((1,))
    layers = [keras.layers.Dense(1, name="dense"), keras.layers.BatchNormalization(name="bn")]
    model = keras.Sequential([inputs, *layers])
    decayed = optimizers.weight_decay(model, dataclasses.replace(presets.PAPER.segmenter, weight_decay=0.5))
    ones = [tf.ones(v.shape) for v in model.trainable_variables]
    for v in model.trainable_variables:
        v.assign(tf.ones(v.shape))
    gradients = zip(model.trainable_variables, decayed(ones), strict=True)
    assert {v.path.split("/", 1)[1]: float(tf.reduce_mean(g)) for v, g in gradients} == {
        "dense/kernel": 1.5, "dense/bias": 1, "bn/gamma": 1, "bn/beta": 1}


def test_adam_decays_kernels_alone():
    inputs = keras.Input((1,))
    model = keras.Model(inputs, keras.layers.Dense(1, kernel_initializer="ones", bias_initializer="ones")(inputs))
    config = dataclasses.replace(presets.PAPER.segmenter, optimizer="adam", learning_rate=0.1, weight_decay=0.5)
    optimizer = optimizers.segmenter_optimizer(config, model, model.trainable_variables)
    optimizer.build(model.trainable_variables)
    optimizer.apply([tf.zeros([1, 1]), tf.zeros([1])], model.trainable_variables)
    assert [float(variable.numpy().ravel()[0]) for variable in model.trainable_variables] == pytest.approx([0.95, 1])
