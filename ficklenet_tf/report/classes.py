"""Which classes occur in the masks and tags that numbers stand on, and what a mean makes of the others."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ficklenet_tf.report import markup


def occurring(scores: Mapping[str, Any]) -> list[int]:
    """Returns the ids of the classes that the masks behind `scores` have, see `scoring.score_directory`."""
    return [int(i) for i in np.flatnonzero(np.asarray(scores["confusion"]).sum(1))]


def counted(num_occurring: int, num_classes: int, split: str, others: str) -> str:
    """Says how many classes occur, without the background, and where not all do, what becomes of the others."""
    text = f"{num_occurring} of {num_classes} classes occur in {split}"
    return text if num_occurring == num_classes else f"{text}, the others {others}"


def of_masks(scores: Mapping[str, Any], class_names: Sequence[str], split: str) -> str:
    """Returns `counted` of the masks that `scores` stand on; see `metrics.scores`."""
    return counted(len(set(occurring(scores)) - {0}), len(class_names) - 1, split, "count as 0")


def of_tags(average_precisions: Sequence[float | None], split: str) -> str:
    """Returns `counted` of the tags that a mAP stands on; see `metrics.mean_average_precision`."""
    return counted(sum(ap is not None for ap in average_precisions), len(average_precisions), split, "are left out")


def explained(scores_by_name: Mapping[str, Mapping[str, Any]], class_names: Sequence[str], split: str) -> str:
    """Says over what the means of a table of scores are taken, and what is not in its bars.

    Args:
      scores_by_name: name -> what `scoring.score_directory` returned, all of the same masks; not empty.
      class_names: the background first.
      split: the name of the masks' split.

    Returns:
      HTML; every text escaped.
    """
    scores = next(iter(scores_by_name.values()))
    present = occurring(scores)
    absent = [name for i, name in enumerate(class_names) if i not in present]
    text = (f"{of_masks(scores, class_names, split)}. mIoU, recall and precision are means over all "
            f"{len(class_names) - 1} classes and the background")
    if absent:
        text += (f", whether a class is predicted or not. The bars leave out {_listed(absent)}. Over the classes that "
                 "occur, the mIoU is " + ", ".join(
                     f"{markup.percent(float(np.mean([each['iou_per_class'][i] for i in present])))} % ({name})"
                     for name, each in scores_by_name.items()))
    return markup.paragraph(text + ".")


def _listed(names: Sequence[str], most: int = 12) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
