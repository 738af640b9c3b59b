"""Which classes occur: what is said of the means is what evaluation/metrics.py does, and bars leave the others out."""

import json
import re

import numpy as np
import pytest

from ficklenet_tf.evaluation import metrics
from ficklenet_tf.report import classes
from ficklenet_tf.runs import artifacts
from tests.report import pages

# Class 2 occurs nowhere; it is predicted at 5 pixels. Class 3 neither occurs nor is predicted.
MATRIX = np.array([[90, 5, 5, 0, 0], [10, 30, 0, 0, 0], [0, 0, 0, 0, 0], [0, 0, 0, 0, 0]])
CLASS_NAMES = ("background", "cat", "bus", "<dog>")


def test_what_is_said_of_means_over_masks():
    scores = {**metrics.scores(MATRIX), "confusion": MATRIX.tolist()}
    background, cat = 90 / 110, 30 / 45
    assert scores["miou"] == pytest.approx((background + cat) / 4)  # both absent classes count as 0
    assert classes.occurring(scores) == [0, 1]
    assert classes.of_masks(scores, CLASS_NAMES, "val") == "1 of 3 classes occur in val, the others count as 0"
    text = classes.explained({"with CRF": scores}, CLASS_NAMES, "val")
    assert "means over all 3 classes and the background" in text and "The bars leave out bus, &lt;dog&gt;." in text
    assert f"the mIoU is {50 * (background + cat):.1f} % (with CRF)" in text


def test_what_is_said_of_means_over_tags():
    mean, aps = metrics.mean_average_precision(np.array([[1, 0], [0, 0]]), np.array([[0.9, 0.8], [0.1, 0.7]]))
    assert mean == 1 and aps == [1, None]  # the absent tag is left out
    assert classes.of_tags(aps, "val") == "1 of 2 classes occur in val, the others are left out"
    assert classes.of_tags([1.0, 0.5], "val") == "2 of 2 classes occur in val"


def test_absent_classes_have_no_bars(run_dir, train, val):
    for name in ("predictions", "predictions_crf"):
        path = run_dir / "evaluation" / f"{name}.json"
        scores = json.loads(path.read_text())
        matrix = np.array(scores["confusion"])
        matrix[2] = 0
        artifacts.write_json(path, {**scores, **metrics.scores(matrix), "confusion": matrix.tolist()})
    text, shown = pages.page(run_dir, train, val)
    bars = {part: re.findall(r'<span class="name">(.*?)</span>', pages.section(text, part))
            for part in ("iou", "seed-scores", "curves")}
    assert bars["iou"] == ["background", "cat &amp; &lt;dog&gt;"]
    assert len(bars["seed-scores"]) == 6  # all occur in the training masks: recall and precision
    assert bars["curves"] == ["cat &amp; &lt;dog&gt;"]  # of the tags one has no average precision
    assert "held-out tags; 1 of 2 classes occur in val, the others are left out" in shown.text
    assert shown.text.count("% mIoU on 4 held-out masks; 1 of 2 classes occur in val, the others count as 0") == 2
