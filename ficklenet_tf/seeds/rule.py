"""From localization maps to seeds: thresholds, conflicts, background cue (FickleNet, Section 3.3 and 4.1)."""

import pathlib

import cv2
import numpy as np

from ficklenet_tf.data import images, labels
from ficklenet_tf.runs import artifacts

CUES = ("activation", "gradient", "saliency")


def allot(highest, mean, classes, theta):
    """Allots pixels to classes: to c where M_c[i] > theta for any i, of several to the highest mean.

    Args:
      highest: `[h, w, c]` maximum over the N maps (any M[i] > theta is max M[i] > theta), 0..1.
      mean: `[h, w, c]` mean over the N maps.
      classes: `[c]` class of each map, 0 the first foreground class.
      theta: threshold, 0..1.

    Returns:
      `[h, w]` uint8: class + 1, or 255 where no class claims the pixel.
    """
    label = np.full(highest.shape[:2], labels.IGNORE, np.uint8)
    if not len(classes):
        return label
    claimed = highest > theta
    winner = np.argmax(np.where(claimed, mean, -1.0), axis=-1)
    names = np.asarray(classes, np.int64) + 1
    return np.where(claimed.any(-1), names[winner], label).astype(np.uint8)


def add_background(label, background):
    """Gives the background's pixels that no class claims to class 0; returns a new `[h, w]` uint8 label image."""
    return np.where((label == labels.IGNORE) & background, labels.BACKGROUND, label).astype(np.uint8)


def activation_cue(mean, threshold):
    """Background where the mean map of every class of the image is low.

    Args:
      mean: `[h, w, c]`, 0..1.
      threshold: below it, all classes' means say background.

    Returns:
      `[h, w]` bool; everywhere True for an image without tags.
    """
    return (mean < threshold).all(-1)


def gradient_cue(gradient, fraction):
    """SEC's cue: the pixels of least gradient saliency, after a 3 x 3 median filter.

    Args:
      gradient: `[h, w]` float32, greatest absolute gradient of the scores over the colours.
      fraction: of the pixels that are background (SEC: 0.1).

    Returns:
      `[h, w]` bool.
    """
    smooth = cv2.medianBlur(gradient.astype(np.float32), 3)
    return smooth < np.quantile(smooth, fraction)


def saliency_cue(directory, image_id, shape, threshold):
    """Background where a saliency map of another system is low (the paper and DSRG: DRFI, below 0.06).

    Args:
      directory: holds `<image id>.png`, grey, 0..255 for 0..1.
      image_id: of the photograph.
      shape: (height, width) wanted.
      threshold: 0..1.

    Returns:
      `[h, w]` bool.

    Raises:
      FileNotFoundError: there is no such map.
    """
    path = pathlib.Path(directory) / f"{image_id}.png"
    saliency = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
    if saliency is None:
        raise FileNotFoundError(f"{path}: expected a grey saliency map, found none that can be read")
    return cv2.resize(saliency, shape[::-1], interpolation=cv2.INTER_LINEAR) / 255.0 < threshold


def uncertainty(std, mean, classes, label):
    """How little a seed image's pixels agree over the N maps.

    An object's spread grows with its mean, so it is the relative one that tells right from wrong seeds (RESULTS.md);
    where no object is claimed there is no mean to relate it to.

    Args:
      std: `[h, w, c]` spread of each class over the N maps, any size.
      mean: `[h, w, c]` mean over the N maps.
      classes: `[c]` class of each map, 0 the first foreground class.
      label: `[height, width]` uint8 seeds.

    Returns:
      `[height, width]` float32, 0..1: std / (std + mean) of the class that has the pixel; for background and 255 the
      greatest std of all classes; 0 for an image without tags.
    """
    if not len(classes):
        return np.zeros(label.shape, np.float32)
    std, mean = images.resize_maps(std, label.shape), images.resize_maps(mean, label.shape)
    own = label[..., None] == np.asarray(classes, np.int64) + 1
    own_std, own_mean = (std * own).sum(-1), (mean * own).sum(-1)
    relative = own_std / np.maximum(own_std + own_mean, np.finfo(np.float32).tiny)
    return np.where(own.any(-1), relative, std.max(-1)).astype(np.float32)


def leave_out(label, uncertain, limit):
    """Returns the `[h, w]` uint8 seeds without those whose `uncertain` is above `limit`: they become 255."""
    return np.where(uncertain > limit, labels.IGNORE, label).astype(np.uint8)


def write_uncertainty(path, uncertain):
    """Writes `[h, w]` numbers in 0..1 as an 8-bit grey PNG, 255 for 1."""
    grey = np.round(uncertain * 255).astype(np.uint8)
    artifacts.write_bytes(path, cv2.imencode(".png", grey)[1].tobytes())


def read_uncertainty(path):
    """Reads what `write_uncertainty` wrote: `[h, w]` float32, 0..1."""
    grey = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
    if grey is None:
        raise ValueError(f"{path}: expected a grey PNG, found none that can be read")
    return grey.astype(np.float32) / 255
