"""Which of several systems' masks are best, without masks to score against: how well each agrees with the others.

On photographs that no system has learned from, each pixel is voted on by the other systems; of their votes those
count that the photograph's tags allow, which are known. A system is measured by its mIoU with that vote. Systems whose
seeds come from the same maps do not vote on each other. Errors that systems do not share are outvoted; those that most
of them share are taken for right. What else was tried: docs/systems.md.
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

FEWEST = 3  # systems of different maps, from which on a vote says who is right, and not only that two differ
FEWEST_PHOTOGRAPHS = 10  # below it, drawing them again says too little of others
RESAMPLES = 2000
_TAILS, _LEVEL = (2.5, 97.5), 95  # per cent


@dataclasses.dataclass(frozen=True)
class Verdict:
    """What the measure says of the systems.

    Attributes:
      names: of the systems.
      agreement: of each, mIoU with the others' vote, 0..1.
      intervals: of each, 95 % over photographs: (low, high).
      behind: how much less than the best one's it is, with its paired interval: (difference, low, high), 95 % for all
        pairs of systems together, as any two could be the best and the next.
      leading: names of the systems that may be the best, the best measured first; one alone where these photographs
        decide it.
      photographs: how many there were.
      voters: how many groups of systems that share no maps.
    """

    names: tuple[str, ...]
    agreement: tuple[float, ...]
    intervals: tuple[tuple[float, float], ...]
    behind: tuple[tuple[float, float, float], ...]
    leading: tuple[str, ...]
    photographs: int
    voters: int

    @property
    def order(self) -> list[str]:
        """All names, the best first."""
        return sorted(self.names, key=lambda name: -self.agreement[self.names.index(name)])


def votes(masks: np.ndarray, tags: np.ndarray, kin: Sequence[int] | None = None) -> np.ndarray:
    """Returns what the other systems say of each pixel.

    Args:
      masks: `[systems, h, w]` uint8 ids.
      tags: `[num_tags]`, not 0 where the photograph has the tag. Votes for other classes than these and the
        background do not count.
      kin: `[systems]`, equal for systems that do not vote on each other; None: all vote on all others.

    Returns:
      `[systems, h, w]` uint8: for each system the class that most of the others say; 255 where that is none alone.
    """
    groups = np.arange(len(masks)) if kin is None else np.asarray(kin)
    allowed = np.concatenate([[labels.BACKGROUND], np.flatnonzero(tags) + 1]).astype(np.uint8)
    cast = masks[..., None] == allowed
    total, said = cast.sum(0, dtype=np.int16), np.empty_like(masks)
    for group in np.unique(groups):
        others = total - cast[groups == group].sum(0, dtype=np.int16)
        most = others.max(-1, keepdims=True)
        decided = (others == most).sum(-1) == 1
        said[groups == group] = np.where(decided & (most[..., 0] > 0), allowed[others.argmax(-1)], labels.IGNORE)
    return said


def counts(masks: np.ndarray, tags: np.ndarray, kin: Sequence[int] | None = None) -> np.ndarray:
    """Counts the pixels of a photograph by which each system is measured.

    Args:
      masks: see `votes`.
      tags: see there.
      kin: see there.

    Returns:
      `[systems, 3, num_tags + 1]` int64: of each class the pixels where system and vote agree, those of the vote and
      those of the system; where there is no vote none are counted.
    """
    num_classes = len(tags) + 1
    matrices = [metrics.confusion(vote, mask, num_classes) for vote, mask in
                zip(votes(masks, tags, kin), masks, strict=True)]
    return np.stack([[np.diag(matrix[:, :-1]), matrix.sum(1), matrix[:, :-1].sum(0)] for matrix in matrices])


def check(train_split: datasets.Split, split: datasets.Split) -> None:
    """Raises UserError where systems learn from photographs that they are measured on, or none of these has a tag."""
    datasets.check_apart(train_split, split)
    if not any(split[i]["tags"].any() for i in range(len(split))):
        raise UserError(f"held_out: expected photographs with tags, to measure by them; those of {split.dataset} "
                        f"{split.name} have none")


def measure(directories: Mapping[str, pathlib.Path], split: datasets.Split,
            maps: Mapping[str, str] | None = None) -> Verdict:
    """Measures systems by their label images on disk.

    Args:
      directories: name of a system -> directory with `<image id>.png` of each photograph.
      split: `datasets.Split` of photographs from which no system has learned; its masks are not looked at.
      maps: name of a system -> name of the maps of its seeds, of those that have any: systems of the same maps do not
        vote on each other, unless there are no others; then nothing is decided.

    Raises:
      UserError: there are less than two systems, or their label images differ in size.
    """
    if len(directories) < 2:
        raise UserError(f"systems: expected two or more to compare, found {', '.join(directories) or 'none'}")
    groups = [(maps or {}).get(name, f"of {name}") for name in directories]
    voters = len(set(groups))
    kin = [groups.index(group) for group in groups] if voters > 1 else None

    def of_image(index: int) -> tuple[np.ndarray, np.ndarray]:
        example = split[index]
        paths = [layout.label_image(directory, example["image_id"]) for directory in directories.values()]
        masks = [labels.read_label(path, len(split.class_names)) for path in paths]
        for path, mask in zip(paths, masks, strict=True):
            if mask.shape != masks[0].shape:
                raise UserError(f"{path}: expected {masks[0].shape} pixels as {paths[0]}, found {mask.shape}")
        return counts(np.stack(masks), example["tags"], kin), np.asarray(example["tags"]) > 0

    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        counted = list(progress.bar(pool.map(of_image, range(len(split))), total=len(split), desc="agreement",
                                    unit="img"))
    return judge(tuple(directories), np.stack([each for each, _ in counted], 1),
                 np.stack([tags for _, tags in counted]), voters)


def judge(names: Sequence[str], counted: np.ndarray, tags: np.ndarray, voters: int | None = None,
          seed: int = 0) -> Verdict:
    """Says which system is best, and whether these photographs decide it: by photographs drawn again and again.

    Args:
      names: of the systems.
      counted: `[systems, photographs, 3, classes]`, see `counts`.
      tags: `[photographs, classes - 1]` bool.
      voters: how many groups of systems share no maps; None: all systems are such.
      seed: of the drawing.
    """
    number, voters = len(tags), len(names) if voters is None else voters
    drawn = np.random.default_rng(seed).multinomial(number, np.full(number, 1 / number), RESAMPLES)
    agreement, again = (_miou(counted, tags, weights) for weights in (np.ones((1, number), np.int64), drawn))
    best = int(agreement[:, 0].argmax())
    intervals = [(float(low), float(high)) for low, high in np.percentile(again, _TAILS, axis=1).T]
    less, deviations = agreement[best, 0] - agreement[:, 0], (again[best] - again).std(1)
    reach = _reach(again - agreement) * deviations
    behind = [(float(value), float(value - half), float(value + half))
              for value, half in zip(less, reach, strict=True)]
    # The best is not behind itself; two systems have measured each other by the same pixels.
    few = voters < FEWEST or number < FEWEST_PHOTOGRAPHS
    leading = [i for i in range(len(names)) if few or behind[i][1] <= 0]
    leading.sort(key=lambda i: -agreement[i, 0])
    return Verdict(tuple(names), tuple(agreement[:, 0].tolist()), tuple(intervals), tuple(behind),
                   tuple(names[i] for i in leading), number, voters)


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


def _reach(errors: np.ndarray) -> float:
    """Returns how many deviations the difference of no two systems exceeds in 95 % of the draws (bootstrap max-t).

    Args:
      errors: `[systems, draws]`, what was drawn less what was measured.
    """
    greatest = np.zeros(errors.shape[1])
    for i in range(1, len(errors)):
        difference = errors[i] - errors[:i]
        deviation = difference.std(1, keepdims=True)
        away = np.divide(np.abs(difference), deviation, out=np.zeros_like(difference), where=deviation > 0)
        greatest = np.maximum(greatest, away.max(0))
    return float(np.percentile(greatest, _LEVEL))


def rank_correlation(first: Sequence[float], second: Sequence[float]) -> float | None:
    """Returns Spearman's rank correlation of two measures of the same systems, -1..1.

    None where there are fewer than three systems, or a measure is the same for all.
    """
    if len(first) < FEWEST or len(set(first)) == 1 or len(set(second)) == 1:
        return None
    return float(stats.spearmanr(first, second).statistic)
