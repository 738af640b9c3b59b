"""Seeds, in one go or from the disk: what is written beside them, what is left out; shards change nothing."""

import dataclasses
import shutil

import cv2
import numpy as np
import pytest

from ficklenet_tf import presets
from ficklenet_tf.data import images, labels
from ficklenet_tf.errors import UserError
from ficklenet_tf.maps import extraction as map_extraction
from ficklenet_tf.maps.image_maps import ImageMaps
from ficklenet_tf.maps.localizer import Localizer
from ficklenet_tf.models import classifier
from ficklenet_tf.runs import artifacts, restart
from ficklenet_tf.seeds import extraction, rule
from ficklenet_tf.seeds.evidence import Evidence
from tests import tiny_run

MAPS = presets.MapsConfig(num_maps=20, sizes=(33,))
CONFIG = presets.SeedsConfig(theta=0.5)
SEED_5 = map_extraction.Options(seed=5)
PHOTOGRAPHS = tiny_run.Photographs()


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory):
    """A classifier of random weights, in the layout of a finished stage, and seeds of it."""
    root = tiny_run.make_classifier(tmp_path_factory.mktemp("run"))
    extraction.extract(root, PHOTOGRAPHS, MAPS, CONFIG, SEED_5)
    return root


def _extract(run_dir, config=CONFIG, options=None, **changes):
    options = options or extraction.Options()
    return extraction.extract(run_dir, PHOTOGRAPHS, MAPS, config, SEED_5, options, **changes)


def _seeds(directory):
    return {path.name: path.read_bytes() for path in directory.glob("*.png")}


def test_what_is_written_beside_is_added_afterwards_without_changing_the_seeds(run_dir):
    before, finished = _seeds(run_dir / "seeds"), artifacts.read_run(run_dir / "seeds")["finished"]
    assert len(before) == 3 and not (run_dir / "seeds_uncertainty").exists() and finished
    _extract(run_dir, options=extraction.Options(uncertainty=True, keep_maps=True))
    assert _seeds(run_dir / "seeds") == before
    for image_id in "abc":
        label = labels.read_label(run_dir / "seeds" / f"{image_id}.png")
        maps = ImageMaps.read(run_dir / "maps" / f"{image_id}.npz")
        expected = rule.uncertainty(maps.std, maps.mean, maps.tag_ids, label)
        grey = cv2.imread(str(run_dir / "seeds_uncertainty" / f"{image_id}.png"), cv2.IMREAD_UNCHANGED)
        np.testing.assert_allclose(grey / 255, expected, atol=0.005)
        assert grey.max() > 20


@pytest.mark.parametrize("changes", [
    {}, {"background_cue": "gradient", "background_threshold": 0.2}, {"refine": "crf"},
    {"refine": "srg", "max_uncertainty": 0.3}], ids=str)
def test_seeds_from_the_disk_are_those_made_in_one_go(run_dir, tmp_path, changes):
    shutil.copytree(run_dir / "classifier", tmp_path / "classifier")
    config, options = dataclasses.replace(CONFIG, **changes), extraction.Options(uncertainty=True)
    once = extraction.extract(tmp_path, PHOTOGRAPHS, MAPS, config, SEED_5, options, name="once")
    maps_config = dataclasses.replace(MAPS, gradient="features" if "gradient" in changes.values() else "none")
    map_extraction.extract(tmp_path, PHOTOGRAPHS, maps_config, SEED_5)
    shutil.rmtree(tmp_path / "classifier")  # no network is needed any more
    for shard in ((1, 2), (0, 2), (0, 1)):
        by_disk = extraction.make(tmp_path, PHOTOGRAPHS, config, options, name="disk", shard=shard)
    assert _seeds(tmp_path / "once") == _seeds(tmp_path / "disk") and len(_seeds(tmp_path / "disk")) == 3
    assert _seeds(tmp_path / "once_uncertainty") == _seeds(tmp_path / "disk_uncertainty")
    assert (tmp_path / "once" / "settings.json").read_bytes() == (tmp_path / "disk" / "settings.json").read_bytes()
    assert {key: value for key, value in once.items() if key != "finished"} == {
        key: value for key, value in by_disk.items() if key != "finished"}


def test_maps_that_seeds_cannot_be_made_of(run_dir):
    _extract(run_dir, options=extraction.Options(keep_maps=True))

    class Others(tiny_run.Photographs):
        fingerprint = "other"

    for split, changes, message in ((Others(), {}, "expected maps of made train, found those of other images"),
                                    (PHOTOGRAPHS, {"background_cue": "gradient"}, "with --gradient=features")):
        with pytest.raises(UserError, match=message):
            extraction.make(run_dir, split, dataclasses.replace(CONFIG, **changes), name="refused")
    with pytest.raises(FileNotFoundError, match="none/run.json: expected a finished set of maps"):
        extraction.make(run_dir, PHOTOGRAPHS, CONFIG, maps="none")


def test_uncertain_seeds_are_left_out(run_dir):
    maps = Localizer(*classifier.load(run_dir / "classifier")[:2], MAPS)(PHOTOGRAPHS[0], 5)
    image = images.decode_image_op(PHOTOGRAPHS[0]["image"]).numpy()
    label = extraction.make_seed(Evidence("a", image, maps, CONFIG))
    uncertain = rule.uncertainty(maps.std, maps.mean, maps.tag_ids, label)
    limit = float(np.median(uncertain[(label > 0) & (label < 255)]))
    sure = extraction.make_seed(Evidence("a", image, maps, dataclasses.replace(CONFIG, max_uncertainty=limit)))
    assert (sure == np.where(uncertain > limit, 255, label)).all() and (sure != label).any() and (sure == label).any()
    assert (label == labels.read_label(run_dir / "seeds" / "a.png")).all()


def test_uncertainty_is_that_of_the_seeds_before_any_was_left_out(run_dir):
    options = extraction.Options(uncertainty=True)
    _extract(run_dir, CONFIG, options, name="all")
    _extract(run_dir, dataclasses.replace(CONFIG, max_uncertainty=0.1), options, name="sure")
    assert _seeds(run_dir / "all_uncertainty") == _seeds(run_dir / "sure_uncertainty")
    assert _seeds(run_dir / "all") != _seeds(run_dir / "sure")


def test_an_extraction_without_its_saliency_maps_is_refused(run_dir, tmp_path):
    config = dataclasses.replace(CONFIG, background_cue="saliency")
    with pytest.raises(UserError, match="--saliency_dir"):
        _extract(run_dir, config, name="refused")
    assert not (run_dir / "refused").exists()
    with pytest.raises(UserError, match="expected a saliency map for each of 3 images, 3 are missing"):
        _extract(run_dir, config, extraction.Options(saliency_dir=tmp_path), name="refused")


def test_an_image_without_tags_is_background(run_dir):
    config = dataclasses.replace(MAPS, sizes=(33, 41), flip_views=True)
    example = {**PHOTOGRAPHS[0], "tags": np.zeros(3, np.float32)}
    maps = Localizer(*classifier.load(run_dir / "classifier")[:2], config)(example, 5)
    image = images.decode_image_op(example["image"]).numpy()
    assert maps.mean.shape == (5, 5, 0) and (extraction.make_seed(Evidence("a", image, maps, CONFIG)) == 0).all()


def test_n_auto_keeps_the_maps_and_tells_how_many_it_took_whatever_the_shards(run_dir):
    auto = dataclasses.replace(MAPS, num_maps="auto", auto_tolerance=0.1, auto_most=160)
    whole = extraction.extract(run_dir, PHOTOGRAPHS, auto, CONFIG, SEED_5, name="auto")
    for shard in ((1, 2), (0, 2), (0, 1)):
        parts = extraction.extract(run_dir, PHOTOGRAPHS, auto, CONFIG, SEED_5, name="shards", shard=shard)
    assert _seeds(run_dir / "auto") == _seeds(run_dir / "shards") and whole["num_maps"] == parts["num_maps"]
    taken = [ImageMaps.read(run_dir / "auto_maps" / f"{image_id}.npz").num_maps for image_id in "abc"]
    assert whole["num_maps"] == {"median": np.median(taken), "max": max(taken)}


def test_maps_kept_afterwards_in_shards_are_a_finished_stage(run_dir):
    options = extraction.Options(keep_maps=True)
    _extract(run_dir, name="later")
    for shard in ((0, 2), (1, 2), (0, 1)):
        _extract(run_dir, options=options, name="later", shard=shard)
    extraction.make(run_dir, PHOTOGRAPHS, CONFIG, maps="later_maps", name="made")
    assert _seeds(run_dir / "later") == _seeds(run_dir / "made")
    with pytest.raises(UserError, match="num_maps: 20 -> 7"):  # a refused call leaves nothing that refuses the next
        extraction.extract(run_dir, PHOTOGRAPHS, dataclasses.replace(MAPS, num_maps=7), CONFIG, SEED_5, options,
                           name="seeds")
    _extract(run_dir, options=options)


def test_maps_on_disk_are_not_made_again(run_dir, monkeypatch):
    options = extraction.Options(keep_maps=True)
    _extract(run_dir, options=options, name="again")
    before = _seeds(run_dir / "again")
    for path in (run_dir / "again").glob("*.png"):
        path.unlink()
    monkeypatch.setattr(Localizer, "localize", None)
    _extract(run_dir, options=options, name="again")
    assert _seeds(run_dir / "again") == before


def test_maps_of_an_earlier_classifier_are_refused(tmp_path):
    tiny_run.make_classifier(tmp_path)
    map_extraction.extract(tmp_path, PHOTOGRAPHS, MAPS)
    run = artifacts.read_json(tmp_path / "classifier" / "run.json")
    artifacts.write_json(tmp_path / "classifier" / "run.json", {**run, "finished": "later"})
    with pytest.raises(UserError, match="found those of an earlier classifier"):
        extraction.make(tmp_path, PHOTOGRAPHS, CONFIG)


def test_a_word_that_nobody_knows_is_refused_before_the_directory_is_begun(run_dir):
    for changes in ({"method": "foo"}, {"cam": "foo"}, {"cam": "cam"}):
        with pytest.raises(UserError, match="expected"):
            extraction.extract(run_dir, PHOTOGRAPHS, dataclasses.replace(MAPS, **changes), CONFIG, name="refused_word")
    assert not (run_dir / "refused_word").exists()


def test_uncertainty_of_earlier_seeds_is_not_taken_for_that_of_later_ones(run_dir):
    options = extraction.Options(uncertainty=True)
    _extract(run_dir, CONFIG, options, name="again")
    before = _seeds(run_dir / "again_uncertainty")
    restart.request(run_dir, ["again"], followers=False)
    later = dataclasses.replace(CONFIG, theta=0.7)
    _extract(run_dir, later, name="again")
    with pytest.raises(UserError, match="again_uncertainty: was begun with other settings"):
        _extract(run_dir, later, options, name="again")
    restart.request(run_dir, ["again_uncertainty"], followers=False)
    _extract(run_dir, later, options, name="again")
    assert _seeds(run_dir / "again_uncertainty") != before
    _extract(run_dir, later, options, name="fresh")
    assert _seeds(run_dir / "again_uncertainty") == _seeds(run_dir / "fresh_uncertainty")
