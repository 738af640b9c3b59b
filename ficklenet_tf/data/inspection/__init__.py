"""A look at a data set before the long work: what would stop a training, and what would make its masks worse.

`inspect` reads every photograph and every label image once and returns facts; what they mean says whoever shows them
(`tools/check_data.py`).
"""

import concurrent.futures
import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from ficklenet_tf.data.datasets import records
from ficklenet_tf.data.inspection import duplicates, listing, photographs, tag_names
from ficklenet_tf.data.inspection.findings import FEW, LARGE_SIDE, SMALL_SIDE, Count, Findings, Group
from ficklenet_tf.errors import UserError
from ficklenet_tf.runs import progress

__all__ = ["FEW", "LARGE_SIDE", "SMALL_SIDE", "Count", "Findings", "Group", "inspect"]


def inspect(dataset: str, data_dir: str | pathlib.Path | None) -> Findings:
    """Looks at every photograph and label image of a data set on disk.

    Args:
      dataset: "folder" or "voc".
      data_dir: as in `datasets.load_split`.

    Returns:
      `Findings`.

    Raises:
      FileNotFoundError, UserError: a text is missing or not as it should be, so that there is nothing to look at.
    """
    data = listing.read(dataset, data_dir)
    with concurrent.futures.ThreadPoolExecutor() as pool:
        seen = list(progress.bar(pool.map(photographs.look, data.entries), total=len(data.entries), unit="img",
                                 desc="check"))
    by_name = {entry.name: one for entry, one in zip(data.entries, seen, strict=True)}
    read = {name: one.photograph for name, one in by_name.items()
            if isinstance(one.photograph, photographs.Photograph)}
    return Findings(
        root=data.root, unlisted=data.unlisted,
        missing=tuple(name for name, one in by_name.items() if one.missing),
        unreadable={name: one.photograph for name, one in by_name.items()
                    if isinstance(one.photograph, str) and not one.missing},
        small={name: photograph.size for name, photograph in read.items() if min(photograph.size) < SMALL_SIDE},
        large={name: photograph.size for name, photograph in read.items() if max(photograph.size) > LARGE_SIDE},
        **_texts(data), **_masks(data, by_name), **_groups(data, read))


def _texts(data: listing.Listing) -> dict[str, Any]:
    """Returns how many photographs there are, and what is wrong with lists and tags."""
    ids = [entry.image_id for entry in data.entries]
    known, learned = frozenset(ids), data.ids("train")
    lists = [split_ids for _, split_ids in data.splits.values()]
    train, held_out = (frozenset(data.splits[name][1]) if name in data.splits else frozenset[str]()
                       for name in (data.train, "val"))
    used = [tag for entry in data.entries for tag in entry.tags]
    with_tag = {tag: {entry.image_id for entry in data.entries if tag in entry.tags} for tag in data.class_names[1:]}
    return {
        "num_images": len(known), "num_train": len(train), "num_held_out": len(held_out),
        "tags": {tag: Count(len(owners & train), len(owners & held_out)) for tag, owners in with_tag.items()},
        "repeated": tuple(dict.fromkeys(of[group[0]] for of in (ids, *lists) for group in duplicates.equal(of))),
        "unheard": {path.name: unheard for path, split_ids in data.splits.values()
                    if (unheard := tuple(image_id for image_id in split_ids if image_id not in known))},
        "bad_ids": tuple(entry.name for entry in data.entries if not _is_fit(entry.image_id)),
        "bad_annotations": {entry.name: entry.fault for entry in data.entries if entry.fault},
        "untagged": tuple(entry.name for entry in data.entries
                          if entry.image_id in learned and not entry.tags and not entry.fault),
        "unknown_tags": {entry.name: unknown for entry in data.entries
                         if (unknown := tuple(tag for tag in entry.tags if tag not in data.class_names[1:]))},
        "joined_tags": tuple(tag for tag in data.class_names[1:] if {",", "|"} & set(tag)),
        "alike_tags": tuple(tag_names.alike([*used, *set(data.class_names[1:]).difference(used)]))}


def _is_fit(image_id: str) -> bool:
    """Says whether a stage would take an image's id for the names of its files."""
    try:
        records.check_id(image_id, "")
    except UserError:
        return False
    return True


def _masks(data: listing.Listing, seen: Mapping[str, photographs.Seen]) -> dict[str, Any]:
    """Returns what is wrong with label images."""
    bad, sizes, ids, not_shown, not_tagged = {}, {}, {}, {}, {}
    for entry in data.entries:
        mask, photograph = seen[entry.name].mask, seen[entry.name].photograph
        if isinstance(mask, str):
            bad[entry.name] = mask
        elif mask is not None:
            sizes[entry.name] = (getattr(photograph, "size", mask.size), mask.size)
            ids[entry.name] = tuple(class_id for class_id in mask.ids if class_id >= len(data.class_names))
            shown = {data.class_names[class_id] for class_id in mask.ids if class_id < len(data.class_names)}
            not_shown[entry.name] = tuple(tag for tag in entry.tags if tag not in shown)
            not_tagged[entry.name] = () if entry.fault else tuple(sorted(shown - {*entry.tags, data.class_names[0]}))
    return {"num_masks": len(bad) + len(sizes), "bad_masks": bad,
            "mask_sizes": {name: pair for name, pair in sizes.items() if pair[0] != pair[1]},
            "mask_ids": {name: wrong for name, wrong in ids.items() if wrong},
            "not_shown": {name: tags for name, tags in not_shown.items() if tags},
            "not_tagged": {name: tags for name, tags in not_tagged.items() if tags}}


def _groups(data: listing.Listing, read: Mapping[str, photographs.Photograph]) -> dict[str, Any]:
    """Returns the photographs that are the same, and of these one each that look alike."""
    names, tags = list(read), {entry.name: entry.tags for entry in data.entries}
    ids = {entry.name: entry.image_id for entry in data.entries}
    learned, held_out = data.ids("train"), data.ids("val", "test")

    def group(members: list[str]) -> Group:
        train, others = ([name for name in members if ids[name] in split] for split in (learned, held_out))
        leak = (train[0], *others) if train and others else None
        return Group(tuple(members), leak, len({tags[name] for name in members}) > 1)

    same = [[names[k] for k in indices] for indices in duplicates.equal([read[name].digest for name in names])]
    repeats = {name for members in same for name in members[1:]}
    single = [name for name in names if name not in repeats]
    patterns = np.array([read[name].pattern for name in single], np.uint8).reshape(-1, *duplicates.SHAPE)
    alike = [[single[k] for k in indices] for indices in duplicates.alike(patterns)]
    return {"same": tuple(map(group, same)), "alike": tuple(map(group, alike))}
