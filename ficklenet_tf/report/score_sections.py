"""The page's sections of scores: seeds, each class's IoU, the confusion matrix, the hardest images."""

from html import escape
from typing import Any

from ficklenet_tf.data import datasets
from ficklenet_tf.evaluation import metrics
from ficklenet_tf.report import charts, classes, facts, gallery, markup, picture_rows, stage_flags, stages
from ficklenet_tf.runs import layout

_HARDEST = 8


def of_seeds(run: stages.Run, split: datasets.Split) -> str:
    """Seeds against those of the deterministic maps."""
    # Another system than FickleNet is compared elsewhere, and plain Grad-CAM is not compared with itself.
    alone = run.flags.get("system") or stage_flags.settings(run, layout.MAPS).get("mode") == "deterministic"
    name_of_seeds = "seeds" if alone else "random selections"
    scores_by_name = {name: run.scores[stage] for name, stage in (
        ("plain Grad-CAM", layout.PLAIN_SEEDS), (name_of_seeds, layout.SEEDS)) if run.scores.get(stage)}
    parts = [] if layout.SEEDS in run.scores else [facts.absent(run, layout.SEEDS)]
    if run.stages[layout.PLAIN_SEEDS].state != "finished" and not alone:
        parts.append(facts.not_compared(run))
    if scores_by_name:
        present = classes.occurring(next(iter(scores_by_name.values())))
        parts += [markup.table(["seeds", "mIoU %", "recall %", "precision %"],
                               facts.score_rows(scores_by_name, "gain")),
                  classes.explained(scores_by_name, split.class_names, split.name)]
        charted = [f"<div><h3>{title}</h3>" + charts.bars([split.class_names[i] for i in present], {
            name: [scores[f"{key}_per_class"][i] for i in present] for name, scores in scores_by_name.items()})
            + "</div>" for title, key in (("Recall, %", "recall"), ("Precision, %", "precision"))]
        parts.append(f'<div class="side">{"".join(charted)}</div>')
    return markup.section(
        "seed-scores", "Seeds" if alone else "Seeds: random selections against plain Grad-CAM",
        "Recall is the share of a class's pixels that the seeds found, precision the share of its seeds that are "
        "right, both against the training masks; longer bars are better.", *parts)


def _evaluated(run: stages.Run) -> dict[str, dict[str, Any]]:
    """Returns the scores of the held-out split: dict of name for people -> scores."""
    return {name: run.scores[key] for name, key in (
        ("without CRF", layout.PREDICTIONS), ("with CRF", layout.REFINED_PREDICTIONS)) if key in run.scores}


def of_classes(run: stages.Run, split: datasets.Split) -> str:
    """Each class's IoU on the held-out split."""
    evaluated, names = _evaluated(run), split.class_names
    parts = [] if evaluated else [facts.absent(run, layout.PREDICTIONS, split.has_labels)]
    if evaluated:
        present = classes.occurring(next(iter(evaluated.values())))
        parts += [markup.table(["segmenter", "mIoU %", "recall %", "precision %"],
                               facts.score_rows(evaluated, "gain by the CRF")),
                  classes.explained(evaluated, names, split.name),
                  charts.bars([names[i] for i in present], {name: [scores["iou_per_class"][i] for i in present]
                                                            for name, scores in evaluated.items()})]
    return markup.section(
        "iou", "IoU of each class, %",
        "Intersection over union of each class on the held-out images, over all their pixels together.", *parts)


def confusion(run: stages.Run, split: datasets.Split) -> str:
    """The confusion matrix of the last stage that has one."""
    scores_by_subject: dict[str, dict[str, Any]] = {}
    if layout.SEEDS in run.scores:
        scores_by_subject["the seeds, on training images"] = run.scores[layout.SEEDS]
    scores_by_subject |= {f"the segmenter {name}": scores for name, scores in _evaluated(run).items()}
    if not scores_by_subject:
        return markup.section("confusion", "Confusion matrix", "Which class is taken for which.",
                              facts.absent(run, layout.PREDICTIONS, split.has_labels))
    subject, scores = list(scores_by_subject.items())[-1]
    kinds = {name: metrics.error_kinds(each["confusion"]) for name, each in scores_by_subject.items()}
    rows = [[name, *(markup.percent(share) for share in shares.values())] for name, shares in kinds.items()]
    worst = "; ".join(f"{true} taken for {answer} ({markup.percent(share)} %)" for true, answer, share in
                      charts.most_confused(scores["confusion"], split.class_names))
    return markup.section(
        "confusion", "Confusion matrix",
        f"Of {subject}: each row is a true class and says, in per cent of its pixels, what they were called; "
        "a perfect one is blue on the diagonal only.",
        markup.table(["of all pixels, %", "right", "background called an object", "object called background",
                      "object called another", "no answer"], rows),
        f'<p>Most frequent: {escape(worst)}.</p>' if worst else "",
        markup.scroll(charts.confusion_matrix(scores["confusion"], split.class_names)))


def hardest(run: stages.Run, split: datasets.Split, side: int) -> str:
    """The held-out images of the lowest IoU; `side` as of `picture_rows.seed_pictures`."""
    evaluated = _evaluated(run)
    if not evaluated:
        return markup.section("hardest", "The hardest images", "The held-out images of the lowest IoU.",
                              facts.absent(run, layout.PREDICTIONS, split.has_labels))
    name, scores = list(evaluated.items())[-1]
    position = {image_id: i for i, image_id in enumerate(split.image_ids)}
    ranked = sorted((iou, image_id) for image_id, iou in scores["image_iou"].items() if image_id in position)
    captioned = [(f"{image_id}: IoU {markup.percent(iou)}",
                  picture_rows.mask_pictures(run.directory, split, position[image_id], side))
                 for iou, image_id in ranked[:_HARDEST]]
    return markup.section(
        "hardest", "The hardest images",
        f"The held-out images with the lowest IoU (per cent, {name}, mean over the classes that the image has): "
        "what the segmenter does not understand yet.", gallery.table(captioned, split.class_names, large=True))
