"""The names of directories and files below a run's directory; the library and the tools take them from here."""

import pathlib

CLASSIFIER, MAPS, SEEDS, SEGMENTER, PREDICTIONS = "classifier", "maps", "seeds", "segmenter", "predictions"
FEATURES, EVALUATION, SAVED_MODEL, SUBMISSION = "features", "evaluation", "saved_model", "submission"
SALIENCY, CLOSER, AFFINITY = "saliency", "saliency_closer", "affinity"
HELD_OUT_SALIENCY = "saliency_held_out"  # for seeds of held-out photographs, see crf_choice.py
MAP_SCORES, FIGURES, TABLES = "map_scores", "figures", "tables"  # of tools.reproduce

OVERLAY = "_overlay.jpg"  # how the second file of an answer of tools.predict and export.client ends
RUN, SETTINGS = "run.json", "settings.json"  # of a finished stage; of one that has begun
WEIGHTS, CHECKPOINTS, LOG, TENSORBOARD = "model.weights.h5", "checkpoints", "log.csv", "tensorboard"  # of a training
LOOKS, BEST = "watched.csv", "best.weights.h5"  # of one that may end early
MANIFESTS = "manifest"  # of a stage done in shards
PRECISION, RESULT, REPORT = "precision.json", "result.json", "report.html"  # of the whole run
BACKGROUND_SCORES = "background_scores.json"  # of all seeds of a run
CRF_CHOICE = "crf.json"  # of a segmenter
PHOTOGRAPHS = "photographs.json"  # {image id: checksum of the photograph} beside features or saliency maps


def deterministic(stage: str) -> str:
    """Returns the directory's name of a stage's baseline, which keeps every hidden unit."""
    return f"{stage}_deterministic"


def in_round(stage: str, number: int | str) -> str:
    """Returns the directory's name of a stage in a round of `training.erasing`."""
    return f"{stage}_round{number}"


def at_step(stage: str, step: int | str) -> str:
    """Returns the directory's name of a classifier as it was after a step of its training, or of its maps."""
    return f"{stage}_at{step}"


def simple(segmenter: str) -> str:
    """Returns the directory's name of a segmenter's second round on photographs of one tag (`simple_first`)."""
    return f"{segmenter}_simple"


def maps_of(seeds: str) -> str:
    """Returns the directory's name of the maps that seeds are made of: maps for seeds, maps_x for seeds_x."""
    return seeds.replace(SEEDS, MAPS, 1) if seeds.startswith(SEEDS) else f"{seeds}_maps"


def closer_of(maps: str) -> str:
    """Returns the directory's name of the saliency maps that look closer where `maps` point."""
    return maps.replace(MAPS, CLOSER, 1) if maps.startswith(MAPS) else f"{maps}_{CLOSER}"


def uncertainty_of(seeds: str) -> str:
    """Returns the directory's name of the seeds' uncertainty."""
    return f"{seeds}_uncertainty"


def labels_of(segmenter: str) -> str:
    """Returns the directory's name of the labels that a segmenter gives to its training images."""
    return f"{segmenter}_labels"


def retrained(segmenter: str) -> str:
    """Returns the directory's name of the second round, which learns from `labels_of`."""
    return f"{segmenter}_retrained"


def refined(predictions: str, parameters: str | None = None) -> str:
    """Returns the directory's name of predictions refined by the dense CRF; `parameters` is the CRF's name."""
    return f"{predictions}_crf" if parameters is None else f"{predictions}_crf_{parameters}"


def label_image(directory: str | pathlib.Path, image_id: str) -> pathlib.Path:
    """Returns the path of an image's labels, seeds or uncertainty in a stage's directory."""
    return pathlib.Path(directory) / f"{image_id}.png"


def map_file(directory: str | pathlib.Path, image_id: str) -> pathlib.Path:
    """Returns the path of an image's maps in a stage's directory."""
    return pathlib.Path(directory) / f"{image_id}.npz"


def scores(run_dir: str | pathlib.Path, predictions: str, suffix: str = "json") -> pathlib.Path:
    """Returns the path of the scores of predictions."""
    return pathlib.Path(run_dir) / EVALUATION / f"{predictions}.{suffix}"


def begun(stage_dir: str | pathlib.Path) -> bool:
    """Whether a training has finished in a directory, or left a checkpoint there."""
    stage_dir = pathlib.Path(stage_dir)
    return (stage_dir / RUN).exists() or (stage_dir / CHECKPOINTS).exists()


# What a whole run has, by its usual names.
PLAIN_CLASSIFIER, PLAIN_SEEDS = deterministic(CLASSIFIER), deterministic(SEEDS)
FIRST_LABELS, SECOND_SEGMENTER = labels_of(SEGMENTER), retrained(SEGMENTER)
REFINED_PREDICTIONS = refined(PREDICTIONS)
