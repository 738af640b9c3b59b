"""Run by test_distribution.py in a process of its own, whose CPU is two devices: they stand for two GPUs."""

import dataclasses
import pathlib
import runpy
import sys
import tempfile

import keras
import numpy as np
import tensorflow as tf

from ficklenet_tf import distribution, presets
from ficklenet_tf.models import segmenter
from ficklenet_tf.training import (
    attention_mining,
    early_stopping,
    loop,
    objective,
    optimizers,
    pixel_saliency,
)

BATCH, SIDE = 4, 5


def _batches(start, context):
    """Random features and labels; the share of labelled pixels differs from image to image."""
    def example(position):
        seed = tf.stack([position, 7])
        label = tf.random.stateless_uniform([SIDE, SIDE], seed, 0, 3, tf.int32)
        known = tf.random.stateless_uniform([SIDE, SIDE], seed + 1) < tf.cast(position % BATCH + 1, tf.float32) / 5
        return {"features": tf.random.stateless_uniform([SIDE, SIDE, 8], seed + 2),
                "label": tf.cast(tf.where(known, label, 255), tf.uint8),
                "small_image": tf.random.stateless_uniform([SIDE, SIDE, 3], seed + 3, 0, 255)}

    positions = tf.data.Dataset.range(start * BATCH, 1000 * BATCH).filter(
        lambda p: p % BATCH // (BATCH // context.num_input_pipelines) == context.input_pipeline_id)
    return positions.map(example).batch(distribution.replica_batch(BATCH, context), drop_remainder=True)


def _train(strategy, precision):
    """Returns (weights, rows, looks) of a head: seed, boundary and full loss, SGD with multipliers, early stopping."""
    config = dataclasses.replace(presets.PAPER.segmenter, channels=8, dilation=1, dropout=0.0, precision=precision,
                                 learning_rate=1e-3, decay=0.5, decay_every=4)
    task = objective.Task("weak", None, None, ("seed", "boundary", "full"), "none")
    with strategy.scope(), tempfile.TemporaryDirectory() as directory:
        keras.utils.set_random_seed(0)
        head = segmenter.build_head(config, (None, None, 8), 3)
        optimizer = optimizers.segmenter_optimizer(config, head, head.trainable_variables)
        probe = tf.random.stateless_uniform([1, SIDE, SIDE, 8], [0, 3])
        stopping = early_stopping.EarlyStopping(directory, 2, lambda: float(tf.reduce_mean(head(probe)[..., 0])), head)
        learner = loop.Learner(head, optimizer, task.total_loss(head, config), optimizers.weight_decay(head, config),
                               stopping=stopping)
        rows = loop.fit(pathlib.Path(directory), learner, _batches, 6, loop.Options(log_every=1, precision=precision))
        return head.get_weights(), rows, stopping.looks


def _check_means(mirrored):
    """Losses over a part of the photographs, of which the devices have unlike numbers: their mean is the batch's."""
    rng = np.random.default_rng(0)
    tags = tf.constant([[1, 0], [0, 1], [1, 1], [1, 0]], tf.float32)  # of one tag: two photographs and one
    logits, numbers = (tf.constant(rng.normal(size=shape), tf.float32) for shape in ((4, 5, 5, 3), (4, 5, 5)))
    label = np.array(rng.integers(0, 3, (4, 5, 5)), np.uint8)
    label[3] = 255
    drawn = tf.constant([[1, 0], [0, 1], [1, 0], [1, 0]], tf.float32)
    parts = {"stc": (pixel_saliency.stc_loss, (logits, tf.sigmoid(numbers), tags)),
             "masks": (attention_mining.masks_loss, (tf.sigmoid(numbers)[..., None], drawn, tf.constant(label)))}
    for name, (loss, arguments) in parts.items():
        def of_part(loss=loss, arguments=arguments):
            first = 2 * tf.distribute.get_replica_context().replica_id_in_sync_group
            return loss(*(argument[first:first + 2] for argument in arguments))

        mean = mirrored.reduce("MEAN", mirrored.run(tf.function(of_part)), axis=None)
        np.testing.assert_allclose(mean, loss(*arguments), rtol=1e-5, err_msg=name)


def main():
    """One device and two, in float32 and in float16 with a scaled loss: the same."""
    single, mirrored = distribution.strategy("none"), distribution.strategy("mirrored")
    assert mirrored.num_replicas_in_sync == 2
    _check_means(mirrored)
    for precision, tolerance in (("float32", 1e-5), ("float16", 2e-3)):
        weights, rows, looks = _train(single, precision)
        mirrored_weights, mirrored_rows, mirrored_looks = _train(mirrored, precision)
        assert rows[0].keys() == mirrored_rows[0].keys() and ("loss_scale" in rows[0]) == (precision == "float16")
        for name in rows[0]:
            np.testing.assert_allclose([row[name] for row in mirrored_rows], [row[name] for row in rows],
                                       rtol=tolerance, err_msg=name)
        assert [step for step, _ in looks] == [step for step, _ in mirrored_looks] == [2, 4, 6]
        np.testing.assert_allclose(mirrored_looks, looks, rtol=tolerance, atol=tolerance)
        for weight, mirrored_weight in zip(weights, mirrored_weights, strict=True):
            np.testing.assert_allclose(mirrored_weight, weight, atol=tolerance)
    print("segmenter: the same")
    distribution.strategy = lambda name: mirrored  # a second MirroredStrategy's collectives would meet the first's


if __name__ == "__main__":
    cpu = tf.config.list_physical_devices("CPU")[0]
    tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
    main()
    sys.argv = ["tools.train_classifier", *sys.argv[1:]]
    runpy.run_module("tools.train_classifier", run_name="__main__", alter_sys=True)
