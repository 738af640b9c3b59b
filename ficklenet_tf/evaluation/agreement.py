"""Which of several systems' masks are best, without masks to score against: how well each agrees with the others.

On photographs that no system has learned from, each pixel is voted on by the other systems; of their votes those
count that the photograph's tags allow, which are known. A system is measured by its mIoU with that vote. Errors that
systems do not share are outvoted; those that all share are not seen. What else was tried: docs/systems.md.
"""

import concurrent.futures
import dataclasses
import pathlib
from collections.abc import Mapping, Sequence

import numpy as np
from scipy import stats

from ficklenet_tf.data import datasets, labels
from ficklenet_tf.errors import UserError
from ficklenet_tf.evaluation import metrics
from ficklenet_tf.runs import layout, progress

FEWEST = 3  # systems from which on a vote says who is right, and not only that two differ
RESAMPLES = 2000
_TAILS = (2.5, 97.5)  # per cent


@dataclasses.dataclass(frozen=True)
class Verdict:
    """What the measure says of the systems.

    Attributes:
      names: of the systems.
      agreement: of each, mIoU with the others' vote, 0..1.
      intervals: of each, 95 % over photographs: (low, high).
      behind: how much less than the best one's it is, with its paired 95 % interval: (difference, low, high).
      leading: names of the systems that may be the best, the best measured first; one alone where these photographs
        decide it.
      photographs: how many there were.
    """

    names: tuple[str, ...]
    agreement: tuple[float, ...]
    intervals: tuple[tuple[float, float], ...]
    behind: tuple[tuple[float, float, float], ...]
    leading: tuple[str, ...]
    photographs: int

    @property
    def order(self) -> list[str]:
        """All names, the best first."""
        return sorted(self.names, key=lambda name: -self.agreement[self.names.index(name)])


def votes(masks: np.ndarray, tags: np.ndarray) -> np.ndarray:
    """Returns what the other systems say of each pixel.

    Args:
      masks: `[systems, h, w]` uint8 ids.
      tags: `[num_tags]`, not 0 where the photograph has the tag. Votes for other classes than these and the
        background do not count.

    Returns:
      `[systems, h, w]` uint8: for each system the class that most of the others say; 255 where that is none alone.
    """
    allowed = np.concatenate([[labels.BACKGROUND], np.flatnonzero(tags) + 1])
    cast = (masks[..., None] == allowed).astype(np.int16)
    others = cast.sum(0, dtype=np.int16) - cast
    most = others.max(-1, keepdims=True)
    decided = (others == most).sum(-1) == 1
    return np.where(decided & (most[..., 0] > 0), allowed[others.argmax(-1)], labels.IGNORE).astype(np.uint8)


def counts(masks: np.ndarray, tags: np.ndarray) -> np.ndarray:
    """Counts the pixels of a photograph by which each system is measured.

    Args:
      masks: see `votes`.
      tags: see there.

    Returns:
      `[systems, 3, num_tags + 1]` int64: of each class the pixels where system and vote agree, those of the vote and
      those of the system; where there is no vote none are counted.
    """
    num_classes = len(tags) + 1
    matrices = [metrics.confusion(vote, mask, num_classes) for vote, mask in
                zip(votes(masks, tags), masks, strict=True)]
    return np.stack([[np.diag(matrix[:, :-1]), matrix.sum(1), matrix[:, :-1].sum(0)] for matrix in matrices])


def check(train_split: datasets.Split, split: datasets.Split) -> None:
    """Raises UserError where systems learn from photographs that they are measured on, or none of these has a tag."""
    datasets.check_apart(train_split, split)
    if not any(split[i]["tags"].any() for i in range(len(split))):
        raise UserError(f"held_out: expected photographs with tags, to measure by them; those of {split.dataset} "
                        f"{split.name} have none")


def measure(directories: Mapping[str, pathlib.Path], split: datasets.Split) -> Verdict:
    """Measures systems by their label images on disk.

    Args:
      directories: name of a system -> directory with `<image id>.png` of each photograph.
      split: `datasets.Split` of photographs from which no system has learned; its masks are not looked at.

    Raises:
      UserError: there are less than two systems, or their label images differ in size.
    """
    if len(directories) < 2:
        raise UserError(f"systems: expected two or more to compare, found {', '.join(directories) or 'none'}")

    def of_image(index: int) -> tuple[np.ndarray, np.ndarray]:
        example = split[index]
        paths = [layout.label_image(directory, example["image_id"]) for directory in directories.values()]
        masks = [labels.read_label(path, len(split.class_names)) for path in paths]
        for path, mask in zip(paths, masks, strict=True):
            if mask.shape != masks[0].shape:
                raise UserError(f"{path}: expected {masks[0].shape} pixels as {paths[0]}, found {mask.shape}")
        return counts(np.stack(masks), example["tags"]), np.asarray(example["tags"]) > 0

    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        counted = list(progress.bar(pool.map(of_image, range(len(split))), total=len(split), desc="agreement",
                                    unit="img"))
    return judge(tuple(directories), np.stack([each for each, _ in counted], 1),
                 np.stack([tags for _, tags in counted]))


def judge(names: Sequence[str], counted: np.ndarray, tags: np.ndarray, seed: int = 0) -> Verdict:
    """Says which system is best, and whether these photographs decide it: by photographs drawn again and again.

    Args:
      names: of the systems.
      counted: `[systems, photographs, 3, classes]`, see `counts`.
      tags: `[photographs, classes - 1]` bool.
      seed: of the drawing.
    """
    number = len(tags)
    drawn = np.random.default_rng(seed).multinomial(number, np.full(number, 1 / number), RESAMPLES)
    agreement, again = (_miou(counted, tags, weights) for weights in (np.ones((1, number), np.int64), drawn))
    best = int(agreement[:, 0].argmax())
    less = again[best] - again
    intervals = [_interval(values) for values in again]
    behind = [(float(agreement[best, 0] - agreement[i, 0]), *_interval(less[i])) for i in range(len(names))]
    # The best is not behind itself; two systems have measured each other by the same pixels.
    leading = [i for i in range(len(names)) if behind[i][1] <= 0 or len(names) < FEWEST]
    leading.sort(key=lambda i: -agreement[i, 0])
    return Verdict(tuple(names), tuple(agreement[:, 0].tolist()), tuple(intervals), tuple(behind),
                   tuple(names[i] for i in leading), number)


def _miou(counted: np.ndarray, tags: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Returns `[systems, draws]`: the mean over background and the classes that the drawn photographs are tagged with.

    Args:
      counted: see `judge`.
      tags: see there.
      weights: `[draws, photographs]`, how often each was drawn.
    """
    occurs = np.concatenate([np.ones((len(weights), 1), bool), weights @ tags.astype(np.int64) > 0], 1)
    sums = np.einsum("dp,spkc->sdkc", weights.astype(np.float64), counted.astype(np.float64), optimize=True)
    hit, vote, answer = sums[:, :, 0], sums[:, :, 1], sums[:, :, 2]
    union = vote + answer - hit
    iou = np.divide(hit, union, out=np.zeros_like(hit), where=union > 0)
    return (iou * occurs).sum(-1) / occurs.sum(-1)


def _interval(values: np.ndarray) -> tuple[float, float]:
    low, high = np.percentile(values, _TAILS)
    return float(low), float(high)


def rank_correlation(first: Sequence[float], second: Sequence[float]) -> float | None:
    """Returns Spearman's rank correlation of two measures of the same systems, -1..1.

    None where there are fewer than three systems, or a measure is the same for all.
    """
    if len(first) < FEWEST or len(set(first)) == 1 or len(set(second)) == 1:
        return None
    return float(stats.spearmanr(first, second).statistic)
