"""Metrics: one confusion matrix over the set -> IoU, precision, recall; average precision of the tags."""

import numpy as np

from ficklenet_tf.data import labels
from ficklenet_tf.errors import UserError


def confusion(target, predicted, num_classes):
    """Counts pixels by (true class, predicted class).

    Args:
      target: uint8 labels, any shape; 255 is left out.
      predicted: labels of the same shape. 255 («no answer») counts in the column after the last class.
      num_classes: with the background.

    Returns:
      `[num_classes, num_classes + 1]` int64.

    Raises:
      ValueError: the shapes differ, or an id has no class.
    """
    if target.shape != predicted.shape:
        raise UserError(f"expected a prediction of the target's shape {target.shape}, found {predicted.shape}")
    labels.check_label(target, num_classes, "target")
    labels.check_label(predicted, num_classes, "prediction")
    known = target != labels.IGNORE
    truth, answer = target[known].astype(np.int64), np.minimum(predicted[known], num_classes).astype(np.int64)
    counts = np.bincount(truth * (num_classes + 1) + answer, minlength=num_classes * (num_classes + 1))
    return counts.reshape(num_classes, num_classes + 1)


def scores(matrix):
    """Turns a confusion matrix into scores, each the mean over *all* classes (an absent class counts 0).

    Args:
      matrix: `[num_classes, num_classes + 1]`, summed over the set.

    Returns:
      dict: "miou", "recall", "precision" (0..1, means over the classes), "foreground_recall" and
      "foreground_precision" (means without the background), "accuracy", and "iou_per_class",
      "recall_per_class", "precision_per_class" (lists).
    """
    matrix = np.asarray(matrix, np.float64)
    hit = np.diag(matrix[:, :-1])
    truth, answered = matrix.sum(1), matrix[:, :-1].sum(0)

    def ratio(part, whole):
        return np.divide(part, whole, out=np.zeros_like(part), where=whole > 0)

    iou, recall, precision = ratio(hit, truth + answered - hit), ratio(hit, truth), ratio(hit, answered)
    return {"miou": float(iou.mean()), "recall": float(recall.mean()), "precision": float(precision.mean()),
            "foreground_recall": float(recall[1:].mean()), "foreground_precision": float(precision[1:].mean()),
            "accuracy": float(hit.sum() / max(truth.sum(), 1)), "iou_per_class": iou.tolist(),
            "recall_per_class": recall.tolist(), "precision_per_class": precision.tolist()}


def average_precision(tags, predicted):
    """Returns the average precision of one class: mean over its images of the precision at their rank.

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


def mean_average_precision(tags, predicted):
    """Returns (mAP over the classes that occur, list of each class' AP or None) for `[n, C]` tags and scores."""
    each = [average_precision(tags[:, c], predicted[:, c]) for c in range(tags.shape[1])]
    each = [None if np.isnan(ap) else ap for ap in each]
    known = [ap for ap in each if ap is not None]
    return float(np.mean(known)) if known else float("nan"), each
