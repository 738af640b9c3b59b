"""Rows of small pictures: a photograph, its maps, its seeds, its masks."""

import pathlib
from collections.abc import Iterable, Sequence
from typing import Any, TypeVar

import cv2
import numpy as np

from ficklenet_tf.data import datasets, images, labels
from ficklenet_tf.maps.image_maps import ImageMaps
from ficklenet_tf.runs import layout
from ficklenet_tf.seeds import rule

Pictures = dict[str, np.ndarray]  # heading -> `[h, w, 3]` uint8, in the order of the columns
_Item = TypeVar("_Item")

SPREAD_SCALE = 2.0  # the standard deviation of numbers in 0..1 is at most 0.5
_MASKS = (("segmenter", layout.PREDICTIONS), ("segmenter + CRF", layout.REFINED_PREDICTIONS))


def thumbnail(image: np.ndarray, side: int) -> np.ndarray:
    """Shrinks or enlarges `[h, w, 3]` uint8 so that its longer side has `side` pixels."""
    factor = side / max(image.shape[:2])
    width, height = (max(1, round(length * factor)) for length in image.shape[1::-1])
    return cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA if factor < 1 else cv2.INTER_LINEAR)


def heat(photo: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Lays a map over a photograph's grey.

    Args:
      photo: `[h, w, 3]` uint8.
      values: `[h', w']` 0..1, any float type; resized to the photograph.

    Returns:
      `[h, w, 3]` uint8: dark violet for 0, yellow for 1.
    """
    values = cv2.resize(np.asarray(values, np.float32), photo.shape[1::-1], interpolation=cv2.INTER_LINEAR)
    levels = np.clip(values * 255, 0, 255).round().astype(np.uint8)
    colours = cv2.applyColorMap(levels, cv2.COLORMAP_INFERNO)[..., ::-1]
    return _mix(photo, colours, 0.65)


def mask(photo: np.ndarray, label: np.ndarray) -> np.ndarray:
    """Lays a label image's VOC colours over a photograph's grey.

    Args:
      photo: `[h, w, 3]` uint8.
      label: `[h', w']` uint8 ids, 255 for "no answer"; resized to the photograph, nearest.

    Returns:
      `[h, w, 3]` uint8; the background is dark, 255 pale.
    """
    label = cv2.resize(label, photo.shape[1::-1], interpolation=cv2.INTER_NEAREST)
    return _mix(photo, labels.palette()[label], 0.75)


def _mix(photo: np.ndarray, colours: np.ndarray, opacity: float) -> np.ndarray:
    grey = photo.astype(np.float32).mean(-1, keepdims=True)
    return (grey * (1 - opacity) + colours * opacity).round().astype(np.uint8)


def choose(run_dir: str | pathlib.Path, split: datasets.Split, rows: int) -> list[tuple[int, int]]:
    """Chooses images for the page by their tags and files, not by how well they came out.

    The candidates are evenly spaced, images with maps and masks first. Of these, one after the other, it takes the
    one with the tag that was shown least.

    Args:
      run_dir: the run's directory.
      split: `datasets.Split`.
      rows: how many at most.

    Returns:
      list of (index, class id whose maps to show; 0 for an image without tags).
    """
    seed_dir, map_dir = pathlib.Path(run_dir) / layout.SEEDS, pathlib.Path(run_dir) / layout.MAPS
    candidates = list(range(len(split)))
    filters = (lambda i: layout.label_image(seed_dir, split.image_ids[i]).exists(),
               lambda i: layout.map_file(map_dir, split.image_ids[i]).exists(),
               lambda i: split.labelled[i])
    for keep in filters:
        candidates = [i for i in candidates if keep(i)] or candidates
    candidates = evenly(candidates, 5 * rows)
    class_ids = {i: np.flatnonzero(split[i]["tags"]) + 1 for i in candidates}
    times_shown = np.zeros(len(split.class_names), np.int64)
    chosen: list[tuple[int, int]] = []
    while candidates and len(chosen) < rows:
        index = min(candidates, key=lambda i: min(times_shown[class_ids[i]], default=np.inf))
        candidates.remove(index)
        class_id = int(min(class_ids[index], key=lambda c: times_shown[c], default=0))
        times_shown[class_id] += 1
        chosen.append((index, class_id))
    return chosen


def predicted(run_dir: str | pathlib.Path, split: datasets.Split, rows: int) -> list[int]:
    """Returns the indices of at most `rows` evenly spaced images, those with a prediction if there are any."""
    indices = [i for i, image_id in enumerate(split.image_ids)
               if layout.label_image(pathlib.Path(run_dir) / layout.PREDICTIONS, image_id).exists()]
    return evenly(indices or range(len(split)), rows)


def evenly(items: Iterable[_Item], count: int) -> list[_Item]:
    """Returns at most `count` of `items`, evenly spaced, in order."""
    items = list(items)
    if len(items) <= count:
        return items
    return [items[i * len(items) // count] for i in range(count)]


def seed_pictures(run_dir: str | pathlib.Path, example: dict[str, Any], class_id: int, num_classes: int,
                  side: int) -> Pictures:
    """Draws everything the stages made of a training image.

    Args:
      run_dir: the run's directory.
      example: of a `datasets.Split`.
      class_id: the class whose maps are drawn.
      num_classes: with the background.
      side: longer side of the pictures in pixels.

    Returns:
      dict of heading -> `[h, w, 3]` uint8, in the order of the stages; what is not there is left out.
    """
    run_dir, image_id = pathlib.Path(run_dir), example["image_id"]
    photo = thumbnail(images.decode_image_op(example["image"]).numpy(), side)
    cells = {"photograph": photo}
    plain = _maps(layout.map_file(run_dir / layout.deterministic(layout.MAPS), image_id), class_id)
    maps = _maps(layout.map_file(run_dir / layout.MAPS, image_id), class_id)
    for number, sample in enumerate(maps.get("samples", ()), 1):
        cells[f"map {number}"] = heat(photo, sample)
    for heading, key, scale in (("mean", "mean", 1), ("maximum", "max", 1), ("spread", "std", SPREAD_SCALE)):
        if key in maps:
            cells[heading] = heat(photo, maps[key] * scale)
    cells |= _masks(run_dir, photo, image_id, num_classes, [("seeds", layout.SEEDS)])
    uncertain = layout.label_image(run_dir / layout.uncertainty_of(layout.SEEDS), image_id)
    if uncertain.exists():
        cells["uncertainty"] = heat(photo, rule.read_uncertainty(uncertain))
    if plain:
        cells["plain Grad-CAM"] = heat(photo, plain["mean"])
    cells |= _masks(run_dir, photo, image_id, num_classes, [
        ("Grad-CAM seeds", layout.PLAIN_SEEDS), ("first round", layout.FIRST_LABELS), *_MASKS])
    return cells | _truth(photo, example)


def mask_pictures(run_dir: str | pathlib.Path, example: dict[str, Any], num_classes: int, side: int) -> Pictures:
    """Draws a held-out image and its masks; see `seed_pictures`."""
    photo = thumbnail(images.decode_image_op(example["image"]).numpy(), side)
    cells = {"photograph": photo, **_masks(pathlib.Path(run_dir), photo, example["image_id"], num_classes, _MASKS)}
    return cells | _truth(photo, example)


def _maps(path: pathlib.Path, class_id: int) -> dict[str, np.ndarray]:
    """Reads one class's maps: dict of "mean", "max", "std" `[h, w]` and "samples" `[n, h, w]`, {} if not there."""
    if not path.exists():
        return {}
    maps = ImageMaps.read(path)
    position = np.flatnonzero(maps.tag_ids == class_id - 1)
    if not position.size:
        return {}
    return {key: getattr(maps, key)[..., position[0]] for key in ("mean", "max", "std", "samples")}


def _masks(run_dir: pathlib.Path, photo: np.ndarray, image_id: str, num_classes: int,
           directories: Iterable[tuple[str, str]]) -> Pictures:
    """Draws an image's masks from (heading, directory below the run's); what is not there is left out."""
    paths = {heading: layout.label_image(run_dir / name, image_id) for heading, name in directories}
    return {heading: mask(photo, labels.read_label(path, num_classes)) for heading, path in paths.items()
            if path.exists()}


def _truth(photo: np.ndarray, example: dict[str, Any]) -> Pictures:
    if not example["has_label"]:
        return {}
    return {"ground truth": mask(photo, labels.decode_label_op(example["label"]).numpy())}


def headings(rows: Sequence[Pictures]) -> list[str]:
    """Returns the headings of all rows of pictures, each once: those of the fullest row, then the others."""
    fullest: Pictures = max(rows, key=len, default={})
    return list(dict.fromkeys([*fullest, *(name for row in rows for name in row)]))
