"""Localization: the closed form against GradientTape, slow NumPy and the properties of Section 3.3."""

import numpy as np
import pytest
import tensorflow as tf

from ficklenet_tf import localization, selections, stochastic


def _head(form="contracted", s=5, rate=0.7, rescale=False, classes=4, channels=6):
    head = stochastic.StochasticHead(classes, s, rate, rescale, form=form)
    head.build((None, 7, 9, channels))
    rng = np.random.default_rng(s)
    head.set_weights([rng.normal(size=(s, s, channels, classes)).astype("float32"),
                      rng.normal(size=classes).astype("float32")]
                     + [w for w in head.get_weights()[2:]])
    return head


def _features(height=7, width=9, channels=6, seed=0):
    return tf.constant(np.maximum(np.random.default_rng(seed).normal(size=(height, width, channels)), 0), tf.float32)


@pytest.mark.parametrize("form", ["expanded", "contracted"])
@pytest.mark.parametrize("selection", stochastic.SELECTIONS)
@pytest.mark.parametrize("s, rate, rescale, shape", [(3, 0.5, True, (7, 9)), (5, 0.9, False, (8, 5)),
                                                     (9, 0.3, True, (6, 11))])
def test_closed_form_equals_tape(form, selection, s, rate, rescale, shape):
    head, x = _head(form, s, rate, rescale), _features(*shape)
    run = tf.function(localization.localize, autograph=False)
    answers = [run(head, x, tf.constant([2, 0]), tf.constant([3, 4]), selections=13, selection=selection,
                   method=method, samples=2) for method in ("closed_form", "tape")]
    for name in ("mean", "max", "std", "samples"):
        np.testing.assert_allclose(answers[0][name], answers[1][name], rtol=1e-5, atol=2e-6, err_msg=name)
    assert float(tf.reduce_max(answers[0]["max"])) == pytest.approx(1)


def test_one_map_by_hand():
    """One class, s = 3, on 1 x 2 positions: the map is the kept neighbours' contributions, counted out."""
    head = stochastic.StochasticHead(1, 3, 0.5)
    head.build((None, 1, 2, 1))
    kernel = np.arange(1, 10, dtype="float32").reshape(3, 3, 1, 1)
    head.set_weights([kernel, np.zeros(1, "float32")] + head.get_weights()[2:])
    x = tf.constant([[[2.0], [3.0]]])
    seed = tf.constant([1, 2])
    bits = selections.keep_bits(tf.random.fold_in(seed, 0), (2, localization.BLOCK, 9), 0.5).numpy()
    # Position 0 is seen by window 0 through the centre (5) and by window 1 (to its right) through offset d = 3 (4);
    # position 1 by window 1 through 5 and by window 0 through d = 5 (6). Each S is an average over 2 windows.
    for i in range(3):
        raw = np.array([2 * (5 + 4 * bits[0, i, 3]) / 2, 3 * (5 + 6 * bits[1, i, 5]) / 2])
        maps = localization.localize(head, x, tf.constant([0]), seed, selections=1 + i, samples=3)["samples"]
        np.testing.assert_allclose(maps[i, 0, :, 0], raw / raw.max(), rtol=1e-6)


def test_running_statistics_equal_those_of_single_maps():
    head, x, seed = _head(), _features(), tf.constant([5, 6])
    answer = localization.localize(head, x, tf.constant([1, 3]), seed, selections=8, samples=8)
    maps = answer["samples"].numpy()
    np.testing.assert_allclose(answer["mean"], maps.mean(0), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(answer["max"], maps.max(0), rtol=1e-6)
    np.testing.assert_allclose(answer["std"], maps.std(0), rtol=1e-3, atol=1e-4)
    assert maps.std(0).max() > 0.05  # selections differ


def test_selections_do_not_depend_on_n_or_on_the_other_classes():
    head, x, seed = _head(), _features(), tf.constant([5, 6])
    few = localization.localize(head, x, tf.constant([1]), seed, selections=3, samples=3)["samples"]
    many = localization.localize(head, x, tf.constant([0, 1]), seed, selections=40, samples=3)["samples"]
    np.testing.assert_allclose(few[..., 0], many[..., 1], rtol=1e-5, atol=1e-6)


def test_the_seed_of_an_image_is_its_own():
    assert localization.image_seed(0, "a").numpy().tolist() == localization.image_seed(0, "a").numpy().tolist()
    assert localization.image_seed(0, "a").numpy().tolist() != localization.image_seed(0, "b").numpy().tolist()
    assert localization.image_seed(0, "a").numpy().tolist() != localization.image_seed(1, "a").numpy().tolist()


def test_no_positive_evidence_gives_an_empty_map():
    head = _head()
    head.kernel.assign(-tf.abs(head.kernel))
    answer = localization.localize(head, _features(), tf.constant([0]), tf.constant([0, 0]), selections=5)
    assert float(tf.reduce_max(answer["max"])) == 0 and not np.isnan(answer["mean"].numpy()).any()


def test_unknown_names_are_refused():
    with pytest.raises(ValueError, match="method"):
        localization.localize(_head(), _features(), tf.constant([0]), tf.constant([0, 0]), selections=1, method="x")
    with pytest.raises(ValueError, match="selection"):
        localization.localize(_head(), _features(), tf.constant([0]), tf.constant([0, 0]), selections=1, selection="x")
