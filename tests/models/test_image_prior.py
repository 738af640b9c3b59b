"""MIL-seg's image-level prior: by slow NumPy, not in training, the same for all who predict."""

import dataclasses

import keras
import numpy as np
import pytest
import tensorflow as tf

from ficklenet_tf import presets
from ficklenet_tf.evaluation import prediction
from ficklenet_tf.models import image_prior, segmenter
from ficklenet_tf.runs import artifacts
from ficklenet_tf.serving import saved_model
from tests import tiny_run
from tests.serving import servers


def _softmax(x):
    return np.exp(x) / np.exp(x).sum(-1, keepdims=True)


def _posterior(logits, sharpness):
    """P_ij(c) = softmax_ij(c) P(c | I), divided by its sum over c; `[h, w, classes]`."""
    scores = np.log(np.exp(sharpness * logits.astype("float64")).mean((0, 1))) / sharpness
    joint = _softmax(logits.astype("float64")) * _softmax(scores)
    return joint / joint.sum(-1, keepdims=True)


def test_pooled_scores_are_between_the_mean_and_the_maximum():
    """By hand: of e^f = 1, 3 the mean is 2; of one value everywhere it is that value, whatever the size."""
    logits = tf.constant([[[[0.0, 7.0], [np.log(3), 7.0]]]], tf.float32)
    np.testing.assert_allclose(image_prior.pooled_scores(logits, 1.0), [[np.log(2), 7]], rtol=1e-5)
    np.testing.assert_allclose(image_prior.pooled_scores(logits, 1e-3), [[np.log(3) / 2, 7]], rtol=1e-2)
    np.testing.assert_allclose(image_prior.pooled_scores(logits, 300.0), [[np.log(3), 7]], rtol=1e-2)


def test_it_multiplies_by_what_the_image_says():
    logits = np.random.default_rng(0).normal(size=(2, 3, 4, 5)).astype("float32")
    layer = image_prior.ImagePrior(2.0)
    answer = _softmax(layer(logits).numpy())
    np.testing.assert_allclose(answer, [_posterior(image, 2.0) for image in logits], rtol=1e-4)
    np.testing.assert_array_equal(layer(logits, training=True), logits)
    inputs = keras.Input((None, None, 5))
    model = keras.Model(inputs, layer(inputs))
    copy = keras.Model.from_config(model.get_config())
    np.testing.assert_allclose(copy(logits), layer(logits))


def test_a_head_has_it_where_it_predicts_and_not_where_it_learns():
    config = dataclasses.replace(presets.TINY.segmenter, channels=3, dropout=0.0, mil_sharpness=4.0)
    x = tf.random.stateless_normal([1, 4, 5, 6], [1, 2])
    plain = segmenter.build_head(config, (None, None, 6), 4)
    prior = segmenter.build_head(dataclasses.replace(config, image_prior=True), (None, None, 6), 4)
    weights = [4 * w for w in plain.get_weights()]
    plain.set_weights(weights)
    prior.set_weights(weights)
    np.testing.assert_array_equal(prior(x, training=True), plain(x, training=True))
    for answer in (prior(x), prior(x, training=False)):
        np.testing.assert_allclose(_softmax(answer.numpy()[0]), _posterior(plain(x).numpy()[0], 4.0), rtol=1e-3,
                                   atol=1e-6)
    assert np.abs(_softmax(prior(x).numpy()) - _softmax(plain(x).numpy())).max() > 1e-3


@pytest.mark.trains
def test_the_served_model_has_the_live_ones(tmp_path):
    run_dir = tiny_run.make(tmp_path / "run", sizes=(48, 64), flip=True)
    image = tiny_run.photograph(70, 93, 1)
    without = prediction.Predictor(run_dir / "segmenter")(image)
    run = artifacts.read_run(run_dir / "segmenter")
    run["config"].update(image_prior=True, mil_sharpness=1.0)
    artifacts.write_run(run_dir / "segmenter", **run)
    live = prediction.Predictor(run_dir / "segmenter")(image)
    assert np.abs(live - without).max() > 0.05 and len(np.unique(live.argmax(-1))) > 1
    answer = servers.Model(saved_model.export(run_dir, 1)).run("serving_default", {"images": image[None]})
    np.testing.assert_allclose(answer["probabilities"][0], live, atol=1e-5)
