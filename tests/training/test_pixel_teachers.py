"""Saliency maps and masks beside tags: tiny trainings by each loss, what is refused before them, and rehearsals."""

import csv
import dataclasses

import numpy as np
import pytest

from ficklenet_tf import presets
from ficklenet_tf.data import datasets, images, input_pipeline, labels
from ficklenet_tf.errors import UserError
from ficklenet_tf.experiments import job, rehearsed, systems
from ficklenet_tf.maps import extraction as map_extraction
from ficklenet_tf.maps.image_maps import ImageMaps
from ficklenet_tf.models import classifier
from ficklenet_tf.runs import artifacts
from ficklenet_tf.seeds import extraction as seed_extraction
from ficklenet_tf.training import classifier as classifier_training
from ficklenet_tf.training import classifier_losses, pixel_teachers, rehearsal
from ficklenet_tf.training import segmenter as segmenter_training

pytestmark = pytest.mark.trains
CONFIG = dataclasses.replace(presets.TINY.classifier, input_size=33, kernel_size=3, batch_size=4, epochs=0, steps=2,
                             photometric=0.0)
EPS = dataclasses.replace(CONFIG, head="eps", hidden=8, objectives=("tags", "saliency"))
GAIN = dataclasses.replace(CONFIG, objectives=("tags", "mining", "mining_masks"))
Options = classifier_training.Options


@pytest.fixture(scope="module")
def split(drawings_dir):
    return datasets.load_split("shapes", "train", cache_dir=drawings_dir, max_images=8)


@pytest.fixture(scope="module")
def saliency_dir(split, tmp_path_factory):
    """The objects themselves as saliency maps."""
    directory = tmp_path_factory.mktemp("maps")
    for index, image_id in enumerate(split.image_ids):
        images.write_grey(directory / f"{image_id}.png", labels.decode_label(split[index]["label"]) != 0)
    return directory


def _last(directory):
    with open(directory / "log.csv", newline="") as file:
        return {name: float(value) for name, value in list(csv.DictReader(file))[-1].items()}


@pytest.mark.parametrize("trainable", ["all", "head"])
def test_gain_with_masks(trainable, split, tmp_path):
    config = dataclasses.replace(GAIN, trainable_layers=trainable)
    options = Options("random", strong=split.select([1, 3, 6]))
    run = classifier_training.train(tmp_path / "classifier", split, split, config, options)
    assert run["strong"]["images"] == 3 and "saliency" not in run
    row = _last(tmp_path / "classifier")
    assert 0 < row["mining_loss"] < 1 and 0 <= row["mining_masks_loss"] < 10
    assert row["loss"] == pytest.approx(row["tags_loss"] + row["mining_loss"] + row["mining_masks_loss"], rel=1e-5)
    with pytest.raises(UserError, match="strong"):  # of other images: another training
        classifier_training.train(tmp_path / "classifier", split, split, config,
                                  dataclasses.replace(options, strong=split.select([1])))


def test_only_masks_that_may_be_used_are_read(split, tmp_path, monkeypatch):
    """The training's own reader gives labels of the strong images, and of the others 255 alone."""
    readers, make = [], classifier_training._reader
    monkeypatch.setattr(classifier_training, "_reader", lambda *args: (readers.append(make(*args)), readers[-1])[1])
    strong = split.select([1, 3, 6])
    masked = pixel_teachers.masked(strong, split, GAIN.objectives, classifier_losses.NEED_MASKS)
    assert masked == set(strong.image_ids)
    classifier_training.train(tmp_path / "classifier", split, split, GAIN, Options(strong=strong))
    (reader,) = readers
    for position in range(len(split)):
        image_id = split.image_ids[input_pipeline.index_at(position, len(split), reader.seed)]
        label = reader.example(position)["label"]
        assert label.shape == (5, 5) and (label != labels.IGNORE).any() == (image_id in masked)


@pytest.mark.parametrize("trainable", ["all", "head"])
def test_eps_from_saliency_to_seeds(trainable, split, saliency_dir, tmp_path):
    """Its softmax maps lie beside the others, over two views, and seeds are made of them by way of the disk or not."""
    config = dataclasses.replace(EPS, trainable_layers=trainable)
    run = classifier_training.train(tmp_path / "classifier", split, split, config,
                                    Options("random", saliency_dir=saliency_dir))
    assert run["saliency"] == str(saliency_dir) and 0 < _last(tmp_path / "classifier")["saliency_loss"] < 1
    maps_config = presets.MapsConfig(num_maps=10, sizes=(33, 49), flip_views=True)
    seeds_config = presets.SeedsConfig(refine="eps", eps_background="head")
    map_extraction.extract(tmp_path, split, maps_config)
    seed_extraction.make(tmp_path, split, seeds_config)
    seed_extraction.extract(tmp_path, split, maps_config, seeds_config, name="seeds_at_once")
    localizer, _ = map_extraction.open_localizer(tmp_path, split, maps_config, map_extraction.Options())
    head = classifier.load(tmp_path / "classifier").model.head
    for index, image_id in enumerate(split.image_ids):
        maps = ImageMaps.read(tmp_path / "maps" / f"{image_id}.npz")
        prepared = localizer.prepare(split[index])
        views = [head.class_probs(x, maps.tag_ids).numpy() for x in localizer.features(prepared)]
        views = [images.resize_maps(view[:, ::-1] if i % 2 else view, (5, 5)) for i, view in enumerate(views)]
        np.testing.assert_allclose(maps.probs, np.mean(views, 0), atol=2e-3)  # what is kept is float16
        seeds = [labels.read_label(tmp_path / name / f"{image_id}.png") for name in ("seeds", "seeds_at_once")]
        np.testing.assert_array_equal(*seeds)
        assert set(np.unique(seeds[0])) <= {0, *(maps.tag_ids + 1)}


def test_stc_in_a_training_of_the_segmenter(split, saliency_dir, tmp_path):
    classifier_training.train(tmp_path / "classifier", split, split, CONFIG)
    for image_id in split.image_ids:
        labels.write_label(tmp_path / "seeds" / f"{image_id}.png", np.full((9, 9), labels.IGNORE))
    artifacts.write_run(tmp_path / "seeds")
    config = dataclasses.replace(presets.TINY.segmenter, channels=4, batch_size=4, steps=2, losses=("stc",))
    with pytest.raises(UserError, match="losses stc: expected a saliency map for each of 8 images, found none; make"):
        segmenter_training.train(tmp_path, split, config)
    options = segmenter_training.Options(saliency_dir=saliency_dir)
    run = segmenter_training.train(tmp_path, split, config, options)
    assert run["saliency"] == str(saliency_dir) and _last(tmp_path / "segmenter")["stc_loss"] > 0
    with pytest.raises(UserError, match="losses stc: of a random crop they would teach what is padded"):
        segmenter_training.train(tmp_path, split, dataclasses.replace(config, random_crop=True), options,
                                 name="cropped")


def test_what_is_missing_is_said_before_anything_begins(split, saliency_dir, tmp_path):
    with pytest.raises(UserError, match="losses saliency: expected a saliency map .* found none; make them by "
                                        "tools.make_saliency, or pass --saliency_dir"):
        classifier_training.train(tmp_path / "classifier", split, split, EPS)
    images.write_grey(tmp_path / "some" / f"{split.image_ids[0]}.png", np.ones((3, 3)))
    with pytest.raises(UserError, match="some: .* 7 are missing, .*; make them by tools.make_saliency"):
        classifier_training.train(tmp_path / "classifier", split, split, EPS, Options(saliency_dir=tmp_path / "some"))
    for strong in (None, dataclasses.replace(split.select([0]), image_ids=("of another",))):
        with pytest.raises(UserError, match="losses mining_masks: expected images of shapes train whose masks"):
            classifier_training.train(tmp_path / "classifier", split, split, GAIN, Options(strong=strong))
    with pytest.raises(UserError, match="strong images: expected only with the losses mining_masks, found tags"):
        classifier_training.train(tmp_path / "classifier", split, split, CONFIG, Options(strong=split))
    assert not (tmp_path / "classifier").exists()


def test_a_run_has_its_own_saliency_and_what_needs_none_takes_none(split, saliency_dir, tmp_path):
    assert pixel_teachers.saliency_of(tmp_path, None) is None
    artifacts.write_run(tmp_path / "saliency", model="abc")
    assert pixel_teachers.saliency_of(tmp_path, None) == tmp_path / "saliency"
    assert pixel_teachers.saliency_of(tmp_path, saliency_dir) == saliency_dir
    assert pixel_teachers.saliency(tmp_path / "saliency", split, ("tags",), ("saliency",)) is None
    for image_id in split.image_ids:
        images.write_grey(tmp_path / "saliency" / f"{image_id}.png", np.ones((3, 3)))
    run = classifier_training.train(tmp_path / "classifier", split, split, EPS)
    assert run["saliency"] == "made by abc"
    assert "saliency" not in classifier_training.train(tmp_path / "plain", split, split, CONFIG)


def test_a_rehearsal_finds_the_runs_saliency_and_images_with_masks(split, saliency_dir, tmp_path, monkeypatch):
    """The images with masks are the last ones of all; the saliency maps lie in the run, not in the rehearsal."""
    (tmp_path / "saliency").symlink_to(saliency_dir)
    monkeypatch.setattr(pixel_teachers.artifacts, "read_run", lambda path, read=artifacts.read_run: (
        {"model": "abc"} if path == tmp_path / "saliency" else read(path)))
    rehearsal.rehearse_classifier(tmp_path, split, split, EPS)
    seen, train = [], classifier_training.train
    monkeypatch.setattr(classifier_training, "train", lambda directory, few, held_out, config, options: (
        seen.append(few.image_ids), train(directory, few, held_out, config, options))[1])
    rehearsal.rehearse_classifier(tmp_path, split, split, GAIN, Options(strong=split.select([6, 7])))
    assert seen == [(split.image_ids[6], split.image_ids[7], *split.image_ids[:2])]
    segmenter = dataclasses.replace(presets.TINY.segmenter, channels=4, batch_size=4, losses=("stc",))
    preset = presets.Preset("test", EPS, presets.MapsConfig(num_maps=5, sizes=(33,)),
                            presets.SeedsConfig(refine="eps"), segmenter)
    whole = job.Job(tmp_path, split, split, preset, systems.System("", {}))
    rehearsed.rehearse(whole)
    monkeypatch.undo()
    (tmp_path / "saliency").unlink()
    with pytest.raises(UserError, match="expected a saliency map for each of"):
        rehearsed.rehearse(whole)
    with pytest.raises(UserError, match="expected a saliency map for each of"):
        rehearsed.rehearse(dataclasses.replace(whole, preset=dataclasses.replace(preset, classifier=CONFIG)))
    with pytest.raises(UserError, match="losses saliency: expected a saliency map for each of 8 images"):
        rehearsal.rehearse_classifier(tmp_path, split, split, EPS)
    with pytest.raises(UserError, match="losses stc: expected a saliency map for each of 8 images"):
        rehearsal.rehearse_segmenter(tmp_path, split, segmenter)
