"""Tables 5, 6 and 7 on maps and seeds: dropout rate, number of maps, training against inference."""

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ficklenet_tf.experiments import map_scores, paper
from ficklenet_tf.experiments.claims import Claim, Measured
from ficklenet_tf.experiments.plan import Plan
from ficklenet_tf.experiments.tables import Row, Table, text_of

COUNTS = (1, 3, 10, 30, 100, 200, 300, 1000)  # Table 6 and Figure 5
RATES = (("D", 0.0), ("S", 0.3), ("S", 0.5), ("S", 0.7), ("S", 0.9), ("G", 0.5), ("G", 0.9))
_NAMES = {"S": "stochastic", "G": "general dropout", "D": "deterministic"}
_TABLE5 = ((("S", 0.9), ("D", 0.0)), (("S", 0.9), ("S", 0.7)), (("S", 0.7), ("S", 0.5)), (("S", 0.5), ("S", 0.3)),
           (("S", 0.3), ("D", 0.0)), (("D", 0.0), ("G", 0.9)), (("G", 0.9), ("G", 0.5)))
_TABLE7 = (("SS", "SD"), ("SS", "DD"), ("SD", "DD"), ("SS", "GG"), ("DD", "GG"), ("GS", "GG"), ("GD", "GS"))


def best(runs: Sequence[dict[str, Any]], count: int = -1) -> tuple[float, dict[str, Measured]]:
    """Returns the threshold with the highest mean mIoU over runs, and the scores there.

    Args:
      runs: what `map_scores.score` returned, one per seed.
      count: position of the number of maps among the counts that were scored.

    Returns:
      (threshold, dict of key -> `Measured`).
    """
    by_key = {key: np.array([run["maps"][count][key] for run in runs]) for key in map_scores.KEYS}
    position = int(by_key["miou"].mean(0).argmax())
    return (map_scores.THRESHOLDS[position],
            {key: Measured(tuple(values[:, position])) for key, values in by_key.items()})


def scores(runs: Sequence[dict[str, Any]]) -> Row:
    """Returns the cells of a row: maps at their best threshold, and seeds, of each run by its best rule."""
    threshold, map_measures = best(runs)
    cells: Row = {f"maps: {key.replace('miou', 'mIoU')}": measured for key, measured in map_measures.items()}
    cells["threshold"] = threshold
    for key in map_scores.KEYS:
        values = tuple(run["seeds"][key][map_scores.best_rule(run)] for run in runs)
        cells[f"seeds: {key.replace('miou', 'mIoU')}"] = Measured(values)
    rules = [run["rules"][map_scores.best_rule(run)] for run in runs]
    heading, field = _number(rules[0]["refine"])
    chosen = sorted({rule[field] for rule in rules}, key=lambda value: (isinstance(value, str), value))
    cells[heading] = ", ".join(map(text_of, chosen))
    return cells


def _number(refine: str) -> tuple[str, str]:
    """Returns (what the number that is chosen for a rule of seeds is called, its field of `SeedsConfig`)."""
    field = map_scores.NUMBERS[refine][0][0]
    return "background score" if refine == "crf" else field.replace("_", " "), field


def table5(plan: Plan, segmenter: Callable[[Plan, str, float], Row] | None = None,
           rates: Sequence[tuple[str, float]] = RATES) -> Table:
    """Table 5: dropout rates.

    Args:
      plan: a `plan.Plan`.
      segmenter: (plan, training, rate) -> more cells of a row, or None.
      rates: (training, rate), one per row.

    Returns:
      A `tables.Table`.
    """
    rows: dict[tuple[str, float], Row] = {}
    for training, rate in rates:
        runs = [plan.maps(training, seed=seed, rate=rate) for seed in plan.random_seeds]
        tags = [plan.average_precision(training, seed, rate) for seed in plan.random_seeds]
        rows[training, rate] = {"selection": _NAMES[training], "p": rate, "tags: mAP": Measured(tuple(tags)),
                                **scores(runs),
                                **(segmenter(plan, training, rate) if segmenter else {}),
                                "paper: val mIoU of the segmenter": paper.TABLE5[training, rate]}
    names = {key: f"{_NAMES[key[0]]} {key[1]:g}" if key[1] else "deterministic" for key in rows}
    pairs = {f"{names[high]} above {names[low]}": (rows[high], rows[low]) for high, low in _TABLE5
             if high in rows and low in rows}
    return Table("table5", "Table 5: dropout rate", tuple(rows.values()), _claims(pairs), _notes(plan),
                 plan.random_seeds)


def rescaling(plan: Plan, rates: Sequence[tuple[str, float]] = RATES) -> Table:
    """Table 5's stochastic rows, with the survivors as they are and scaled by 1 / (1 - p)."""
    rows: list[Row] = []
    pairs = {}
    for training, rate in [key for key in rates if key[0] == "S"]:
        by_rescale: dict[bool, Row] = {}
        for rescale in (False, True):
            runs = [plan.maps(training, seed=seed, rate=rate, rescale=rescale) for seed in plan.random_seeds]
            by_rescale[rescale] = {"p": rate, "survivors": "scaled by 1/(1-p)" if rescale else "as they are",
                                   **scores(runs)}
        rows += by_rescale.values()
        pairs[f"p = {rate:g}: as they are above scaled"] = (by_rescale[False], by_rescale[True])
    return Table("rescale", "Study: are the survivors scaled by 1/(1-p)?", tuple(rows), _claims(pairs),
                 ("The paper does not say which; these claims are ours.", *_notes(plan)), plan.random_seeds)


def table6(plan: Plan, repeats: int = 10) -> Table:
    """Table 6: deviation of the maps' scores over repeats, by the number of maps."""
    runs = plan.repeated_maps(COUNTS, repeats)
    rows, repeated = [], {}
    for position, count in enumerate(COUNTS):
        threshold, measures = best(runs, position)
        spreads = {key: Measured((float(np.std(measured.values, ddof=1)),), 1000, 2)
                   for key, measured in measures.items()}
        repeated[count] = Measured(measures["miou"].values, 1000, 2)
        rows.append({"N": count, **{f"{key.replace('miou', 'mIoU')}, deviation x 1000": spread
                                    for key, spread in spreads.items()},
                     "mIoU": Measured((measures["miou"].mean / 100,), 100, 2), "threshold": threshold,
                     "paper: mIoU, deviation x 1000": paper.TABLE6.get(count)})
    steady = [count for count in COUNTS if count >= 10]
    relative = 1 / float(np.sqrt(2 * (repeats - 1)))  # how far off a deviation is itself
    claims = [Claim(f"the deviation is greater for N = {few} than for N = {many}", repeated[few], repeated[many], True)
              for few, many in itertools.pairwise(steady)]
    return Table("table6", f"Table 6: deviation over {repeats} repeats", tuple(rows), tuple(claims), (
        f"One classifier (S, p = {plan.preset.classifier.rate:g}, seed 0), {repeats} seeds of the selections; mean "
        f"maps of {len(plan.scored)} training images at the best of {len(map_scores.THRESHOLDS)} thresholds, one per "
        f"row. A deviation from {repeats} repeats is itself off by about {100 * relative:.0f} %.",))


def table7(plan: Plan) -> Table:
    """Table 7: training against inference: general dropout, stochastic selection, deterministic."""
    rows: dict[str, Row] = {}
    for training in "GSD":
        for inference in "GSD":
            runs = [plan.maps(training, inference, seed=seed) for seed in plan.random_seeds]
            rows[training + inference] = {
                "training": training, "inference": inference,
                "in the paper": "yes" if (training, inference) in paper.TABLE7 else "no", **scores(runs),
                "paper: val mIoU of the segmenter": paper.TABLE7.get((training, inference))}
    pairs = {f"{a[0]}/{a[1]} above {b[0]}/{b[1]}": (rows[a], rows[b]) for a, b in _TABLE7}
    return Table("table7", "Table 7: training and inference with general dropout (G), stochastic selection (S), "
                 "deterministic (D)", tuple(rows.values()), _claims(pairs), _notes(plan), plan.random_seeds)


def _claims(pairs: dict[str, tuple[Row, Row]]) -> tuple[Claim, ...]:
    """Compares every mIoU, of maps, seeds and segmenters; pairs: text -> (greater row, lesser row)."""
    columns = [key for key in next(iter(pairs.values()), ({}, {}))[0] if key.endswith(("mIoU", "mIoU with CRF"))]
    return tuple(Claim(f"{text}, {column.replace(':', ',')}", high[column], low[column])
                 for column in columns for text, (high, low) in pairs.items())


def _notes(plan: Plan) -> tuple[str, ...]:
    seeds = plan.preset.seeds
    rule = "the dense CRF" if seeds.refine == "crf" else seeds.refine if seeds.refine != "none" else "theta and cue"
    return (f"{plan.split.dataset}, preset {plan.preset.name}, backbone {plan.preset.classifier.backbone}, "
            f"per cent. Maps: {len(plan.scored)} training images, mean of "
            f"N = {plan.preset.maps.num_maps} maps, the best of {len(map_scores.THRESHOLDS)} thresholds per row. "
            f"Seeds: by the preset's rule ({rule}) at the {_number(seeds.refine)[0]} that gives each classifier's "
            "seeds the highest mIoU on these images.",
            "The paper's column is another quantity, the segmenter's mIoU on VOC val: compare directions, not sizes.")
