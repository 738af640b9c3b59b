"""Seeds that grow: on the photograph's colours (SRG), and on the segmenter's own answer while it learns (DSRG).

SRG is Adams & Bischof 1994, "Seeded Region Growing". DSRG is Huang et al. 2018, "Weakly-Supervised Semantic
Segmentation Network with Deep Seeded Region Growing", Section 3.3, as their code does it.
"""

import functools
import heapq
import math

import cv2
import numpy as np
import tensorflow as tf

from ficklenet_tf.data import labels


def srg(image, seeds, distance):
    """Grows seeds over the unlabelled pixels, always the pixel next that is most like the region beside it.

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
    regions, names = _regions(seeds)
    width = seeds.shape[1] + 2  # a border of one pixel saves the question where the image ends
    owner = np.pad(regions, 1, constant_values=-1).reshape(-1)
    planes = np.pad(image.astype(np.float64), ((1, 1), (1, 1), (0, 0))).reshape(-1, 3).T
    inside = np.maximum(owner, 0)
    sizes = np.bincount(inside, minlength=len(names)).tolist()
    sums = [np.bincount(inside, plane, len(names)).tolist() for plane in planes]
    first = np.flatnonzero(np.pad(_edge(regions), 1)).tolist()
    owner = _spread(first, owner.tolist(), [plane.tolist() for plane in planes], sizes, sums, width, distance**2)
    return names[np.reshape(owner, (-1, width))[1:-1, 1:-1]]


def _spread(first, owner, planes, sizes, sums, width, limit):
    """Gives pixels to regions, on plain lists, which Python reads faster than arrays.

    Args:
      first: pixels of regions that touch unlabelled ones.
      owner: each pixel's region, 0 for none, -1 for the border.
      planes: each pixel's red, green and blue.
      sizes: each region's pixels.
      sums: each region's sums of red, green and blue.
      width: pixels in a row.
      limit: greatest squared distance.

    Returns:
      `owner`, changed in place.
    """
    (red, green, blue), (reds, greens, blues) = planes, sums
    around = (-width - 1, -width, -width + 1, -1, 1, width - 1, width, width + 1)
    least, heap, push, pop = [math.inf] * len(owner), [], heapq.heappush, heapq.heappop

    def invite(pixel, region):
        size = sizes[region]
        r, g, b = reds[region] / size, greens[region] / size, blues[region] / size
        for step in around:
            other = pixel + step
            if owner[other] == 0:
                squared = (red[other] - r) ** 2 + (green[other] - g) ** 2 + (blue[other] - b) ** 2
                if squared < least[other] and squared <= limit:
                    least[other] = squared
                    push(heap, (squared, other, region))

    for pixel in first:
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


def _regions(seeds):
    """Numbers the connected sets of seeds; returns `[h, w]` int, 0 for none, and `[regions + 1]` their labels."""
    regions, names = np.zeros(seeds.shape, np.int64), [labels.IGNORE]
    for label in np.unique(seeds[seeds != labels.IGNORE]):
        count, parts = cv2.connectedComponents((seeds == label).astype(np.uint8), connectivity=8)
        regions[parts > 0] = parts[parts > 0] + len(names) - 1
        names += [label] * (count - 1)
    return regions, np.asarray(names, np.uint8)


def _edge(regions):
    """Returns `[h, w]` bool: the seeds that touch an unlabelled pixel."""
    return (cv2.dilate((regions == 0).astype(np.uint8), np.ones((3, 3), np.uint8)) > 0) & (regions > 0)


def dsrg(probs, seeds, tags, foreground, background):
    """Grows seeds into the neighbouring pixels of which a network is sure; for use inside a graph, on the host.

    A pixel is sure where the probability of the likeliest class, among the image's own and the background,
    exceeds the threshold. Of each class' sure or seeded pixels those 8-connected sets become seeds that hold a
    seed of that class; pixels seeded otherwise keep their seed.

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


def _dsrg(probs, seeds, tags, limits):
    grown = seeds.copy()
    for own_probs, own_seeds, own_tags, result in zip(probs, seeds, tags, grown, strict=True):
        classes = np.concatenate([[labels.BACKGROUND], np.flatnonzero(own_tags) + 1])
        likeliest = own_probs[..., classes].argmax(-1)
        greatest = own_probs[..., classes].max(-1)
        sure = greatest > np.where(likeliest == labels.BACKGROUND, *limits)
        for position, label in enumerate(classes):
            held = own_seeds == label
            if not held.any():
                continue
            candidates = (sure & (likeliest == position)) | held
            count, parts = cv2.connectedComponents(candidates.astype(np.uint8), connectivity=8)
            chosen = np.zeros(count, bool)
            chosen[parts[held]] = True
            result[chosen[parts] & (own_seeds == labels.IGNORE)] = label
    return grown
