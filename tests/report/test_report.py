"""The page of a run directory written by hand: every section, the files' own numbers, missing stages, safe HTML."""

import json
import re
import shutil

import numpy as np
import pytest
from PIL import Image

from ficklenet_tf import report
from ficklenet_tf.data import labels
from ficklenet_tf.report import charts, markup, picture_rows, pictures, stages
from ficklenet_tf.runs import artifacts
from tests.report.pages import NAMES, SECTIONS, Page, page, split


def test_page_has_every_section_and_no_reference_outside(run_dir, train, val):
    text, shown = page(run_dir, train, val)
    assert shown.ids == list(SECTIONS)
    assert "Missing" not in shown.text
    assert shown.references and all(r.startswith("data:image/") for r in shown.references)
    assert not re.search(r"https?:|@import|url\(|//[a-z]|fetch|XMLHttp", re.sub(r"base64,[^\"]*", "", text))
    assert re.findall(r"<script[^>]*>", text) == ["<script>"]


def test_names_and_messages_are_escaped(run_dir, train, val):
    text, shown = page(run_dir, train, val)
    assert "A <title> & more" in shown.text and "cat & <dog>" in shown.text and 'the "bus"' in shown.text
    assert "bad.jpg: <broken>" in shown.text and "<none>" in shown.text
    assert "<dog>" not in text and "<broken>" not in text and "<none>" not in text


def test_numbers_are_those_of_the_files(run_dir, train, val):
    _, shown = page(run_dir, train, val)
    text = shown.text
    assert "Classifier, mAP 54.3" in text and "Served model 99.987" in text
    for path, name in {"seeds/run.json": "random selections", "seeds_deterministic/run.json": "plain Grad-CAM",
                       "evaluation/predictions.json": "without CRF",
                       "evaluation/predictions_crf.json": "with CRF"}.items():
        scores = json.loads((run_dir / path).read_text())
        scores = scores.get("metrics", scores)
        row = " ".join(f"{100 * scores[key]:.1f}" for key in ("miou", "recall", "precision"))
        assert f"{name} {row}" in text
        values = scores["recall_per_class"] + scores["precision_per_class"] if "run.json" in path else \
            scores["iou_per_class"]
        assert all(f" {100 * value:.1f} " in text for value in values), path
    assert "1 h 07 min" in text and "75 s" in text and "verify measured 3.5 s" in text
    assert "train-print" in text and "val-print" in text and artifacts.versions()["numpy"] in text


def test_confusion_matrix_says_each_rows_shares(run_dir, train, val):
    _, shown = page(run_dir, train, val)
    matrix = np.array(json.loads((run_dir / "evaluation/predictions_crf.json").read_text())["confusion"])
    shares = 100 * matrix / matrix.sum(1, keepdims=True)
    section = shown.text[shown.text.index("Confusion matrix"):shown.text.index("The hardest images")]
    shown = " ".join(f"{value:.0f}" for value in shares.ravel() if value >= 0.5)
    assert section.strip().endswith(shown) and "no answer" in section
    context = 100 * matrix[0, 1:-1].sum() / matrix.sum()
    assert "background called an object" in section and f" {context:.1f} " in section


def test_hardest_images_come_first(run_dir, train, val):
    _, shown = page(run_dir, train, val)
    image_iou = json.loads((run_dir / "evaluation/predictions_crf.json").read_text())["image_iou"]
    ordered = sorted(image_iou.items(), key=lambda item: item[1])
    places = [shown.text.index(f"{image_id}: IoU {100 * iou:.1f}") for image_id, iou in ordered]
    assert places == sorted(places)


def test_rows_limit_the_pictures(run_dir, train, val):
    few, many = (page(run_dir, train, val, rows=rows)[0].count("maps of") for rows in (1, 5))
    assert 0 < few and many == 5 * few


def test_begun_stage_shows_its_curve_and_is_named(run_dir, train, val):
    (run_dir / "segmenter" / "run.json").unlink()
    _, shown = page(run_dir, train, val)
    assert "Segmenter (segmenter/), begun but not finished" in shown.text and "89 steps" in shown.text
    assert "missing" in shown.ids and set(SECTIONS) <= set(shown.ids)


def test_splits_without_masks(run_dir):
    train, val = split("train", 5, labelled=False), split("val", 4, labelled=False)
    for name in ("seeds", "seeds_deterministic"):
        artifacts.write_run(run_dir / name, metrics=None)
    for path in (run_dir / "evaluation").iterdir():
        path.unlink()
    _, shown = page(run_dir, train, val)
    assert "ground truth of" not in shown.text and "the images have no masks" in shown.text
    assert "val has no masks of its own" in shown.text and not {"iou", "confusion"} & set(shown.ids)


def test_broken_files_are_named(run_dir, train, val, tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere"):
        report.write_report(tmp_path / "nowhere", train_split=train, val_split=val, title="")
    (run_dir / "result.json").write_text("{")
    with pytest.raises(ValueError, match="result.json"):
        report.write_report(run_dir, train_split=train, val_split=val, title="")


def test_time_is_unknown_where_files_were_copied(run_dir):
    (run_dir / "result.json").unlink()
    run = json.loads((run_dir / "classifier" / "run.json").read_text())
    artifacts.write_json(run_dir / "classifier" / "run.json", {**run, "finished": "2001-01-01T00:00:00Z"})
    read = stages.read(run_dir, "shapes").stages
    assert read["classifier"].seconds is None and 0 <= read["seeds"].seconds < 60
    for known, seconds in (({"seeds": None}, [None]), ({}, range(60))):  # interrupted; done before
        artifacts.write_json(run_dir / "result.json", {"seconds": {"classifier": 7.0, **known}})
        read = stages.read(run_dir, "shapes").stages
        assert read["classifier"].seconds == 7 and read["seeds"].seconds in seconds


def test_chosen_images_cover_the_classes(run_dir, train):
    assert pictures.choose(run_dir, train, 4) == [(0, 1), (1, 2), (2, 1), (3, 2)]
    (run_dir / "seeds" / "train_0.png").unlink()
    assert pictures.choose(run_dir, train, 2) == [(1, 2), (2, 1)]  # images with seeds first


def test_mask_and_heat_have_the_palettes_colours():
    photo = np.full((2, 2, 3), 100, np.uint8)
    drawn = pictures.mask(photo, np.array([[0, 1], [2, 255]], np.uint8))
    expected = 25 + 0.75 * labels.palette()[[0, 1, 2, 255]].reshape(2, 2, 3)
    assert np.abs(drawn - expected).max() <= 0.5
    dark, bright = pictures.heat(photo, np.zeros((3, 3))), pictures.heat(photo, np.ones((3, 3)))
    assert dark.max() < 60 and bright[..., 0].min() > 180 and bright[..., 2].max() < bright[..., 0].min()


@pytest.mark.parametrize("size", [(1, 1), (10, 8000), (8000, 10), (375, 500)])
def test_thumbnails_of_any_shape(size):
    small = pictures.thumbnail(np.zeros((*size, 3), np.uint8), 100)
    assert max(small.shape[:2]) == 100 and min(small.shape[:2]) >= 1


@pytest.mark.parametrize("num_classes", [2, 21, 200])
def test_confusion_matrix_of_any_number_of_classes(num_classes):
    matrix = np.hstack([np.eye(num_classes, dtype=int) * 9, np.zeros((num_classes, 1), int)])
    matrix[-1] = 0  # a class that does not occur
    drawn = charts.confusion_matrix(matrix, [f"a rather long class name {i}" for i in range(num_classes)])
    Page(drawn)
    assert "no answer" not in drawn and len(drawn) < 60_000
    assert not charts.normalized(matrix)[-1].any()


def test_most_confused_by_hand():
    matrix = [[90, 10, 0, 0], [0, 1, 3, 4], [0, 0, 5, 0]]
    assert charts.most_confused(matrix, NAMES) == [(NAMES[1], NAMES[2], 3 / 8), (NAMES[0], NAMES[1], 0.1)]


def test_curves_follow_the_log():
    rows = [{"step": 1.0, "loss": 4.0}, {"step": 5.0, "loss": 2.0}, {"step": 10.0, "loss": 0.0}]
    drawn = charts.curves(rows, ["loss"], "<x>", width=158, height=146)
    Page(drawn)  # the frame is 100 x 100 at (46, 10), 4.0 is its top
    assert 'class="raw s0" points="56.0,10.0 96.0,60.0 146.0,110.0"' in drawn
    assert 'class="smooth s0" points="56.0,35.0 96.0,60.0 146.0,85.0"' in drawn


def test_small_words():
    assert [markup.percent(v) for v in (0.5, None, float("nan"))] == ["50.0", "–", "–"]
    assert [markup.duration(v) for v in (1.26, 59.6, 119, 600, 3720, None)] == [
        "1.3 s", "60 s", "119 s", "10 min", "1 h 02 min", "–"]


def test_picture_has_the_rows_asked_for(run_dir, train, val, tmp_path):
    path = report.write_picture(run_dir, train, tmp_path / "picture.png", rows=2, side=60)
    with Image.open(path) as image:  # photograph, map, mean, seeds, truth; no prediction of training images
        assert image.size == (6 + 5 * 66, 22 + 2 * (40 + 6))
    for i in range(5):
        labels.write_label(run_dir / "predictions" / f"train_{i}.png", np.zeros((20, 30), np.uint8))
    report.write_picture(run_dir, train, path, rows=2, val_split=val, side=60)
    with Image.open(path) as image:
        assert image.size == (6 + 6 * 66, 2 * (22 + 2 * (40 + 6)))


def test_a_system_of_tags_alone_has_no_seeds_to_show(run_dir, train, val):
    """And none is said to be missing; another system than FickleNet is not compared with plain Grad-CAM here."""
    for name in ("seeds_deterministic", "classifier_deterministic", "maps_deterministic"):
        shutil.rmtree(run_dir / name, ignore_errors=True)
    settings = artifacts.read_json(run_dir / "segmenter" / "settings.json")
    artifacts.write_json(run_dir / "segmenter" / "settings.json", {**settings, "seeds": None})
    artifacts.write_json(run_dir / "result.json", {"system": "em_adapt", "flags": {"system": "em_adapt"}})
    _, shown = page(run_dir, train, val)
    assert "has learned tags alone: no maps and no seeds lie between" in shown.text and "seeds" in shown.ids
    assert "seed-scores" not in shown.ids and "plain Grad-CAM" not in shown.text


@pytest.mark.parametrize(("changes", "text"), [
    ({"supervision": "full"}, "has learned masks alone: no maps"),
    ({"supervision": "semi"}, "has learned tags, and masks of some photographs: no maps"),
    ({"saliency": "made by 0123"}, "has learned tags and saliency maps: no maps")])
def test_what_a_segmenter_without_seeds_has_learned(run_dir, train, val, changes, text):
    path = run_dir / "segmenter" / "settings.json"
    artifacts.write_json(path, {"supervision": "weak", **artifacts.read_json(path), "seeds": None, **changes})
    assert text in page(run_dir, train, val)[1].text


def test_the_page_says_which_masks_were_learned_and_of_how_many_units_a_map_is(run_dir, train, val):
    assert "no stage has seen it" in (text := page(run_dir, train, val)[1].text) and "one random selection" in text
    for name, changes in (("segmenter", {"strong": {"images": 3}}),
                          ("seeds", {"maps": {"mode": "deterministic"}})):
        path = run_dir / name / "settings.json"
        artifacts.write_json(path, {**artifacts.read_json(path), **changes})
    text = page(run_dir, train, val)[1].text
    assert "only the masks that were given to learn from" in text and "there is one map, of all hidden units" in text
    assert "random selections" not in text
    for name in ("seeds_deterministic", "classifier_deterministic"):
        shutil.rmtree(run_dir / name)
    assert "was not compared with plain Grad-CAM" not in page(run_dir, train, val)[1].text


def test_predictions_of_an_earlier_segmenter_count_as_missing(run_dir, train, val):
    (run_dir / "result.json").unlink()
    run = artifacts.read_json(run_dir / "predictions" / "run.json")
    finished = artifacts.read_json(run_dir / "segmenter" / "run.json")["finished"]
    for segmenter, shown in ((finished, True), ("2020-01-01T00:00:00Z", False)):
        artifacts.write_json(run_dir / "predictions" / "run.json", {**run, "segmenter": segmenter})
        read, text = stages.read(run_dir, "shapes"), page(run_dir, train, val)[1].text
        assert ("predictions" in read.scores) == shown == (not read.outdated)
        assert ("--restart=predictions,predictions_crf" in text) != shown and "the images have no masks" not in text
        assert (read.stages["predictions"].state == "finished") == shown


def test_uncertainty_of_other_seeds_is_not_shown_beside_them(tmp_path):
    for name, settings in (("seeds", {"stage": "seeds", "theta": 0.3}),
                           ("seeds_uncertainty", {"stage": "uncertainty", "theta": 0.3})):
        artifacts.write_json(tmp_path / name / "settings.json", settings)
    directories = tmp_path / "seeds_uncertainty", tmp_path / "seeds"
    assert picture_rows._made_of_these_seeds(*directories)
    artifacts.write_json(tmp_path / "seeds" / "settings.json", {"stage": "seeds", "theta": 0.7})
    assert not picture_rows._made_of_these_seeds(*directories)
    (tmp_path / "seeds_uncertainty" / "settings.json").unlink()
    assert not picture_rows._made_of_these_seeds(*directories)


def test_predictions_of_another_split_are_not_called_missing(run_dir, train):
    _, shown = page(run_dir, train, split("other", 4))
    assert "The predictions are of other images than those of other." in shown.text
    assert "Missing: Predictions" not in shown.text
