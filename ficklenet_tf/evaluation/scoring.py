"""Scores label images on disk against masks: one confusion matrix over the set, at the original size."""

import concurrent.futures
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ficklenet_tf.data import datasets, labels
from ficklenet_tf.errors import UserError
from ficklenet_tf.evaluation import metrics, prediction
from ficklenet_tf.runs import artifacts, layout, progress


def score_directory(directory: str | pathlib.Path, split: datasets.Split) -> dict[str, Any]:
    """Compares `<directory>/<image id>.png` with the split's masks.

    Args:
      directory: of label images; 255 ("no answer") counts as wrong for recall and IoU, not for precision.
      split: `datasets.Split`; images without a mask are left out and counted.

    Returns:
      dict: what `metrics.scores` gives, "images" (scored), "unlabelled" (left out), "confusion"
      (nested lists, `[classes, classes + 1]`) and "image_iou" (image id -> mean IoU over its own classes).

    Raises:
      FileNotFoundError: a prediction is missing.
      UserError: a prediction has another size than its mask, or an id without a class; names the file.
    """
    directory, num_classes = pathlib.Path(directory), len(split.class_names)

    def confusion_of(index: int) -> tuple[str, np.ndarray] | None:
        example = split[index]
        if not example["has_label"]:
            return None
        target = labels.decode_label_op(example["label"]).numpy()
        path = layout.label_image(directory, example["image_id"])
        predicted = labels.read_label(path, num_classes)
        if target.shape != predicted.shape:
            raise UserError(f"{path}: expected {target.shape} pixels as the mask, found {predicted.shape}")
        return example["image_id"], metrics.confusion(target, predicted, num_classes)

    total, image_iou, unlabelled = np.zeros((num_classes, num_classes + 1), np.int64), {}, 0
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        for scored in progress.bar(pool.map(confusion_of, range(len(split))), total=len(split),
                                   desc=f"score {directory.name}", unit="img"):
            if scored is None:
                unlabelled += 1
                continue
            image_id, matrix = scored
            total += matrix
            image_iou[image_id] = _mean_iou_of_present(matrix)
    return {**metrics.scores(total), "images": len(image_iou), "unlabelled": unlabelled, "confusion": total.tolist(),
            "image_iou": image_iou}


def _mean_iou_of_present(matrix: np.ndarray) -> float:
    """Returns the mean IoU of an image over the classes in its mask, 0 where all of the mask is 255."""
    present = matrix.sum(1) > 0
    if not present.any():
        return 0.0
    return float(np.asarray(metrics.scores(matrix)["iou_per_class"])[present].mean())


def evaluate(run_dir: str | pathlib.Path, split: datasets.Split, options: prediction.Options = prediction.Options(), *,
             stage_name: str | None = None, name: str = layout.PREDICTIONS) -> dict[str, dict[str, Any]]:
    """Predicts a split, without CRF and with each, and scores all; see `prediction.predict_split`.

    Returns:
      dict of name (`prediction.outputs`) -> what `score_directory` returns; the same is written to
      `<run_dir>/evaluation/<name>.json`, and as a table to `.txt` and `.csv`.

    Raises:
      UserError: the split has no masks.
    """
    if not split.has_labels:
        raise UserError(f"{split.dataset} {split.name}: expected masks to score against, found none")
    outputs, scores = prediction.outputs(name, options.spec, options.further), {}
    for output in outputs:
        if artifacts.read_run(pathlib.Path(run_dir) / output) is None:
            layout.scores(run_dir, output).unlink(missing_ok=True)  # of predictions that are gone
    prediction.predict_split(run_dir, split, options, stage_name=stage_name, name=name)
    for output in outputs:
        scores[output] = score_directory(pathlib.Path(run_dir) / output, split)
        artifacts.write_json(layout.scores(run_dir, output), scores[output])
        rows = table(scores[output], split.class_names)
        artifacts.write_bytes(layout.scores(run_dir, output, "csv"), "\n".join(map(",".join, rows)).encode() + b"\n")
        text = "\n".join(f"{row[0]:<16}" + "".join(f"{cell:>11}" for cell in row[1:]) for row in rows)
        artifacts.write_bytes(layout.scores(run_dir, output, "txt"), text.encode() + b"\n")
    return scores


def finished(run_dir: str | pathlib.Path, split: datasets.Split, options: prediction.Options, *, stage_name: str,
             name: str = layout.PREDICTIONS) -> dict[str, dict[str, Any]] | None:
    """Returns what `evaluate` returned when it was called with these arguments.

    Args:
      run_dir: the run's directory.
      split: `datasets.Split`.
      options: `prediction.Options` with sizes and flip.
      stage_name: directory of a finished segmenter below run_dir.
      name: see `evaluate`.

    Returns:
      As `evaluate`; None where it was not called, or the segmenter has been trained again since.
    """
    run_dir, scores = pathlib.Path(run_dir), {}
    segmenter = artifacts.finished_run(run_dir / stage_name, "segmenter", "tools.train_segmenter")
    for output, settings in prediction.settings_of(segmenter, split, options, name).items():
        run, path = artifacts.read_run(run_dir / output), layout.scores(run_dir, output)
        if run is None or not path.exists() or any(run.get(key) != expected
                                                   for key, expected in artifacts.as_json(settings).items()):
            return None
        scores[output] = artifacts.read_json(path)
    return scores


def table(scores: Mapping[str, Any], class_names: Sequence[str]) -> list[list[str]]:
    """Returns rows of strings: a heading, each class's IoU, precision and recall in per cent, and their means."""
    keys = ("iou_per_class", "precision_per_class", "recall_per_class")
    rows = [["class", "IoU", "precision", "recall"]]
    for i, name in enumerate(class_names):
        rows.append([name.replace(",", " "), *(f"{100 * scores[key][i]:.1f}" for key in keys)])
    return [*rows, ["mean", *(f"{100 * scores[key]:.1f}" for key in ("miou", "precision", "recall"))]]
