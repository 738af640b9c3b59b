"""What is known of a data set after a look at it: facts, no advice."""

import dataclasses
import pathlib

FEW = 10  # photographs of a tag
SMALL_SIDE = 64  # pixels, of the shorter side: of a network of stride 8 that is 8 positions
LARGE_SIDE = 2000  # pixels, of the longer side: masks are made at the photographs' own size


@dataclasses.dataclass(frozen=True)
class Count:
    """How many photographs to train on, and held out ones, have a tag."""

    train: int
    held_out: int


@dataclasses.dataclass(frozen=True)
class Group:
    """Photographs that are the same or look alike.

    Attributes:
      names: two or more.
      leak: one to train on, then all that are held out, where the group has both.
      tags_differ: they do not all have the same tags.
    """

    names: tuple[str, ...]
    leak: tuple[str, ...] | None
    tags_differ: bool


@dataclasses.dataclass(frozen=True)
class Findings:
    """What is in a data set, by the names of photographs ("a.jpg", "dog/a.jpg"; of VOC their ids).

    Attributes:
      root: the directory.
      num_train: photographs to train on.
      num_held_out: of the split "val".
      num_images: all photographs that are listed.
      num_masks: label images.
      tags: {tag: its `Count`}, in the classes' order.
      missing: photographs that are listed and not there.
      unreadable: {photograph: why}.
      bad_ids: photographs whose id is not fit for the names of files.
      bad_annotations: {photograph: why its annotation cannot be read}.
      untagged: photographs to train on without a tag.
      unknown_tags: {photograph: its tags that are no class}.
      repeated: image ids that a split has twice.
      unheard: {split list: image ids in it that nothing lists}.
      bad_masks: {photograph: why its label image cannot be read}.
      mask_sizes: {photograph: (its size, its label image's)}, (width, height), where they differ.
      mask_ids: {photograph: ids in its label image that are no class}.
      unlisted: files that nothing names, and folders of such, their paths below root.
      alike_tags: pairs of tags that look like one written in two ways.
      joined_tags: tags with a comma or a bar, which are rather several.
      same: groups of the same bytes.
      alike: groups that look alike, one photograph for each of `same`.
      small: {photograph: (width, height)}, the shorter side below `SMALL_SIDE`.
      large: {photograph: (width, height)}, the longer side above `LARGE_SIDE`.
      not_shown: {photograph: its tags that its label image lacks}.
      not_tagged: {photograph: classes in its label image that its tags lack}.
    """

    root: pathlib.Path
    num_train: int
    num_held_out: int
    num_images: int
    num_masks: int
    tags: dict[str, Count]
    missing: tuple[str, ...]
    unreadable: dict[str, str]
    bad_ids: tuple[str, ...]
    bad_annotations: dict[str, str]
    untagged: tuple[str, ...]
    unknown_tags: dict[str, tuple[str, ...]]
    repeated: tuple[str, ...]
    unheard: dict[str, tuple[str, ...]]
    bad_masks: dict[str, str]
    mask_sizes: dict[str, tuple[tuple[int, int], tuple[int, int]]]
    mask_ids: dict[str, tuple[int, ...]]
    unlisted: tuple[str, ...]
    alike_tags: tuple[tuple[str, str], ...]
    joined_tags: tuple[str, ...]
    same: tuple[Group, ...]
    alike: tuple[Group, ...]
    small: dict[str, tuple[int, int]]
    large: dict[str, tuple[int, int]]
    not_shown: dict[str, tuple[str, ...]]
    not_tagged: dict[str, tuple[str, ...]]

    @property
    def few(self) -> dict[str, int]:
        """Tags with fewer than `FEW` photographs to train on, and how many."""
        return {tag: count.train for tag, count in self.tags.items() if count.train < FEW}

    @property
    def everywhere(self) -> tuple[str, ...]:
        """Tags that every photograph to train on has: nothing shows the classifier what the thing is not."""
        return tuple(tag for tag, count in self.tags.items() if count.train == self.num_train)

    @property
    def stops(self) -> bool:
        """Whether training cannot begin: a stage would refuse the data set (with --on_error=stop)."""
        return not (self.num_train and self.num_held_out) or any(
            (self.missing, self.unreadable, self.bad_ids, self.bad_annotations, self.untagged, self.unknown_tags,
             self.repeated, self.unheard, self.bad_masks, self.mask_sizes, self.mask_ids))
