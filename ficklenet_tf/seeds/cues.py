"""Background cues: which pixels, of those that no class claims, are background (FickleNet, Section 4.1).

A cue is a function (`ImageMaps`, image id, `presets.SeedsConfig`, saliency_dir) -> `[h, w]` bool at the photograph's
size, and a line in `CUES`.
"""

import pathlib
from collections.abc import Callable

import cv2
import numpy as np

from ficklenet_tf.data import images
from ficklenet_tf.errors import UserError
from ficklenet_tf.maps.image_maps import ImageMaps
from ficklenet_tf.presets import SeedsConfig
from ficklenet_tf.runs import layout

Cue = Callable[[ImageMaps, str, SeedsConfig, str | pathlib.Path | None], np.ndarray]


def activation(maps: ImageMaps, image_id: str, config: SeedsConfig,
               saliency_dir: str | pathlib.Path | None) -> np.ndarray:
    """Background where the mean map of every class of the image is low: below `config.background_threshold`."""
    return low_everywhere(images.resize_maps(maps.mean, maps.shape), config.background_threshold)


def low_everywhere(mean: np.ndarray, threshold: float) -> np.ndarray:
    """Returns where all classes' means, `[h, w, c]` 0..1, are below a threshold; everywhere without a class."""
    return np.all(mean < threshold, axis=-1)


def gradient(maps: ImageMaps, image_id: str, config: SeedsConfig,
             saliency_dir: str | pathlib.Path | None) -> np.ndarray:
    """SEC's cue: `config.background_threshold` of the pixels, those of least gradient saliency.

    Raises:
      UserError: the maps do not hold the gradient.
    """
    if maps.gradient is None:
        raise UserError(f"{image_id}: expected maps with the gradient for the background cue gradient, found none; "
                        "extract them with --gradient")
    least = least_salient(maps.gradient, config.background_threshold)
    return images.resize_maps(least.astype(np.float32)[..., None], maps.shape)[..., 0] > 0.5


def least_salient(saliency_map: np.ndarray, fraction: float) -> np.ndarray:
    """Returns the `fraction` of least salient pixels, after a 3 x 3 median filter: `[h, w]` float32 -> bool."""
    smooth = cv2.medianBlur(saliency_map.astype(np.float32), 3)
    return smooth < np.quantile(smooth, fraction)


def saliency(maps: ImageMaps, image_id: str, config: SeedsConfig,
             saliency_dir: str | pathlib.Path | None) -> np.ndarray:
    """Background where another system's map, 0..1, is low: below `config.background_threshold`.

    The paper and DSRG use DRFI's maps, below 0.06. `saliency_dir` holds `<image id>.png`, grey, 0..255 for 0..1.

    Raises:
      UserError: there is no `saliency_dir`.
      FileNotFoundError: there is no such map.
    """
    if saliency_dir is None:
        raise UserError(f"{image_id}: expected a saliency_dir for the background cue saliency, found none")
    path = layout.label_image(saliency_dir, image_id)
    grey = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
    if grey is None:
        raise FileNotFoundError(f"{path}: expected a grey saliency map, found none that can be read")
    resized = cv2.resize(grey, maps.shape[::-1], interpolation=cv2.INTER_LINEAR)
    return resized / 255.0 < config.background_threshold


CUES: dict[str, Cue] = {"activation": activation, "gradient": gradient, "saliency": saliency}
