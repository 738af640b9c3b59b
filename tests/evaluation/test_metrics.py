"""Metrics by hand, and against their definition written out."""

import numpy as np
import pytest

from ficklenet_tf.evaluation import metrics


def test_confusion_and_scores_by_hand():
    target = np.array([[0, 0, 1], [1, 2, 255]], np.uint8)
    predicted = np.array([[0, 1, 1], [1, 255, 2]], np.uint8)
    matrix = metrics.confusion(target, predicted, 3)
    assert matrix.tolist() == [[1, 1, 0, 0], [0, 2, 0, 0], [0, 0, 0, 1]]
    scores = metrics.scores(matrix)
    assert scores["iou_per_class"] == pytest.approx([1 / 2, 2 / 3, 0])
    assert scores["recall_per_class"] == pytest.approx([1 / 2, 1, 0])
    assert scores["precision_per_class"] == pytest.approx([1, 2 / 3, 0])
    assert scores["miou"] == pytest.approx((1 / 2 + 2 / 3) / 3)  # the class without a hit counts
    assert scores["foreground_recall"] == pytest.approx(1 / 2)
    assert scores["accuracy"] == pytest.approx(3 / 5)


def test_means_are_over_all_classes_present_or_not():
    """Class 2 neither occurs nor is predicted, class 3 is predicted only; one pixel has no answer."""
    scores = metrics.scores([[3, 0, 0, 1, 0], [1, 4, 0, 0, 1], [0, 0, 0, 0, 0], [0, 0, 0, 0, 0]])
    assert scores["recall_per_class"] == pytest.approx([3 / 4, 4 / 6, 0, 0])
    assert scores["precision_per_class"] == pytest.approx([3 / 4, 1, 0, 0])
    assert scores["iou_per_class"] == pytest.approx([3 / 5, 4 / 6, 0, 0])
    assert scores["recall"] == pytest.approx((3 / 4 + 4 / 6) / 4) and scores["precision"] == pytest.approx(7 / 16)
    assert scores["foreground_recall"] == pytest.approx(4 / 18) and scores["classes_present"] == 2
    assert scores["foreground_precision"] == pytest.approx(1 / 3) and scores["accuracy"] == pytest.approx(7 / 10)
    nothing = metrics.scores(np.zeros((2, 3)))
    assert nothing["accuracy"] == nothing["miou"] == nothing["classes_present"] == 0
    assert metrics.scores([[1, 0, 0], [0, 0, 0]])["accuracy"] == 1  # a single pixel


def test_the_matrix_of_a_set_is_the_sum_over_its_images():
    rng = np.random.default_rng(0)
    target, predicted = rng.integers(0, 4, (2, 6, 7, 8)).astype(np.uint8)
    matrix = metrics.confusion(target, predicted, 4)
    assert (matrix == sum(metrics.confusion(t, p, 4) for t, p in zip(target, predicted, strict=True))).all()
    for c in range(4):
        union = ((target == c) | (predicted == c)).sum()
        assert metrics.scores(matrix)["iou_per_class"][c] == pytest.approx(
            ((target == c) & (predicted == c)).sum() / union)


def test_wrong_input_is_refused():
    with pytest.raises(ValueError, match="shape"):
        metrics.confusion(np.zeros((2, 2), np.uint8), np.zeros((2, 3), np.uint8), 2)
    with pytest.raises(ValueError, match="found \\[7\\]"):
        metrics.confusion(np.zeros((2, 2), np.uint8), np.full((2, 2), 7, np.uint8), 2)


def test_average_precision_by_hand():
    """Ranks of the hits: 1 and 3, so (1/1 + 2/3) / 2."""
    assert metrics.average_precision([1, 0, 1, 0], [0.9, 0.8, 0.7, 0.1]) == pytest.approx((1 + 2 / 3) / 2)
    assert metrics.average_precision([0, 1, 1], [0.2, 0.9, 0.1]) == pytest.approx((1 + 2 / 3) / 2)
    assert metrics.average_precision([0, 1, 0], [0.5, 0.5, 0.5]) == 1 / 2  # ties: in the order given
    assert np.isnan(metrics.average_precision([0, 0], [1.0, 2.0]))
    assert metrics.mean_average_precision(np.zeros((2, 1)), np.zeros((2, 1))) == (None, [None])
    mean, aps = metrics.mean_average_precision(np.array([[1, 0], [0, 0]]), np.array([[2.0, 1.0], [1.0, 2.0]]))
    assert mean == 1 and aps == [1, None]


def test_kinds_of_errors_by_hand():
    """Ten pixels of each of three classes: the background, and two objects that take each other's pixels."""
    matrix = [[6, 2, 1, 1], [3, 5, 2, 0], [0, 4, 6, 0]]
    shares = metrics.error_kinds(matrix)
    assert shares == pytest.approx({"right": 17 / 30, "context": 3 / 30, "missing": 3 / 30, "wrong_class": 6 / 30,
                                    "unanswered": 1 / 30})
