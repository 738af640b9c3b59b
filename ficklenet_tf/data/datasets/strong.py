"""Whose masks are learned: never those by which masks are measured; of a few, evenly spaced ones."""

from collections.abc import Collection, Mapping

from ficklenet_tf.data import datasets
from ficklenet_tf.errors import UserError
from ficklenet_tf.runs import progress


def without(split: datasets.Split, measured: Mapping[str, Collection[str]], flag: str) -> datasets.Split:
    """Returns a split without the photographs that are held out; says how many those are, and where.

    Args:
      split: `datasets.Split` whose masks are to be learned.
      measured: {name of a split that is held out: its image ids}.
      flag: that names `split`, for the message.

    Raises:
      UserError: all are held out.
    """
    holding = [name for name, image_ids in measured.items() if not set(image_ids).isdisjoint(split.image_ids)]
    held_out = {image_id for name in holding for image_id in measured[name]}
    kept = [i for i, image_id in enumerate(split.image_ids) if image_id not in held_out]
    if not kept:
        raise UserError(f"{flag}: expected photographs that are not held out, found all {len(split)} of {split.name} "
                        f"in {', '.join(holding)}")
    if len(kept) == len(split):
        return split
    progress.say(f"{split.name}: {len(split) - len(kept)} of {len(split)} photographs are held out "
                 f"({', '.join(holding)}), their masks are not learned")
    return split.select(kept)


def some(split: datasets.Split, count: int, most: int) -> datasets.Split:
    """Returns the split of `count` photographs whose masks are learned.

    A folder's photographs lie by class, and few of them may have masks: there, and where not all have one, they are
    evenly spaced among those that have. Else they are the first ones.

    Args:
      split: `datasets.Split` to choose from.
      count: how many.
      most: how many at most, so that others remain; less where there are fewer masks.

    Raises:
      UserError: there are not so many.
    """
    masks = len(split.with_masks())
    most = min(most, masks)
    if not masks:
        raise UserError(f"strong_images: expected masks in {split.dataset} {split.name}, found none")
    if not 0 < count <= most:
        raise UserError(f"strong_images: expected 1 to {most} of {len(split)} images, of which {masks} have "
                        f"masks, found {count}")
    return split.with_masks(count) if split.dataset == "folder" or masks < len(split) else split.select(range(count))
