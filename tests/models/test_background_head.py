"""The head with a background: the hidden head's answer for the tags, and the parts of each position."""

import dataclasses

import keras
import numpy as np
import pytest
import tensorflow as tf

from ficklenet_tf import presets
from ficklenet_tf.data import images
from ficklenet_tf.errors import UserError
from ficklenet_tf.maps import grad_cam, localizer
from ficklenet_tf.models import classifier
from tests.training import descent

CONFIG = dataclasses.replace(presets.TINY.classifier, input_size=33, kernel_size=3, rate=0.7, head="eps", hidden=6,
                             objectives=("tags", "saliency"))
SEEDS = tf.constant([[1, 2], [3, 4]])


def _head(**changes):
    keras.utils.set_random_seed(5)
    head = classifier.HEADS["eps"](dataclasses.replace(CONFIG, **changes), 3)
    head.build((None, 4, 5, 7))
    head.bias.assign([0.1, -0.2, 0.3])
    head.background_bias.assign([0.4])
    return head


def _features():
    return tf.random.stateless_normal([2, 4, 5, 7], [1, 2])


@pytest.mark.parametrize("changes", [{}, {"training_mode": "general"}, {"training_mode": "deterministic"},
                                     {"rescale": True}, {"kernel_size": 1}])
def test_the_mean_over_the_positions_is_the_logit_on_the_same_selection(changes):
    head = _head(**changes)
    positions = head.position_logits(_features(), training=True, rng_seeds=SEEDS)
    assert positions.shape == (2, 4, 5, 4)
    logits = head(_features(), training=True, rng_seeds=SEEDS)
    assert logits.shape == (2, 3)
    np.testing.assert_allclose(tf.reduce_mean(positions[..., :3], [1, 2]), logits, atol=1e-5)
    head.kernel.assign(tf.repeat(head.background_kernel, 3, axis=3))  # then the background answers as the classes
    same = head.position_logits(_features(), training=True, rng_seeds=SEEDS) - tf.concat([head.bias, [0.4]], 0)
    np.testing.assert_allclose(same[..., 3], same[..., 0], atol=1e-5)


def test_a_position_answers_what_grad_cam_shows_there():
    head = _head(training_mode="deterministic", inference_mode="deterministic")
    units = head.units(_features())
    maps = grad_cam.tape(head, units[0], tf.constant([0, 1, 2]), "deterministic")(None)[:, 0]
    positions = head.position_logits(_features())[0, ..., :3] - head.bias
    np.testing.assert_allclose(tf.reshape(positions, [20, 3]) / 20, maps, atol=1e-5)


def test_the_softmax_maps_are_of_the_mean_over_all_selections():
    head = _head()
    x, draws = _features()[:1], tf.random.stateless_uniform([3000, 2], [1, 1], None, None, tf.int32)
    draw = tf.function(lambda: head.position_logits(tf.repeat(x, 3000, axis=0), True, draws))
    expected = tf.nn.softmax(tf.reduce_mean(draw(), 0)).numpy()[..., [0, 2, 3]]
    np.testing.assert_allclose(head.class_probs(x[0], tf.constant([0, 2])), expected, atol=0.02)
    assert np.abs(expected - 0.25).max() > 0.1
    assert head.class_probs(x[0], tf.constant([], tf.int32)).shape == (4, 5, 1)
    plain = _head(inference_mode="deterministic")
    np.testing.assert_array_equal(head.class_probs(x[0], tf.constant([0, 2]), "deterministic"),
                                  plain.class_probs(x[0], tf.constant([0, 2])))
    assert np.abs(plain.class_probs(x[0], tf.constant([0, 2])) - expected).max() > 0.05


def test_the_softmax_maps_are_of_the_mode_of_the_maps():
    keras.utils.set_random_seed(5)
    model, _ = classifier.build(CONFIG, 3)
    model.head.kernel.assign(100 * model.head.kernel)
    photograph = np.random.default_rng(0).integers(0, 256, (40, 40, 3), np.uint8)
    example = {"image_id": "a", "image": tf.io.encode_png(photograph).numpy(), "tags": np.float32([1, 0, 1])}
    found = {}
    for mode in ("stochastic", "deterministic"):
        maps = localizer.Localizer(model, images.TORCH, presets.MapsConfig(sizes=(33,), num_maps=2), mode)
        features = maps.features(prepared := maps.prepare(example))[0]
        found[mode] = maps.localize(prepared, 0).probs.astype(np.float32)
        np.testing.assert_allclose(found[mode], model.head.class_probs(features, tf.constant([0, 2]), mode), atol=1e-3)
    assert np.abs(found["stochastic"] - found["deterministic"]).max() > 0.1


def test_it_is_loaded_and_its_tags_are_the_hidden_heads():
    head, hidden = _head(), classifier.HEADS["hidden"](CONFIG, 3)
    hidden.build((None, 4, 5, 7))
    of_path = {v.path.split("/", 1)[1]: v for v in head.variables if "background" not in v.path}
    for variable in hidden.trainable_variables:
        variable.assign(of_path[variable.path.split("/", 1)[1]])
    np.testing.assert_allclose(head(_features(), rng_seeds=SEEDS), hidden(_features(), rng_seeds=SEEDS), atol=1e-6)
    np.testing.assert_allclose(head.expected_logits(_features()), hidden.expected_logits(_features()), atol=1e-6)
    copy = type(head).from_config(head.get_config())
    copy.build((None, 4, 5, 7))
    copy.set_weights(head.get_weights())
    np.testing.assert_array_equal(copy.position_logits(_features(), rng_seeds=SEEDS),
                                  head.position_logits(_features(), rng_seeds=SEEDS))


@pytest.mark.parametrize("changes", [{"head": "hidden"}, {"objectives": ("tags",)}])
def test_the_head_and_its_loss_go_together(changes):
    with pytest.raises(UserError, match="head eps: expected hidden_dropout 0, .* found 0.5"):
        dataclasses.replace(CONFIG, hidden_dropout=0.5)
    with pytest.raises(UserError, match="expected head eps and the objective saliency together, found head"):
        dataclasses.replace(CONFIG, **changes)


@pytest.mark.parametrize("mode", ["deterministic", "stochastic"])
def test_a_background_is_learned_where_saliency_tells_it(mode):
    """Two made-up feature maps, an object and what is around it: the softmax maps tell them apart."""
    config = dataclasses.replace(CONFIG, training_mode=mode, inference_mode=mode, kernel_size=3)
    head = classifier.HEADS["eps"](config, 3)
    features = np.random.default_rng(0).random((2, 5, 5, 7), np.float32) * 0.1
    salient = np.zeros((2, 5, 5), np.float32)
    salient[0, 1:4, 0:3] = salient[1, 2:, 2:] = 1
    features[..., 6] += 1 - salient
    features[0, ..., 0] += salient[0]
    features[1, ..., 1] += salient[1]
    keras.utils.set_random_seed(0)
    head.build((None, 5, 5, 7))
    batch = {"features": tf.constant(features), "saliency": tf.constant(salient), "tags": tf.eye(3)[:2],
             "rng_seeds": SEEDS}
    descent.learn(head, batch, config)
    for k in range(2):
        background = head.class_probs(tf.constant(features[k]), tf.constant([k])).numpy()[..., 1]
        assert background[salient[k] == 0].mean() > background[salient[k] == 1].mean() + 0.3
