"""Seeds by saliency: every salient pixel is an object's, and the maps say which one's.

Saliency sees whole objects where the maps see their telling parts, but no classes. Both forms use more supervision
than tags, see `saliency.py`.
"""

import cv2
import numpy as np

from ficklenet_tf.data import images, labels
from ficklenet_tf.seeds import cues
from ficklenet_tf.seeds.evidence import Evidence
from ficklenet_tf.seeds.rule import allot


def strongest(evidence: Evidence) -> np.ndarray:
    """Gives each pixel above `config.saliency_threshold` the class whose mean map is highest there, the rest 0.

    Where no map is positive the pixel takes the class of the nearest pixel that has one. Where it is not salient but
    a map is above `config.disputed`, nobody knows: 255. So are the salient pixels of a photograph without tags.

    Args:
      evidence: `Evidence` with saliency.

    Returns:
      `[h, w]` uint8 labels.
    """
    maps = evidence.maps
    mean = images.resize_maps(maps.mean, evidence.shape)
    classes = nearest_class(allot(mean, mean, maps.tag_ids, 0.0))
    salient = evidence.saliency > evidence.config.saliency_threshold
    disputed = ~cues.low_everywhere(mean, evidence.config.disputed)
    return np.where(salient, classes, np.where(disputed, labels.IGNORE, labels.BACKGROUND)).astype(np.uint8)


def nearest_class(label: np.ndarray) -> np.ndarray:
    """Gives each 255 of `[h, w]` uint8 labels the label of the nearest other pixel; all 255 stay.

    The nearest by OpenCV's distances over 5 x 5 pixels, which miss the true ones by 2 %.
    """
    unknown = (label == labels.IGNORE).astype(np.uint8)
    if unknown.all() or not unknown.any():
        return label
    _, indices = cv2.distanceTransformWithLabels(unknown, cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL)
    of_index = np.zeros(indices.max() + 1, np.uint8)
    known = unknown == 0
    of_index[indices[known]] = label[known]
    return of_index[indices]


def harmonic(evidence: Evidence) -> np.ndarray:
    """Takes the greatest harmonic mean of map and saliency, where it is high enough (DCSP: Chaudhry et al. 2017).

    h_c = 2 / (1 / A_c + 1 / S) with each map divided by its maximum; background where no h_c exceeds
    `config.harmonic_threshold`.

    Args:
      evidence: `Evidence` with saliency.

    Returns:
      `[h, w]` uint8 labels.
    """
    maps, saliency = evidence.maps, evidence.saliency[..., None]
    mean = images.resize_maps(maps.mean, evidence.shape)
    mean = mean / np.maximum(mean.max((0, 1), keepdims=True), np.finfo(np.float32).tiny)
    means = 2 * mean * saliency / np.maximum(mean + saliency, np.finfo(np.float32).tiny)
    label = allot(means, means, maps.tag_ids, evidence.config.harmonic_threshold)
    return np.where(label == labels.IGNORE, labels.BACKGROUND, label).astype(np.uint8)
