"""Background cues: which pixels, of those that no class claims, are background (FickleNet, Section 4.1).

A cue is a function `evidence.Evidence` -> `[h, w]` bool at the photograph's size, and a line in `CUES`.
"""

from collections.abc import Callable

import cv2
import numpy as np

from ficklenet_tf.data import images
from ficklenet_tf.errors import UserError
from ficklenet_tf.seeds.evidence import Evidence

Cue = Callable[[Evidence], np.ndarray]


def activation(evidence: Evidence) -> np.ndarray:
    """Background where the mean map of every class of the image is low: below `config.background_threshold`."""
    return low_everywhere(images.resize_maps(evidence.maps.mean, evidence.shape), evidence.config.background_threshold)


def low_everywhere(mean: np.ndarray, threshold: float) -> np.ndarray:
    """Returns where all classes' means, `[h, w, c]` 0..1, are below a threshold; everywhere without a class."""
    return np.all(mean < threshold, axis=-1)


def gradient(evidence: Evidence) -> np.ndarray:
    """SEC's cue: `config.background_threshold` of the places, those on which the scores depend least.

    "gradient" (Kolesnikov & Lampert 2016, as their code has it): places of a feature map of stride 8, VGG-16's
    conv4_1, the greatest over its channels; the photograph takes them from there. "gradient_pixels": the pixels of the
    network's input, the greatest over the colours. Which of the two is what the maps hold.

    Raises:
      UserError: the maps do not hold the gradient.
    """
    if evidence.maps.gradient is None:
        raise UserError(f"{evidence.image_id}: expected maps with the gradient for the background cue "
                        f"{evidence.config.background_cue}, found none; extract them with --gradient="
                        f"{GRADIENTS[evidence.config.background_cue]}")
    least = least_salient(evidence.maps.gradient, evidence.config.background_threshold)
    return images.resize_maps(least.astype(np.float32)[..., None], evidence.shape)[..., 0] > 0.5


def least_salient(saliency_map: np.ndarray, fraction: float) -> np.ndarray:
    """Returns the `fraction` of least salient places, after a 3 x 3 median filter: `[h, w]` float32 -> bool.

    Fewer where some tie at its end: of a map without differences none.
    """
    smooth = cv2.medianBlur(saliency_map.astype(np.float32), 3)
    return smooth < np.quantile(smooth, fraction)


def saliency(evidence: Evidence) -> np.ndarray:
    """Background where another system's map, 0..1, is low: below `config.background_threshold`.

    The paper and DSRG use DRFI's maps, below 0.06.
    """
    return evidence.saliency < evidence.config.background_threshold


CUES: dict[str, Cue] = {"activation": activation, "gradient": gradient, "gradient_pixels": gradient,
                        "saliency": saliency}
GRADIENTS = {"gradient": "features", "gradient_pixels": "pixels"}  # cue -> the `MapsConfig.gradient` that it wants
