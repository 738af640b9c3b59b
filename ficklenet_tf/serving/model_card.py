"""What goes with a model: class names, palette, and a card that says where it comes from and what it takes."""

import pathlib
from typing import Any

from ficklenet_tf.data import labels
from ficklenet_tf.evaluation import prediction
from ficklenet_tf.models import pretrained
from ficklenet_tf.runs import artifacts, layout
from ficklenet_tf.serving import graph_scan

DIRECTORY = "assets.extra"
_FILE = "model_card.json"


def make(run_dir: str | pathlib.Path, segmenter_run: dict[str, Any], classifier_run: dict[str, Any] | None,
         settings: dict[str, Any], signatures: dict[str, graph_scan.Signature]) -> dict[str, Any]:
    """Makes the card.

    Args:
      run_dir: the run's directory.
      segmenter_run: run.json of the segmenter.
      classifier_run: run.json of the classifier, or None.
      settings: what the export was made with.
      signatures: as `graph_scan.signatures` describes them.

    Returns:
      A dict that JSON can hold.
    """
    within = (_weights_below(pathlib.Path(run_dir), segmenter_run), (classifier_run or {}).get("weights", ""))
    weights = next(filter(pretrained.are_given, within), "")
    return {
        "name": "FickleNet segmenter", "paper": "Lee et al., CVPR 2019, arXiv:1902.10421",
        "class_names": segmenter_run["class_names"], "ignore_label": labels.IGNORE,
        "data": {key: segmenter_run.get(key) for key in ("dataset", "split", "fingerprint")},
        "backbone": segmenter_run["backbone"], "normalization": segmenter_run["normalization"],
        "configs": {"classifier": (classifier_run or {}).get("config"), "segmenter": segmenter_run["config"]},
        "metrics": {"classifier": (classifier_run or {}).get("metrics"), "segmenter": segmenter_run.get("metrics"),
                    **_evaluations(pathlib.Path(run_dir), segmenter_run)},
        "pretrained_weights": {"source": pathlib.Path(weights).name or "none", "licence": _licence(weights)},
        "settings": settings, "signatures": signatures}


def _weights_below(run_dir: pathlib.Path, run: dict[str, Any]) -> str:
    """Returns the pretrained weights that a segmenter began with: its own, or those of the classifier in its run."""
    initial = run.get("initial", "classifier")
    if initial == "weights":
        return str(run["weights"])
    if initial == "classifier":
        return str((artifacts.read_run(run_dir / layout.CLASSIFIER) or {}).get("weights", ""))
    return _weights_below(run_dir, artifacts.read_run(run_dir / initial) or {})  # an earlier round


def _evaluations(run_dir: pathlib.Path, segmenter_run: dict[str, Any]) -> dict[str, dict[str, int | float]]:
    """Metrics of what this segmenter, and no earlier one, predicted and was scored for in this run, by name."""
    metrics = {}
    for path in sorted(run_dir.glob(f"{layout.EVALUATION}/*.json")):
        if prediction.made_by(run_dir / path.stem) == segmenter_run["finished"]:
            scores = artifacts.read_json(path)
            metrics[path.stem] = {key: value for key, value in scores.items() if isinstance(value, int | float)}
    return metrics


def _licence(weights: str) -> str:
    if not weights:
        return "no pretrained weights: the model is as free as its photographs and this software"
    if weights == "imagenet":
        return ("weights of keras.applications, trained on ImageNet; see the licence note of the architecture there "
                "(VGG: CC BY 4.0) and ImageNet's terms of access")
    return "weights from a file of the user's: the terms of its source apply"


def write(directory: str | pathlib.Path, card: dict[str, Any]) -> None:
    """Writes class_names.txt, palette.json and model_card.json into `directory`/assets.extra."""
    directory, names = pathlib.Path(directory) / DIRECTORY, card["class_names"]
    artifacts.write_bytes(directory / "class_names.txt", ("\n".join(names) + "\n").encode())
    colours = labels.palette()
    artifacts.write_json(directory / "palette.json", {name: colours[i].tolist() for i, name in enumerate(names)})
    artifacts.write_run(directory, stage="saved_model", settings=card["settings"])
    artifacts.write_json(directory / _FILE, {**card, "versions": artifacts.versions()})


def add(directory: str | pathlib.Path, facts: dict[str, Any]) -> None:
    """Adds facts to the card in `directory`/assets.extra; the version beside it stays as it is."""
    path = pathlib.Path(directory) / DIRECTORY / _FILE
    artifacts.write_json(path, {**artifacts.read_json(path), **facts})
