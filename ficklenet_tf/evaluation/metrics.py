"""Metrics: one confusion matrix over the set -> IoU, precision, recall; average precision of the tags."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from ficklenet_tf.data import labels
from ficklenet_tf.errors import UserError


def confusion(target: np.ndarray, predicted: np.ndarray, num_classes: int) -> np.ndarray:
    """Counts pixels by (true class, predicted class).

    Args:
      target: uint8 labels, any shape; 255 is left out.
      predicted: labels of the same shape. 255 ("no answer") counts in the column after the last class.
      num_classes: with the background.

    Returns:
      `[num_classes, num_classes + 1]` int64.

    Raises:
      UserError: the shapes differ, or an id has no class.
    """
    if target.shape != predicted.shape:
        raise UserError(f"expected a prediction of the target's shape {target.shape}, found {predicted.shape}")
    labels.check_label(target, num_classes, "target")
    labels.check_label(predicted, num_classes, "prediction")
    known = target != labels.IGNORE
    true_ids = target[known].astype(np.int64)
    predicted_ids = np.minimum(predicted[known], num_classes).astype(np.int64)
    counts = np.bincount(true_ids * (num_classes + 1) + predicted_ids, minlength=num_classes * (num_classes + 1))
    return counts.reshape(num_classes, num_classes + 1)


def scores(matrix: np.ndarray | Sequence[Sequence[int]]) -> dict[str, Any]:
    """Turns a confusion matrix into scores, each the mean over *all* classes (an absent class counts 0).

    Args:
      matrix: `[num_classes, num_classes + 1]`, summed over the set.

    Returns:
      dict: "miou", "recall", "precision" (0..1, means over all classes; one that neither occurs nor is predicted
      counts 0), "foreground_recall" and "foreground_precision" (means without the background), "accuracy",
      "iou_per_class", "recall_per_class", "precision_per_class" (lists), and "classes_present", the number of classes
      that occur.
    """
    counts = np.asarray(matrix, np.float64)
    hit = np.diag(counts[:, :-1])
    truth, answered = counts.sum(1), counts[:, :-1].sum(0)

    def ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
        return np.divide(part, whole, out=np.zeros_like(part), where=whole > 0)

    iou, recall, precision = ratio(hit, truth + answered - hit), ratio(hit, truth), ratio(hit, answered)
    return {"miou": float(iou.mean()), "recall": float(recall.mean()), "precision": float(precision.mean()),
            "foreground_recall": float(recall[1:].mean()), "foreground_precision": float(precision[1:].mean()),
            "accuracy": float(hit.sum() / max(truth.sum(), 1)), "iou_per_class": iou.tolist(),
            "recall_per_class": recall.tolist(), "precision_per_class": precision.tolist(),
            "classes_present": int((truth > 0).sum())}


def error_kinds(matrix: np.ndarray | Sequence[Sequence[int]]) -> dict[str, float]:
    """Tells what kinds of errors a confusion matrix holds, as shares of all pixels.

    Args:
      matrix: `[num_classes, num_classes + 1]`, class 0 the background; not empty.

    Returns:
      dict of shares that sum to 1: "right"; "context": background called an object; "missing": an object called
      background; "wrong_class": an object called another one; "unanswered": 255.
    """
    counts = np.asarray(matrix, np.float64)
    answered, total = counts[:, :-1], counts.sum()
    context, missing, objects = answered[0, 1:].sum(), answered[1:, 0].sum(), answered[1:, 1:]
    return {"right": float(np.trace(answered) / total), "context": float(context / total),
            "missing": float(missing / total), "wrong_class": float((objects.sum() - np.trace(objects)) / total),
            "unanswered": float(counts[:, -1].sum() / total)}


def average_precision(tags: np.ndarray | Sequence[int], predicted: np.ndarray | Sequence[float]) -> float:
    """Returns the average precision of one class: the mean over its images of the precision at their rank.

    Args:
      tags: `[n]` of 0 or 1.
      predicted: `[n]` scores; ties are ranked in the order given.

    Returns:
      A float, NaN where no image has the class.
    """
    order = np.argsort(-np.asarray(predicted), kind="stable")
    hits = np.asarray(tags)[order] > 0
    if not hits.any():
        return float("nan")
    precision = np.cumsum(hits) / np.arange(1, len(hits) + 1)
    return float(precision[hits].mean())


def mean_average_precision(tags: np.ndarray, predicted: np.ndarray) -> tuple[float | None, list[float | None]]:
    """Returns (mAP over the classes that occur, list of each class's AP) for `[n, C]` tags and scores; else None."""
    aps = [average_precision(tags[:, c], predicted[:, c]) for c in range(tags.shape[1])]
    known = [ap for ap in aps if not np.isnan(ap)]
    return float(np.mean(known)) if known else None, [None if np.isnan(ap) else ap for ap in aps]
