"""Refines seeds by the photograph itself: the dense CRF on a low and a high background score (IRN, Section 5)."""

import dataclasses

import cv2
import numpy as np

from ficklenet_tf import crf, labels, seeds

IRN = crf.CRFSpec(10.0, 50.0, 5.0, 3.0, 3.0, 10)  # Ahn et al. 2019: their code's widths at the photograph's size
CONFIDENCE = 0.7  # probability given to the map's own label (IRN)


def crf_refine(image, mean, classes, low, high, *, scale=1.0, spec=IRN, backend="permutohedral"):
    """Decides foreground by the higher background score and background by the lower one; between them 255.

    Args:
      image: `[h, w, 3]` uint8 photograph.
      mean: `[h', w', c]` float32 mean maps, 0..1.
      classes: `[c]` class of each map, 0 the first foreground class.
      low: background score for the background: what is background even at so low a score.
      high: background score for the foreground, at least `low`.
      scale: the CRF works on the photograph reduced by this factor, 0..1.
      spec: the CRF's parameters at the photograph's own size.
      backend: see `crf.mean_field`.

    Returns:
      `[h, w]` uint8 labels.
    """
    if not 0 <= low <= high:
        raise ValueError(f"background scores: expected 0 <= low <= high, found {low} and {high}")
    shape = image.shape[:2]
    if not len(classes):
        return np.zeros(shape, np.uint8)
    small = tuple(max(1, round(side * scale)) for side in shape)
    reduced = cv2.resize(image, small[::-1], interpolation=cv2.INTER_AREA)
    spec = dataclasses.replace(spec, bilateral_sigma_xy=spec.bilateral_sigma_xy * scale,
                               gaussian_sigma_xy=spec.gaussian_sigma_xy * scale)
    maps = seeds.resize_maps(mean, small)
    scores = [low, high] if low < high else [high]
    given = [np.concatenate([np.full((*small, 1), score, np.float32), maps], -1).argmax(-1) for score in scores]
    logits = np.stack([_log_probs(label, len(classes) + 1) for label in given])
    probs = np.asarray(crf.refiner(spec, backend)(np.stack([reduced] * len(scores)), logits))
    names = np.concatenate([[labels.BACKGROUND], np.asarray(classes, np.int64) + 1])
    answers = names[probs.argmax(-1)]
    at_low, at_high = answers[0], answers[-1]
    label = np.where(at_high != labels.BACKGROUND, at_high,
                     np.where(at_low == labels.BACKGROUND, labels.BACKGROUND, labels.IGNORE)).astype(np.uint8)
    return cv2.resize(label, shape[::-1], interpolation=cv2.INTER_NEAREST)


def _log_probs(label, count):
    """`[h, w]` labels -> `[h, w, count]` float32 log-probabilities: CONFIDENCE for the label, the rest shared."""
    other = (1 - CONFIDENCE) / max(count - 1, 1)
    return np.log(np.where(np.arange(count) == label[..., None], CONFIDENCE, other)).astype(np.float32)
