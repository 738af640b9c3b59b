"""Which dense CRF a segmenter is applied with, chosen without masks: by photographs that it has not learned from.

Seeds are made of held-out photographs by their tags, as those that the segmenter learned were made; the CRF whose
labels agree best with them is taken. On photographs that it has learned from, the network as it stands agrees best,
whatever is right: it has learned those very seeds. What was measured: docs/voc.md.
"""

import pathlib
from collections.abc import Iterator
from typing import Any

import numpy as np

from ficklenet_tf import configs, crf
from ficklenet_tf.data import datasets, images
from ficklenet_tf.errors import UserError
from ficklenet_tf.evaluation import metrics, prediction
from ficklenet_tf.maps import extraction as map_extraction
from ficklenet_tf.presets import MapsConfig, SeedsConfig
from ficklenet_tf.runs import artifacts, layout, progress, stage
from ficklenet_tf.seeds import extraction, needed
from ficklenet_tf.seeds.evidence import Evidence

AUTO = configs.AUTO  # the flags' word for the choice
CANDIDATES = ("none", "dsrg_relative", "deeplab_relative")
_PHOTOGRAPHS = 60


def choose(run_dir: str | pathlib.Path, held_out: datasets.Split, stage_name: str | None = None,
           saliency_dir: str | pathlib.Path | None = None, sizes: tuple[int, ...] | None = None,
           flip: bool | None = None) -> str:
    """Returns the candidate whose labels agree best with seeds of held-out photographs; writes it to crf.json.

    Args:
      run_dir: the run's directory.
      held_out: `datasets.Split` that the segmenter has not learned from; its tags are used, its masks are not.
      stage_name: directory of the segmenter below run_dir, None for the last finished round's.
      saliency_dir: with the saliency maps of `photographs(held_out)`, where the seeds need them: of one look, also
        where the learned seeds had `saliency.closer` looks. None: the run's saliency_held_out/.
      sizes: see `prediction.Predictor`.
      flip: see there.

    Returns:
      A key of `crf.SPECS`, one of `CANDIDATES`. crf.json in the segmenter's directory also has each candidate's
      agreement: mIoU with the seeds, 0..1.

    Raises:
      FileNotFoundError: no segmenter has finished there.
      UserError: the segmenter has learned from that split, from no seeds, or from seeds that the run has not made with
        the classifier as it is; no photograph has a tag, or one has no saliency map.
    """
    run_dir = pathlib.Path(run_dir)
    directory, few = prediction.last_stage(run_dir, stage_name), photographs(held_out)
    predictor = prediction.Predictor(directory, sizes, flip)
    datasets.check_classes(held_out, predictor.class_names, directory)
    seeds_dir, learned = _learned_seeds(run_dir, directory)
    if any(layout.label_image(seeds_dir, image_id).exists() for image_id in few.image_ids):
        raise UserError(f"crf: expected photographs that {directory} has not learned from, found some of {seeds_dir}")
    own = run_dir / layout.HELD_OUT_SALIENCY
    if saliency_dir is None and needed.saliency(SeedsConfig(**learned["config"])) and own.exists():
        saliency_dir = own
    identity = {"segmenter": predictor.run["finished"], "fingerprint": few.fingerprint, "candidates": CANDIDATES,
                "sizes": predictor.sizes, "flip": predictor.flip, "seeds": learned,
                **(needed.saliency_of_split(saliency_dir, few) if saliency_dir else {})}
    path = directory / layout.CRF_CHOICE
    choice = artifacts.read_json(path) if path.exists() else {}
    if not stage.same(choice.get("settings", {}), artifacts.as_json(identity)):
        agreement = _agreement(predictor, _with_seeds(run_dir, few, learned, saliency_dir), len(few))
        choice = {"crf": max(agreement, key=agreement.__getitem__), "agreement": agreement, "images": len(tagged(few)),
                  "held_out": held_out.name, "settings": identity}
        artifacts.write_json(path, choice)
    progress.say(f"crf: {choice['crf']} agrees best with the seeds of {choice['images']} held-out photographs: " +
                 ", ".join(f"{key} {100 * value:.1f}" for key, value in choice["agreement"].items()))
    return choice["crf"]


def photographs(held_out: datasets.Split) -> datasets.Split:
    """Returns the photographs that `choose` looks at: 60, evenly spaced, or all."""
    return held_out.select(np.linspace(0, len(held_out) - 1, min(_PHOTOGRAPHS, len(held_out))).astype(int).tolist())


def tagged(few: datasets.Split) -> list[dict[str, Any]]:
    """Returns the examples of `photographs` that have tags.

    Raises:
      UserError: none has any.
    """
    examples = [example for example in (few[i] for i in range(len(few))) if example["tags"].any()]
    if not examples:
        raise UserError(f"crf: expected photographs with tags, to choose by them; those of {few.dataset} {few.name} "
                        "have none")
    return examples


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
        raise UserError(f"crf: expected that {directory} has one chosen, found none; first run tools.evaluate "
                        "--crf=auto on a split with tags, without --num_shards")
    return choice["crf"]


def _learned_seeds(run_dir: pathlib.Path, directory: pathlib.Path) -> tuple[pathlib.Path, dict[str, Any]]:
    """Returns (directory, settings) of the seeds that a segmenter, or its first round, has learned."""
    settings = artifacts.read_json(directory / layout.SETTINGS)
    while settings["seeds"] == layout.labels_of(settings["initial"]):
        settings = artifacts.read_json(run_dir / settings["initial"] / layout.SETTINGS)
    if settings["seeds"] is None:
        raise UserError(f"crf: expected a segmenter that learned seeds, to choose by them; {directory} learned none")
    path = run_dir / settings["seeds"] / layout.SETTINGS
    learned = artifacts.read_json(path) if path.exists() else {}
    if learned.get("stage") != "seeds":
        raise UserError(f"crf: expected seeds that this run has made, to choose by them; {path.parent} are others")
    if "merged" in learned["maps"]:
        raise UserError(f"crf: expected seeds of one classifier's maps, to choose by them; those of {path.parent} are "
                        "of several")
    if settings["seeds_made"] != artifacts.identity(path.parent):
        raise UserError(f"crf: expected the seeds that {directory} has learned, found {path.parent} made again")
    return path.parent, learned


def _with_seeds(run_dir: pathlib.Path, split: datasets.Split, learned: dict[str, Any],
                saliency_dir: str | pathlib.Path | None) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yields (photograph, its seeds), made of its tags as the seeds of the settings `learned` were."""
    config, maps = SeedsConfig(**learned["config"]), learned["maps"]
    localizer, now = map_extraction.open_localizer(
        run_dir, split, MapsConfig(**maps["config"]),
        map_extraction.Options(maps["classifier_name"], maps["mode"], maps["seed"]))
    if now["classifier"] != maps["classifier"]:
        raise UserError(f"crf: expected the classifier by which the seeds were made, found that "
                        f"{maps['classifier_name']} was trained again since")
    if needed.saliency(config) and not saliency_dir:
        raise UserError("crf: expected saliency maps of the held-out photographs too; make them by "
                        f"tools.make_saliency --split={split.name} --name={layout.HELD_OUT_SALIENCY}")
    options = extraction.with_needed(run_dir, split, config, extraction.Options(saliency_dir), maps["classifier"])
    if options.walker and options.walker.run["finished"] != learned["affinity"]:
        raise UserError("crf: expected the affinity network by which the seeds were made, found another")
    for example in tagged(split):
        image = images.decode_image(example["image"])
        evidence = Evidence(example["image_id"], image, localizer(example, maps["seed"]), config,
                            options.saliency_dir, options.walker)
        yield image, extraction.make_seed(evidence)


def _agreement(predictor: prediction.Predictor, examples: Iterator[tuple[np.ndarray, np.ndarray]],
               count: int) -> dict[str, float]:
    """Returns each candidate's mIoU with the seeds, 0..1."""
    classes = len(predictor.class_names)
    confusions = {key: np.zeros((classes, classes + 1), np.int64) for key in CANDIDATES}
    for image, seed in progress.bar(examples, total=count, desc="crf", unit="img"):
        probs = predictor(image)
        for key in CANDIDATES:
            label = crf.refine(image, probs, key).argmax(-1).astype(np.uint8)
            confusions[key] += metrics.confusion(seed, label, classes)
    return {key: metrics.scores(confusion)["miou"] for key, confusion in confusions.items()}
