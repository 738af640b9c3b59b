"""Every preset: its numbers against their sources, and twenty steps of both its networks."""

import csv
import dataclasses

import keras
import numpy as np
import pytest

from ficklenet_tf import presets
from ficklenet_tf.data import datasets, images, labels
from ficklenet_tf.models import backbones, segmenter
from ficklenet_tf.models import classifier as classifiers
from ficklenet_tf.runs import artifacts
from ficklenet_tf.training import classifier as classifier_training
from ficklenet_tf.training import segmenter as segmenter_training

FICKLENET = {  # Section 4.1
    "input_size": 321, "backbone": "vgg16", "trainable_layers": "all", "kernel_size": 9, "rate": 0.9,
    "training_mode": "stochastic", "inference_mode": "stochastic", "batch_size": 10, "learning_rate": 0.001,
    "halve_every": 10}
FICKLENET_MAPS = {"num_maps": 200, "cam": "gradcam", "sizes": (321,)}
FICKLENET_SEEDS = {"theta": 0.35, "refine": "none"}
SEC = {"head": "largefov", "channels": 1024, "dilation": 12, "dropout": 0.5, "optimizer": "sgd", "batch_size": 15,
       "steps": 8000, "learning_rate": 0.001, "schedule": "staircase", "decay": 0.1, "decay_every": 2000,
       "weight_decay": 5e-4, "crf_unaries": "log_probs", "expand_decay": 0.996, "expand_background_decay": 0.999,
       "test_sizes": (241, 321, 401), "boundary_weight": 1.0, "alpha": 2.0, "pretrained_fc": True,
       "initializer": "normal",
       "growing_foreground": 0.85, "growing_background": 0.99, "poly_power": 0.9}  # alpha: FickleNet; growing: DSRG


@pytest.mark.parametrize("stage, source", [("classifier", FICKLENET), ("maps", FICKLENET_MAPS),
                                           ("seeds", FICKLENET_SEEDS), ("segmenter", SEC)])
def test_the_papers_numbers(stage, source):
    config = dataclasses.asdict(getattr(presets.PAPER, stage))
    assert {name: config[name] for name in source} == source


def test_what_the_other_presets_keep_of_the_paper():
    """`cpu`: everything but what a frozen backbone and two cores force; `tiny`: the ideas at its own size."""
    def changed(stage, preset):
        paper_config, config = (dataclasses.asdict(getattr(source, stage)) for source in (presets.PAPER, preset))
        return {name for name in paper_config if paper_config[name] != config[name]}

    assert changed("classifier", presets.CPU) == {"trainable_layers", "epochs", "steps", "photometric", "flips",
                                                  "precision"}
    assert changed("seeds", presets.CPU) == {"refine"}
    assert changed("segmenter", presets.CPU) == {
        "channels", "initializer", "pretrained_fc", "trainable_layers", "optimizer", "batch_size", "steps",
        "learning_rate", "decay", "decay_every", "pretrained_multiplier", "weight_decay", "precision",
        "retrain_learning_rate"}
    assert changed("classifier", presets.TINY) == {"input_size", "backbone", "kernel_size", "hidden", "batch_size",
                                                   "epochs", "learning_rate"}
    assert changed("seeds", presets.TINY) == {"refine", "refine_low", "refine_high", "refine_scale"}
    assert changed("maps", presets.TINY) == {"sizes"} and not changed("maps", presets.CPU)


SIDE, STEPS = 33, 20


@pytest.fixture(scope="module")
def split(drawings_dir):
    """Eight creatures with tags and masks."""
    return datasets.load_split("shapes", "train", cache_dir=drawings_dir, max_images=8)


@pytest.fixture(scope="module")
def vgg(tmp_path_factory):
    """A file of VGG-16 weights that keep a signal's size from layer to layer, as trained ones do."""
    rng, arrays = np.random.default_rng(0), {}
    for layer in backbones.build("vgg16").layers:
        if layer.weights:
            block, number = layer.name.removeprefix("block").split("_conv")
            kernel, bias = layer.weights
            arrays[f"conv{block}_{number}/W"] = rng.normal(0, (2 / np.prod(kernel.shape[:3])) ** 0.5, kernel.shape)
            arrays[f"conv{block}_{number}/b"] = np.zeros(bias.shape)
    path = tmp_path_factory.mktemp("weights") / "vgg.npz"
    np.savez(path, **{name: array.astype(np.float16) for name, array in arrays.items()})
    return str(path)


def _losses(directory):
    with open(directory / "log.csv") as file:
        return [float(row["loss"]) for row in csv.DictReader(file)]


LEFT = {"paper": (0.95, 0.75), "cpu": (0.85, 0.75), "tiny": (0.75, 0.8)}  # of the losses: classifier's, segmenter's


@pytest.mark.trains
@pytest.mark.parametrize("name", LEFT)
def test_twenty_steps_of_both_networks(name, split, vgg, tmp_path):
    """Twenty steps leave no more of the losses than `LEFT` says, and kill hardly a channel."""
    preset, weights = presets.PRESETS[name], "" if name == "tiny" else vgg
    classifier_config = dataclasses.replace(preset.classifier, input_size=SIDE, batch_size=4, epochs=STEPS // 2)
    classifier_training.train(tmp_path / "classifier", split, split, classifier_config,
                              classifier_training.Options(weights))
    losses = _losses(tmp_path / "classifier")
    assert losses[-1] < LEFT[name][0] * losses[0], losses
    trained, normalization, _, run_config = classifiers.load(tmp_path / "classifier")
    fresh, _ = classifiers.build(run_config, len(split.class_names) - 1, weights)
    x = np.stack([images.normalize(images.warp(images.decode_image_op(split[i]["image"]), SIDE), normalization)
                  for i in range(len(split))])
    assert _alive(trained.backbone(x)) > 0.95 * _alive(fresh.backbone(x)) > 0.9

    for index, image_id in enumerate(split.image_ids):
        labels.write_label(tmp_path / "seeds" / f"{image_id}.png", labels.decode_label_op(split[index]["label"]))
    artifacts.write_run(tmp_path / "seeds")
    segmenter_config = dataclasses.replace(preset.segmenter, batch_size=4, steps=STEPS)
    segmenter_training.train(tmp_path, split, segmenter_config)
    losses = _losses(tmp_path / "segmenter")
    assert losses[-1] < LEFT[name][1] * losses[0], losses
    network, *_ = segmenter.load(tmp_path / "segmenter")
    assert _alive(_fc7(network, trained.backbone(x))) > 0.4


def test_the_evening_trains_as_cpu_does_but_longer():
    """So that what is shown of `cpu` above holds for it too."""
    changed = {"steps": 2400, "decay_every": 900}
    assert presets.EVENING.classifier == presets.CPU.classifier and set(presets.PRESETS) == {*LEFT, "evening"}
    assert presets.EVENING.segmenter == dataclasses.replace(presets.CPU.segmenter, **changed)


def _alive(activations):
    """The share of a rectified layer's channels that are not zero everywhere."""
    return (np.asarray(activations) > 0).any((0, 1, 2)).mean()


def _fc7(network, features):
    head = network.layers[-1]
    layer = next(layer for layer in head.layers if layer.name.startswith("fc7"))
    return keras.Model(head.inputs, layer.output)(features)
