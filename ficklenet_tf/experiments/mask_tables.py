"""Tables 1, 2 and 3 on the segmenter's masks: what it learns from, and how it learns it."""

from collections.abc import Sequence
from typing import Any

from ficklenet_tf import crf
from ficklenet_tf.experiments import paper, row_claims
from ficklenet_tf.experiments.claims import Measured
from ficklenet_tf.experiments.job import needs_saliency
from ficklenet_tf.experiments.plan import Plan
from ficklenet_tf.experiments.systems import SYSTEMS
from ficklenet_tf.experiments.tables import COSTS, Row, Table

SEMI = ("ficklenet", "em_fixed", "gain", "mdc")  # of Table 3: those that learn masks of a few images, too


def rate(plan: Plan, training: str, rate: float) -> Row:
    """Returns the cells of Table 5 that need segmenters, trained on the seeds of a dropout rate."""
    runs = []
    for seed in plan.random_seeds:
        seeds = plan.seed_images(training, seed, rate)
        runs.append(plan.masks(f"{training}_p{rate:g}", seeds, seed))
    return measured(runs)


def measured(runs: Sequence[dict[str, Any]]) -> Row:
    """Returns the cells of a row: "val mIoU" and, with a CRF, "val mIoU with CRF", over the runs of all seeds."""
    return {f"val {key}": Measured(tuple(run[key] for run in runs)) for key in ("mIoU", "mIoU with CRF")
            if key in runs[0]}


def weak(plan: Plan, systems: Sequence[str], name: str = "table1") -> Table:
    """Tables 1 and 2: weakly supervised systems, published figures beside ours.

    Args:
      plan: a `plan.Plan`.
      systems: names of `SYSTEMS`.
      name: "table1" or "table2".

    Returns:
      A `tables.Table`.
    """
    others = {"table1": paper.OTHERS1, "table2": paper.OTHERS2}[name]
    papers_backbone = {"table1": "vgg16", "table2": "resnet101"}[name]
    rows: dict[str, Row] = {}
    for key in systems:
        runs = [plan.system(key, seed) for seed in plan.random_seeds]
        figure = SYSTEMS[key].figure() if name == "table1" else paper.TABLE2.get(key)
        rows[key] = {**described(plan, key), **seeds_of(runs), **measured(runs), "published: VOC val": figure,
                     **costs_of(plan, runs)}
    backbone = plan.preset.classifier.backbone
    stands_in = "" if backbone == papers_backbone else f" ({backbone} stands in for the paper's {papers_backbone})"
    title = f"Table {name[-1]}: weakly supervised, {backbone} with {plan.preset.segmenter.head}{stands_in}"
    not_run = tuple({"system": f"{system}, not run here", "published: VOC val": miou}
                    for system, miou in others.items())
    return Table(name, title, (*rows.values(), *not_run), row_claims.of_systems(rows.values()), notes(plan),
                 plan.random_seeds)


def described(plan: Plan, key: str) -> Row:
    """Returns the first cells of a system's row: what it is and what it learns from."""
    saliency = needs_saliency(SYSTEMS[key].applied(plan.preset))
    return {"system": SYSTEMS[key].title, "learned from": "tags, saliency" if saliency else "tags"}


def seeds_of(runs: Sequence[dict[str, Any]]) -> Row:
    """Returns the cell of the mIoU of a system's seeds on the training images; empty where it has none."""
    scores = [run["seeds"] for run in runs]
    return {"seeds: mIoU on train": Measured(tuple(score["miou"] for score in scores)) if all(scores) else None}


def costs_of(plan: Plan, runs: Sequence[dict[str, Any]]) -> Row:
    """Returns the cells `tables.COSTS`: of all trainings, and of maps and seeds; over the seeds that were measured."""
    training = [run["cost"] for run in runs if run["cost"]]
    seeds = [run["cost of seeds"] for run in runs if run["cost of seeds"]]
    values = ([cost["processor_seconds"] / 60 for cost in training],
              [cost["peak_mib"] for cost in training if cost["peak_mib"]],  # 0: not known
              [1000 * cost["seconds"] / len(plan.split) for cost in seeds])
    return {name: Measured(tuple(each), 1.0, digits) if each else None
            for (name, digits), each in zip(COSTS.items(), values, strict=True)}


def supervised(plan: Plan, systems: Sequence[str] = SEMI) -> Table:
    """Table 3: what masks of a few images add to tags of all.

    Args:
      plan: a `plan.Plan` with strong images.
      systems: names of `SYSTEMS`, the first one's rows are those that masks alone are compared with.

    Returns:
      A `tables.Table`.
    """
    assert plan.strong is not None
    strong = set(plan.strong.with_masks().image_ids)
    num_strong, num_masks, num_images = len(strong), sum(plan.split.labelled), len(plan.split)
    num_shared = len(strong & set(plan.split.image_ids))
    rows = {"strong only": {"learned from": "masks of a few images only", "images with masks": num_strong,
                            "images with tags": 0, **measured([plan.masks(
                                "strong", None, seed, split=plan.strong, supervision="full")
                                for seed in plan.random_seeds]), "published: VOC val": paper.TABLE3["strong only"]}}
    for key in systems:
        for semi in (False, True):
            system, runs = SYSTEMS[key], [plan.system(key, seed, semi) for seed in plan.random_seeds]
            rows[f"{key} {'semi' if semi else 'weak'}"] = {
                "learned from": f"{system.title}{', and masks' if semi else ''}",
                "images with masks": num_strong if semi else 0,
                "images with tags": num_images - num_shared if semi else num_images, **measured(runs),
                "published: VOC val": system.figure(semi)}
    if num_masks > num_strong:  # else it would be "strong only" again
        rows["full"] = {"learned from": "masks of all images", "images with masks": num_masks, "images with tags": 0,
                        **measured([plan.masks("full", None, seed, supervision="full") for seed in plan.random_seeds]),
                        "published: VOC val": paper.TABLE3["full"]}
    compared = [(f"{key} semi", f"{key} weak") for key in systems] + [
        (f"{key} semi", "strong only") for key in systems] + [
        ("full", f"{systems[0]} semi"), ("strong only", f"{systems[0]} weak")]
    texts = {f"{high} above {low}": (rows[high], rows[low]) for high, low in compared if high in rows}
    lines = (*notes(plan), f"semi: masks and tags, alpha = {plan.preset.segmenter.alpha:g}.")
    return Table("table3", "Table 3: semi-supervised", tuple(rows.values()), row_claims.of_pairs(texts), lines,
                 plan.random_seeds)


def notes(plan: Plan) -> tuple[str, ...]:
    """Returns the lines below a table: what was trained and measured."""
    segmenter = plan.preset.segmenter
    rounds = f"{segmenter.steps} steps" + (f", then {segmenter.retrain_steps} on its own labels"
                                           if segmenter.retrain_steps else ", one round")
    spec_name = next((name for name, spec in crf.SPECS.items() if spec == plan.spec), "of one's own")
    return (f"{plan.held_out.dataset}, {len(plan.held_out)} images of {plan.held_out.name}, preset "
            f"{plan.preset.name}, per cent; {rounds}, sizes "
            f"{', '.join(map(str, segmenter.test_sizes))}; CRF: {spec_name}. Trained on {len(plan.split)} images. All "
            "segmenters start from one backbone, that of the stochastic classifier with seed 0. Seeds: the "
            "background score, theta or threshold that suits each system's maps best, by the masks of "
            f"{plan.map_images} training images at most; where masks are learned too, these are more than are named.",
            "Time: of a run of that system alone, of its classifier, maps, seeds of all images and segmenter; "
            "saliency maps are in none. Memory: the process' greatest meanwhile, with what earlier rows have left in "
            "it. Mean over the random seeds of which they were measured. What frozen layers give of all images counts "
            "for what needed it first: a classifier, and so each row without seeds, or the first row's segmenter.",
            "Published: VOC 2012 val, networks trained whole on 10,582 images, most with saliency maps; *: as "
            "remembered.")
