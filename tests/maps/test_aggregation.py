"""Aggregated maps: the closed form against GradientTape, slow NumPy and the properties of Section 3.3."""

import numpy as np
import pytest
import tensorflow as tf

from ficklenet_tf.maps import aggregation, grad_cam
from ficklenet_tf.maps.aggregation import Options, localize
from ficklenet_tf.models import hidden_units, stochastic


def _head(form="contracted", s=5, rate=0.7, rescale=False, num_tags=4, channels=6):
    head = stochastic.StochasticHead(num_tags, s, rate, rescale, form=form)
    head.build((None, 7, 9, channels))
    rng = np.random.default_rng(s)
    head.set_weights([rng.normal(size=(s, s, channels, num_tags)).astype("float32"),
                      rng.normal(size=num_tags).astype("float32"), *head.get_weights()[2:]])
    return head


def _features(height=7, width=9, channels=6, seed=0):
    return tf.constant(np.maximum(np.random.default_rng(seed).normal(size=(height, width, channels)), 0), tf.float32)


@pytest.mark.parametrize("form", ["expanded", "contracted"])
@pytest.mark.parametrize("mode", stochastic.MODES)
@pytest.mark.parametrize("s, rate, rescale, shape", [(3, 0.5, True, (7, 9)), (5, 0.9, False, (8, 5)),
                                                     (9, 0.3, True, (6, 11))])
def test_closed_form_equals_tape(form, mode, s, rate, rescale, shape):
    head, x = _head(form, s, rate, rescale), _features(*shape)
    run = tf.function(localize, autograph=False)
    answers = [run(head, x, tf.constant([2, 0]), tf.constant([3, 4]), Options(num_maps=13, mode=mode,
                   method=method, samples=2)) for method in ("closed_form", "tape")]
    for name in ("mean", "max", "std", "samples"):
        accuracy = 2e-5 if name == "std" else 2e-6  # a spread is the root of a difference of like numbers
        np.testing.assert_allclose(answers[0][name], answers[1][name], rtol=1e-5, atol=accuracy, err_msg=name)
    assert float(tf.reduce_max(answers[0]["max"])) == pytest.approx(1)


@pytest.mark.parametrize("mode", stochastic.MODES)
@pytest.mark.parametrize("method", grad_cam.METHODS)
def test_without_tags_there_are_no_maps(mode, method):
    run = tf.function(localize, autograph=False)
    maps = run(_head(), _features(), tf.zeros([0], tf.int32), tf.constant([3, 4]),
               Options(num_maps=3, mode=mode, method=method))
    assert [maps[name].shape for name in ("mean", "max", "std")] == [(7, 9, 0)] * 3


def test_one_map_by_hand():
    """One class, s = 3, on 1 x 2 positions: the map is the kept neighbours' contributions, counted out."""
    head = stochastic.StochasticHead(1, 3, 0.5)
    head.build((None, 1, 2, 1))
    kernel = np.arange(1, 10, dtype="float32").reshape(3, 3, 1, 1)
    head.set_weights([kernel, np.zeros(1, "float32")] + head.get_weights()[2:])
    x = tf.constant([[[2.0], [3.0]]])
    seed = tf.constant([1, 2])
    bits = hidden_units.keep_bits(tf.random.fold_in(seed, 0), (2, aggregation.BLOCK, 9), 0.5).numpy()
    # Position 0 is seen by window 0 through the centre (5) and by window 1 (to its right) through offset d = 3 (4);
    # position 1 by window 1 through 5 and by window 0 through d = 5 (6). Each S is an average over 2 windows.
    for i in range(3):
        raw = np.array([2 * (5 + 4 * bits[0, i, 3]) / 2, 3 * (5 + 6 * bits[1, i, 5]) / 2])
        maps = localize(head, x, tf.constant([0]), seed, Options(num_maps=1 + i, samples=3))["samples"]
        np.testing.assert_allclose(maps[i, 0, :, 0], raw / raw.max(), rtol=1e-6)


def test_running_statistics_equal_those_of_single_maps():
    head, x, seed = _head(), _features(), tf.constant([5, 6])
    answer = localize(head, x, tf.constant([1, 3]), seed, Options(num_maps=8, samples=8))
    maps = answer["samples"].numpy()
    np.testing.assert_allclose(answer["mean"], maps.mean(0), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(answer["max"], maps.max(0), rtol=1e-6)
    np.testing.assert_allclose(answer["std"], maps.std(0), rtol=1e-3, atol=1e-4)
    assert maps.std(0).max() > 0.05  # selections differ


def test_selections_do_not_depend_on_n_or_on_the_other_classes():
    head, x, seed = _head(), _features(), tf.constant([5, 6])
    few = localize(head, x, tf.constant([1]), seed, Options(num_maps=3, samples=3))["samples"]
    many = localize(head, x, tf.constant([0, 1]), seed, Options(num_maps=40, samples=3))["samples"]
    np.testing.assert_allclose(few[..., 0], many[..., 1], rtol=1e-5, atol=1e-6)


def test_the_seed_of_an_image_is_its_own():
    assert aggregation.image_seed(0, "a").numpy().tolist() == aggregation.image_seed(0, "a").numpy().tolist()
    assert aggregation.image_seed(0, "a").numpy().tolist() != aggregation.image_seed(0, "b").numpy().tolist()
    assert aggregation.image_seed(0, "a").numpy().tolist() != aggregation.image_seed(1, "a").numpy().tolist()


def test_no_positive_evidence_gives_an_empty_map():
    head = _head()
    head.kernel.assign(-tf.abs(head.kernel))
    answer = localize(head, _features(), tf.constant([0]), tf.constant([0, 0]), Options(num_maps=5))
    assert float(tf.reduce_max(answer["max"])) == 0 and not np.isnan(answer["mean"].numpy()).any()


def test_general_dropout_of_everything_gives_empty_maps():
    answer = localize(_head(rate=1.0), _features(), tf.constant([0, 1]), tf.constant([1, 2]), Options(mode="general"))
    assert not answer["mean"].numpy().any() and not answer["std"].numpy().any()


def test_what_is_not_asked_for():
    assert Options() == Options(200, "stochastic", "closed_form", "gradcam", samples=0, tolerance=None)


def test_unknown_names_are_refused():
    with pytest.raises(ValueError, match="method"):
        localize(_head(), _features(), tf.constant([0]), tf.constant([0, 0]), Options(num_maps=1, method="x"))
    with pytest.raises(ValueError, match="mode"):
        localize(_head(), _features(), tf.constant([0]), tf.constant([0, 0]), Options(num_maps=1, mode="x"))


def test_drawing_stops_when_doubling_changes_little():
    """The criterion, done again in NumPy on all single maps, and at 20, 40, 80, ... selections only."""
    head, x, seed, tag_ids = _head(rate=0.5), _features(), tf.constant([5, 6]), tf.constant([1, 3])
    by_count = {n: localize(head, x, tag_ids, seed, Options(num_maps=n)) for n in (10, 20, 40, 80, 160)}
    changes = {n: max(float((tf.reduce_sum(abs(by_count[n][k] - by_count[n // 2][k]), (0, 1))
                             / tf.reduce_sum(by_count[n][k], (0, 1))).numpy().max()) for k in ("mean", "max"))
               for n in (20, 40, 80, 160)}
    assert changes[40] > 1.05 * changes[80] > 1.1 * changes[160]  # so that the tolerances below tell them apart
    run = tf.function(localize, autograph=False)
    for method in ("closed_form", "tape"):
        aggregates = run(head, x, tag_ids, seed, Options(num_maps=1000, tolerance=1.02 * changes[80], method=method))
        assert int(aggregates["num_maps"]) == 80
        np.testing.assert_allclose(aggregates["mean"], by_count[80]["mean"], rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(aggregates["std"], by_count[80]["std"], rtol=1e-3, atol=1e-4)
    aggregates = localize(head, x, tag_ids, seed, Options(num_maps=75, tolerance=1.02 * changes[80]))
    assert int(aggregates["num_maps"]) == 75
    assert int(localize(head, x, tag_ids, seed, Options(num_maps=75))["num_maps"]) == 75


def test_drawing_stops_soon_where_there_is_nothing_to_see():
    head = _head()
    head.kernel.assign(-tf.abs(head.kernel))
    for tag_ids in (tf.constant([0]), tf.zeros([0], tf.int32)):
        aggregates = localize(head, _features(), tag_ids, tf.constant([0, 0]), Options(num_maps=500, tolerance=0.0))
        assert int(aggregates["num_maps"]) == 20


def test_a_class_activation_map_is_what_the_logit_averages():
    head, x, tag_ids = _head(), _features(), tf.constant([3, 1])
    raw = grad_cam.class_activation(head, x, tag_ids, "deterministic")(None).numpy().reshape(7 * 9, 2)
    logits = (head.logits(x[None]) - head.bias).numpy()[0, [3, 1]]
    np.testing.assert_allclose(raw.mean(0), logits, rtol=1e-4, atol=1e-5)
    # Position by position: the window's weighted sum, zero beyond the border.
    padded = np.pad(x.numpy(), ((2, 2), (2, 2), (0, 0)))
    by_hand = np.einsum("yxk,yxk->", padded[3:8, 4:9], head.kernel.numpy()[..., 3])
    np.testing.assert_allclose(raw[3 * 9 + 4, 0], by_hand, rtol=1e-4)
    aggregates = localize(head, x, tag_ids, tf.constant([0, 0]), Options(num_maps=1, mode="deterministic",
                                                                         cam="cam", samples=2))
    shown = np.maximum(raw, 0) / raw.max(0)
    for maps in (aggregates["mean"], aggregates["max"], *aggregates["samples"]):
        np.testing.assert_allclose(maps.numpy().reshape(7 * 9, 2), shown, rtol=1e-5)
    with pytest.raises(ValueError, match="deterministic"):
        localize(head, x, tag_ids, tf.constant([0, 0]), Options(num_maps=1, cam="cam"))


def test_compiled_and_uncompiled_maps_agree():
    head, x = _head(s=3), _features()

    def run(tag_ids, seed):
        return localize(head, x, tag_ids, seed, Options(num_maps=25, samples=2))

    arguments = tf.constant([2, 0]), tf.constant([-3, 4])
    plain, compiled = run(*arguments), tf.function(run, jit_compile=True)(*arguments)
    for name in plain:
        np.testing.assert_allclose(compiled[name], plain[name], rtol=1e-3, atol=1e-5, err_msg=name)
