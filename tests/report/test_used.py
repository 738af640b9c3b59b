"""The page's numbers of images are those that the stages used."""

import dataclasses
import json

from ficklenet_tf.report import stages, used
from ficklenet_tf.runs import artifacts
from tests.report import pages


def _rewrite(path, **facts):
    artifacts.write_json(path, {**json.loads(path.read_text()), **facts})


def test_stages_say_how_many_images_they_used(run_dir, train, val):
    _rewrite(run_dir / "seeds" / "run.json", images=3)
    _rewrite(run_dir / "predictions" / "run.json", images=2)
    for name in ("predictions", "predictions_crf"):
        _rewrite(run_dir / "evaluation" / f"{name}.json", images=1, unlabelled=1)
    _, shown = pages.page(run_dir, train, val)
    assert "3 of the 5 drawings of train, 2 of the 4 drawings of val, 2 classes" in shown.text
    assert "mIoU on 1 held-out masks" in shown.text
    assert "val shapes 2 1 1 val-print" in shown.text  # images used, with a mask, left out


def test_without_stages_max_images_says_it(run_dir, train, val):
    run = stages.read(run_dir, "shapes")
    bare = dataclasses.replace(run, scores={}, stages={
        name: dataclasses.replace(stage, settings={}, run={}) for name, stage in run.stages.items()})
    limited = dataclasses.replace(bare, flags={"max_images": 3})
    for of_split, split in ((used.of_training, train), (used.of_held_out, val)):
        assert (of_split(bare, split).images, of_split(limited, split).images) == (len(split), 3)
        assert of_split(bare, split).with_mask == len(split) and of_split(limited, split).with_mask is None
    many = dataclasses.replace(limited, flags={"max_images": 1000})
    assert used.of_held_out(many, val).text == "4 drawings of val"


def test_fingerprint_is_the_runs(run_dir, train, val):
    _rewrite(run_dir / "seeds" / "settings.json", fingerprint="of-less")
    _, shown = pages.page(run_dir, train, val)
    assert "of-less" in shown.text and "train-print" not in shown.text


def test_what_was_made_of_something_that_has_changed_since_is_said(run_dir, train, val):
    """Maps of an earlier classifier, a segmenter of earlier seeds, a served model of an earlier segmenter."""
    then, later = "2026-01-01T00:00:00Z", "2026-01-01T01:00:00Z"
    maps = {"classifier_name": "classifier", "classifier": then}
    _rewrite(run_dir / "classifier" / "run.json", finished=then)
    _rewrite(run_dir / "segmenter" / "run.json", finished=later)
    _rewrite(run_dir / "seeds" / "settings.json", maps=maps)
    artifacts.write_json(run_dir / "segmenter" / "settings.json", {
        "seeds": "seeds", "seeds_made": artifacts.identity(run_dir / "seeds")})
    _rewrite(run_dir / "result.json", served_segmenter=later)
    _, shown = pages.page(run_dir, train, val)
    said = ("seeds/ is of an earlier classifier than classifier/; with --restart=seeds",
            "The segmenter has learned other seeds than those in seeds/ now; with --restart=segmenter",
            "The exported model was compared with an earlier segmenter")
    assert not [line for line in said if line in shown.text] and "Served model 99.987" in shown.text
    _rewrite(run_dir / "classifier" / "run.json", finished=later)
    _rewrite(run_dir / "seeds" / "settings.json", seed=9)
    _rewrite(run_dir / "result.json", served_segmenter=then)
    _, shown = pages.page(run_dir, train, val)
    assert all(line in shown.text for line in said) and "Served model" not in shown.text
    parts = {"maps_round1": {}, "maps_round2": {}}
    merged = {**maps, "mode": "deterministic", "merged": {"rule": "max", "parts": parts}}
    _rewrite(run_dir / "seeds" / "settings.json", maps=merged)
    _, shown = pages.page(run_dir, train, val)
    assert said[0] not in shown.text and "maps of 2 classifiers are merged by their max" in shown.text
    assert "map 1 is of maps_round1 alone" in shown.text and "there is one map" not in shown.text
