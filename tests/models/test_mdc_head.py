"""MDC's head: four branches that learn apart and are one linear head on their units when maps are drawn."""

import dataclasses

import keras
import numpy as np
import pytest
import tensorflow as tf

from ficklenet_tf import presets
from ficklenet_tf.maps import aggregation, grad_cam
from ficklenet_tf.maps import extraction as map_extraction
from ficklenet_tf.models import classifier, hidden_units, stochastic
from ficklenet_tf.models.stochastic import StochasticHead
from ficklenet_tf.training import classifier as classifier_training
from ficklenet_tf.training import classifier_losses
from tests import tiny_run

CONFIG = dataclasses.replace(presets.TINY.classifier, input_size=33, kernel_size=3, rate=0.7, head="mdc", hidden=5)
DILATIONS, SIDE = (1, 3, 6, 9), (4, 5)
RNG_SEEDS = tf.constant([[1, 2], [3, 4]])


def _head(side=SIDE, **changes):
    keras.utils.set_random_seed(5)
    layer = classifier.HEADS["mdc"](dataclasses.replace(CONFIG, **changes), 3)
    layer.build((None, *side, 7))
    for i, bias in enumerate(layer.biases):
        bias.assign([0.1 * i, -0.3, 0.2])
    return layer


def _features(side=SIDE):
    return tf.random.stateless_normal([2, *side, 7], [1, 2])


def _branches(head, x):
    """The four branches by hand: (a `StochasticHead`, its units)."""
    made = []
    for dilation, convolution, kernel, bias in zip(DILATIONS, head.convolutions, head.kernels, head.biases,
                                                   strict=True):
        linear = StochasticHead(3, head.kernel_size, head.rate, training_mode=head.training_mode, form=head.form)
        linear.build((None, *x.shape[1:3], 5))
        linear.kernel.assign(kernel)
        linear.bias.assign(bias)
        made.append((linear, tf.nn.relu(_dilated(x.numpy(), *convolution.get_weights(), dilation))))
    return made


def _dilated(x, kernel, bias, dilation):
    """A 3 x 3 convolution with zeros beyond the border, as it is defined."""
    padded = np.pad(x, ((0, 0), (dilation, dilation), (dilation, dilation), (0, 0)))
    height, width = x.shape[1:3]
    return bias + sum(padded[:, i * dilation:i * dilation + height, j * dilation:j * dilation + width]
                      @ kernel[i, j] for i in range(3) for j in range(3))


@pytest.mark.parametrize("form", ["contracted", "expanded"])
@pytest.mark.parametrize("mode", ["stochastic", "deterministic"])
def test_each_branch_is_a_head_of_its_own_on_the_shared_selection(mode, form):
    head, x = _head(training_mode=mode, form=form), _features()
    answers = head.branch_logits(x, training=True, rng_seeds=RNG_SEEDS)
    for answer, (linear, units) in zip(answers, _branches(head, x), strict=True):
        assert 0.1 < (units.numpy() > 0).mean() < 0.9
        np.testing.assert_allclose(answer, linear(units, training=True, rng_seeds=RNG_SEEDS), atol=1e-5)


@pytest.mark.parametrize("mode", stochastic.MODES)
def test_the_logits_are_half_the_first_branchs_and_half_the_mean_of_the_others(mode):
    head, x = _head(training_mode=mode), _features()
    first, *others = (answer.numpy() for answer in head.branch_logits(x, training=True, rng_seeds=RNG_SEEDS))
    np.testing.assert_allclose(head(x, training=True, rng_seeds=RNG_SEEDS), first / 2 + sum(others) / 6, atol=1e-5)


def test_the_expected_logits_are_the_mean_of_the_branches_expected_logits():
    head, x = _head(), _features()
    first, *others = (linear.expected_logits(units).numpy() for linear, units in _branches(head, x))
    np.testing.assert_allclose(head.expected_logits(x), first / 2 + sum(others) / 6, atol=1e-5)


def _localize(head, x, **options):
    return aggregation.localize(head, x, tf.constant([0, 2]), tf.constant([4, 5]), aggregation.Options(**options))


def _normalized(maps):
    maps = np.maximum(maps, 0)
    return maps / maps.max(0)


def test_maps_of_all_units_are_the_first_branchs_cam_and_the_mean_of_the_others():
    """Closed form, tape and CAM are H_0 + (H_1 + H_2 + H_3) / 3 of the branches' class activation maps."""
    head, x = _head(kernel_size=1), _features()
    first, *others = (linear.class_maps(units[0], tf.constant([0, 2])).numpy() for linear, units in _branches(head, x))
    expected = _normalized(first + sum(others) / 3).reshape(*SIDE, 2)
    assert np.abs(expected - _normalized(first + sum(others)).reshape(*SIDE, 2)).max() > 0.05
    for options in ({"method": "closed_form"}, {"method": "tape"}, {"cam": "cam"}):
        np.testing.assert_allclose(_localize(head, x[0], mode="deterministic", **options)["mean"], expected, atol=1e-4)


@pytest.mark.parametrize("mode, bits_shape", [("stochastic", (20, 6, 9)), ("deterministic", None)])
def test_maps_of_a_selection_are_the_weighed_sum_of_the_branches_maps(mode, bits_shape):
    head, x, tag_ids = _head(), _features(), tf.constant([0, 2])
    bits = None if bits_shape is None else hidden_units.keep_bits(tf.constant([7, 8]), bits_shape, 0.7)
    first, *others = (grad_cam.closed_form(linear, units[0], tag_ids, mode)(bits).numpy()
                      for linear, units in _branches(head, x))
    expected = _normalized(first + sum(others) / 3)
    units = head.units(x)[0]
    for method in grad_cam.METHODS.values():
        np.testing.assert_allclose(_normalized(method(head, units, tag_ids, mode)(bits).numpy()), expected, atol=1e-4)


def test_aggregated_maps_by_closed_form_are_those_by_the_tape():
    closed, tape = (_localize(_head(), _features()[0], num_maps=7, method=method, samples=3)
                    for method in ("closed_form", "tape"))
    assert closed["mean"].numpy().max() > 0.1
    for name in ("mean", "max", "samples"):
        np.testing.assert_allclose(closed[name], tape[name], atol=1e-4)


def test_a_branch_learns_by_its_own_loss_alone():
    head, x = _head(), _features()
    with tf.GradientTape(persistent=True) as tape:
        losses = [tf.reduce_sum(answer**2) for answer in head.branch_logits(x, training=True, rng_seeds=RNG_SEEDS)]
    for i, loss in enumerate(losses):
        for j in range(4):
            own = [*head.convolutions[j].trainable_variables, head.kernels[j], head.biases[j]]
            for gradient in tape.gradient(loss, own):
                reached = gradient is not None and np.abs(gradient).max() > 0
                assert reached == (i == j)


def _batch():
    return {"features": _features(), "tags": tf.constant([[1.0, 0, 0], [1, 0, 1]]), "rng_seeds": RNG_SEEDS}


def test_the_loss_of_the_tags_is_the_sum_of_the_branches():
    head = _head()
    step = classifier_losses.Step(head, _batch(), dataclasses.replace(CONFIG, trainable_layers="head"))
    tags, expected = step.tags.numpy(), 0
    for linear, units in _branches(head, _features()):
        probs = 1 / (1 + np.exp(-linear(units, training=True, rng_seeds=RNG_SEEDS).numpy()))
        expected -= np.mean(tags * np.log(probs) + (1 - tags) * np.log(1 - probs))
    assert 4 * 0.3 < expected < 4 * 3
    np.testing.assert_allclose(classifier_losses.total_loss(step)["loss"], expected, rtol=1e-4)


def test_the_widest_branch_sees_nine_positions_away_on_a_map_of_17():
    """The tiny preset's map, 129 pixels wide: each branch answers a single unit where its taps are, and only there."""
    head = _head((17, 17))
    for convolution in head.convolutions:
        convolution.kernel.assign(tf.ones_like(convolution.kernel))
    x = np.zeros((1, 17, 17, 7), np.float32)
    x[0, 8, 7, 2] = 1
    units = head.units(x).numpy()
    assert units.shape == (1, 17, 17, 20) and head(x, rng_seeds=RNG_SEEDS[:1]).shape == (1, 3)
    for dilation, branch in zip(DILATIONS, np.split(units, 4, axis=-1), strict=True):
        taps = {(8 + i * dilation, 7 + j * dilation) for i in (-1, 0, 1) for j in (-1, 0, 1)}
        seen = {(int(row), int(column)) for row, column in np.argwhere(branch[0, ..., 0] > 0)}
        assert seen == {tap for tap in taps if 0 <= min(tap) and max(tap) <= 16}


def test_other_dilations_and_one_alone():
    head, x = _head(dilations=(2, 4), hidden=3), _features()
    first, second = head.branch_logits(x, rng_seeds=RNG_SEEDS)
    np.testing.assert_allclose(head(x, rng_seeds=RNG_SEEDS), (first + second) / 2, atol=1e-5)
    alone = _head(dilations=[2])
    np.testing.assert_allclose(alone(x, rng_seeds=RNG_SEEDS), alone.branch_logits(x, rng_seeds=RNG_SEEDS)[0],
                               atol=1e-5)


@pytest.mark.trains
@pytest.mark.parametrize("mode", ["stochastic", "deterministic"])
def test_it_is_trained_saved_and_loaded(tmp_path, mode):
    split = tiny_run.Photographs()
    config = dataclasses.replace(CONFIG, training_mode=mode, batch_size=3, epochs=2)
    run = classifier_training.train(tmp_path / "classifier", split, split, config)
    assert 4 * 0.2 < run["metrics"]["loss"]  # of four branches
    head = classifier.load(tmp_path / "classifier").model.head
    assert head.dilations == DILATIONS and len(head.trainable_variables) == 16
    copy = type(head).from_config(head.get_config())
    copy.build((None, 5, 5, 128))
    copy.set_weights(head.get_weights())
    x = tf.random.stateless_normal([2, 5, 5, 128], [1, 2])
    np.testing.assert_array_equal(copy(x, rng_seeds=RNG_SEEDS), head(x, rng_seeds=RNG_SEEDS))
    localizer, _ = map_extraction.open_localizer(tmp_path, split, presets.MapsConfig(num_maps=5, sizes=(33,)),
                                                 map_extraction.Options())
    assert localizer(split[0], 1).mean.shape == (5, 5, 2)
