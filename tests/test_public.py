"""The public surface: what `import ficklenet_tf` gives, and that it loads nothing before it is asked for."""

import doctest
import functools
import hashlib
import io
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf

import ficklenet_tf
from ficklenet_tf.data import images
from ficklenet_tf.evaluation import prediction
from ficklenet_tf.maps import localizer
from ficklenet_tf.models import backbones
from tests import tiny_run


def test_importing_loads_nothing():
    code = "import sys, ficklenet_tf; print([m for m in ('tensorflow', 'keras', 'cv2', 'numpy') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_every_name_is_there_and_no_other():
    assert set(ficklenet_tf.__all__) <= set(dir(ficklenet_tf))
    for name in ficklenet_tf.__all__:
        assert getattr(ficklenet_tf, name) is not None
    with pytest.raises(AttributeError, match="nonsense"):
        ficklenet_tf.nonsense  # noqa: B018


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory):
    return tiny_run.make(tmp_path_factory.mktemp("run"), sizes=(48,), flip=True)


EXAMPLES = ("load", "LoadedRun.localize", "LoadedRun.predict", "crf.refine", "register_backbone")


@pytest.mark.parametrize("name", EXAMPLES)
def test_the_examples_in_docstrings_are_true(name, run_dir, tmp_path, monkeypatch):
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "mine").symlink_to(run_dir)
    images.write_overlay(tmp_path / "a.jpg", tiny_run.photograph(70, 93, 1), np.zeros((70, 93)))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(backbones, "BACKBONES", dict(backbones.BACKBONES))
    documented = functools.reduce(getattr, name.split("."), ficklenet_tf)
    example = doctest.DocTestParser().get_doctest(
        documented.__doc__, {"ficklenet_tf": ficklenet_tf, "keras": keras, "np": np}, name, None, 0)
    assert example.examples
    said = io.StringIO()
    assert not doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE).run(
        example, out=said.write).failed, said.getvalue()


def test_a_segmenter_answers_with_probabilities_labels_and_a_picture(run_dir):
    model, photograph = ficklenet_tf.load_segmenter(run_dir), tiny_run.photograph(70, 93, 1)
    probs = model(photograph)
    np.testing.assert_array_equal(probs, prediction.Predictor(run_dir / "segmenter")(photograph))
    refined = ficklenet_tf.crf.refine(photograph, probs).argmax(-1)
    np.testing.assert_array_equal(model.labels(photograph), refined)
    np.testing.assert_array_equal(model.labels(photograph, None), probs.argmax(-1))
    np.testing.assert_array_equal(model.overlay(photograph), images.overlay(photograph, refined))
    assert model.class_names == tiny_run.CLASS_NAMES


def test_a_classifier_localizes_tags_by_name(run_dir):
    classifier, photograph = ficklenet_tf.load_classifier(run_dir), tiny_run.photograph(70, 93, 1)
    maps = ficklenet_tf.localize(classifier, photograph, tags=["star", "disc"], num_maps=7, seed=3)
    assert maps.tag_ids.tolist() == [0, 2] and maps.num_maps == 7 and maps.shape == (70, 93)
    config = ficklenet_tf.presets.MapsConfig(num_maps=7, sizes=(64,))
    name = hashlib.sha256(photograph.tobytes()).hexdigest()  # another photograph has selections of its own
    example = {"image_id": name, "image": tf.io.encode_png(photograph), "tags": np.array([1, 0, 1], np.float32)}
    expected = localizer.Localizer(classifier.model, classifier.normalization, config)(example, 3)
    np.testing.assert_array_equal(maps.mean, expected.mean)
    with pytest.raises(ficklenet_tf.UserError, match="tags: expected some of disc, square, star, found dog"):
        ficklenet_tf.localize(classifier, photograph, tags=["dog"])
