"""Scores label images on disk against masks: one confusion matrix over the set, at the original size."""

import concurrent.futures
import pathlib

import numpy as np

from ficklenet_tf.data import labels
from ficklenet_tf.errors import UserError
from ficklenet_tf.evaluation import metrics, prediction
from ficklenet_tf.runs import artifacts, layout, progress


def score_directory(directory, split):
    """Compares `<directory>/<image id>.png` with the split's masks.

    Args:
      directory: of label images; 255 («no answer») counts as wrong for recall and IoU, not for precision.
      split: `datasets.Split`; images without a mask are left out and counted.

    Returns:
      dict: what `metrics.scores` gives, "images" (scored), "unlabelled" (left out), "confusion"
      (nested lists, `[classes, classes + 1]`) and "image_iou" (image id -> mean IoU over its own classes).

    Raises:
      FileNotFoundError: a prediction is missing.
      ValueError: a prediction has another size than its mask, or an id without a class; names the file.
    """
    directory, num_classes = pathlib.Path(directory), len(split.class_names)

    def one(index):
        example = split[index]
        if not example["has_label"]:
            return None
        target = labels.decode_label_op(example["label"]).numpy()
        path = layout.label_image(directory, example["image_id"])
        predicted = labels.read_label(path, num_classes)
        if target.shape != predicted.shape:
            raise UserError(f"{path}: expected {target.shape} pixels as the mask, found {predicted.shape}")
        return example["image_id"], metrics.confusion(target, predicted, num_classes)

    total, each, unlabelled = np.zeros((num_classes, num_classes + 1), np.int64), {}, 0
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        for answer in progress.bar(pool.map(one, range(len(split))), total=len(split), desc=f"score {directory.name}",
                                   unit="img"):
            if answer is None:
                unlabelled += 1
                continue
            total += answer[1]
            each[answer[0]] = _own_iou(answer[1])
    return {**metrics.scores(total), "images": len(each), "unlabelled": unlabelled, "confusion": total.tolist(),
            "image_iou": each}


def _own_iou(matrix):
    present = matrix.sum(1) > 0
    if not present.any():
        return 0.0
    return float(np.asarray(metrics.scores(matrix)["iou_per_class"])[present].mean())


def evaluate(run_dir, split, options=prediction.Options(), *, stage_name=None, name=layout.PREDICTIONS):
    """Predicts a split, without CRF and with each, and scores all; see `prediction.predict_split`.

    Returns:
      dict of name (`prediction.outputs`) -> what `score_directory` returns; the same is written to
      `<run_dir>/evaluation/<name>.json`, and as a table to `.txt` and `.csv`.

    Raises:
      UserError: the split has no masks.
    """
    if not split.has_labels:
        raise UserError(f"{split.dataset} {split.name}: expected masks to score against, found none")
    prediction.predict_split(run_dir, split, options, stage_name=stage_name, name=name)
    scores = {}
    for output in prediction.outputs(name, options.spec, options.further):
        scores[output] = score_directory(pathlib.Path(run_dir) / output, split)
        artifacts.write_json(layout.scores(run_dir, output), scores[output])
        rows = table(scores[output], split.class_names)
        artifacts.write_bytes(layout.scores(run_dir, output, "csv"), "\n".join(map(",".join, rows)).encode() + b"\n")
        text = "\n".join(f"{r[0]:<16}" + "".join(f"{cell:>11}" for cell in r[1:]) for r in rows)
        artifacts.write_bytes(layout.scores(run_dir, output, "txt"), text.encode() + b"\n")
    return scores


def table(scores, class_names):
    """Returns rows of strings: a heading, each class' IoU, precision and recall in percent, and their means."""
    keys = ("iou_per_class", "precision_per_class", "recall_per_class")
    rows = [["class", "IoU", "precision", "recall"]]
    for i, name in enumerate(class_names):
        rows.append([name.replace(",", " "), *(f"{100 * scores[key][i]:.1f}" for key in keys)])
    return [*rows, ["mean", *(f"{100 * scores[key]:.1f}" for key in ("miou", "precision", "recall"))]]
