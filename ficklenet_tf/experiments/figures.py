"""Figures 1, 3, 4, 5 and 6: maps, selections, masks and the curve over N."""

import numpy as np

from ficklenet_tf.data import images, labels
from ficklenet_tf.evaluation import prediction
from ficklenet_tf.experiments import drawing, map_scores, map_tables, mask_tables, paper
from ficklenet_tf.report import pictures
from ficklenet_tf.report.sheet import lay_out
from ficklenet_tf.seeds import extraction

SIDE = 160  # longer side of a picture in pixels


def localize(plan, classifier, inference, chosen, num_maps=None, seed=0):
    """Localizes a few training images by one classifier.

    Args:
      plan: a `plan.Plan`.
      classifier: its directory below run_dir.
      inference: "S", "G" or "D".
      chosen: indices into the plan's training split.
      num_maps: N; None for the preset's.
      seed: of the selections.

    Returns:
      A list of (prepared example, `ImageMaps`).
    """
    counts = (num_maps or plan.preset.maps.num_maps,)
    draws = map_scores.Draws(plan.run_dir / classifier, plan.preset.maps, paper.MODES[inference], counts)
    prepared = [draws.prepare(plan.split[index]) for index in chosen]
    return [(example, draws(example, seed)[0]) for example in prepared]


def figure1(plan, rows=3, single=4):
    """Several maps of one image, each on its own selection, and what N of them make together."""
    classifier, chosen = plan.classifier("S"), pictures.choose(plan.run_dir, plan.split, rows)
    indices = [index for index, _ in chosen]
    draws = [localize(plan, classifier, "S", indices, 1, f"figure 1, map {number}") for number in range(single)]
    whole = localize(plan, classifier, "S", indices)
    sheet = []
    for row, (index, class_id) in enumerate(chosen):
        photo, cells = _photo(plan.split[index])
        for number, maps in enumerate(draws, 1):
            cells[f"selection {number}"] = pictures.heat(photo, _map(maps[row][1], class_id, "mean"))
        prepared, maps = whole[row]
        for heading, key in ((f"mean of {plan.preset.maps.num_maps}", "mean"), ("maximum", "max")):
            cells[heading] = pictures.heat(photo, _map(maps, class_id, key))
        cells["seeds"] = pictures.mask(photo, extraction.make_seed(
            plan.split.image_ids[index], prepared["image"].numpy(), maps, plan.preset.seeds, plan.saliency_dir))
        sheet.append(cells | _truth(photo, plan.split[index]))
    return lay_out(sheet, SIDE)


def figure3(plan):
    """Selected hidden units of a 7 x 7 and of a 9 x 9 kernel, at the preset's dropout rate."""
    rate = plan.preset.classifier.rate
    parts = [drawing.kernels(size, rate, 5) for size in (7, 9)]
    sheet = np.full((sum(p.shape[0] for p in parts), max(p.shape[1] for p in parts), 3), 255, np.uint8)
    top = 0
    for part in parts:
        sheet[top:top + part.shape[0], :part.shape[1]] = part
        top += part.shape[0]
    return sheet


def figure4(plan, rows=6):
    """Held-out photographs with the masks of weak, semi- and full supervision, and the truth (seed 0)."""
    names = {"weak": mask_tables.train(plan, "ficklenet"), "semi": mask_tables.semi(plan),
             "full": plan.masks("full", None, supervision="full")}
    ending = "" if plan.spec is None else "_crf"
    sheet = []
    for index in pictures.evenly(range(len(plan.held_out)), rows):
        example = plan.held_out[index]
        photo, cells = _photo(example)
        for heading, run in names.items():
            path = plan.run_dir / f"{run['predictions']}{ending}" / f"{example['image_id']}.png"
            cells[heading] = pictures.mask(photo, labels.read_label(path, len(plan.held_out.class_names)))
        sheet.append(cells | _truth(photo, example))
    return lay_out(sheet, SIDE)


def figure5(plan, repeats=10):
    """MIoU of the maps against N, with its deviation over repeats; the line is the greatest N's."""
    runs = plan.repeated_maps(map_tables.COUNTS, repeats)
    found = [map_tables.best(runs, position)[1]["miou"] for position in range(len(map_tables.COUNTS))]
    return drawing.curve(map_tables.COUNTS, [f.mean for f in found], [f.deviation for f in found],
                         across="number of maps N", up="mIoU of the mean map, per cent",
                         reference=(found[-1].mean, f"N = {map_tables.COUNTS[-1]}"))


def figure6(plan, rows=4, rates=map_tables.RATES):
    """Maps of one image for each dropout rate, for general dropout, and the mask of the DSRG baseline (seed 0)."""
    chosen = pictures.choose(plan.run_dir, plan.split, rows)
    indices = [index for index, _ in chosen]
    found = {(training, rate): localize(plan, plan.classifier(training, 0, rate), training, indices)
             for training, rate in rates}
    dsrg = prediction.Predictor(plan.run_dir / mask_tables.train(plan, "dsrg")["stage"])
    sheet = []
    for row, (index, class_id) in enumerate(chosen):
        example = plan.split[index]
        photo, cells = _photo(example)
        for (training, rate), answers in found.items():
            heading = f"p = {rate:g}" if training != "G" else f"general {rate:g}"
            cells[heading] = pictures.heat(photo, _map(answers[row][1], class_id, "mean"))
        probs = prediction.restrict(dsrg(images.decode_image_op(example["image"]).numpy()), example["tags"])
        cells["DSRG"] = pictures.mask(photo, probs.argmax(-1).astype(np.uint8))
        sheet.append(cells | _truth(photo, example))
    return lay_out(sheet, SIDE)


def _photo(example):
    photo = pictures.thumbnail(images.decode_image_op(example["image"]).numpy(), SIDE)
    return photo, {"photograph": photo}


def _truth(photo, example):
    return {"ground truth": pictures.mask(photo, labels.decode_label_op(example["label"]).numpy())} \
        if example["has_label"] else {}


def _map(maps, class_id, key):
    """One class's map, scaled by its own greatest value so that it can be seen."""
    position = np.flatnonzero(maps.tag_ids == class_id - 1)
    if not position.size:
        return np.zeros(maps.mean.shape[:2], np.float32)
    values = getattr(maps, key)[..., position[0]]
    return values / max(values.max(), 1e-9)
