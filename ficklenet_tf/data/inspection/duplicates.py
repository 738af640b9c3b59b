"""Photographs that are the same or nearly so: resized, compressed again, in grey, or the next one of a series.

A difference hash (Krawetz, "Kind of Like That", 2013) says for each place of a tiny grey picture whether it grows
brighter to the right. Photographs of one scene agree in most of its bits. So do pictures of few details, such as
an aeroplane in the sky: hence the tiny pictures themselves must agree too.
"""

from collections.abc import Hashable, Sequence

import numpy as np
from scipy.sparse import coo_array, csgraph

SHAPE = (16, 17)  # of the tiny picture: 256 differences
# Measured on VOC: 99 % of 300 photographs, compressed harder or halved, differ from themselves in 35 bits at most, and
# correlate by 0.96 or more. Of all pairs of 3,700 photographs six differ in 40 bits or fewer: one and its copy in
# grey, and five with a correlation of 0.6 at most.
MOST_BITS, LEAST_CORRELATION = 40, 0.9
_BLOCK = 256  # photographs that are compared with all others at once


def equal(keys: Sequence[Hashable]) -> list[list[int]]:
    """Returns groups of the indices of equal keys, each of two or more."""
    groups: dict[Hashable, list[int]] = {}
    for index, key in enumerate(keys):
        groups.setdefault(key, []).append(index)
    return [group for group in groups.values() if len(group) > 1]


def alike(patterns: np.ndarray) -> list[list[int]]:
    """Finds pictures that look alike.

    Args:
      patterns: `[n, *SHAPE]` uint8.

    Returns:
      groups of indices, each of two or more; in a group each is like at least one other.
    """
    count = len(patterns)
    if count < 2:
        return []
    brighter = (patterns[:, :, 1:] > patterns[:, :, :-1]).reshape(count, -1)
    hashes = np.packbits(brighter, axis=1).view(np.uint64)
    flat = patterns.reshape(count, -1).astype(np.float32)
    flat -= flat.mean(1, keepdims=True)
    flat /= np.maximum(np.linalg.norm(flat, axis=1, keepdims=True), 1e-6)  # 0 where nothing is to be seen
    firsts, seconds = [], []
    for start in range(0, count, _BLOCK):
        block = slice(start, start + _BLOCK)
        bits = sum(np.bitwise_count(hashes[block, None, k] ^ hashes[None, start:, k]).astype(np.uint16)
                   for k in range(hashes.shape[1]))
        near = np.triu((bits <= MOST_BITS) & (flat[block] @ flat[start:].T >= LEAST_CORRELATION), 1)
        i, j = np.nonzero(near)
        firsts.append(i + start)
        seconds.append(j + start)
    i, j = np.concatenate(firsts), np.concatenate(seconds)
    _, components = csgraph.connected_components(coo_array((np.ones(len(i)), (i, j)), (count, count)), directed=False)
    return equal(components.tolist())
