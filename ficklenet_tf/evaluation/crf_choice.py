"""Which dense CRF a segmenter is applied with, chosen without masks: by photographs that it has not learned from.

Seeds are made of held-out photographs by their tags, as those that the segmenter learned were made; the CRF whose
labels agree best with them is taken. On photographs that it has learned from, the network as it stands agrees best,
whatever is right: it has learned those very seeds. What was measured: docs/voc.md.
"""

import pathlib
from typing import Any

import numpy as np

from ficklenet_tf import crf
from ficklenet_tf.data import datasets, images, labels
from ficklenet_tf.errors import UserError
from ficklenet_tf.evaluation import metrics, prediction
from ficklenet_tf.maps import extraction as map_extraction
from ficklenet_tf.presets import MapsConfig, SeedsConfig
from ficklenet_tf.runs import artifacts, layout, progress
from ficklenet_tf.seeds import extraction, needed

AUTO = "auto"  # the flags' word for the choice
CANDIDATES = ("none", "dsrg_relative", "deeplab_relative")
_PHOTOGRAPHS = 60


def choose(run_dir: str | pathlib.Path, held_out: datasets.Split, stage_name: str | None = None,
           saliency_dir: str | pathlib.Path | None = None) -> str:
    """Returns the candidate whose labels agree best with seeds of held-out photographs; writes it to crf.json.

    Args:
      run_dir: the run's directory.
      held_out: `datasets.Split` that the segmenter has not learned from; its tags are used, its masks are not.
      stage_name: directory of the segmenter below run_dir, None for the last finished round's.
      saliency_dir: with the saliency maps of `photographs(held_out)`, where the seeds need them.

    Returns:
      A key of `crf.SPECS`, one of `CANDIDATES`. crf.json in the segmenter's directory also has each candidate's
      agreement: mIoU with the seeds, 0..1.

    Raises:
      FileNotFoundError: no segmenter has finished there.
      UserError: it has learned from no seeds, or from seeds that the run has not made; a photograph has no saliency
        map.
    """
    run_dir = pathlib.Path(run_dir)
    directory, few = prediction.last_stage(run_dir, stage_name), photographs(held_out)
    predictor = prediction.Predictor(directory)
    datasets.check_classes(held_out, predictor.class_names, directory)
    name, settings = _learned_seeds(run_dir, directory)
    config, maps = SeedsConfig(**settings["config"]), settings["maps"]
    identity = {"segmenter": predictor.run["finished"], "fingerprint": few.fingerprint,
                **({"saliency": needed.saliency_identity(saliency_dir)} if saliency_dir else {})}
    path = directory / layout.CRF_CHOICE
    if path.exists():
        before = artifacts.read_json(path)
        if before["settings"] == identity:
            return before["crf"]
    seeds = f"{name}_held_out"
    extraction.extract(run_dir, few, MapsConfig(**maps["config"]), config,
                       map_extraction.Options(maps["classifier_name"], maps["mode"], maps["seed"]),
                       extraction.Options(saliency_dir), name=seeds)
    agreement = _agreement(predictor, few, run_dir / seeds)
    best = max(agreement, key=agreement.__getitem__)
    artifacts.write_json(path, {"crf": best, "agreement": agreement, "images": len(few), "held_out": held_out.name,
                                "settings": identity})
    progress.say(f"crf: {best} agrees best with the seeds of {len(few)} held-out photographs, " +
                 ", ".join(f"{key} {100 * value:.1f}" for key, value in agreement.items()))
    return best


def photographs(held_out: datasets.Split) -> datasets.Split:
    """Returns the photographs that `choose` looks at: 60, evenly spaced, or all."""
    return held_out.select(np.linspace(0, len(held_out) - 1, min(_PHOTOGRAPHS, len(held_out))).astype(int).tolist())


def chosen(run_dir: str | pathlib.Path, key: str, stage_name: str | None = None) -> str:
    """Returns `key`, or for "auto" what `choose` has found for a run's segmenter.

    Raises:
      UserError: nothing has been chosen for the segmenter as it is.
    """
    if key != AUTO:
        return key
    directory = prediction.last_stage(run_dir, stage_name)
    run = artifacts.finished_run(directory, "segmenter", "tools.train_segmenter")
    path = directory / layout.CRF_CHOICE
    choice: dict[str, Any] = artifacts.read_json(path) if path.exists() else {}
    if choice.get("settings", {}).get("segmenter") != run["finished"]:
        raise UserError(f"crf: expected that {directory} has one chosen, found none; run tools.evaluate --crf=auto "
                        "first")
    return choice["crf"]


def _learned_seeds(run_dir: pathlib.Path, directory: pathlib.Path) -> tuple[str, dict[str, Any]]:
    """Returns (name, settings) of the seeds that a segmenter, or its first round, has learned."""
    settings = artifacts.read_json(directory / layout.SETTINGS)
    if settings["seeds"] == layout.labels_of(settings["initial"]):
        settings = artifacts.read_json(run_dir / settings["initial"] / layout.SETTINGS)
    if settings["seeds"] is None:
        raise UserError(f"crf: expected a segmenter that learned seeds, to choose by them; {directory} learned masks")
    path = run_dir / settings["seeds"] / layout.SETTINGS
    if not path.exists():
        raise UserError(f"crf: expected seeds that this run has made, to choose by them; {path.parent} were brought")
    return settings["seeds"], artifacts.read_json(path)


def _agreement(predictor: prediction.Predictor, split: datasets.Split, seeds: pathlib.Path) -> dict[str, float]:
    """Returns each candidate's mIoU with the seeds, 0..1."""
    classes = len(split.class_names)
    confusions = {key: np.zeros((classes, classes + 1), np.int64) for key in CANDIDATES}
    for index in progress.bar(range(len(split)), desc="crf", unit="img"):
        example = split[index]
        image = images.decode_image(example["image"])
        seed, probs = labels.read_label(layout.label_image(seeds, example["image_id"])), predictor(image)
        for key in CANDIDATES:
            spec = crf.SPECS[key]
            label = (probs if spec is None else prediction.refine(image, probs, spec)).argmax(-1).astype(np.uint8)
            confusions[key] += metrics.confusion(seed, label, classes)
    return {key: metrics.scores(confusion)["miou"] for key, confusion in confusions.items()}
