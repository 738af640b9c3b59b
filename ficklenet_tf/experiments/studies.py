"""What the paper does not ask: how far N maps are from very many, and whether leaving uncertain seeds out helps."""

import dataclasses
import itertools
import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from ficklenet_tf import presets
from ficklenet_tf.data import datasets
from ficklenet_tf.errors import UserError
from ficklenet_tf.experiments import map_scores, mask_tables, paper, row_claims
from ficklenet_tf.experiments.claims import Claim, Measured
from ficklenet_tf.experiments.plan import Plan
from ficklenet_tf.experiments.tables import Row, Table
from ficklenet_tf.maps import localizer, reference
from ficklenet_tf.runs import artifacts, layout, progress, stage

COUNTS = (10, 30, 100, 200, 300, 1000)
LARGE = reference.LARGE
LIMITS = (1.0, 0.4, 0.3, 0.26)


def uncertainty(plan: Plan, limits: Sequence[float] = LIMITS) -> Table:
    """Segmenters on FickleNet's seeds without the most uncertain ones.

    Args:
      plan: a `plan.Plan`.
      limits: of `presets.SeedsConfig.max_uncertainty`; the first, 1, keeps all.

    Returns:
      A `tables.Table`.
    """
    if not plan.split.has_labels:
        raise UserError(f"{plan.split.dataset} {plan.split.name}: expected masks to score seeds against, found none")
    rows: dict[float, Row] = {}
    for limit in limits:
        runs, seed_scores = [], []
        for seed in plan.random_seeds:
            if limit == 1:
                runs.append(plan.system("ficklenet", seed))
                seed_scores.append(runs[-1]["seeds"])
                continue
            seeds = plan.seed_images("S", seed, max_uncertainty=float(limit), refine="crf")
            seed_scores.append(artifacts.finished_run(
                plan.run_dir / seeds, "set of seeds", "tools.make_seeds")["metrics"])
            runs.append(plan.masks(f"uncertainty{limit:g}", seeds, seed))
        rows[limit] = {
            "greatest uncertainty": float(limit),
            "pixels with a seed": Measured(tuple(_answered(scores["confusion"]) for scores in seed_scores)),
            **{f"seeds: {key.replace('miou', 'mIoU')}": Measured(tuple(scores[key] for scores in seed_scores))
               for key in map_scores.KEYS}, **mask_tables.measured(runs)}
    pairs = {f"without seeds above {limit:g} above all seeds": (rows[limit], rows[limits[0]])
             for limit in limits[1:]}
    return Table("uncertainty", "Study: does leaving out the most uncertain seeds help the segmenter?",
                 tuple(rows.values()), row_claims.of_pairs(pairs),
                 ("Uncertainty: the spread over the N maps as a share of mean and spread. These claims are ours.",
                  *mask_tables.notes(plan)), plan.random_seeds)


def _answered(confusion: Sequence[Sequence[int]]) -> float:
    """Returns the share of the pixels that have a seed; the last column counts those without."""
    counts = np.asarray(confusion, np.float64)
    return 1 - counts[:, -1].sum() / max(counts.sum(), 1)


def convergence(plan: Plan, count: int = 20, large: int = LARGE) -> Table:
    """How far N maps are from `large` ones, what "auto" takes, and how good the closed approximation is.

    Args:
      plan: a `plan.Plan`.
      count: training images, evenly spaced among those that maps are scored on.
      large: number of maps of the reference.

    Returns:
      A `tables.Table`.
    """
    runs = [_distances(plan, seed, count, large) for seed in plan.random_seeds]
    rows: dict[str, Row] = {}
    for name in runs[0]["rows"]:
        by_seed = [run["rows"][name] for run in runs]
        rows[name] = {"aggregate": name, "maps": Measured(tuple(measures["num_maps"] for measures in by_seed), 1, 0)
                      if by_seed[0]["num_maps"] else None}
        for key, heading in (("mean", "mean map, difference"), ("max", "maximum map, difference"),
                             ("labels", "labels that differ")):
            rows[name][heading] = Measured(tuple(measures[key] for measures in by_seed), 100, 2) \
                if key in by_seed[0] else None
    steady = [f"N = {n}" for n in COUNTS]
    claims = tuple(Claim(f"{few} is farther from the reference than {many}", rows[few]["mean map, difference"],
                         rows[many]["mean map, difference"]) for few, many in itertools.pairwise(steady))
    return Table("convergence", f"Study: distance to N = {large}", tuple(rows.values()), claims, (
        f"Stochastic classifiers, {runs[0]['images']} training images; per cent: mean absolute "
        'difference of maps in 0..1, and share of the positions whose label by theta is another one. "limit": what '
        'the maximum tends to for N to infinity, exactly. "normal": the mean by normal distributions, without '
        "drawing.",), plan.random_seeds)


def _distances(plan: Plan, seed: int, count: int, large: int) -> dict[str, Any]:
    """Returns the distances for one seed; what is finished is not done again."""
    classifier = plan.classifier("S", seed)
    split = plan.scored
    count = min(count, len(split))
    split = split.select([i * len(split) // count for i in range(count)])
    directory = plan.run_dir / layout.MAP_SCORES / f"convergence_{classifier}"
    settings = {"stage": "convergence", "config": dataclasses.asdict(_one_view(plan.preset.maps)),
                "theta": plan.preset.seeds.theta, "seed": seed, "counts": COUNTS, "large": large,
                "fingerprint": split.fingerprint,
                "classifier": artifacts.finished_run(
                    plan.run_dir / classifier, "classifier", "tools.train_classifier")["finished"]}
    return stage.run(directory, settings, lambda: lambda: {
        "rows": _measured(plan, plan.run_dir / classifier, split, seed, large, directory.name), "images": len(split)})


def _one_view(config: presets.MapsConfig) -> presets.MapsConfig:
    """Returns the config of one view of a photograph: the closed forms are of one."""
    return dataclasses.replace(config, sizes=config.sizes[:1], flip_views=False)


def _measured(plan: Plan, classifier_dir: pathlib.Path, split: datasets.Split, seed: int, large: int,
              description: str) -> dict[str, dict[str, float]]:
    """Returns {aggregate: {measure: mean over the images}}."""
    draws, many, auto = (map_scores.Draws(classifier_dir, _one_view(plan.preset.maps), paper.MODES["S"], counts)
                         for counts in (COUNTS, (large,), (localizer.AUTO,)))
    head = draws.model.head
    closed = tf.function(lambda x, tag_ids: reference.exact(head, head.units(x[None])[0], tag_ids),
                         autograph=False)
    distances: dict[str, list[dict[str, float]]] = {}
    for example in progress.bar([split[i] for i in range(len(split))], desc=description, unit="img"):
        if not example["tags"].any():
            continue
        prepared = draws.prepare(example)
        target = many(prepared, f"{seed} reference")[0]
        parts = draws(prepared, seed)
        exact = closed(prepared["features"][0], tf.constant(target.tag_ids))
        normal = reference.normal(exact["response_mean"], exact["response_std"]).numpy()
        maps_by_name = {f"N = {n}": map_scores.aggregate(parts[:k + 1]) for k, n in enumerate(COUNTS)}
        maps_by_name["auto"] = auto(prepared, seed)[0]
        for name, maps in maps_by_name.items():
            distance = reference.distance(vars(maps), vars(target), plan.preset.seeds.theta)
            distances.setdefault(name, []).append({**{key: distance[key] for key in ("mean", "max", "labels")},
                                                   "num_maps": maps.num_maps})
        distances.setdefault("limit", []).append(
            {"num_maps": 0, "max": _difference(exact["max_limit"], target.max)})
        distances.setdefault("normal", []).append({"num_maps": 0, "mean": _difference(normal, target.mean)})
    return {name: {key: float(np.mean([image[key] for image in images])) for key in images[0]}
            for name, images in distances.items()}


def _difference(maps: np.ndarray | tf.Tensor, target: np.ndarray) -> float:
    """Returns the mean absolute difference."""
    return float(np.abs(np.asarray(maps) - target).mean())
