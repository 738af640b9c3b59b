"""The page's words and numbers: headline, what is missing, what was run."""

import json
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from ficklenet_tf.report import charts, classes, commands, markup, picture_rows
from ficklenet_tf.report.stages import Run
from ficklenet_tf.report.used import Used
from ficklenet_tf.runs import layout

_METRICS = ("miou", "recall", "precision")


def headline(run: Run, class_names: Sequence[str], held_out: Used) -> str:
    """Returns the numbers that matter, as tiles."""
    tiles, val, classifier = [], held_out.split.name, run.stages[layout.CLASSIFIER].run
    if classifier.get("metrics"):
        counted = classes.of_tags(classifier["metrics"]["ap_per_class"], classifier["held_out"])
        tiles.append(markup.tile("Classifier, mAP", markup.percent(classifier["metrics"]["map"]),
                                 f"% on held-out tags; {counted}"))
    seeds, plain = run.scores.get(layout.SEEDS), run.scores.get(layout.PLAIN_SEEDS)
    for key, title in (("miou", "Seeds, mIoU"), ("recall", "Seeds, recall"), ("precision", "Seeds, precision")):
        if seeds:
            note = f"%; plain Grad-CAM {markup.percent(plain[key])}" if plain else \
                f"% on {seeds['images']} training masks"
            tiles.append(markup.tile(title, markup.percent(seeds[key]), note))
    for name, title in ((layout.PREDICTIONS, "Segmenter"), (layout.REFINED_PREDICTIONS, "Segmenter + CRF")):
        if name in run.scores:
            scores = run.scores[name]
            tiles.append(markup.tile(
                title, markup.percent(scores["miou"]),
                f"% mIoU on {scores['images']} held-out masks; {classes.of_masks(scores, class_names, val)}"))
    served = run.result.get("served_agreement")
    if served is not None and layout.SAVED_MODEL not in run.changed:
        tiles.append(markup.tile("Served model", markup.percent(served, 3), "% of pixels labelled as by the live one"))
    return markup.section(
        "headline", "In short",
        "All in per cent, higher is better; mIoU is the mean over the classes of intersection over union.",
        f'<div class="tiles">{"".join(tiles)}</div>' if tiles else "<p>No stage has finished yet.</p>",
        *(markup.note(line) for line in run.changed.values()))


def still_missing(run: Run, has_masks: bool) -> str:
    """Returns what the run lacks, and the command that makes it; nothing where all is there."""
    parts = [f'<p class="missing">{escape(names)}</p>{markup.command(line)}'
             for names, line in commands.missing(run, has_masks)]
    return markup.section("missing", "Still missing", "Run these one after the other in the directory of this "
                          "software; what is finished is not done again.", *parts) if parts else ""


def absent(run: Run, name: str, has_masks: bool = True) -> str:
    """Says why a stage's numbers are not there.

    Args:
      run: the `Run`.
      name: the stage.
      has_masks: whether its split has masks.
    """
    title = run.stages[name].title
    if run.stages[name].state == "finished" or not has_masks:
        return markup.note(f"{title}: no scores, the images have no masks.")
    return markup.missing(title)


def not_compared(run: Run) -> str:
    """Says that there are no seeds of the plain Grad-CAM to compare with, and what makes them."""
    if run.stages[layout.SEEDS].state != "finished":
        return ""
    note = "This run was not compared with plain Grad-CAM. To compare, in the directory of this software:"
    return markup.note(note) + "".join(map(markup.command, commands.comparison(run)))


def unpredicted(run: Run, held_out: Used) -> str:
    """Says why there are no predictions of held-out images, and how to get some."""
    if held_out.split.has_labels and run.stages[layout.PREDICTIONS].state == "finished":
        return markup.note(f"The predictions are of other images than those of {held_out.split.name}.")
    if held_out.split.has_labels:
        return markup.missing("Predictions")
    command, split = commands.prediction(run, held_out.split), held_out.split
    note = f"Nothing was predicted, because {split.name} has no masks to score against."
    if command is None:
        return markup.note(note)
    return markup.note(f"{note} To see what the segmenter makes of a few of its {picture_rows.noun(split.dataset)}s, "
                       "in the directory of this software:") + markup.command(command)


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


def average_precision(run: Run, things: str) -> str:
    """Returns each tag's average precision, folded; `things` are what the images are."""
    classifier = run.stages[layout.CLASSIFIER].run
    aps = classifier.get("metrics", {}).get("ap_per_class")
    if not aps:
        return ""
    split = classifier["held_out"]
    known = {name: ap for name, ap in zip(classifier["class_names"][1:], aps, strict=True) if ap is not None}
    how = (f"How well the classifier ranks the {things} with a tag above those without it; the mAP is the mean. "
           f"{classes.of_tags(aps, split)}.")
    return (f"<details><summary>Average precision of each tag on {escape(split)}, %</summary>"
            f'<p class="how">{escape(how)}</p>{charts.bars(list(known), {"average precision": list(known.values())})}'
            "</details>")


def what_was_run(run: Run, used: Sequence[Used]) -> str:
    """Returns flags, data, versions, times, fingerprints, and each stage's settings folded.

    Args:
      run: the `Run`.
      used: the training images and the held-out ones.
    """
    times = [[stage.title, stage.state, markup.duration(stage.seconds), stage.run.get("finished", "–")]
             for stage in run.stages.values() if stage.state != "missing"]
    times += [[name, "measured", markup.duration(seconds), "–"]
              for name, seconds in run.result.get("seconds", {}).items() if name not in run.stages]
    data = [[each.split.name, each.split.dataset, str(each.images),
             "–" if each.with_mask is None else str(each.with_mask), str(len(each.split.left_out)), each.fingerprint]
            for each in used]
    versions: dict[str, str] = next(
        (stage.run["versions"] for stage in reversed(run.stages.values()) if "versions" in stage.run), {})
    flags = run.result.get("flags") or {}
    parts = ["<h3>Stages</h3>", markup.table(["stage", "state", "time", "finished (UTC)"], times),
             "<h3>Data</h3>", markup.table(
                 ["split", "data set", "images used", "with a mask", "left out", "fingerprint"], data)]
    left_out = [message for each in used for message in each.split.left_out]
    if left_out:
        parts.append(_folded(f"Left out ({len(left_out)})", "\n".join(left_out)))
    if flags:
        rows = [[f"--{name}", str(value)] for name, value in flags.items()]
        parts += ["<h3>Flags</h3>", markup.table(["flag", "value"], rows, wrap=(1,)),
                  _folded("The same job as one command", commands.pipeline(run))]
    parts += ["<h3>Versions</h3>", markup.table(["package", "version"], [list(item) for item in versions.items()])]
    parts += [_folded(f"Settings: {stage.title}", json.dumps(stage.settings or stage.run, indent=1))
              for stage in run.stages.values() if stage.state != "missing"]
    return markup.section("run", "What was run", "Times are of the stage's own work as the pipeline measured it (not "
                          "where it was interrupted), or else from its first start to its end; the same fingerprint "
                          "means the same data.", *parts)


def _folded(summary: str, text: str) -> str:
    return f"<details><summary>{escape(summary)}</summary><pre>{escape(text)}</pre></details>"
