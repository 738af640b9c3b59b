"""The selection layers: what is kept, and that both forms of the head are one function (Section 3.1, 3.2)."""

import dataclasses

import keras
import numpy as np
import pytest
import tensorflow as tf

from ficklenet_tf import presets
from ficklenet_tf.models import classifier, hidden_units, stochastic
from tools.benchmarks import head as benchmark


def _features(height, width, channels=4, batch=2):
    return tf.random.stateless_normal([batch, height, width, channels], [height, width])


@pytest.mark.parametrize("s, height, width", [(3, 5, 7), (5, 4, 6), (7, 3, 3), (9, 8, 5), (1, 3, 2)])
def test_strided_convolution_on_the_expansion_is_a_same_convolution(s, height, width):
    x = _features(height, width)
    kernel = tf.random.stateless_normal([s, s, 4, 3], [1, 2])
    expanded = stochastic.FeatureMapExpansion(s)(x)
    assert expanded.shape == (2, height * s, width * s, 4)
    np.testing.assert_allclose(tf.nn.conv2d(expanded, kernel, s, "VALID"), tf.nn.conv2d(x, kernel, 1, "SAME"),
                               rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("s, height, width", [(3, 5, 7), (5, 4, 6)])
def test_dropout_keeps_every_centre_and_shares_its_mask_over_channels(s, height, width):
    x = tf.ones([3, height * s, width * s, 4])
    dropped = stochastic.CenterPreservingDropout(0.8, s, seed=1)(x).numpy()
    windows = dropped.reshape(3, height, s, width, s, 4)
    assert (windows[:, :, s // 2, :, s // 2] == 1).all()
    assert (dropped == dropped[..., :1]).all()
    assert not (dropped[0] == dropped[1]).all()


def test_dropout_rate_and_scale():
    s, size = 5, 30
    x = tf.ones([1, size * s, size * s, 1])
    dropped = stochastic.CenterPreservingDropout(0.75, s, rescale=True, seed=3)(x).numpy().reshape(size, s, size, s)
    others = np.ones((s, s), bool)
    others[2, 2] = False
    inner = dropped[2:-2, :, 2:-2].transpose(0, 2, 1, 3)[..., others]  # windows that lie on the map
    assert set(np.unique(inner)) == {0.0, 4.0}
    assert abs((inner > 0).mean() - 0.25) < 4 * np.sqrt(0.25 * 0.75 / inner.size)
    assert (dropped[:, 2, :, 2] == 1).all()


@pytest.mark.parametrize("rate, expected", [(0.0, 1), (1.0, 0)])
def test_extreme_rates(rate, expected):
    dropped = stochastic.CenterPreservingDropout(rate, 3)(tf.ones([1, 15, 15, 1])).numpy().reshape(5, 3, 5, 3)
    assert (dropped[1:-1, :, 1:-1][:, 0, :, 0] == expected).all()
    assert (dropped[:, 1, :, 1] == 1).all()


def test_dropout_works_in_inference_until_turned_off():
    layer, x = stochastic.CenterPreservingDropout(0.5, 3, seed=0), tf.ones([1, 9, 9, 2])
    dropped, dropped_again = layer(x).numpy(), layer(x).numpy()
    assert (dropped != 1).any() and (dropped != dropped_again).any()
    np.testing.assert_array_equal(layer(x, active=False), x)


def _pair(s, rate, rescale, height, width):
    heads = [stochastic.StochasticHead(3, s, rate, rescale, form=form) for form in ("expanded", "contracted")]
    for head in heads:
        head.build((None, height, width, 4))
        head.set_weights(heads[0].get_weights())
        head.bias.assign([0.1, -0.2, 0.3])
    return heads


@pytest.mark.parametrize("s, rate", [(3, 0.5), (5, 0.9), (9, 0.3)])
@pytest.mark.parametrize("rescale", [False, True])
@pytest.mark.parametrize("height, width", [(7, 9), (4, 5)])
@pytest.mark.parametrize("training", [False, True])
def test_expanded_and_contracted_are_one_function(s, rate, rescale, height, width, training):
    x, seeds = _features(height, width), tf.constant([[1, 2], [3, 4]])
    results = []
    for head in _pair(s, rate, rescale, height, width):
        with tf.GradientTape() as tape:
            tape.watch(x)
            logits = head(x, training=training, rng_seeds=seeds)
            loss = tf.reduce_sum(logits**2)
        results.append([logits, *tape.gradient(loss, [x, head.kernel, head.bias])])
    for expanded, contracted in zip(*results, strict=True):
        np.testing.assert_allclose(contracted, expanded, rtol=2e-5, atol=2e-5)


def test_expanded_head_against_slow_numpy():
    """The paper's definition, position by position, in float64."""
    height, width, s = 4, 5, 3
    head = stochastic.StochasticHead(2, s, 0.5, rescale=True, form="expanded")
    x, seeds = _features(height, width, batch=1), tf.constant([[7, 9]])
    logits = head(x, rng_seeds=seeds).numpy()[0]
    t = hidden_units.draw(seeds, height, width, s, 0.5, True)
    mask = hidden_units.windows_of(t, height, width, s).numpy().reshape(height, width, s, s).astype("float64")
    padded = np.pad(x.numpy()[0].astype("float64"), ((1, 1), (1, 1), (0, 0)))
    kernel, scores = head.kernel.numpy().astype("float64"), np.zeros(2)
    for y in range(height):
        for c in range(width):
            window = padded[y:y + s, c:c + s] * mask[y, c][..., None]
            scores += np.einsum("yxk,yxkc->c", window, kernel)
    np.testing.assert_allclose(logits, scores / (height * width) + head.bias.numpy(), rtol=1e-5)


def test_modes_of_training_and_inference_are_chosen_apart():
    x, seeds = _features(5, 5), [tf.constant([[1, 2], [3, 4]]), tf.constant([[5, 6], [7, 8]])]
    head = stochastic.StochasticHead(3, 3, 0.5, training_mode="stochastic", inference_mode="deterministic")
    np.testing.assert_array_equal(head(x, rng_seeds=seeds[0]), head(x, rng_seeds=seeds[1]))
    logits = [head(x, training=True, rng_seeds=rng_seeds).numpy() for rng_seeds in seeds]
    assert (logits[0] != logits[1]).all()
    np.testing.assert_array_equal(head(x, training=True, rng_seeds=seeds[0]), logits[0])
    general = stochastic.StochasticHead(3, 3, 0.5, training_mode="general")
    logits = [general(x, training=True, rng_seeds=rng_seeds).numpy() for rng_seeds in seeds]
    assert (logits[0] != logits[1]).all()


def test_an_image_of_a_batch_has_the_selection_of_its_own_seed():
    x, seeds = _features(5, 6), tf.constant([[1, 2], [3, 4]])
    head = stochastic.StochasticHead(3, 3, 0.5)
    np.testing.assert_allclose(head(x, rng_seeds=seeds)[1:], head(x[1:], rng_seeds=seeds[1:]), rtol=1e-5)


def test_save_and_reload(tmp_path):
    inputs = keras.Input((5, 6, 4))
    head = stochastic.StochasticHead(3, 3, 0.5, True, inference_mode="deterministic")
    contracted = keras.Model(inputs, head(inputs))
    expanded = keras.Sequential([keras.Input((5, 6, 4)), stochastic.FeatureMapExpansion(3),
                                 stochastic.CenterPreservingDropout(0.5, 3, True, seed=4)])
    x = _features(5, 6)
    for model in (contracted, expanded):
        model.save(tmp_path / "model.keras")
        reloaded = keras.models.load_model(tmp_path / "model.keras")
        assert [layer.get_config() for layer in reloaded.layers] == [layer.get_config() for layer in model.layers]
        np.testing.assert_array_equal(reloaded(x), model(x))


@pytest.mark.parametrize("arguments", [dict(kernel_size=4), dict(rate=1.5), dict(form="x"),
                                       dict(training_mode="x")])
def test_wrong_arguments_are_refused(arguments):
    with pytest.raises(ValueError, match="expected"):
        stochastic.StochasticHead(3, **arguments)


def test_the_benchmarks_naive_head_is_the_same_function():
    """Position by position, as tools/benchmarks/head.py times it for the paper's Table 4."""
    head = _pair(3, 0.5, True, 4, 5)[1]
    x, selection = _features(4, 5), hidden_units.draw(tf.constant([[1, 2], [3, 4]]), 4, 5, 3, 0.5, True)
    np.testing.assert_allclose(benchmark.Naive(head).logits(x, selection), head.logits(x, selection), rtol=2e-5,
                               atol=2e-5)


@pytest.mark.parametrize("size", [32, 33, 40])
def test_the_shape_of_the_features_is_the_backbones(size):
    config = dataclasses.replace(presets.TINY.classifier, input_size=size)
    model, _ = classifier.build(config, 3)
    assert classifier.feature_shape(config, model.backbone) == model.backbone(tf.zeros([1, size, size, 3])).shape[1:]


def test_the_mean_over_all_selections_is_what_many_selections_tend_to():
    config = dataclasses.replace(presets.TINY.classifier, input_size=33)
    model, _ = classifier.build(config, 3)
    x = tf.random.stateless_uniform([1, 5, 5, 128], [1, 2])
    rng_seeds = tf.random.stateless_uniform([1000, 2], [3, 4], None, None, tf.int32)
    logits = model.head(tf.repeat(x, 1000, axis=0), rng_seeds=rng_seeds).numpy()
    np.testing.assert_allclose(model.head.expected_logits(x)[0], logits.mean(0),
                               atol=5 * logits.std(0).max() / 1000**0.5)
    both = model.head.expected_logits(tf.concat([x, 2 * x], 0)).numpy()  # each image of a batch by itself
    each = [model.head.expected_logits(value)[0] for value in (x, 2 * x)]
    np.testing.assert_allclose(both, each, rtol=1e-5, atol=1e-5)


def test_where_no_unit_is_ever_selected_the_mean_is_the_bias():
    head = stochastic.StochasticHead(3, 3, 1.0, inference_mode="general")
    x = _features(4, 5)
    logits = head(x)
    head.bias.assign([1.0, -2.0, 0.5])
    np.testing.assert_array_equal(head.expected_logits(x), np.tile([1.0, -2.0, 0.5], (2, 1)))
    np.testing.assert_array_equal(logits, np.zeros((2, 3)))


@pytest.mark.parametrize("form", ["expanded", "contracted"])
@pytest.mark.parametrize("dtype", ["mixed_bfloat16", "mixed_float16"])
def test_a_head_of_few_bits_answers_in_float32(form, dtype):
    heads = [stochastic.StochasticHead(3, 3, 0.5, form=form, dtype=each) for each in ("float32", dtype)]
    x, rng_seeds = _features(4, 5), tf.constant([[1, 2], [3, 4]])
    for head in heads:
        head.build(x.shape)
        head.bias.assign([1.0, -2.0, 0.5])
    heads[1].kernel.assign(heads[0].kernel)
    exact, few = (head(x, rng_seeds=rng_seeds) for head in heads)
    assert few.dtype == tf.float32
    np.testing.assert_allclose(few, exact, atol=0.02)


@pytest.mark.parametrize("mode", ["stochastic", "deterministic"])
def test_a_sum_over_all_positions_is_not_too_great_for_float16(mode):
    """Of features of 100 over 41 x 41 positions: 168,100, above float16's 65,504."""
    heads = [stochastic.StochasticHead(2, 3, 0.5, inference_mode=mode, dtype=each)
             for each in ("float32", "mixed_float16")]
    x = tf.fill([1, 41, 41, 2], 100.0)
    for head in heads:
        head.build(x.shape)
    heads[1].kernel.assign(heads[0].kernel)
    exact, few = (head(x, rng_seeds=tf.constant([[1, 2]])) for head in heads)
    assert np.abs(exact).max() > 10
    np.testing.assert_allclose(few, exact, rtol=0.01, atol=0.2)
