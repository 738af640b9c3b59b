"""Tables 1, 2 and 3 on the segmenter's masks: what it learns from, and how it learns it."""

import dataclasses
from collections.abc import Sequence
from typing import Any

from ficklenet_tf import crf
from ficklenet_tf.experiments import paper
from ficklenet_tf.experiments.claims import Claim, Measured
from ficklenet_tf.experiments.plan import Plan
from ficklenet_tf.experiments.tables import Row, Table


@dataclasses.dataclass(frozen=True)
class System:
    """One weakly supervised system: seeds and how they are learned.

    Attributes:
      title: of its row.
      training: of the classifier, "S" or "D".
      seeds: fields of `presets.SeedsConfig` that differ from the preset's.
      segmenter: fields of `presets.SegmenterConfig` that differ from the preset's.
    """

    title: str
    training: str
    seeds: dict[str, Any] = dataclasses.field(default_factory=dict)
    segmenter: dict[str, Any] = dataclasses.field(default_factory=dict)


_THETA = {"refine": "none"}  # theta and cue alone: sparse seeds, as SEC, DSRG and the paper have them
_CRF = {"refine": "crf"}
_SEC = {"losses": ("sec_seed", "expand", "boundary")}
SYSTEMS = {
    "deterministic": System("deterministic Grad-CAM, seeds by the CRF", "D", _CRF),
    "sec_crf": System("SEC's losses, deterministic, seeds by the CRF", "D", _CRF, _SEC),
    "ficklenet": System("FickleNet, seeds by the CRF", "S", _CRF),
    "deterministic_theta": System("deterministic Grad-CAM, seeds by theta", "D", _THETA),
    "sec": System("SEC: its losses, deterministic, seeds by theta", "D", _THETA, _SEC),
    "dsrg": System("DSRG: deterministic, seeds by theta that grow in training", "D", _THETA, {"growing": "dsrg"}),
    "ficklenet_theta": System("FickleNet, seeds by theta (the paper's rule)", "S", _THETA),
    "ficklenet_dsrg": System("FickleNet, seeds by theta that grow in training", "S", _THETA, {"growing": "dsrg"}),
    "srg": System("deterministic, seeds by theta grown on the colours (SRG)", "D", {"refine": "srg"}),
}
# Of equal refinement, by the CRF or by theta; seeds by the CRF label every pixel, so that none of them can grow.
_CLAIMS = (("ficklenet", "deterministic"), ("ficklenet", "sec_crf"), ("ficklenet_theta", "deterministic_theta"),
           ("ficklenet_theta", "sec"), ("ficklenet_theta", "dsrg"), ("dsrg", "sec"), ("ficklenet_dsrg", "dsrg"))


def train(plan: Plan, name: str, seed: int = 0) -> dict[str, Any]:
    """Trains and scores the system `name` of `SYSTEMS`; see `Plan.masks`."""
    system = SYSTEMS[name]
    seeds = plan.seed_images(system.training, seed, **system.seeds)
    return plan.masks(name, seeds, seed, config=dataclasses.replace(plan.preset.segmenter, **system.segmenter))


def rate(plan: Plan, training: str, rate: float) -> Row:
    """Returns the cells of Table 5 that need segmenters, trained on the seeds of a dropout rate."""
    runs = []
    for seed in range(plan.seeds):
        seeds = plan.seed_images(training, seed, rate)
        runs.append(plan.masks(f"{training}_p{rate:g}", seeds, seed))
    return measured(runs)


def measured(runs: Sequence[dict[str, Any]]) -> Row:
    """Returns the cells of a row: "val mIoU" and, with a CRF, "val mIoU with CRF", over the runs of all seeds."""
    return {f"val {key}": Measured(tuple(run[key] for run in runs)) for key in ("mIoU", "mIoU with CRF")
            if key in runs[0]}


def weak(plan: Plan, systems: Sequence[str], name: str = "table1") -> Table:
    """Tables 1 and 2: weakly supervised systems, the paper's rows beside ours.

    Args:
      plan: a `plan.Plan`.
      systems: names of `SYSTEMS`.
      name: "table1" or "table2".

    Returns:
      A `tables.Table`.
    """
    published, others = {"table1": (paper.TABLE1, paper.OTHERS1), "table2": (paper.TABLE2, paper.OTHERS2)}[name]
    papers_backbone = {"table1": "vgg16", "table2": "resnet101"}[name]
    rows: dict[str, Row] = {}
    for key in systems:
        runs = [train(plan, key, seed) for seed in range(plan.seeds)]
        rows[key] = {"system": SYSTEMS[key].title, **measured(runs), "paper: val mIoU with CRF": published.get(key)}
    backbone = plan.preset.classifier.backbone
    stands_in = "" if backbone == papers_backbone else f" ({backbone} stands in for the paper's {papers_backbone})"
    title = f"Table {name[-1]}: weakly supervised, {backbone} with {plan.preset.segmenter.head}{stands_in}"
    pairs = {f"{SYSTEMS[high].title}, above {SYSTEMS[low].title}": (rows[high], rows[low]) for high, low in _CLAIMS
             if high in rows and low in rows}
    not_run = tuple({"system": f"{system}, not run here", "paper: val mIoU with CRF": miou}
                    for system, miou in others.items())
    return Table(name, title, (*rows.values(), *not_run), claims(pairs), notes(plan))


def semi(plan: Plan, seed: int = 0) -> dict[str, Any]:
    """Trains on FickleNet's seeds and on the masks of the plan's strong images; see `Plan.masks`."""
    seeds = plan.seed_images("S", seed, **SYSTEMS["ficklenet"].seeds)
    return plan.masks("semi", seeds, seed, supervision="semi", strong=plan.strong)


def supervised(plan: Plan) -> Table:
    """Table 3: what masks of a few images add to seeds of all."""
    assert plan.strong is not None
    runs: dict[str, list[dict[str, Any]]] = {key: [] for key in ("strong only", "weak", "semi", "full")}
    for seed in range(plan.seeds):
        runs["strong only"].append(plan.masks("strong", None, seed, split=plan.strong, supervision="full"))
        runs["weak"].append(train(plan, "ficklenet", seed))
        runs["semi"].append(semi(plan, seed))
        runs["full"].append(plan.masks("full", None, seed, supervision="full"))
    num_strong, num_images = len(plan.strong), len(plan.split)
    alpha = f"semi: masks and seeds, alpha = {plan.preset.segmenter.alpha:g}"
    num_shared = len(set(plan.strong.image_ids) & set(plan.split.image_ids))
    images = {"strong only": (num_strong, 0, "masks of a few images only"),
              "weak": (0, num_images, "weak: FickleNet's seeds"),
              "semi": (num_strong, num_images - num_shared, alpha),
              "full": (num_images, 0, "full: masks of all images")}
    rows = {key: {"supervision": images[key][2], "images with masks": images[key][0],
                  "images with tags": images[key][1], **measured(runs[key]),
                  "paper: val mIoU with CRF": paper.TABLE3[key]} for key in runs}
    pairs = {f"{a} above {b}": (rows[a], rows[b]) for a, b in (("semi", "weak"), ("semi", "strong only"),
                                                                 ("full", "semi"), ("strong only", "weak"))}
    return Table("table3", "Table 3: semi-supervised", tuple(rows.values()), claims(pairs), notes(plan))


def claims(pairs: dict[str, tuple[Row, Row]]) -> tuple[Claim, ...]:
    """Compares the last measured column, with CRF where there is one; pairs: text -> (greater row, lesser row)."""
    compared = []
    for text, (high, low) in pairs.items():
        column = [key for key in high if key.startswith("val ")][-1]
        compared.append(Claim(f"{text}, {column}", high[column], low[column]))
    return tuple(compared)


def notes(plan: Plan) -> tuple[str, ...]:
    """Returns the lines below a table: what was trained and measured."""
    segmenter = plan.preset.segmenter
    rounds = f"{segmenter.steps} steps" + (f", then {segmenter.retrain_steps} on its own labels"
                                           if segmenter.retrain_steps else ", one round")
    spec_name = next((name for name, spec in crf.SPECS.items() if spec == plan.spec), "of one's own")
    return (f"{plan.held_out.dataset}, {len(plan.held_out)} images of {plan.held_out.name}, preset "
            f"{plan.preset.name}, {plan.repeats}, per cent; {rounds}, sizes "
            f"{', '.join(map(str, segmenter.test_sizes))}; CRF: {spec_name}. Trained on {len(plan.split)} images. All "
            "segmenters start from one backbone, that of the stochastic classifier with seed 0. Seeds: each "
            f"classifier's own best background score or theta, by the masks of {plan.map_images} training images at "
            "most, which serve nothing else.",
            "The paper's column: VOC 2012 val, the network trained whole on 10,582 images, saliency maps for the "
            "background.")
