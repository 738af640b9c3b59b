"""A finished run as one object: photographs in, maps and masks by class names out."""

import dataclasses
import shutil

import numpy as np
import pytest
from PIL import Image

import ficklenet_tf
from ficklenet_tf.data import images, labels
from ficklenet_tf.errors import UserError
from ficklenet_tf.evaluation import prediction
from ficklenet_tf.maps import localizer
from ficklenet_tf.models import classifier
from ficklenet_tf.runs import artifacts
from ficklenet_tf.seeds import crf_choice
from tests import tiny_run

PHOTOGRAPH = tiny_run.photograph(70, 93, 1)


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory):
    return tiny_run.make(tmp_path_factory.mktemp("run"), sizes=(48,), flip=True)


@pytest.fixture(scope="module")
def run(run_dir):
    return ficklenet_tf.load(run_dir)


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    """PHOTOGRAPH as a file that lies on its side and says so."""
    path = tmp_path_factory.mktemp("photographs") / "a.png"
    turned = Image.fromarray(np.rot90(PHOTOGRAPH))
    exif = turned.getexif()
    exif[0x0112] = 6
    turned.save(path, exif=exif)
    return path


def test_localize_is_the_functions_answer_of_a_file_or_an_array(run, run_dir, file, monkeypatch):
    options = {"tags": ["star", "disc"], "num_maps": 7, "seed": 3}
    expected = ficklenet_tf.localize(ficklenet_tf.load_classifier(run_dir), PHOTOGRAPH, **options)
    of_array = run.localize(PHOTOGRAPH, **options)
    monkeypatch.setattr(localizer, "of_classifier", None)  # its graphs are there
    for maps in (of_array, run.localize(file, **options), run.localize(str(file), **options)):
        assert maps.tag_ids.tolist() == [0, 2] and maps.num_maps == 7 and maps.shape == (70, 93)
        for name in ("mean", "max", "std"):
            np.testing.assert_array_equal(getattr(maps, name), getattr(expected, name))
    assert (run.localize(PHOTOGRAPH, **{**options, "seed": 4}).mean != expected.mean).any()
    assert run.localize(PHOTOGRAPH, **{**options, "tags": "star"}).tag_ids.tolist() == [2]


def test_other_options_make_other_maps(run):
    plain = run.localize(PHOTOGRAPH, ["disc"], mode="deterministic", size=48)
    assert plain.mean.shape == (6, 6, 1) and not plain.std.any()
    assert run.localize(PHOTOGRAPH, ["disc"], num_maps=3, size=48).num_maps == 3
    assert run.localize(PHOTOGRAPH, ["disc"], num_maps=3).mean.shape == (8, 8, 1)


def test_maps_are_drawn_as_the_classifier_predicts_unless_one_says_otherwise(run):
    trained = run.classifier
    assert trained.config.inference_mode == "stochastic"
    plain = trained._replace(config=dataclasses.replace(trained.config, inference_mode="deterministic"))
    for mode, random in ((None, False), ("stochastic", True)):
        assert ficklenet_tf.localize(plain, PHOTOGRAPH, ["disc"], num_maps=3, mode=mode).std.any() == random


@pytest.mark.parametrize("size", [0, 15, 8193, -48])
def test_a_size_that_cannot_be_is_refused(run, size):
    for ask in (run.localize, lambda *args, **options: ficklenet_tf.localize(run.classifier, *args, **options)):
        with pytest.raises(UserError, match=rf"sizes: expected whole numbers from 16 to 8192, found \({size},\)"):
            ask(PHOTOGRAPH, ["disc"], size=size)


def test_predict_gives_labels_names_and_shares(run, run_dir, file, tmp_path):
    model = ficklenet_tf.load_segmenter(run_dir)
    for key, spec in ficklenet_tf.crf.SPECS.items():
        found = run.predict(file, crf=key)
        expected = model.labels(PHOTOGRAPH, spec)
        np.testing.assert_array_equal(found.labels, expected)
        assert found.labels.dtype == np.uint8 and found.probs.shape == (70, 93, 4)
    np.testing.assert_array_equal(run.predict(PHOTOGRAPH).labels, model.labels(PHOTOGRAPH))
    found = run.predict(PHOTOGRAPH, crf="none")
    counts = {name: (found.labels == tiny_run.CLASS_NAMES.index(name)).mean() for name in ("disc", "square", "star")}
    assert found.names == sorted(counts, key=counts.get, reverse=True) and found.shares == pytest.approx(counts)
    np.testing.assert_array_equal(found.overlay(), images.overlay(PHOTOGRAPH, found.labels))
    np.testing.assert_array_equal(found.overlay(0.0), PHOTOGRAPH)
    assert repr(found) == f"<Prediction 70 x 93: {labels.in_words(found.shares)}>"
    found.save(tmp_path / "a.png")
    np.testing.assert_array_equal(labels.read_label(tmp_path / "a.png"), found.labels)
    with pytest.raises(UserError, match=r"a\.jpg: expected a path that ends in \.png"):
        found.save(tmp_path / "a.jpg")


def test_auto_is_the_crf_that_was_chosen(run, monkeypatch):
    with pytest.raises(UserError, match="expected that .* has one chosen, found none"):
        run.predict(PHOTOGRAPH, crf="auto")
    monkeypatch.setattr(crf_choice, "chosen", lambda run_dir, key: {"auto": "none"}[key])
    np.testing.assert_array_equal(run.predict(PHOTOGRAPH, crf="auto").probs, run.segmenter(PHOTOGRAPH))


def test_networks_are_loaded_when_asked_and_kept(run_dir, monkeypatch):
    loaded = []

    def counted(name, load):
        return lambda directory: loaded.append(name) or load(directory)

    for module, name in ((classifier, "load_classifier"), (prediction, "load_segmenter")):
        monkeypatch.setattr(module, name, counted(name, getattr(module, name)))
    run = ficklenet_tf.load(run_dir)
    assert run.class_names == tiny_run.CLASS_NAMES
    assert repr(run) == f"<LoadedRun {run_dir}: classifier and segmenter; 3 classes: disc, square, star>"
    assert not loaded
    for _ in range(2):
        run.predict(PHOTOGRAPH, "none")
    assert loaded == ["load_segmenter"]
    for _ in range(2):
        run.localize(PHOTOGRAPH, ["disc"], num_maps=2)
    assert loaded == ["load_segmenter", "load_classifier"]


def test_a_run_with_one_stage_does_what_it_can(run_dir, tmp_path):
    shutil.copytree(run_dir / "classifier", tmp_path / "classifier")
    run = ficklenet_tf.load(tmp_path)
    assert run.class_names == tiny_run.CLASS_NAMES and ": classifier; 3" in repr(run)
    assert run.localize(PHOTOGRAPH, ["disc"], num_maps=2).num_maps == 2
    with pytest.raises(FileNotFoundError, match="segmenter/run.json: expected a finished segmenter"):
        run.predict(PHOTOGRAPH)


def test_the_last_round_is_the_segmenter(run_dir, tmp_path):
    shutil.copytree(run_dir / "segmenter", tmp_path / "segmenter")
    shutil.copytree(run_dir / "segmenter", tmp_path / "segmenter_retrained")
    other = {**artifacts.read_run(tmp_path / "segmenter"), "class_names": ["background", "x", "y", "z"]}
    artifacts.write_json(tmp_path / "segmenter_retrained" / "run.json", other)
    run = ficklenet_tf.load(tmp_path)
    assert run.class_names == other["class_names"] and ": segmenter_retrained; 3" in repr(run)
    assert set(run.predict(PHOTOGRAPH, "none").names) == {"x", "y", "z"}


def test_what_is_no_run_is_named(tmp_path):
    for directory, found in ((tmp_path, "no stage that has finished"), (tmp_path / "absent", "no such directory")):
        with pytest.raises(FileNotFoundError, match=rf"expected a run's directory, with classifier/run\.json or "
                                                    rf"segmenter/run\.json, found {found}"):
            ficklenet_tf.load(directory)


def test_what_is_no_photograph_or_unknown_is_named(run, tmp_path):
    for wrong, found in ((PHOTOGRAPH / 255, r"float64 \[70, 93, 3\]"), (PHOTOGRAPH[..., 0], r"uint8 \[70, 93\]"),
                         (PHOTOGRAPH[None], r"uint8 \[1, 70, 93, 3\]"), (PHOTOGRAPH[:0], r"uint8 \[0, 93, 3\]"),
                         (PHOTOGRAPH.astype(np.uint16), r"uint16 \[70, 93, 3\]"),
                         (np.concatenate([PHOTOGRAPH, PHOTOGRAPH[..., :1]], -1), r"uint8 \[70, 93, 4\]")):
        for ask in (run.predict, lambda photograph: run.localize(photograph, ["disc"]),
                    lambda photograph: ficklenet_tf.localize(run.classifier, photograph, ["disc"])):
            with pytest.raises(UserError, match=rf"\[height, width, 3\] uint8 RGB, found {found}"):
                ask(wrong)
    with pytest.raises(FileNotFoundError, match="expected a photograph, found no such file"):
        run.predict(tmp_path / "absent.jpg")
    with pytest.raises(UserError, match="tags: expected some of disc, square, star, found dog, background"):
        run.localize(PHOTOGRAPH, tags=["dog", "disc", "background"])
    with pytest.raises(UserError, match="crf: expected one of none, sec, .*, auto, found 'dsgr'"):
        run.predict(PHOTOGRAPH, crf="dsgr")
