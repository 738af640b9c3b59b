"""What the masks of a directory of one's own say: the first of them with its classes, beside the photograph's tags."""

from html import escape

import numpy as np

from ficklenet_tf.data import datasets, labels
from ficklenet_tf.report import gallery, markup, picture_rows, pictures

_LOOKED_AT = 200  # masks, evenly spaced: reading them takes seconds


def section(train_split: datasets.Split, val_split: datasets.Split, side: int) -> str:
    """Returns the section on a folder's masks, "" for other data sets and where there are none.

    Args:
      train_split: `datasets.Split`.
      val_split: `datasets.Split`.
      side: see `picture_rows.seed_pictures`.
    """
    splits = (train_split, val_split)
    masked = [(split, i) for split in splits for i, labelled in enumerate(split.labelled) if labelled]
    if train_split.dataset != "folder" or not masked:
        return ""
    names = train_split.class_names
    split, index = masked[0]
    cells = picture_rows.truth_pictures(split, index, side)
    ids = ", ".join(f"{i} {name}" for i, name in enumerate(names))
    return markup.section(
        "own-masks", "What your masks say",
        "The first of your masks, with the names of the ids in it: if they are not what the photograph shows, ids and "
        "names do not match. Id 1 is the first line of classes.txt.",
        gallery.table([(f"{split.image_ids[index]}: tags {_names(_tags(split, index), names)}", cells)], names),
        _agreement(pictures.evenly(masked, _LOOKED_AT), names),
        f"<details><summary>All ids</summary>{markup.paragraph(f'{ids}, {labels.IGNORE} not judged')}</details>")


def _agreement(masked: list[tuple[datasets.Split, int]], names: tuple[str, ...]) -> str:
    """Says in how many photographs mask and tags name the same classes, and names one where they do not."""
    other, example = 0, ""
    for split, index in masked:
        tags, classes = _tags(split, index), _classes(split, index)
        if tags != classes:
            other += 1
            example = example or (f"; in {split.image_ids[index]} the tags are {_names(tags, names)}, the mask has "
                                  f"{_names(classes, names)}")
    text = f"Mask and tags name the same classes in {len(masked) - other} of {len(masked)} photographs{example}."
    return f'<p class="{"missing" if 2 * other > len(masked) else "note"}">{escape(text)}</p>'


def _tags(split: datasets.Split, index: int) -> set[int]:
    return {int(i) + 1 for i in np.flatnonzero(split[index]["tags"])}


def _classes(split: datasets.Split, index: int) -> set[int]:
    return set(picture_rows.classes_of(labels.decode_label(split[index]["label"]))) - {labels.BACKGROUND}


def _names(class_ids: set[int], names: tuple[str, ...]) -> str:
    return ", ".join(names[i] for i in sorted(class_ids)) or "none"
