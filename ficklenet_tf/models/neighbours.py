"""Pairs of nearby positions of a map, by the offset from the one to the other: for networks of affinities."""

from typing import Any

RADIUS = 5  # positions of the map (AffinityNet's code: 8 pixels each)


def offsets(radius: int = RADIUS) -> list[tuple[int, int]]:
    """Returns (rows, columns) to every neighbour nearer than `radius`, one of each two opposite ones."""
    return [(dy, dx) for dy in range(radius) for dx in range(-radius + 1, radius)
            if 0 < dy * dy + dx * dx < radius * radius and (dy > 0 or dx > 0)]


def pairs(x: Any, offset: tuple[int, int]) -> tuple[Any, Any]:
    """Returns `[b, h', w', ...]` twice of an array `[b, h, w, ...]`: positions, and their neighbours at an offset."""
    return along(x, offset, (0, 0)), along(x, offset, offset)


def along(x: Any, offset: tuple[int, int], step: tuple[int, int]) -> Any:
    """Returns `[b, h', w', ...]` of an array `[b, h, w, ...]`: what is `step` away from the first of each of `pairs`.

    Args:
      x: the array.
      offset: of the pairs, (rows from 0, columns).
      step: (rows, columns) between (0, 0) and `offset`.
    """
    (dy, dx), (y, column) = offset, step
    height, width = x.shape[1:3]
    rows, left = max(0, height - dy), max(0, -dx)
    right = max(left, width - max(0, dx))
    return x[:, y:y + rows, left + column:right + column]
