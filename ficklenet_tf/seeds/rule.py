"""From localization maps to seeds: thresholds, conflicts, uncertainty (FickleNet, Section 3.3 and 4.1)."""

import pathlib

import numpy as np

from ficklenet_tf.data import images, labels


def allot(highest: np.ndarray, mean: np.ndarray, tag_ids: np.ndarray, theta: float) -> np.ndarray:
    """Allots pixels to classes: to c where M_c[i] > theta for any i; of several such classes to that of highest mean.

    Args:
      highest: `[h, w, c]` maximum over the N maps (any M[i] > theta is max M[i] > theta), 0..1.
      mean: `[h, w, c]` mean over the N maps.
      tag_ids: `[c]` class of each map, 0 the first foreground class.
      theta: threshold, 0..1.

    Returns:
      `[h, w]` uint8: class + 1, or 255 where no class claims the pixel.
    """
    label = np.full(highest.shape[:2], labels.IGNORE, np.uint8)
    if not len(tag_ids):
        return label
    claimed = highest > theta
    winner = np.argmax(np.where(claimed, mean, -1.0), axis=-1)
    class_ids = np.asarray(tag_ids, np.int64) + 1
    return np.where(claimed.any(-1), class_ids[winner], label).astype(np.uint8)


def add_background(label: np.ndarray, background: np.ndarray) -> np.ndarray:
    """Gives class 0 to the pixels of `background`, `[h, w]` bool, that no class claims; returns new `[h, w]` uint8."""
    return np.where((label == labels.IGNORE) & background, labels.BACKGROUND, label).astype(np.uint8)


def uncertainty(std: np.ndarray, mean: np.ndarray, tag_ids: np.ndarray, label: np.ndarray) -> np.ndarray:
    """Returns how little the N maps agree on each pixel of a seed image.

    An object's spread grows with its mean, so the relative one tells right from wrong seeds (BUILD_NOTES.md);
    where no object is claimed there is no mean to relate it to.

    Args:
      std: `[h, w, c]` spread of each class over the N maps, any size.
      mean: `[h, w, c]` mean over the N maps.
      tag_ids: `[c]` class of each map, 0 the first foreground class.
      label: `[height, width]` uint8 seeds.

    Returns:
      `[height, width]` float32, 0..1: std / (std + mean) of the class that has the pixel; for background and 255 the
      greatest std of all classes; 0 for an image without tags.
    """
    if not len(tag_ids):
        return np.zeros(label.shape, np.float32)
    std, mean = images.resize_maps(std, label.shape), images.resize_maps(mean, label.shape)
    allotted = label[..., None] == np.asarray(tag_ids, np.int64) + 1
    seed_std, seed_mean = (std * allotted).sum(-1), (mean * allotted).sum(-1)
    relative = seed_std / np.maximum(seed_std + seed_mean, np.finfo(np.float32).tiny)
    return np.where(allotted.any(-1), relative, std.max(-1)).astype(np.float32)


def leave_out(label: np.ndarray, uncertain: np.ndarray, limit: float) -> np.ndarray:
    """Returns the `[h, w]` uint8 seeds without those whose `uncertain` is above `limit`: they become 255."""
    return np.where(uncertain > limit, labels.IGNORE, label).astype(np.uint8)


def read_uncertainty(path: str | pathlib.Path) -> np.ndarray:
    """Reads what `images.write_grey` wrote: `[h, w]` float32, 0..1.

    Raises:
      FileNotFoundError, UserError: see `images.read_grey`.
    """
    return images.read_grey(path).astype(np.float32) / 255
