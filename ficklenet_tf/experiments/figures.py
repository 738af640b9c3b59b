"""Figures 1, 3, 4, 5 and 6: maps, selections, masks and the curve over N."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from ficklenet_tf.data import images, labels
from ficklenet_tf.evaluation import prediction
from ficklenet_tf.experiments import drawing, map_scores, map_tables, paper
from ficklenet_tf.experiments.plan import Plan
from ficklenet_tf.maps.image_maps import ImageMaps
from ficklenet_tf.report import pictures
from ficklenet_tf.report.sheet import lay_out
from ficklenet_tf.runs import layout
from ficklenet_tf.seeds import extraction
from ficklenet_tf.seeds.evidence import Evidence

SIDE = 160  # longer side of a picture in pixels


def localize(plan: Plan, classifier: str, inference: str, indices: Sequence[int], num_maps: int | None = None,
             seed: int | str = 0) -> list[tuple[dict[str, Any], ImageMaps]]:
    """Localizes a few training images by one classifier.

    Args:
      plan: a `plan.Plan`.
      classifier: its directory below run_dir.
      inference: "S", "G" or "D".
      indices: of the images in the plan's training split.
      num_maps: N; None for the preset's.
      seed: of the selections.

    Returns:
      A list of (prepared example, `ImageMaps`).
    """
    counts = (num_maps or plan.maps_config.num_maps,)
    draws = map_scores.Draws(plan.run_dir / classifier, plan.maps_config, paper.MODES[inference], counts)
    examples = [draws.prepare(plan.split[index]) for index in indices]
    return [(prepared, draws(prepared, seed)[0]) for prepared in examples]


def figure1(plan: Plan, rows: int = 3, single: int = 4) -> np.ndarray:
    """Single maps of one image, each on its own selection, and the mean, maximum and seeds of N of them."""
    classifier, chosen = plan.classifier("S"), pictures.choose(plan.run_dir, plan.split, rows)
    indices = [index for index, _ in chosen]
    single_maps = [localize(plan, classifier, "S", indices, 1, f"figure 1, map {number}")
                   for number in range(single)]
    all_maps = localize(plan, classifier, "S", indices)
    sheet = []
    for row, (index, class_id) in enumerate(chosen):
        photo, cells = _photo(plan.split[index])
        for number, by_row in enumerate(single_maps, 1):
            cells[f"selection {number}"] = pictures.heat(photo, _map(by_row[row][1], class_id, "mean"))
        prepared, maps = all_maps[row]
        for heading, key in ((f"mean of {plan.preset.maps.num_maps}", "mean"), ("maximum", "max")):
            cells[heading] = pictures.heat(photo, _map(maps, class_id, key))
        cells["seeds"] = pictures.mask(photo, extraction.make_seed(Evidence(
            plan.split.image_ids[index], prepared["image"].numpy(), maps, plan.preset.seeds, plan.saliency_dir)))
        sheet.append(cells | _truth(photo, plan.split[index]))
    return lay_out(sheet, SIDE)


def figure3(plan: Plan) -> np.ndarray:
    """Selected hidden units of a 7 x 7 and of a 9 x 9 kernel, at the preset's dropout rate."""
    rate = plan.preset.classifier.rate
    drawings = [drawing.kernels(size, rate, 5) for size in (7, 9)]
    height, width = sum(pixels.shape[0] for pixels in drawings), max(pixels.shape[1] for pixels in drawings)
    sheet = np.full((height, width, 3), 255, np.uint8)
    top = 0
    for pixels in drawings:
        sheet[top:top + pixels.shape[0], :pixels.shape[1]] = pixels
        top += pixels.shape[0]
    return sheet


def figure4(plan: Plan, rows: int = 6) -> np.ndarray:
    """Held-out photographs with the masks of weak, semi- and full supervision, and the truth (seed 0)."""
    runs = {"weak": plan.system("ficklenet"), "semi": plan.system("ficklenet", semi=True),
            "full": plan.masks("full", None, supervision="full")}
    sheet = []
    for index in pictures.evenly(range(len(plan.held_out)), rows):
        example = plan.held_out[index]
        photo, cells = _photo(example)
        for heading, run in runs.items():
            name = run["predictions"] if plan.spec is None else layout.refined(run["predictions"])
            path = layout.label_image(plan.run_dir / name, example["image_id"])
            cells[heading] = pictures.mask(photo, labels.read_label(path, len(plan.held_out.class_names)))
        sheet.append(cells | _truth(photo, example))
    return lay_out(sheet, SIDE)


def figure5(plan: Plan, repeats: int = 10) -> np.ndarray:
    """The maps' mIoU against N, with its deviation over repeats; the line is at the mIoU of the greatest N."""
    runs = plan.repeated_maps(map_tables.COUNTS, repeats)
    mious = [map_tables.best(runs, position)[1]["miou"] for position in range(len(map_tables.COUNTS))]
    return drawing.curve(map_tables.COUNTS, [miou.mean for miou in mious], [miou.deviation for miou in mious],
                         across="number of maps N", up="mIoU of the mean map, per cent",
                         reference=(mious[-1].mean, f"N = {map_tables.COUNTS[-1]}"))


def figure6(plan: Plan, rows: int = 4, rates: Sequence[tuple[str, float]] = map_tables.RATES) -> np.ndarray:
    """Maps of one image for each dropout rate, for general dropout, and the mask of the DSRG baseline (seed 0)."""
    chosen = pictures.choose(plan.run_dir, plan.split, rows)
    indices = [index for index, _ in chosen]
    localized = {(training, rate): localize(plan, plan.classifier(training, 0, rate), training, indices)
                 for training, rate in rates}
    dsrg = prediction.Predictor(plan.run_dir / plan.system("dsrg")["stage"])
    sheet = []
    for row, (index, class_id) in enumerate(chosen):
        example = plan.split[index]
        photo, cells = _photo(example)
        for (training, rate), by_row in localized.items():
            heading = f"p = {rate:g}" if training != "G" else f"general {rate:g}"
            cells[heading] = pictures.heat(photo, _map(by_row[row][1], class_id, "mean"))
        probs = prediction.restrict(dsrg(images.decode_image_op(example["image"]).numpy()), example["tags"])
        cells["DSRG"] = pictures.mask(photo, probs.argmax(-1).astype(np.uint8))
        sheet.append(cells | _truth(photo, example))
    return lay_out(sheet, SIDE)


def _photo(example: dict[str, Any]) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Returns the photograph as a thumbnail, and a row that begins with it."""
    photo = pictures.thumbnail(images.decode_image_op(example["image"]).numpy(), SIDE)
    return photo, {"photograph": photo}


def _truth(photo: np.ndarray, example: dict[str, Any]) -> dict[str, np.ndarray]:
    """Returns the cell of the mask, or none."""
    return {"ground truth": pictures.mask(photo, labels.decode_label_op(example["label"]).numpy())} \
        if example["has_label"] else {}


def _map(maps: ImageMaps, class_id: int, key: str) -> np.ndarray:
    """Returns one class' map, scaled by its own greatest value so that it can be seen."""
    position = np.flatnonzero(maps.tag_ids == class_id - 1)
    if not position.size:
        return np.zeros(maps.mean.shape[:2], np.float32)
    values = getattr(maps, key)[..., position[0]]
    return values / max(values.max(), 1e-9)
