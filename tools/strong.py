"""Flags that say whose masks a training may see beside tags, of both trainings."""

from typing import TYPE_CHECKING

from absl import flags

from ficklenet_tf.errors import UserError
from tools import cli

if TYPE_CHECKING:
    from ficklenet_tf.data import datasets


def define(what: str) -> None:
    """Defines --strong_split and --strong_images, which go with `what`: a flag and its value, for --help."""
    flags.DEFINE_string("strong_split", None, f"{what}: split of the images with masks (default: of voc train).")
    flags.DEFINE_integer("strong_images", None, f"{what}: the first N images of the split are those with masks.",
                         lower_bound=1)


def split_of(split: "datasets.Split", wanted: bool, what: str, most: int) -> "datasets.Split | None":
    """Returns the split of the images whose masks may be learned, or None.

    Args:
      split: `datasets.Split` to train on.
      wanted: whether the training learns masks at all.
      what: as of `define`.
      most: the greatest --strong_images.

    Raises:
      UserError: the flags do not say whose, or say it where nothing learns them.
    """
    name, count = cli.FLAGS.strong_split, cli.FLAGS.strong_images
    if not wanted:
        if name is not None or count is not None:
            raise UserError(f"strong_split and strong_images: expected only with {what}")
        return None
    if count is not None:
        if name is not None or not 0 < count <= most:
            raise UserError(f"strong_images: expected 1 to {most} of {len(split)} images and no strong_split, found "
                            f"{count} and {name}")
        return split.select(range(count))
    if name is None and cli.FLAGS.dataset != "voc":
        raise UserError(f"{what}: expected --strong_split or --strong_images, found neither")
    return cli.split(name or "train")
