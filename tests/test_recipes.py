"""The four recipes of CONTRIBUTING.md, each followed once: a function and a line in a table, then it works by name."""

import csv
import dataclasses

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

from ficklenet_tf import configs, presets
from ficklenet_tf.data import datasets, labels
from ficklenet_tf.errors import UserError
from ficklenet_tf.evaluation import prediction
from ficklenet_tf.maps import extraction as map_extraction
from ficklenet_tf.maps.image_maps import ImageMaps
from ficklenet_tf.models import backbones, classifier, segmenter
from ficklenet_tf.models.dilated_convolution import DilatedConv2D
from ficklenet_tf.runs import artifacts
from ficklenet_tf.seeds import extraction as seed_extraction
from ficklenet_tf.seeds import refinement
from ficklenet_tf.training import classifier as classifier_training
from ficklenet_tf.training import objective
from ficklenet_tf.training import segmenter as segmenter_training

CLASSIFIER = dataclasses.replace(presets.TINY.classifier, input_size=33, kernel_size=3, batch_size=4, epochs=1)
MAPS = dataclasses.replace(presets.TINY.maps, sizes=(33,), num_maps=5)
SEGMENTER = dataclasses.replace(presets.TINY.segmenter, steps=2, batch_size=4, channels=4, dilation=1, dropout=0.0)


@pytest.fixture(scope="module")
def split(drawings_dir):
    return datasets.load_split("shapes", "train", cache_dir=drawings_dir, max_images=4)


def _train(run_dir, split, **changes):
    return classifier_training.train(run_dir / "classifier", split, split, dataclasses.replace(CLASSIFIER, **changes),
                                     classifier_training.Options("random"))


def _log(stage_dir):
    with open(stage_dir / "log.csv", newline="") as file:
        return list(csv.DictReader(file))


def test_a_backbone(split, tmp_path):
    def thin(x):
        for block in (1, 2, 3):
            x = layers.Conv2D(8 * block, 3, strides=2, padding="same", name=f"block{block}")(x)
            x = layers.ReLU(name=f"block{block}_relu")(x)
        return layers.ReLU()(DilatedConv2D(16, 3, padding="same", dilation_rate=2, name="last")(x))

    backbones.register_backbone("thin", thin, cuts={"last_block": "block3_relu"})
    try:
        _follow_a_backbone(split, tmp_path)
    finally:
        del backbones.BACKBONES["thin"]
        configs.BACKBONES.remove("thin")
    for load in (classifier.load_classifier, prediction.load_segmenter):
        with pytest.raises(UserError, match="found 'thin'; one of your own is registered first"):
            load(tmp_path)


def _follow_a_backbone(split, tmp_path):
    _train(tmp_path, split, backbone="thin", trainable_layers="last_block", photometric=0.0)
    assert artifacts.read_run(tmp_path / "classifier")["config"]["backbone"] == "thin"
    trained = classifier.load(tmp_path / "classifier")
    assert trained.model.backbone.output_shape[-1] == 16
    assert {v.path.split("/")[0] for v in trained.model.backbone.trainable_variables} == {"last"}
    seed_extraction.extract(tmp_path, split, MAPS, presets.TINY.seeds)
    segmenter_training.train(tmp_path, split, SEGMENTER)
    network, *_ = segmenter.load(tmp_path / "segmenter")
    assert network(np.zeros((1, 33, 41, 3), np.float32)).shape == (1, 5, 6, len(split.class_names))


def test_a_seed_refinement(split, tmp_path, monkeypatch):
    def upper_half(evidence, rule):
        label = rule()
        label[evidence.shape[0] // 2:] = labels.IGNORE
        return label

    monkeypatch.setitem(refinement.REFINEMENTS, "upper_half", upper_half)
    configs.REFINEMENTS.append("upper_half")
    _train(tmp_path, split)
    map_extraction.extract(tmp_path, split, MAPS)
    plain = dataclasses.replace(presets.TINY.seeds, refine="none", theta=0.2)
    for refine in ("none", "upper_half"):
        seed_extraction.make(tmp_path, split, dataclasses.replace(plain, refine=refine), name=refine)
    for image_id in split.image_ids:
        whole, half = (labels.read_label(tmp_path / name / f"{image_id}.png") for name in ("none", "upper_half"))
        middle = len(whole) // 2
        np.testing.assert_array_equal(half[:middle], whole[:middle])
        assert (half[middle:] == labels.IGNORE).all() and (whole[middle:] != labels.IGNORE).any()


@keras.saving.register_keras_serializable("recipe")
class AveragedConvolution(layers.Layer):
    """CAM's head (Zhou et al. 2016): a 1 x 1 convolution to the classes, averaged over the image."""

    def __init__(self, num_tags, **kwargs):
        super().__init__(**kwargs)
        self.num_tags = num_tags

    def build(self, input_shape):
        self.kernel = self.add_weight(shape=(input_shape[-1], self.num_tags), initializer="glorot_uniform")

    def units(self, x):
        return x

    def call(self, x, training=False, rng_seeds=None):
        return self.logits(x)

    def logits(self, x, selection=None):
        return tf.matmul(tf.reduce_mean(x, (1, 2)), tf.convert_to_tensor(self.kernel))

    expected_logits = logits

    def class_maps(self, x, tag_ids):
        kernel = tf.gather(tf.convert_to_tensor(self.kernel), tag_ids, axis=1)
        return tf.matmul(tf.reshape(x, [-1, x.shape[-1]]), kernel)


def test_a_classifier_head_with_its_map_method(split, tmp_path, monkeypatch):
    monkeypatch.setitem(classifier.HEADS, "cam", lambda config, num_tags: AveragedConvolution(num_tags))
    configs.CLASSIFIER_HEADS.append("cam")
    _train(tmp_path, split, head="cam")
    options = map_extraction.Options(mode="deterministic")
    for name, changes in (("own", {"cam": "cam"}), ("tape", {"method": "tape"})):
        map_extraction.extract(tmp_path, split, dataclasses.replace(MAPS, **changes), options, name=name)
    shown = 0
    for image_id in split.image_ids:
        own, tape = (ImageMaps.read(tmp_path / name / f"{image_id}.npz") for name in ("own", "tape"))
        np.testing.assert_allclose(own.mean, tape.mean, atol=2e-3)  # of this head Grad-CAM of Eq. 1 is CAM
        shown += own.mean.max(initial=0) > 0.99
    assert shown
    seed_extraction.extract(tmp_path, split, dataclasses.replace(MAPS, cam="cam"), presets.TINY.seeds, options)
    assert artifacts.read_run(tmp_path / "seeds")["images"] == 4


def test_a_loss_of_the_segmenter(split, tmp_path, monkeypatch):
    def entropy(step):
        log_probs = tf.nn.log_softmax(step.logits)
        return -0.1 * tf.reduce_mean(tf.reduce_sum(tf.exp(log_probs) * log_probs, -1))

    monkeypatch.setitem(objective.LOSSES, "entropy", entropy)
    _train(tmp_path, split)
    seed_extraction.extract(tmp_path, split, MAPS, presets.TINY.seeds)
    configs.SEGMENTER_LOSSES.append("entropy")
    segmenter_training.train(tmp_path, split, dataclasses.replace(SEGMENTER, losses=("seed", "entropy")))
    for row in _log(tmp_path / "segmenter"):
        assert 0 < float(row["entropy_loss"]) <= 0.1 * np.log(len(split.class_names)) + 1e-6
        assert float(row["loss"]) == pytest.approx(float(row["seed_loss"]) + float(row["entropy_loss"]), rel=1e-5)
