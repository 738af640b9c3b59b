"""What losses are given of a photograph beside its tags: its saliency map, or its mask where that may be used."""

import pathlib
from collections.abc import Collection, Sequence
from typing import Any

from ficklenet_tf.data import datasets
from ficklenet_tf.errors import UserError
from ficklenet_tf.runs import artifacts, layout
from ficklenet_tf.seeds import needed


def saliency_of(run_dir: str | pathlib.Path, given: str | pathlib.Path | None) -> pathlib.Path | None:
    """Returns `given`; without it the run's own saliency/ where that is finished, else None."""
    own = pathlib.Path(run_dir) / layout.SALIENCY
    if given is not None:
        return pathlib.Path(given)
    return own if artifacts.read_run(own) else None


def saliency(directory: str | pathlib.Path | None, split: datasets.Split, losses: Sequence[str],
             need: Collection[str]) -> pathlib.Path | None:
    """Checks before a training that the saliency maps are there which its losses need.

    Args:
      directory: see `saliency_of`.
      split: `datasets.Split` to train on.
      losses: of the training.
      need: those that need saliency.

    Returns:
      `directory`, or None where no loss needs it.

    Raises:
      UserError: there is no map for some image; says how to make them.
    """
    used = [name for name in losses if name in need]
    if not used:
        return None
    remedy = "make them by tools.make_saliency, or pass --saliency_dir"
    if directory is None:
        raise UserError(f"losses {','.join(used)}: expected a saliency map for each of {len(split)} images, found "
                        f"none; {remedy}")
    try:
        needed.check_saliency(directory, split)
    except UserError as error:
        raise UserError(f"{error}; {remedy}") from error
    return pathlib.Path(directory)


def masked(strong: datasets.Split | None, split: datasets.Split, losses: Sequence[str],
           need: Collection[str]) -> frozenset[str] | None:
    """Says whose masks a training may see.

    Args:
      strong: `datasets.Split` of the images whose masks may be used, or None.
      split: `datasets.Split` to train on; the masks are its own.
      losses: of the training.
      need: those that need masks.

    Returns:
      The ids of the images of both splits that have a mask; None where no loss needs masks.

    Raises:
      UserError: there is none of them, or `strong` is not wanted.
    """
    used = [name for name in losses if name in need]
    if not used and strong is not None:
        raise UserError(f"strong images: expected only with the losses {','.join(need)}, found {','.join(losses)}")
    if not used:
        return None
    ids = set(strong.image_ids if strong else ())
    kept = [image_id for image_id in split.with_masks().image_ids if image_id in ids]
    if not kept:
        raise UserError(f"losses {','.join(used)}: expected images of {split.dataset} {split.name} whose masks may be "
                        f"used (--strong_split or --strong_images), found none among {len(ids)} strong ones")
    return frozenset(kept)


def settings(saliency_dir: pathlib.Path | None, split: datasets.Split,
             strong: datasets.Split | None = None) -> dict[str, Any]:
    """Returns what of them decides a run's result, for settings.json; {} where nothing is used."""
    parts: dict[str, Any] = {}
    if saliency_dir is not None:
        parts.update(needed.saliency_of_split(saliency_dir, split))
    if strong is not None:
        parts["strong"] = {"split": strong.name, "images": len(strong), "fingerprint": strong.fingerprint}
    return parts
