"""Refines seeds by the photograph itself: the dense CRF on two background scores (IRN, Section 5), region growing.

A refinement is a function (`evidence.Evidence`, rule) -> `[h, w]` uint8 labels, and a line in `REFINEMENTS`. `rule`, a
function of no arguments, returns the labels by thresholds and cue.
"""

import dataclasses
from collections.abc import Callable

import cv2
import numpy as np

from ficklenet_tf import crf
from ficklenet_tf.data import images, labels
from ficklenet_tf.errors import UserError
from ficklenet_tf.seeds import region_growing, salient, softmax_maps
from ficklenet_tf.seeds.evidence import Evidence

Rule = Callable[[], np.ndarray]
Refinement = Callable[[Evidence, Rule], np.ndarray]

IRN = crf.CRFSpec(10.0, 50.0, 5.0, 3.0, 3.0, 10)  # Ahn et al. 2019: their code's widths at the photograph's size
CONFIDENCE = 0.7  # probability given to the map's own label (IRN)


def crf_refine(image: np.ndarray, mean: np.ndarray, tag_ids: np.ndarray, low: float, high: float, *,
               scale: float = 1.0, spec: crf.CRFSpec = IRN, backend: str = "permutohedral") -> np.ndarray:
    """Decides foreground by the higher background score and background by the lower one; between them 255.

    Args:
      image: `[h, w, 3]` uint8 photograph.
      mean: `[h', w', c]` float32 mean maps, 0..1.
      tag_ids: `[c]` class of each map, 0 the first foreground class.
      low: background score that decides the background: a pixel is background even at so low a score.
      high: background score that decides the foreground, at least `low`.
      scale: the CRF works on the photograph reduced by this factor, 0..1.
      spec: the CRF's parameters at the photograph's own size.
      backend: see `crf.mean_field`.

    Returns:
      `[h, w]` uint8 labels.

    Raises:
      UserError: the scores are not 0 <= low <= high.
    """
    if not 0 <= low <= high:
        raise UserError(f"background scores: expected 0 <= low <= high, found {low} and {high}")
    shape = image.shape[:2]
    if not len(tag_ids):
        return np.zeros(shape, np.uint8)
    reduced = _reduce(image, scale)
    maps = images.resize_maps(mean, reduced.shape[:2])
    scores = [low, high] if low < high else [high]
    strongest = np.stack([np.concatenate([np.full((*maps.shape[:2], 1), score, np.float32), maps], -1).argmax(-1)
                          for score in scores])
    logits = np.stack([_log_probs(label, len(tag_ids) + 1) for label in strongest])
    spec = dataclasses.replace(spec, bilateral_sigma_xy=spec.bilateral_sigma_xy * scale,
                               gaussian_sigma_xy=spec.gaussian_sigma_xy * scale)
    probs = np.asarray(crf.refiner(spec, backend)(np.stack([reduced] * len(scores)), logits))
    class_ids = np.concatenate([[labels.BACKGROUND], np.asarray(tag_ids, np.int64) + 1])
    decided = class_ids[probs.argmax(-1)]
    at_low, at_high = decided[0], decided[-1]
    label = np.where(at_high != labels.BACKGROUND, at_high,
                     np.where(at_low == labels.BACKGROUND, labels.BACKGROUND, labels.IGNORE)).astype(np.uint8)
    return images.nearest(label, shape)


def srg_refine(image: np.ndarray, label: np.ndarray, distance: float, scale: float = 1.0) -> np.ndarray:
    """Grows labels over the photograph's unlabelled pixels; those that are labelled stay. See `region_growing.srg`.

    Args:
      image: `[h, w, 3]` uint8 photograph.
      label: `[h, w]` uint8 labels, 255 where there is none.
      distance: greatest colour distance, 0..442.
      scale: the regions grow on the photograph reduced by this factor, 0..1; 500 x 375 pixels take a second.

    Returns:
      `[h, w]` uint8 labels.
    """
    reduced = _reduce(image, scale)
    reduced_label = images.nearest(label, reduced.shape[:2])
    grown = images.nearest(region_growing.srg(reduced, reduced_label, distance), label.shape)
    return np.where(label == labels.IGNORE, grown, label)


def _reduce(image: np.ndarray, scale: float) -> np.ndarray:
    height, width = (max(1, round(side * scale)) for side in image.shape[:2])
    return cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)


def _log_probs(label: np.ndarray, count: int) -> np.ndarray:
    """`[h, w]` labels -> `[h, w, count]` float32 log-probabilities: CONFIDENCE for the label, the rest shared."""
    remainder = (1 - CONFIDENCE) / max(count - 1, 1)
    return np.log(np.where(np.arange(count) == label[..., None], CONFIDENCE, remainder)).astype(np.float32)


def _none(evidence: Evidence, rule: Rule) -> np.ndarray:
    return rule()


def _crf(evidence: Evidence, rule: Rule) -> np.ndarray:
    config, low = evidence.config, evidence.config.refine_low
    if isinstance(low, str):
        raise UserError(f"refine_low: expected a number, found {low!r}; auto is settled by the stage of seeds")
    return crf_refine(evidence.image, evidence.maps.mean, evidence.maps.tag_ids, low, config.refine_high,
                      scale=config.refine_scale)


def _srg(evidence: Evidence, rule: Rule) -> np.ndarray:
    return srg_refine(evidence.image, rule(), evidence.config.srg_distance, evidence.config.refine_scale)


def _affinity(evidence: Evidence, rule: Rule) -> np.ndarray:
    """The random walk over affinities, then the CRF on the walked maps and one background score."""
    config, maps = evidence.config, evidence.maps
    if not len(maps.tag_ids):
        return np.zeros(evidence.shape, np.uint8)
    score = config.walked_background
    return crf_refine(evidence.image, evidence.walked, maps.tag_ids, score, score, scale=config.refine_scale)


REFINEMENTS: dict[str, Refinement] = {"none": _none, "crf": _crf, "srg": _srg, "affinity": _affinity,
                                      "saliency": lambda evidence, rule: salient.strongest(evidence),
                                      "harmonic": lambda evidence, rule: salient.harmonic(evidence),
                                      "eps": lambda evidence, rule: softmax_maps.greatest(evidence)}
CUELESS = ("crf", "affinity", "saliency", "harmonic", "eps")  # decide in place of the rule, without a background cue
NEEDS_SALIENCY = ("saliency", "harmonic")
