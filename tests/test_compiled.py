"""Steps compiled by XLA and steps in mixed precision, beside the plain ones."""

import dataclasses

import keras
import numpy as np
import pytest
import tensorflow as tf

from ficklenet_tf import presets
from ficklenet_tf.data import images
from ficklenet_tf.maps import aggregation
from ficklenet_tf.models import backbones, classifier, segmenter
from ficklenet_tf.training import classifier as classifier_training
from ficklenet_tf.training import loop, loss_scale, objective

pytestmark = pytest.mark.trains
NUM_TAGS, SIDE = 2, 33


def _photographs(start, _):
    """Batches of four: one half of the photograph is bright where tag 0 is present, the other where tag 1 is."""
    def batch(step):
        seed = tf.stack([step, 5])
        tags = tf.cast(tf.random.stateless_uniform([4, NUM_TAGS], seed, 0, 2, tf.int32), tf.float32)
        halves = tf.repeat(tags, [17, 16], axis=1)[:, None, :, None]
        noise = tf.random.stateless_uniform([4, SIDE, SIDE, 3], seed + 1, 0, 80)
        return {"image": tf.cast(170 * halves + noise, tf.uint8), "tags": tags,
                "rng_seeds": tf.random.stateless_uniform([4, 2], seed + 2, None, None, tf.int32)}

    return tf.data.Dataset.range(start, 10_000).map(batch)


def _classifier(directory, steps, precision="float32", jit_compile=False, save_every=200, **changes):
    keras.utils.set_random_seed(0)
    config = dataclasses.replace(presets.TINY.classifier, input_size=SIDE, precision=precision, **changes)
    model, _ = classifier.build(config, NUM_TAGS)
    losses = classifier_training._losses(model, images.TORCH, dataclasses.replace(config, photometric=0.0))
    learner = loop.Learner(model, keras.optimizers.Adam(1e-3), losses)
    rows = loop.fit(directory, learner, _photographs, steps,
                    loop.Options(log_every=1, jit_compile=jit_compile, precision=precision, save_every=save_every))
    return model, rows


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    """A classifier after twelve float32 steps, and its log."""
    return _classifier(tmp_path_factory.mktemp("plain"), 12)


def test_the_compiled_classifier_step_agrees(plain, tmp_path):
    """Forward, backward, Adam and the drawn selections: losses of four steps to 1e-3."""
    _, rows = plain
    _, compiled = _classifier(tmp_path, 4, jit_compile=True)
    np.testing.assert_allclose([r["loss"] for r in compiled], [r["loss"] for r in rows[:4]], rtol=1e-3)


@pytest.mark.parametrize("changes", [{"head": "hidden", "hidden_layers": 2, "suppression": 0.5}, {"head": "mdc"}],
                         ids=lambda changes: changes["head"])
def test_the_compiled_step_of_other_heads_agrees(tmp_path, changes):
    (_, rows), (_, compiled) = (_classifier(tmp_path / str(jit_compile), 3, jit_compile=jit_compile, hidden=8,
                                            **changes) for jit_compile in (False, True))
    np.testing.assert_allclose([r["loss"] for r in compiled], [r["loss"] for r in rows], rtol=1e-3)


def _segmenter(directory, jit_compile):
    def batches(start, _):
        def batch(step):
            seed = tf.stack([step, 9])
            return {"features": tf.random.stateless_uniform([2, 6, 6, 8], seed),
                    "label": tf.cast(tf.random.stateless_uniform([2, 6, 6], seed + 1, 0, 5, tf.int32), tf.uint8),
                    "small_image": tf.random.stateless_uniform([2, 6, 6, 3], seed + 2, 0, 255)}
        return tf.data.Dataset.range(start, 1000).map(batch)

    keras.utils.set_random_seed(0)
    config = dataclasses.replace(presets.PAPER.segmenter, channels=8, dilation=1, dropout=0.0)
    head = segmenter.build_head(config, (6, 6, 8), 5)
    for variable in head.trainable_variables:  # as after training: from equal scores the CRF makes anything
        variable.assign(30 * variable)
    task = objective.Task("weak", None, None, ("seed", "boundary"), "none")
    learner = loop.Learner(head, keras.optimizers.Adam(1e-3), task.total_loss(head, presets.TINY.segmenter))
    rows = loop.fit(directory, learner, batches, 4, loop.Options(log_every=1, jit_compile=jit_compile))
    return head.get_weights(), rows


def test_the_compiled_segmenter_step_agrees(tmp_path):
    """Seed loss, exact CRF: losses to 1e-4, weights to 1e-4. No dropout: XLA draws other masks from the same seed."""
    weights, rows = _segmenter(tmp_path / "plain", False)
    compiled_weights, compiled = _segmenter(tmp_path / "compiled", True)
    for name in ("seed_loss", "boundary_loss"):
        np.testing.assert_allclose([r[name] for r in compiled], [r[name] for r in rows], rtol=1e-4)
    for compiled_weight, weight in zip(compiled_weights, weights, strict=True):
        np.testing.assert_allclose(compiled_weight, weight, atol=1e-4)


@pytest.mark.parametrize("precision, tolerance", [("bfloat16", 0.05), ("float16", 0.01)])
def test_mixed_precision_learns_and_localizes_as_float32(plain, tmp_path, precision, tolerance):
    """The loss falls and stays within `tolerance` of float32's; maps and losses are float32; variables too."""
    _, rows = plain
    model, mixed = _classifier(tmp_path, 12, precision)
    assert model.backbone.layers[-1].compute_dtype == precision and model.head.compute_dtype == "float32"
    assert {v.dtype for v in model.trainable_variables} == {"float32"}
    losses = np.array([r["loss"] for r in mixed])
    assert np.isfinite(losses).all() and losses[-4:].mean() < 0.9 * losses[:2].mean()
    np.testing.assert_allclose(losses[:4], [r["loss"] for r in rows[:4]], rtol=tolerance)
    assert ("loss_scale" in mixed[0]) == (precision == "float16")


@pytest.mark.parametrize("precision, tolerance", [("bfloat16", 0.02), ("float16", 0.003)])
def test_maps_in_mixed_precision_are_those_of_float32(plain, precision, tolerance):
    """The same weights: the mean map (0..1) differs by `tolerance` on average, the maps come in float32."""
    model, _ = plain
    image = images.normalize(next(iter(_photographs(50, None)))["image"][:1], images.TORCH)
    mixed = backbones.build("small", precision=precision)
    mixed.set_weights(model.backbone.get_weights())
    features = [tf.cast(backbone(image, training=False)[0], tf.float32) for backbone in (model.backbone, mixed)]
    options = aggregation.Options(num_maps=20)
    maps = [aggregation.localize(model.head, x, tf.range(NUM_TAGS), tf.constant([1, 2]), options)["mean"]
            for x in features]
    assert maps[1].dtype == tf.float32 and maps[0].numpy().max() > 0.2
    assert 0 < np.abs(maps[0] - maps[1]).mean() < tolerance


def test_float16_resumes_with_its_scale(tmp_path):
    """Killed after step 3 of 6, as far as the files can tell: the scale and the count of good steps come back."""
    whole, rows = _classifier(tmp_path / "whole", 6, "float16", save_every=3)
    _classifier(tmp_path / "parts", 3, "float16", save_every=3)
    resumed, resumed_rows = _classifier(tmp_path / "parts", 6, "float16", save_every=3)
    assert [r["loss_scale"] for r in resumed_rows] == [r["loss_scale"] for r in rows]
    np.testing.assert_allclose([r["loss"] for r in resumed_rows], [r["loss"] for r in rows], rtol=1e-5)
    for resumed_weight, weight in zip(resumed.get_weights(), whole.get_weights(), strict=True):
        np.testing.assert_allclose(resumed_weight, weight, atol=1e-6)


def test_an_overflow_halves_the_scale_and_leaves_the_step_out():
    scale, steps = loss_scale.LossScale(8.0), tf.Variable(0)

    @tf.function
    def step(gradient):
        gradients = scale.unscaled([gradient, tf.ones([2])])
        return scale.apply(loss_scale.count_not_finite(gradients) == 0, lambda: steps.assign_add(1))

    assert [float(step(tf.constant([1.0, g]))) for g in (1, np.inf, 1, np.nan, 1)] == [8, 8, 4, 4, 2]
    assert int(steps.numpy()) == 3 and float(scale.scale.numpy()) == 2 and int(scale.good_steps.numpy()) == 1
    scale.good_steps.assign(1999)
    step(tf.ones([2]))
    assert float(scale.scale.numpy()) == 4 and int(scale.good_steps.numpy()) == 0
    np.testing.assert_array_equal(scale.unscaled([tf.constant([4.0])])[0], [1.0])
    assert float(scale.scaled(tf.constant(2.0))) == 8


def test_an_unknown_precision_is_an_error():
    with pytest.raises(ValueError, match="float32, bfloat16, float16 .*, found 'half'"):
        backbones.build("small", precision="half")
