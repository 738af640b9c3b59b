"""Draws maps and masks over a photograph, and chooses the images to show."""

import pathlib
from collections.abc import Iterable
from typing import TypeVar

import cv2
import numpy as np

from ficklenet_tf.data import datasets, labels
from ficklenet_tf.runs import layout

_Item = TypeVar("_Item")

SPREAD_SCALE = 2.0  # the standard deviation of numbers in 0..1 is at most 0.5


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
