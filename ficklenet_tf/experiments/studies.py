"""What the paper does not ask: how far N maps are from very many, and whether leaving uncertain seeds out helps."""

import dataclasses

import numpy as np
import tensorflow as tf

from ficklenet_tf.experiments import maps, mask_tables, paper
from ficklenet_tf.experiments.tables import Claim, Measured, Table
from ficklenet_tf.maps import localizer, reference
from ficklenet_tf.runs import artifacts, progress

COUNTS = (10, 30, 100, 200, 300, 1000)
LARGE = reference.LARGE
LIMITS = (1.0, 0.4, 0.3, 0.26)


def uncertainty(plan, limits=LIMITS):
    """Segmenters on FickleNet's seeds without the most uncertain ones.

    Args:
      plan: a `plan.Plan`.
      limits: of `presets.Seeds.max_uncertainty`; the first, 1, keeps all.

    Returns:
      A `tables.Table`.
    """
    if not plan.split.has_labels:
        raise ValueError(f"{plan.split.dataset} {plan.split.name}: expected masks to score seeds against, found none")
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
               for key in maps.KEYS}, **mask_tables.measured(runs)}
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
    """How far N maps are from `large` ones, what «auto» takes, and how good the closed approximation is.

    Args:
      plan: a `plan.Plan`.
      count: training images, evenly spaced among those that maps are scored on.
      large: number of selections of the reference.

    Returns:
      A `tables.Table`.
    """
    runs = [_distances(plan, seed, count, large) for seed in range(plan.seeds)]
    rows, by_name = [], {}
    for name in runs[0]["rows"]:
        each = [run["rows"][name] for run in runs]
        by_name[name] = {"aggregate": name, "selections": Measured(tuple(e["selections"] for e in each), 1, 0)
                         if each[0]["selections"] else None,
                         **{text: Measured(tuple(e[key] for e in each), 100, 2) if key in each[0] else None
                            for key, text in (("mean", "mean map, difference"), ("max", "maximum map, difference"),
                                              ("labels", "labels that differ"))}}
        rows.append(by_name[name])
    steady = [f"N = {n}" for n in COUNTS]
    claims = tuple(Claim(f"{few} is farther from the reference than {many}", by_name[few]["mean map, difference"],
                         by_name[many]["mean map, difference"]) for few, many in zip(steady, steady[1:], strict=False))
    return Table("convergence", f"Study: distance to N = {large}", tuple(rows), claims, (
        f"Stochastic classifiers, {plan.repeats}, {runs[0]['images']} training images; per cent: mean absolute "
        "difference of maps in 0..1, and share of the positions whose label by theta is another one. «limit»: what "
        "the maximum tends to for N to infinity, exactly. «normal»: the mean by normal distributions, without "
        "drawing.",))


def _distances(plan, seed, count, large):
    """Distances for one seed; what is finished is not done again."""
    stage = plan.classifier("S", seed)
    preset, some = plan.preset.seeds, plan.scored
    some = some.select(i * len(some) // min(count, len(some)) for i in range(min(count, len(some))))
    directory = plan.run_dir / "maps" / f"convergence_{stage}"
    artifacts.claim(directory, {"stage": "convergence", "preset": dataclasses.asdict(preset), "seed": seed,
                                "counts": COUNTS, "large": large, "fingerprint": some.fingerprint,
                                "classifier": artifacts.read_run(plan.run_dir / stage)["finished"]})
    finished = artifacts.read_run(directory)
    if finished:
        return finished
    draws = maps.Draws(plan.run_dir / stage, preset, paper.SELECTIONS["S"], COUNTS)
    many, auto = (maps.Draws(plan.run_dir / stage, preset, paper.SELECTIONS["S"], counts)
                  for counts in ((large,), (localizer.AUTO,)))
    closed = tf.function(lambda x, classes: reference.exact(draws.model.head, x, classes))
    each = {}
    for example in progress.bar([some[i] for i in range(len(some))], desc=directory.name, unit="img"):
        if not example["tags"].any():
            continue
        prepared = draws.prepare(example)
        target = many(prepared, f"{seed} reference")[0][1]
        parts = draws(prepared, seed)
        exact = closed(prepared["views"][0], tf.constant(target["classes"]))
        normal = reference.normal(exact["response_mean"], exact["response_std"]).numpy()
        found = {f"N = {n}": maps.aggregate(parts[:k + 1]) for k, n in enumerate(COUNTS)}
        found["auto"] = auto(prepared, seed)[0][1]
        for name, answer in found.items():
            measured = reference.distance(answer, target, preset.theta)
            each.setdefault(name, []).append({**{k: measured[k] for k in ("mean", "max", "labels")},
                                              "selections": int(answer["selections"])})
        each.setdefault("limit", []).append({"selections": 0, "max": _apart(exact["max_limit"], target["max"])})
        each.setdefault("normal", []).append({"selections": 0, "mean": _apart(normal, target["mean"])})
    rows = {name: {key: float(np.mean([one[key] for one in values])) for key in values[0]}
            for name, values in each.items()}
    artifacts.write_run(directory, rows=rows, images=len(some))
    return artifacts.read_run(directory)


def _apart(one, other):
    return float(np.abs(np.asarray(one) - other).mean())
