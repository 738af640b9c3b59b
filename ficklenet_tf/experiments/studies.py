"""What the paper does not ask: how far N maps are from very many, and whether leaving uncertain seeds out helps."""

import dataclasses

import numpy as np
import tensorflow as tf

from ficklenet_tf.errors import UserError
from ficklenet_tf.experiments import map_scores, mask_tables, paper
from ficklenet_tf.experiments.tables import Claim, Measured, Table
from ficklenet_tf.maps import localizer, reference
from ficklenet_tf.runs import artifacts, layout, progress, stage

COUNTS = (10, 30, 100, 200, 300, 1000)
LARGE = reference.LARGE
LIMITS = (1.0, 0.4, 0.3, 0.26)


def uncertainty(plan, limits=LIMITS):
    """Segmenters on FickleNet's seeds without the most uncertain ones.

    Args:
      plan: a `plan.Plan`.
      limits: of `presets.SeedsConfig.max_uncertainty`; the first, 1, keeps all.

    Returns:
      A `tables.Table`.
    """
    if not plan.split.has_labels:
        raise UserError(f"{plan.split.dataset} {plan.split.name}: expected masks to score seeds against, found none")
    found = {}
    for limit in limits:
        runs, scored = [], []
        for seed in range(plan.seeds):
            seeds = plan.seed_images("S", seed, max_uncertainty=float(limit))
            scored.append(artifacts.read_run(plan.run_dir / seeds)["metrics"])
            runs.append(plan.masks("ficklenet" if limit == 1 else f"uncertainty{limit:g}", seeds, seed))
        found[limit] = {
            "greatest uncertainty": float(limit),
            "pixels with a seed": Measured(tuple(_answered(score["confusion"]) for score in scored)),
            **{f"seeds: {key.replace('miou', 'mIoU')}": Measured(tuple(score[key] for score in scored))
               for key in map_scores.KEYS}, **mask_tables.measured(runs)}
    pairs = {f"without seeds above {limit:g} above all seeds": (found[limit], found[limits[0]])
             for limit in limits[1:]}
    return Table("uncertainty", "Study: does leaving out the most uncertain seeds help the segmenter?",
                 tuple(found.values()), mask_tables.claims(pairs),
                 ("Uncertainty: the spread over the N maps as a share of mean and spread. These claims are ours.",
                  *mask_tables.notes(plan)))


def _answered(confusion):
    counts = np.asarray(confusion, np.float64)
    return 1 - counts[:, -1].sum() / max(counts.sum(), 1)


def convergence(plan, count=20, large=LARGE):
    """How far N maps are from `large` ones, what "auto" takes, and how good the closed approximation is.

    Args:
      plan: a `plan.Plan`.
      count: training images, evenly spaced among those that maps are scored on.
      large: number of maps of the reference.

    Returns:
      A `tables.Table`.
    """
    runs = [_distances(plan, seed, count, large) for seed in range(plan.seeds)]
    rows, by_name = [], {}
    for name in runs[0]["rows"]:
        each = [run["rows"][name] for run in runs]
        by_name[name] = {"aggregate": name, "maps": Measured(tuple(e["num_maps"] for e in each), 1, 0)
                         if each[0]["num_maps"] else None,
                         **{text: Measured(tuple(e[key] for e in each), 100, 2) if key in each[0] else None
                            for key, text in (("mean", "mean map, difference"), ("max", "maximum map, difference"),
                                              ("labels", "labels that differ"))}}
        rows.append(by_name[name])
    steady = [f"N = {n}" for n in COUNTS]
    claims = tuple(Claim(f"{few} is farther from the reference than {many}", by_name[few]["mean map, difference"],
                         by_name[many]["mean map, difference"]) for few, many in zip(steady, steady[1:], strict=False))
    return Table("convergence", f"Study: distance to N = {large}", tuple(rows), claims, (
        f"Stochastic classifiers, {plan.repeats}, {runs[0]['images']} training images; per cent: mean absolute "
        "difference of maps in 0..1, and share of the positions whose label by theta is another one. 'limit': what "
        "the maximum tends to for N to infinity, exactly. 'normal': the mean by normal distributions, without "
        "drawing.",))


def _distances(plan, seed, count, large):
    """Distances for one seed; what is finished is not done again."""
    classifier = plan.classifier("S", seed)
    split = plan.scored
    split = split.select(i * len(split) // min(count, len(split)) for i in range(min(count, len(split))))
    directory = plan.run_dir / layout.MAP_SCORES / f"convergence_{classifier}"
    settings = {"stage": "convergence", "config": dataclasses.asdict(plan.preset.maps),
                "theta": plan.preset.seeds.theta, "seed": seed, "counts": COUNTS, "large": large,
                "fingerprint": split.fingerprint,
                "classifier": artifacts.read_run(plan.run_dir / classifier)["finished"]}
    return stage.run(directory, settings, lambda: lambda: {
        "rows": _measured(plan, plan.run_dir / classifier, split, seed, large, directory.name), "images": len(split)})


def _measured(plan, classifier_dir, split, seed, large, description):
    """Returns {aggregate: {measure: mean over the images}}."""
    draws, many, auto = (map_scores.Draws(classifier_dir, plan.preset.maps, paper.MODES["S"], counts)
                         for counts in (COUNTS, (large,), (localizer.AUTO,)))
    closed = tf.function(lambda x, tag_ids: reference.exact(draws.model.head, x, tag_ids))
    rows = {}
    for example in progress.bar([split[i] for i in range(len(split))], desc=description, unit="img"):
        if not example["tags"].any():
            continue
        prepared = draws.prepare(example)
        target = many(prepared, f"{seed} reference")[0]
        parts = draws(prepared, seed)
        exact = closed(prepared["views"][0], tf.constant(target.tag_ids))
        normal = reference.normal(exact["response_mean"], exact["response_std"]).numpy()
        answers = {f"N = {n}": map_scores.aggregate(parts[:k + 1]) for k, n in enumerate(COUNTS)}
        answers["auto"] = auto(prepared, seed)[0]
        for name, maps in answers.items():
            distances = reference.distance(vars(maps), vars(target), plan.preset.seeds.theta)
            rows.setdefault(name, []).append({**{k: distances[k] for k in ("mean", "max", "labels")},
                                              "num_maps": maps.num_maps})
        rows.setdefault("limit", []).append({"num_maps": 0, "max": _apart(exact["max_limit"], target.max)})
        rows.setdefault("normal", []).append({"num_maps": 0, "mean": _apart(normal, target.mean)})
    return {name: {key: float(np.mean([image[key] for image in images])) for key in images[0]}
            for name, images in rows.items()}


def _apart(one, other):
    return float(np.abs(np.asarray(one) - other).mean())
