"""How scores and counts are said in the line of a stage."""

from typing import Any


def scores_text(scores: dict[str, Any] | None) -> str:
    """Returns seeds' scores for a stage's line; nothing where there are none."""
    return "" if not scores else (f": recall {100 * scores['recall']:.1f}, precision {100 * scores['precision']:.1f}, "
                                  f"{miou_text(scores)}")


def map_text(metrics: dict[str, Any]) -> str:
    """Returns a classifier's mAP, with the number of classes that it is over where some do not occur."""
    per_class = metrics["ap_per_class"]
    occurring = sum(each is not None for each in per_class)
    if not occurring:
        return "mAP unknown, as no held-out photograph has a tag"
    over = f" over {occurring} of {len(per_class)} classes; the others do not occur"
    return f"mAP {100 * metrics['map']:.1f}{over if occurring < len(per_class) else ''}"


def miou_text(scores: dict[str, Any]) -> str:
    """Returns the mIoU of predictions, with the number of classes that count 0 because they do not occur."""
    count = len(scores["iou_per_class"])
    absent = count - scores.get("classes_present", count)  # not known of scores before 2026-11-26
    over = f" over {count} classes, {absent} of them do not occur and count 0" if absent else ""
    return f"mIoU {100 * scores['miou']:.1f}{over}"


def maps_text(run: dict[str, Any]) -> str:
    """Returns how many maps images took, for a stage's line; nothing where N is fixed."""
    counts = run.get("num_maps")
    return "" if not counts else f"; maps per image: median {counts['median']:g}, at most {counts['max']}"
