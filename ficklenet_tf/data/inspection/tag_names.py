"""Tags that look like one, written in two ways."""

import collections
import itertools
import re
from collections.abc import Iterable

_LEAST_LETTERS = 5  # in shorter words a letter makes another word: cat, car, cow; man, mane
_RARE = 10  # a slip of the pen is that many times as rare as what was meant


def alike(tags: Iterable[str]) -> list[tuple[str, str]]:
    """Returns pairs of tags that look like one, sorted.

    They differ in their case, in spaces or hyphens, or by one edit. Tags with different numbers, or of several words
    of which one single letter differs, are meant so: class_1, class_2; type a, type b. Of short words an edit counts
    where it is a plural, or where one of the two is rare.

    Args:
      tags: each as often as it occurs.
    """
    counts = collections.Counter(tags)
    words = {tag: re.split(r"[-_\s]+", tag.casefold()) for tag in sorted(counts)}
    numbers = {tag: re.findall(r"\d+", tag) for tag in counts}
    return [(a, b) for a, b in itertools.combinations(words, 2)
            if numbers[a] == numbers[b] and not _counted_by_letter(words[a], words[b])
            and _slip("".join(words[a]), "".join(words[b]), sorted((counts[a], counts[b])))]


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


def _slip(a: str, b: str, counts: list[int]) -> bool:
    """Says whether one word may be a slip for the other; `counts` are theirs, the smaller first."""
    short, long = sorted((a, b), key=len)
    likely = len(short) >= _LEAST_LETTERS or long in (short, f"{short}s") or counts[0] * _RARE <= counts[1]
    return likely and one_edit(a, b)


def _counted_by_letter(a: list[str], b: list[str]) -> bool:
    """Says whether the words in which two tags differ, place by place, are single letters."""
    differing = [(x, y) for x, y in zip(a, b, strict=False) if x != y]
    return bool(differing) and all(len(x) == len(y) == 1 for x, y in differing)
