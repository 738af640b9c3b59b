"""The page's words and numbers: headline, what is missing, what was run."""

import json
from collections.abc import Mapping
from html import escape
from typing import Any

from ficklenet_tf.data import datasets
from ficklenet_tf.report import charts, markup
from ficklenet_tf.report.stages import Run, Stage
from ficklenet_tf.runs import layout

_METRICS = ("miou", "recall", "precision")


def headline(run: Run) -> str:
    """Returns the numbers that matter, as tiles."""
    tiles = []
    tag_metrics = run.stages[layout.CLASSIFIER].run.get("metrics", {})
    if tag_metrics:
        tiles.append(markup.tile("Classifier, mAP", markup.percent(tag_metrics["map"]), "% on held-out tags"))
    seeds, plain = run.scores.get(layout.SEEDS), run.scores.get(layout.PLAIN_SEEDS)
    for key, title in (("miou", "Seeds, mIoU"), ("recall", "Seeds, recall"), ("precision", "Seeds, precision")):
        if seeds:
            note = f"%; plain Grad-CAM {markup.percent(plain[key])}" if plain else "% on training masks"
            tiles.append(markup.tile(title, markup.percent(seeds[key]), note))
    for name, title in ((layout.PREDICTIONS, "Segmenter"), (layout.REFINED_PREDICTIONS, "Segmenter + CRF")):
        if name in run.scores:
            scores = run.scores[name]
            tiles.append(markup.tile(title, markup.percent(scores["miou"]),
                                     f"% mIoU on {scores['images']} held-out images"))
    served = run.result.get("served_agreement")
    if served is not None:
        tiles.append(markup.tile("Served model", markup.percent(served, 3), "% of pixels labelled as by the live one"))
    return markup.section(
        "headline", "In short",
        "All in per cent, higher is better; mIoU is the mean over the classes of intersection over union.",
        f'<div class="tiles">{"".join(tiles)}</div>' if tiles else "<p>No stage has finished yet.</p>")


def still_missing(run: Run) -> str:
    """Returns each expected stage that is not there, and its command; nothing where all is there."""
    missing = [(_describe(stage), stage.command) for stage in run.stages.values()
               if stage.expected and stage.state != "finished"]
    if not run.exported:
        missing.append(("the exported model (saved_model/1/)", run.export))
    if "served_agreement" not in run.result:
        missing.append(("the check of the served model (result.json)", run.pipeline))
    parts = [markup.missing(", ".join(description for description, made_by in missing if made_by == command), command)
             for command in dict.fromkeys(command for _, command in missing)]
    return markup.section("missing", "Still missing", "Stages that this run has not been through, with the command "
                          "for each.", *parts) if parts else ""


def absent(run: Run, name: str) -> str:
    """Says why a stage's numbers are not there."""
    stage = run.stages[name]
    if stage.state == "finished":
        return f'<p class="note">{escape(stage.title)}: no scores, the images have no masks.</p>'
    return markup.missing(_describe(stage), stage.command)


def _describe(stage: Stage) -> str:
    return f"{stage.title} ({stage.name}/)" + (", begun but not finished" if stage.state == "begun" else "")


def score_rows(scores_by_name: Mapping[str, Mapping[str, Any]], gain: str) -> list[list[str]]:
    """Returns rows for a table of scores; where there are two, a third row says what the second one gains.

    Args:
      scores_by_name: dict of name -> scores.
      gain: what to call the difference.

    Returns:
      list of lists of texts.
    """
    rows = [[name, *(markup.percent(scores[key]) for key in _METRICS)] for name, scores in scores_by_name.items()]
    if len(scores_by_name) == 2:
        old, new = scores_by_name.values()
        rows.append([gain, *(f"{100 * (new[key] - old[key]):+.1f}".replace("-", "−") for key in _METRICS)])
    return rows


def average_precision(run: Run) -> str:
    """Returns each tag's average precision, folded."""
    classifier = run.stages[layout.CLASSIFIER].run
    aps = classifier.get("metrics", {}).get("ap_per_class")
    if not aps:
        return ""
    aps = [float("nan") if ap is None else ap for ap in aps]
    return (f'<details><summary>Average precision of each tag on {escape(str(classifier.get("held_out", "")))}, %'
            f'</summary><p class="how">How well the classifier ranks the photographs with a tag above those without '
            f'it.</p>{charts.bars(classifier["class_names"][1:], {"average precision": aps})}</details>')


def what_was_run(run: Run, train_split: datasets.Split, val_split: datasets.Split) -> str:
    """Returns flags, data, versions, times, fingerprints, and each stage's settings folded."""
    times = [[stage.title, stage.state, markup.duration(stage.seconds), stage.run.get("finished", "–")]
             for stage in run.stages.values() if stage.expected or stage.state != "missing"]
    times += [[name, "measured", markup.duration(seconds), "–"]
              for name, seconds in run.result.get("seconds", {}).items() if name not in run.stages]
    data = [[split.name, split.dataset, str(len(split)), str(sum(split.labelled)), str(len(split.left_out)),
             split.fingerprint] for split in (train_split, val_split)]
    versions: dict[str, str] = next(
        (stage.run["versions"] for stage in reversed(run.stages.values()) if "versions" in stage.run), {})
    flags = run.result.get("flags") or {}
    parts = ["<h3>Stages</h3>", markup.table(["stage", "state", "time", "finished (UTC)"], times),
             "<h3>Data</h3>", markup.table(["split", "data set", "images", "with a mask", "left out", "fingerprint"],
                                           data)]
    left_out = [message for split in (train_split, val_split) for message in split.left_out]
    if left_out:
        parts.append(_folded(f"Left out ({len(left_out)})", "\n".join(left_out)))
    if flags:
        rows = [[f"--{name}", str(value)] for name, value in flags.items()]
        parts += ["<h3>Flags</h3>", markup.table(["flag", "value"], rows, wrap=(1,))]
    parts += ["<h3>Versions</h3>", markup.table(["package", "version"], [list(item) for item in versions.items()])]
    parts += [_folded(f"Settings: {stage.title}", json.dumps(stage.settings or stage.run, indent=1))
              for stage in run.stages.values() if stage.state != "missing"]
    return markup.section("run", "What was run", "Times are of the stage's own work as the pipeline measured it, or "
                          "else from its first start to its end; the same fingerprint means the same data.", *parts)


def _folded(summary: str, text: str) -> str:
    return f"<details><summary>{escape(summary)}</summary><pre>{escape(text)}</pre></details>"
