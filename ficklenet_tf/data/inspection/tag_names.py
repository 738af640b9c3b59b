"""Tags that look like one, written in two ways."""

import itertools
from collections.abc import Iterable

_LEAST_LETTERS = 5  # in shorter words another letter makes another word: cat, car, cow


def alike(tags: Iterable[str]) -> list[tuple[str, str]]:
    """Returns pairs of tags that differ in their case, in spaces or hyphens, or by one edit, sorted."""
    plain = {tag: tag.casefold().replace("-", "").replace("_", "").replace(" ", "") for tag in sorted(set(tags))}
    return [(a, b) for a, b in itertools.combinations(plain, 2) if one_edit(plain[a], plain[b])]


def one_edit(a: str, b: str) -> bool:
    """Says whether two words are the same but for one letter more, another letter, or two that changed places.

    One letter more counts in words of three letters or more, another letter in those of `_LEAST_LETTERS`.
    """
    if a == b:
        return True
    if len(a) > len(b):
        a, b = b, a
    start = next((k for k in range(len(a)) if a[k] != b[k]), len(a))
    if len(b) == len(a) + 1:
        return len(a) >= 3 and a[start:] == b[start + 1:]
    if len(b) != len(a):
        return False
    swapped = a[start + 1:start + 2] + a[start:start + 1] + a[start + 2:] == b[start:]
    return (swapped and len(a) >= 3) or (len(a) >= _LEAST_LETTERS and a[start + 1:] == b[start + 1:])
