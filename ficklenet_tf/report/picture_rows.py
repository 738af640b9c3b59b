"""Rows of pictures of one image: the photograph, its maps, its seeds, its masks with the classes that they show."""

import dataclasses
import pathlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from ficklenet_tf.data import datasets, images, labels
from ficklenet_tf.maps.image_maps import ImageMaps
from ficklenet_tf.report import pictures
from ficklenet_tf.runs import artifacts, layout
from ficklenet_tf.seeds import rule

_PREDICTIONS = (("segmenter", layout.PREDICTIONS), ("segmenter + CRF", layout.REFINED_PREDICTIONS))


@dataclasses.dataclass(frozen=True)
class Picture:
    """A small picture, and what a mask in it shows.

    Attributes:
      pixels: `[h, w, 3]` uint8.
      class_ids: the classes that the whole mask has, the largest first, without 255; None where it is no mask.
    """

    pixels: np.ndarray
    class_ids: tuple[int, ...] | None = None


Pictures = dict[str, Picture]  # heading -> picture, in the order of the columns


def noun(dataset: str) -> str:
    """Returns what the images of a data set are: "drawing" or "photograph"."""
    return "drawing" if dataset == "shapes" else "photograph"


def seed_pictures(run_dir: str | pathlib.Path, split: datasets.Split, index: int, class_id: int,
                  side: int) -> Pictures:
    """Draws everything the stages made of a training image.

    Args:
      run_dir: the run's directory.
      split: `datasets.Split`.
      index: of the image in it.
      class_id: the class whose maps are drawn.
      side: the longest that a side of the pictures may be, in pixels; a smaller image keeps its size.

    Returns:
      `Pictures`, in the order of the stages; what is not there is left out.
    """
    run_dir, example, num_classes = pathlib.Path(run_dir), split[index], len(split.class_names)
    image_id, photo = example["image_id"], _photo(example, side)
    cells = {noun(split.dataset): Picture(photo)}
    plain = _maps(layout.map_file(run_dir / layout.deterministic(layout.MAPS), image_id), class_id)
    maps = _maps(layout.map_file(run_dir / layout.MAPS, image_id), class_id)
    for number, sample in enumerate(maps.get("samples", ()), 1):
        cells[f"map {number}"] = Picture(pictures.heat(photo, sample))
    for heading, key, scale in (("mean", "mean", 1), ("maximum", "max", 1), ("spread", "std", pictures.SPREAD_SCALE)):
        if key in maps:
            cells[heading] = Picture(pictures.heat(photo, maps[key] * scale))
    cells |= _masks(run_dir, photo, image_id, num_classes, [("seeds", layout.SEEDS)])
    uncertain = layout.label_image(run_dir / layout.uncertainty_of(layout.SEEDS), image_id)
    if uncertain.exists() and _made_of_these_seeds(uncertain.parent, run_dir / layout.SEEDS):
        cells["uncertainty"] = Picture(pictures.heat(photo, rule.read_uncertainty(uncertain)))
    if plain:
        cells["plain Grad-CAM"] = Picture(pictures.heat(photo, plain["mean"]))
    cells |= _masks(run_dir, photo, image_id, num_classes, [
        ("Grad-CAM seeds", layout.PLAIN_SEEDS), ("first round", layout.FIRST_LABELS), *_PREDICTIONS])
    return cells | _truth(photo, example)


def _made_of_these_seeds(uncertainty: pathlib.Path, seeds: pathlib.Path) -> bool:
    """Whether a directory of uncertainty has the settings of the seeds, and not of those that were there before."""
    settings = [path / layout.SETTINGS for path in (uncertainty, seeds)]
    if not all(path.exists() for path in settings):
        return False
    of_uncertainty, of_seeds = (artifacts.read_json(path) for path in settings)
    return {**of_uncertainty, "stage": of_seeds["stage"]} == of_seeds


def mask_pictures(run_dir: str | pathlib.Path, split: datasets.Split, index: int, side: int,
                  directories: Iterable[tuple[str, str]] = _PREDICTIONS) -> Pictures:
    """Draws an image and its masks; see `seed_pictures`.

    Args:
      run_dir: see there; so are `split`, `index` and `side`.
      split: see there.
      index: see there.
      side: see there.
      directories: (heading, directory below the run's) of the masks; what is not there is left out.
    """
    example = split[index]
    photo = _photo(example, side)
    return {noun(split.dataset): Picture(photo),
            **_masks(pathlib.Path(run_dir), photo, example["image_id"], len(split.class_names), directories),
            **_truth(photo, example)}


def truth_pictures(split: datasets.Split, index: int, side: int) -> Pictures:
    """Draws an image and its ground truth; see `seed_pictures`."""
    example = split[index]
    photo = _photo(example, side)
    return {noun(split.dataset): Picture(photo), **_truth(photo, example)}


def _photo(example: dict[str, Any], side: int) -> np.ndarray:
    image = images.decode_image_op(example["image"]).numpy()
    return pictures.thumbnail(image, min(side, max(image.shape[:2])))


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
    return {heading: _masked(photo, labels.read_label(path, num_classes)) for heading, path in paths.items()
            if path.exists()}


def _masked(photo: np.ndarray, label: np.ndarray) -> Picture:
    return Picture(pictures.mask(photo, label), classes_of(label))


def classes_of(label: np.ndarray) -> tuple[int, ...]:
    """Returns the ids that a label image has, those of most pixels first, without 255."""
    counts = np.bincount(label.ravel(), minlength=256)
    counts[labels.IGNORE] = 0
    return tuple(int(i) for i in np.argsort(-counts, kind="stable") if counts[i])


def _truth(photo: np.ndarray, example: dict[str, Any]) -> Pictures:
    if not example["has_label"]:
        return {}
    return {"ground truth": _masked(photo, labels.decode_label_op(example["label"]).numpy())}


def headings(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Returns the headings of all rows of pictures, each once: those of the fullest row, then the others."""
    fullest: Mapping[str, Any] = max(rows, key=len, default={})
    return list(dict.fromkeys([*fullest, *(name for row in rows for name in row)]))
