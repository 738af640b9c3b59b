"""A tiny finished run, written directly: networks of random weights in the layout that the stages leave."""

import dataclasses

import keras
import numpy as np
import tensorflow as tf

from ficklenet_tf import presets
from ficklenet_tf.data import images
from ficklenet_tf.models import classifier, segmenter
from ficklenet_tf.runs import artifacts

CLASS_NAMES = ["background", "disc", "square", "star"]


def make(run_dir, sizes, flip):
    """Writes classifier/, seeds/ and segmenter/ of random weights; returns run_dir.

    Args:
      run_dir: pathlib.Path, made here.
      sizes: the segmenter's test sizes.
      flip: the segmenter's mirrored prediction.
    """
    keras.utils.set_random_seed(3)
    normalization = dataclasses.asdict(images.TORCH)
    classifier_config = dataclasses.replace(presets.TINY.classifier, input_size=64, kernel_size=3, rate=0.7)
    segmenter_config = dataclasses.replace(presets.TINY.segmenter, channels=16, test_sizes=sizes, test_flip=flip)
    maps = dataclasses.replace(presets.TINY.maps, sizes=(64,))
    model, _ = classifier.build(classifier_config, len(CLASS_NAMES) - 1)
    network, *_ = segmenter.build(segmenter_config, len(CLASS_NAMES), classifier_config.backbone)
    rng = np.random.default_rng(3)
    for variable in network.variables:
        if variable.path.endswith("kernel"):
            variable.assign(rng.normal(0, np.sqrt(2 / np.prod(variable.shape[:-1])), variable.shape))
    warped = [images.warp(photograph(70, 93, seed), sizes[0]) for seed in range(4)]
    logits = network(images.normalize(np.stack(warped), images.TORCH)).numpy()
    kernel, bias = network.get_layer("largefov").get_layer("fc8_3").weights
    kernel.assign(2 * kernel / logits.std((0, 1, 2)))  # so that every class occurs
    bias.assign(-2 * (logits / logits.std((0, 1, 2))).mean((0, 1, 2)))
    for stage, net, config, extra in (
            ("classifier", model, classifier_config, {"metrics": {"map": 0.5}}),
            ("segmenter", network, segmenter_config, {"metrics": {}})):
        directory = run_dir / stage
        directory.mkdir(parents=True)
        net.save_weights(directory / "model.weights.h5")
        artifacts.write_run(directory, stage=stage, config=dataclasses.asdict(config), class_names=CLASS_NAMES,
                            backbone=classifier_config.backbone, input_size=classifier_config.input_size,
                            normalization=normalization, dataset="shapes", split="train", weights="", seed=3,
                            fingerprint="none", **extra)
    artifacts.write_run(run_dir / "seeds", stage="seeds", config=dataclasses.asdict(presets.TINY.seeds),
                        maps={"config": dataclasses.asdict(maps), "mode": "stochastic", "seed": 3}, metrics=None)
    return run_dir


def make_classifier(run_dir):
    """Writes classifier/ alone, of random weights, for the class names of `Photographs`; returns run_dir."""
    keras.utils.set_random_seed(3)
    config = dataclasses.replace(presets.TINY.classifier, input_size=33, kernel_size=3, rate=0.7)
    model, _ = classifier.build(config, 3)
    (run_dir / "classifier").mkdir()
    model.save_weights(run_dir / "classifier" / "model.weights.h5")
    artifacts.write_run(run_dir / "classifier", config=dataclasses.asdict(config), class_names=["background", *"xyz"],
                        normalization=dataclasses.asdict(images.TORCH), features=None)
    return run_dir


class Photographs:
    """Three photographs with tags: what extraction needs of a `datasets.Split`."""

    dataset, name, fingerprint, has_labels = "made", "train", "none", False
    image_ids, class_names = ("a", "b", "c"), ("background", "x", "y", "z")

    def __len__(self):
        return 3

    def __getitem__(self, index):
        png = tf.io.encode_png(photograph(40 + 8 * index, 48, index)).numpy()
        return {"image_id": self.image_ids[index], "image": png,
                "tags": np.eye(3, dtype=np.float32)[index] + np.eye(3, dtype=np.float32)[2] * (index == 0)}


def photograph(height, width, seed=0):
    """Returns `[height, width, 3]` uint8: coloured patches that networks answer differently."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (height // 8 + 1, width // 8 + 1, 3))
    return np.kron(coarse, np.ones((8, 8, 1)))[:height, :width].astype(np.uint8)
