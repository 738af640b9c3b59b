"""Whose masks are learned: none of those that are measured, and of a few, evenly spaced ones."""

import pytest

from ficklenet_tf.data import datasets
from ficklenet_tf.data.datasets import folder, strong
from ficklenet_tf.errors import UserError
from tests.data.test_datasets_folder import make_folder


def _split(labelled, dataset="folder"):
    ids = tuple(f"p{i}" for i in range(len(labelled)))
    return datasets.Split(dataset, "train", ("background", "x"), ids, any(labelled), "print",
                          rows=tuple(range(len(labelled))), labelled=tuple(map(bool, labelled)))


def _chosen(split):
    return [int(image_id[1:]) for image_id in split.image_ids]


@pytest.mark.parametrize(("dataset", "labelled", "count", "chosen"), [
    ("folder", [0, 0, 1, 1, 1, 0, 1, 1, 1], 3, [2, 4, 7]),  # of 2, 3, 4, 6, 7, 8 every second one
    ("folder", [1] * 9, 3, [0, 3, 6]), ("folder", [0, 1, 1], 2, [1, 2]),
    ("voc", [0, 0, 1, 1, 1, 0, 1, 1, 1], 3, [2, 4, 7]),
    ("voc", [1] * 9, 3, [0, 1, 2]), ("shapes", [1] * 9, 3, [0, 1, 2])])  # what published figures were made with
def test_some_are_evenly_spaced_among_those_with_masks(dataset, labelled, count, chosen):
    some = strong.some(_split(labelled, dataset), count, len(labelled) - 1)
    assert _chosen(some) == chosen and all(some.labelled)


def test_the_images_with_masks():
    some, all_, none = _split([0, 1, 0, 1, 1, 1]), _split([1, 1]), _split([0, 0])
    assert _chosen(some.with_masks()) == [1, 3, 4, 5] and all_.with_masks() is all_
    assert _chosen(some.with_masks(3)) == [1, 3, 4]  # places 0, 4 // 3 and 8 // 3 of 1, 3, 4, 5
    assert _chosen(some.with_masks(2)) == [1, 4] and _chosen(some.with_masks(9)) == [1, 3, 4, 5]
    assert not len(none.with_masks()) and not len(none.with_masks(3))


@pytest.mark.parametrize(("labelled", "count", "message"), [
    ([0, 1, 1, 0], 3, "expected 1 to 2 of 4 images, of which 2 have masks, found 3"),
    ([1, 1, 1], 3, "expected 1 to 2 of 3 images, of which 3 have masks, found 3"),  # no others would remain
    ([0, 0], 1, "expected masks in folder train, found none")])
def test_more_than_there_are_masks_is_refused(labelled, count, message):
    with pytest.raises(UserError, match=f"^strong_images: {message}$"):
        strong.some(_split(labelled), count, len(labelled) - 1)


def test_what_is_held_out_is_left_out_and_said(capsys):
    split = _split([1] * 6)
    measured = {"val": ["p1", "else"], "test": ["p4", "p1"], "test_other": ["another"]}
    assert _chosen(strong.without(split, measured, "split")) == [0, 2, 3, 5]
    assert capsys.readouterr().err.splitlines()[-1].endswith(
        "train: 2 of 6 photographs are held out (val, test), their masks are not learned")
    assert strong.without(split, {"val": ["another"]}, "split") is split and not capsys.readouterr().err
    with pytest.raises(UserError, match="^split: expected photographs that are not held out, found all 6 of train in "
                                        "val$"):
        strong.without(split, {"val": split.image_ids, "test": []}, "split")


def test_a_folder_is_measured_by_every_list_of_that_name(tmp_path):
    root = make_folder(tmp_path / "mine")
    assert list(folder.measured(root)) == ["val"]  # chosen by a hash
    for name, content in (("val", "a"), ("val_small", "a"), ("test", "f"), ("drawn", "a\nf\ngr\u00fcn"),
                          ("vacation", "d.e")):
        (root / f"{name}.txt").write_text(content, "utf-8")
    assert folder.measured(root) == {"val": ["a"], "val_small": ["a"], "test": ["f"]}
    assert folder.measured(root, "vacation") == {"val": ["a"], "val_small": ["a"], "test": ["f"], "vacation": ["d.e"]}
