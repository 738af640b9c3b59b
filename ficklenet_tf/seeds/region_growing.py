"""Seeds that grow: on the photograph's colours (SRG), and on the segmenter's own answer while it learns (DSRG).

SRG is Adams & Bischof 1994, "Seeded Region Growing". DSRG is Huang et al. 2018, "Weakly-Supervised Semantic
Segmentation Network with Deep Seeded Region Growing", Section 3.3, as their code does it.
"""

import functools
import heapq
import math
from collections.abc import Sequence

import cv2
import numpy as np
import tensorflow as tf

from ficklenet_tf.data import labels


def srg(image: np.ndarray, seeds: np.ndarray, distance: float) -> np.ndarray:
    """Grows seeds over the unlabelled pixels; the next pixel is always the one that is most like a region beside it.

    A region is a connected set of seeds of one class; a pixel joins one of those it touches (8 neighbours),
    and moves that region's mean colour. As in the paper, a pixel in the queue keeps the distance it came with.

    No library at hand has it (a watershed orders pixels by an edge map, not by their likeness to a region), and the
    order of the pixels is the algorithm, so this is a heap in Python: work on a reduced photograph.

    Args:
      image: `[h, w, 3]` uint8 RGB.
      seeds: `[h, w]` uint8 labels, 255 where there is none.
      distance: greatest Euclidean distance to a region's mean colour, in steps of 0..255; what is farther
        from every region stays 255. From 442 on all is labelled.

    Returns:
      `[h, w]` uint8 labels.
    """
    regions, region_labels = _regions(seeds)
    width = seeds.shape[1] + 2  # with a border of one pixel no step has to ask where the image ends
    owner = np.pad(regions, 1, constant_values=-1).reshape(-1)
    planes = np.pad(image.astype(np.float64), ((1, 1), (1, 1), (0, 0))).reshape(-1, 3).T
    inside = np.maximum(owner, 0)
    sizes = np.bincount(inside, minlength=len(region_labels)).tolist()
    sums = [np.bincount(inside, plane, len(region_labels)).tolist() for plane in planes]
    edge = np.flatnonzero(np.pad(_edge(regions), 1)).tolist()
    grown = _spread(edge, owner.tolist(), [plane.tolist() for plane in planes], sizes, sums, width, distance**2)
    return region_labels[np.reshape(grown, (-1, width))[1:-1, 1:-1]]


def _spread(edge: Sequence[int], owner: list[int], planes: Sequence[Sequence[float]], sizes: list[int],
            sums: Sequence[list[float]], width: int, limit: float) -> list[int]:
    """Gives pixels to regions, on plain lists, which Python reads faster than arrays.

    Args:
      edge: pixels of regions that touch unlabelled ones.
      owner: each pixel's region, 0 for none, -1 for the border.
      planes: each pixel's red, green and blue.
      sizes: each region's number of pixels.
      sums: each region's sums of red, green and blue.
      width: pixels in a row.
      limit: greatest squared distance.

    Returns:
      `owner`, changed in place.
    """
    (red, green, blue), (reds, greens, blues) = planes, sums
    around = (-width - 1, -width, -width + 1, -1, 1, width - 1, width, width + 1)
    least, push, pop = [math.inf] * len(owner), heapq.heappush, heapq.heappop
    heap: list[tuple[float, int, int]] = []

    def invite(pixel: int, region: int) -> None:
        size = sizes[region]
        r, g, b = reds[region] / size, greens[region] / size, blues[region] / size
        for step in around:
            neighbour = pixel + step
            if owner[neighbour] == 0:
                squared = (red[neighbour] - r) ** 2 + (green[neighbour] - g) ** 2 + (blue[neighbour] - b) ** 2
                if squared < least[neighbour] and squared <= limit:
                    least[neighbour] = squared
                    push(heap, (squared, neighbour, region))

    for pixel in edge:
        invite(pixel, owner[pixel])
    while heap:
        _, pixel, region = pop(heap)
        if owner[pixel] == 0:
            owner[pixel] = region
            sizes[region] += 1
            reds[region] += red[pixel]
            greens[region] += green[pixel]
            blues[region] += blue[pixel]
            invite(pixel, region)
    return owner


def _regions(seeds: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Numbers the connected sets of seeds; returns `[h, w]` int, 0 for none, and `[regions + 1]` their labels."""
    regions, region_labels = np.zeros(seeds.shape, np.int64), [labels.IGNORE]
    for label in np.unique(seeds[seeds != labels.IGNORE]):
        count, parts = cv2.connectedComponents((seeds == label).astype(np.uint8), connectivity=8)
        regions[parts > 0] = parts[parts > 0] + len(region_labels) - 1
        region_labels += [label] * (count - 1)
    return regions, np.asarray(region_labels, np.uint8)


def _edge(regions: np.ndarray) -> np.ndarray:
    """Returns `[h, w]` bool: the seeds that touch an unlabelled pixel."""
    return (cv2.dilate((regions == 0).astype(np.uint8), np.ones((3, 3), np.uint8)) > 0) & (regions > 0)


def dsrg(probs: tf.Tensor, seeds: tf.Tensor, tags: tf.Tensor, foreground: float, background: float) -> tf.Tensor:
    """Grows seeds into the neighbouring pixels of which a network is sure; for use inside a graph, on the host.

    A pixel is sure where the probability of the likeliest class, among the image's own and the background,
    exceeds the threshold. Take the 8-connected sets of each class's pixels, the sure ones and the seeds of which the
    network is not sure that they are another class: the sets that hold a seed of that class become seeds. All pixels
    that were seeds keep their class.

    Args:
      probs: `[b, h, w, classes]` float32, in DSRG the dense CRF's.
      seeds: `[b, h, w]` uint8 labels, 255 where there is none: the first ones, not those of the step before.
      tags: `[b, classes - 1]` float32, 0 or 1.
      foreground: threshold of the foreground classes (DSRG: 0.85).
      background: threshold of the background (DSRG: 0.99).

    Returns:
      `[b, h, w]` uint8 labels.
    """
    grow = functools.partial(_dsrg, limits=(background, foreground))
    return tf.ensure_shape(tf.numpy_function(grow, [probs, seeds, tags], tf.uint8, stateful=False), seeds.shape)


def _dsrg(probs: np.ndarray, seeds: np.ndarray, tags: np.ndarray, limits: tuple[float, float]) -> np.ndarray:
    """As `dsrg`, in NumPy; `limits` are the thresholds of the background and of the foreground."""
    grown = seeds.copy()
    for image_probs, image_seeds, image_tags, image_grown in zip(probs, seeds, tags, grown, strict=True):
        class_ids = np.concatenate([[labels.BACKGROUND], np.flatnonzero(image_tags) + 1])
        likeliest = image_probs[..., class_ids].argmax(-1)
        greatest = image_probs[..., class_ids].max(-1)
        sure = greatest > np.where(likeliest == labels.BACKGROUND, limits[0], limits[1])
        taken = np.where(sure, class_ids[likeliest], image_seeds)
        for class_id in class_ids:
            candidates = taken == class_id
            anchors = candidates & (image_seeds == class_id)
            if not anchors.any():
                continue
            count, parts = cv2.connectedComponents(candidates.astype(np.uint8), connectivity=8)
            chosen = np.zeros(count, bool)
            chosen[parts[anchors]] = True
            image_grown[chosen[parts] & (image_seeds == labels.IGNORE)] = class_id
    return grown
