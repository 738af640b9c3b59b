"""Puts a run's page together: headline, pictures, scores, curves, and what was run."""

import pathlib
from collections.abc import Sequence
from html import escape
from typing import Any

from ficklenet_tf.data import datasets
from ficklenet_tf.evaluation import metrics
from ficklenet_tf.report import charts, facts, markup, pictures, stages, template
from ficklenet_tf.runs import artifacts, layout

SIDE = 176  # pixels, longer side of a picture: sharp enough on a phone, small enough inline
HARDEST = 8


def write_report(run_dir: str | pathlib.Path, *, train_split: datasets.Split, val_split: datasets.Split, title: str,
                 rows: int = 12) -> pathlib.Path:
    """Writes `<run_dir>/report.html`: one page that holds everything it shows.

    Args:
      run_dir: the run's directory. For what a stage has not made yet the page names the command that makes it.
      train_split: `datasets.Split` of the seeds.
      val_split: `datasets.Split` of the predictions.
      title: of the page.
      rows: how many images from each of the two splits.

    Returns:
      The path of report.html.

    Raises:
      FileNotFoundError: there is no such directory.
      UserError: a file of the run is broken; names it.
    """
    run = stages.read(run_dir, train_split.dataset)
    names = train_split.class_names
    body = [facts.headline(run), facts.still_missing(run), _seeds(run, train_split, rows),
            _seed_scores(run, names), _masks(run, val_split, rows), _scores(run, names), _confusion(run, names),
            _hardest(run, val_split), _curves(run), facts.what_was_run(run, train_split, val_split)]
    subtitle = (f"{run.directory.name}: {train_split.dataset}, {len(train_split)} images of {train_split.name}, "
                f"{len(val_split)} of {val_split.name}, {len(names) - 1} classes")
    html = template.PAGE.substitute(title=escape(title), subtitle=escape(subtitle), style=template.STYLE,
                                    body="\n".join(body))
    path = pathlib.Path(run_dir) / layout.REPORT
    artifacts.write_bytes(path, html.encode())
    return path


def _seeds(run: stages.Run, split: datasets.Split, rows: int) -> str:
    """Training images with their maps and seeds."""
    captioned = []
    for index, class_id in pictures.choose(run.directory, split, rows):
        example = split[index]
        cells = pictures.seed_pictures(run.directory, example, class_id, len(split.class_names), SIDE)
        shown = f"maps of {split.class_names[class_id]}" if class_id else "no tags"
        captioned.append((f"{example['image_id']}: {shown}", cells))
    has_maps = any("mean" in cells for _, cells in captioned)
    return markup.section(
        "seeds", "From tags to seeds",
        "Each row is a training photograph, chosen for its tags and not for its success: every map is one random "
        "selection of hidden units (yellow: the class is here), the mean and maximum are over all of them, spread is "
        "their standard deviation (yellow: 0.5), and the seeds are what the segmenter learns from; uncertainty (with "
        "--uncertainty) is how little the maps agree on a seed; the ground truth "
        "is for you alone, no stage has seen it.",
        "" if has_maps else markup.missing("maps", run.stages[layout.SEEDS].command),
        markup.class_legend(split.class_names), markup.picture_table(captioned))


def _seed_scores(run: stages.Run, class_names: Sequence[str]) -> str:
    """Seeds against those of the deterministic maps."""
    scores_by_name = {name: run.scores[stage] for name, stage in (
        ("plain Grad-CAM", layout.PLAIN_SEEDS), ("random selections", layout.SEEDS)) if run.scores.get(stage)}
    parts = [facts.absent(run, name) for name in (layout.SEEDS, layout.PLAIN_SEEDS) if name not in run.scores]
    if scores_by_name:
        parts.append(markup.table(["seeds", "mIoU %", "recall %", "precision %"],
                                  facts.score_rows(scores_by_name, "gain")))
        charted = [f"<div><h3>{title}</h3>" + charts.bars(class_names, {
            name: scores[f"{key}_per_class"] for name, scores in scores_by_name.items()}) + "</div>"
            for title, key in (("Recall, %", "recall"), ("Precision, %", "precision"))]
        parts.append(f'<div class="side">{"".join(charted)}</div>')
    return markup.section(
        "seed-scores", "Seeds: random selections against plain Grad-CAM",
        "Recall is the share of a class's pixels that the seeds found, precision the share of its seeds that are "
        "right, both against the training masks; longer bars are better.", *parts)


def _masks(run: stages.Run, split: datasets.Split, rows: int) -> str:
    """Held-out images with the segmenter's masks."""
    captioned = [(split.image_ids[i], pictures.mask_pictures(run.directory, split[i], len(split.class_names), SIDE))
                 for i in pictures.predicted(run.directory, split, rows)]
    has_masks = any(heading.startswith("segmenter") for _, cells in captioned for heading in cells)
    return markup.section(
        "masks", "The segmenter on held-out photographs",
        "Evenly spaced images of the held-out split: compare the masks with the ground truth to their right; "
        "CRF is the dense conditional random field that pulls edges to those of the photograph.",
        "" if has_masks else markup.missing("predictions", run.evaluate),
        markup.class_legend(split.class_names), markup.picture_table(captioned, large=True))


def _evaluated(run: stages.Run) -> dict[str, dict[str, Any]]:
    """Returns the scores of the held-out split: dict of name for people -> scores."""
    return {name: run.scores[key] for name, key in (
        ("without CRF", layout.PREDICTIONS), ("with CRF", layout.REFINED_PREDICTIONS)) if key in run.scores}


def _scores(run: stages.Run, class_names: Sequence[str]) -> str:
    """Each class's IoU on the held-out split."""
    evaluated = _evaluated(run)
    parts = [markup.missing(f"scores {name}", run.evaluate) for name in ("without CRF", "with CRF")
             if name not in evaluated]
    if evaluated:
        parts += [markup.table(["segmenter", "mIoU %", "recall %", "precision %"],
                               facts.score_rows(evaluated, "gain by the CRF")),
                  charts.bars(class_names, {name: scores["iou_per_class"] for name, scores in evaluated.items()})]
    return markup.section(
        "iou", "IoU of each class, %",
        "Intersection over union of each class on the held-out images, over all their pixels together; "
        "the mean over the classes is the mIoU.", *parts)


def _confusion(run: stages.Run, class_names: Sequence[str]) -> str:
    """The confusion matrix of the last stage that has one."""
    scores_by_subject: dict[str, dict[str, Any]] = {}
    if layout.SEEDS in run.scores:
        scores_by_subject["the seeds, on training images"] = run.scores[layout.SEEDS]
    scores_by_subject |= {f"the segmenter {name}": scores for name, scores in _evaluated(run).items()}
    if not scores_by_subject:
        return markup.section("confusion", "Confusion matrix", "Which class is taken for which.",
                              markup.missing("scores", run.evaluate))
    subject, scores = list(scores_by_subject.items())[-1]
    kinds = {name: metrics.error_kinds(each["confusion"]) for name, each in scores_by_subject.items()}
    rows = [[name, *(markup.percent(share) for share in shares.values())] for name, shares in kinds.items()]
    worst = "; ".join(f"{true} taken for {answer} ({markup.percent(share)} %)" for true, answer, share in
                      charts.most_confused(scores["confusion"], class_names))
    return markup.section(
        "confusion", "Confusion matrix",
        f"Of {subject}: each row is a true class and says, in per cent of its pixels, what they were called; "
        "a perfect one is blue on the diagonal only.",
        markup.table(["of all pixels, %", "right", "background called an object", "object called background",
                      "object called another", "no answer"], rows),
        f'<p>Most frequent: {escape(worst)}.</p>' if worst else "",
        f'<div class="scroll">{charts.confusion_matrix(scores["confusion"], class_names)}</div>')


def _hardest(run: stages.Run, split: datasets.Split) -> str:
    """The held-out images of the lowest IoU."""
    evaluated = _evaluated(run)
    if not evaluated:
        return markup.section("hardest", "The hardest images", "The held-out images of the lowest IoU.",
                              markup.missing("scores", run.evaluate))
    name, scores = list(evaluated.items())[-1]
    position = {image_id: i for i, image_id in enumerate(split.image_ids)}
    ranked = sorted((iou, image_id) for image_id, iou in scores["image_iou"].items() if image_id in position)
    captioned = [(f"{image_id}: IoU {markup.percent(iou)}",
                  pictures.mask_pictures(run.directory, split[position[image_id]], len(split.class_names), SIDE))
                 for iou, image_id in ranked[:HARDEST]]
    return markup.section(
        "hardest", "The hardest images",
        f"The held-out images with the lowest IoU (per cent, {name}, mean over the classes that the image has): "
        "what the segmenter does not understand yet.", markup.picture_table(captioned, large=True))


def _curves(run: stages.Run) -> str:
    """Losses of every training that left a log."""
    trainings = []
    for stage in run.stages.values():
        if not stage.log:
            continue
        columns = [key for key in stage.log[-1] if key not in ("step", "learning_rate")][:3]
        first_rate, last_rate = (stage.log[i].get("learning_rate", float("nan")) for i in (0, -1))
        note = (f"{stage.log[-1]['step']:.0f} steps, {markup.duration(stage.seconds)}; learning rate {first_rate:.2g} "
                f"at the start, {last_rate:.2g} at the end" + ("" if stage.run else "; not finished"))
        names = [column.replace("_", " ") for column in columns]
        trainings.append(f'<div><h3>{escape(stage.title)}</h3>{charts.legend(names)}'
                         f'{charts.curves(stage.log, columns, stage.title)}<p class="note">{escape(note)}</p></div>')
    absent = [markup.missing(f"the log of the {name}", run.stages[name].command)
              for name in (layout.CLASSIFIER, layout.SEGMENTER) if not run.stages[name].log]
    return markup.section(
        "curves", "Training",
        "The loss at each step, pale, and its running mean, strong: it should fall and then flatten; the "
        "segmenter's loss is the sum of its parts.", *absent, f'<div class="side">{"".join(trainings)}</div>',
        facts.average_precision(run))
