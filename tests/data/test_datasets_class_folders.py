"""Photographs in a folder for each class: which are the same, what they are called, and a table made of them."""

import os

import numpy as np
import pytest
from PIL import Image

from ficklenet_tf.data import datasets, images, labels
from ficklenet_tf.data.datasets import class_folders
from ficklenet_tf.errors import UserError

SIZE = (6, 8)


def put(path, value):
    """Writes a small photograph, the same value the same bytes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((*SIZE, 3), value, np.uint8)).save(path)


@pytest.fixture
def folder(tmp_path):
    """Two cats, two dogs, and one photograph of both; what is no class lies beside them."""
    root = tmp_path / "mine"
    for value, name in enumerate(["dog/1.png", "cat/1.png", "dog/rex.png", "cat/tom.JPG"]):
        put(root / name, 40 * value)
    for name in ("cat/both.png", "dog/both.png"):
        put(root / name, 200)
    for name in (".hidden/x.png", "splits/x.png", "dog/.y.png", "notes/z.txt", "top.png", "cat/sub/w.png"):
        put(root / name, 0) if name.endswith("png") else ((root / name).parent.mkdir(), (root / name).write_text(""))
    return root


def _load(folder, split="all", **options):
    return datasets.load_split("folder", split, data_dir=folder, cache_dir=folder.parent / "cache", **options)


def _tags(split):
    return {image_id: [split.class_names[k + 1] for k in np.flatnonzero(split[i]["tags"])]
            for i, image_id in enumerate(split.image_ids)}


TAGS = {"cat_1": ["cat"], "both": ["cat", "dog"], "tom": ["cat"], "dog_1": ["dog"], "rex": ["dog"]}


def test_a_folders_name_is_the_tag_and_the_same_photograph_in_two_has_both(folder):
    split = _load(folder)
    assert split.class_names == ("background", "cat", "dog") and _tags(split) == TAGS and not split.has_labels
    assert split[list(split.image_ids).index("dog_1")]["image"] == (folder / "dog" / "1.png").read_bytes()
    assert split.left_out == (f"{folder}: expected photographs in a folder for each class, found 2 others: cat/sub, "
                              "top.png",)
    train, val = _load(folder, "train"), _load(folder, "val")
    assert sorted(train.image_ids + val.image_ids) == sorted(TAGS) and train.image_ids and val.image_ids


def test_classes_masks_and_splits_are_as_with_a_table(folder):
    (folder / "classes.txt").write_text("dog\nzebra\ncat\n")
    labels.write_label(folder / "labels" / "dog_1.png", np.full(SIZE, 3))
    labels.write_label(folder / "labels" / "1.png", np.full(SIZE, 3))
    (folder / "splits" / "val.txt").write_text("dog/both.png\ndog_1\nrex.png\n")
    val, train = _load(folder, "val"), _load(folder, "train")
    assert val.class_names == ("background", "dog", "zebra", "cat") and val.labelled == (False, True, False)
    assert val.image_ids == ("both", "dog_1", "rex") and train.image_ids == ("cat_1", "tom")
    assert (labels.decode_label(val[1]["label"]) == 3).all()
    assert f"{folder}/labels: expected masks of photographs, <image id>.png, found 1 others: 1.png" in val.left_out
    (folder / "splits" / "val.txt").write_text("1.png\n")
    with pytest.raises(UserError, match=f"val.txt: expected images of {folder}, found '1.png'"):
        _load(folder, "val")
    (folder / "classes.txt").unlink()
    with pytest.raises(UserError, match=r"classes.txt: expected the classes that the ids in .*:\ncat\ndog$"):
        _load(folder)
    (folder / "classes.txt").write_text("dog\n")
    with pytest.raises(UserError, match=r"cat/1.png: expected tags of .*classes.txt \(dog\), found 'cat'"):
        _load(folder)


def test_a_list_may_name_every_copy_of_a_photograph(folder):
    (folder / "splits" / "val.txt").write_text("cat/both.png\ndog/both.png\ndog_1\nboth\n")
    assert _load(folder, "val").image_ids == ("both", "dog_1")
    (folder / "splits" / "val.txt").write_text("cat/both.png\ndog_1\ncat/both.png\n")
    with pytest.raises(UserError, match="val.txt: expected each image .* once, found 'both' twice"):
        _load(folder, "val")


def test_a_change_makes_the_data_set_anew(folder):
    before = _load(folder)
    put(folder / "dog" / "rex.png", 7)
    assert _load(folder).fingerprint != before.fingerprint
    put(folder / "bird" / "1.png", 9)
    split = _load(folder)
    assert split.class_names[1:] == ("bird", "cat", "dog") and "bird_1" in split.image_ids


def test_the_table_of_the_folders_reads_as_they_do(folder):
    (folder / "splits" / "train.txt").write_text("dog/both.png\ntom\n")
    before = {name: _load(folder, name) for name in ("all", "train", "val")}
    path = class_folders.write_table(folder)
    assert path.read_text() == ("image,tags\ncat/1.png,cat\ncat/both.png,cat;dog\ncat/tom.JPG,cat\ndog/1.png,dog\n"
                                "dog/rex.png,dog\n")
    for name, split in before.items():
        after = _load(folder, name)
        assert (after.fingerprint, after.image_ids) == (split.fingerprint, split.image_ids)
        assert after.left_out == (f"{folder}: expected files that tags.csv lists, found 2 others: cat/sub, top.png",)
    with pytest.raises(UserError, match="tags.csv: expected no table, which would be overwritten, found one"):
        class_folders.write_table(folder)
    text = path.read_text().replace("dog/rex.png,dog\n", "")
    path.write_text(text.replace("cat/tom.JPG,cat", "cat/tom.JPG,cat;sofa"))
    split = _load(folder)
    assert _tags(split) == {**{k: v for k, v in TAGS.items() if k != "rex"}, "tom": ["cat", "sofa"]}
    assert "found 3 others: cat/sub, dog/rex.png, top.png" in split.left_out[0]


def test_with_a_table_a_copy_in_another_tags_folder_is_not_listed(folder):
    class_folders.write_table(folder)
    before = _load(folder)
    put(folder / "bird" / "rex.png", 80)  # dog/rex.png, the same photograph
    split = _load(folder)
    assert _tags(split) == TAGS and split.fingerprint == before.fingerprint
    assert "found 3 others: bird/rex.png, cat/sub, top.png" in split.left_out[0]
    text = (folder / "tags.csv").read_text()
    (folder / "tags.csv").write_text(text.replace("both.png,cat;dog", "both.png,cat").replace("rex.png,dog",
                                                                                             "rex.png,bird;dog"))
    assert "found 3 others: cat/sub, dog/both.png, top.png" in _load(folder).left_out[0]


def test_photographs_in_no_folder_and_too_deep_are_noted(folder):
    before = _load(folder)
    for name in ("bird/x/1.png", "bird/x/2.png", "bird/y/z/3.png", "bird/y/.z/4.png", "empty/x/.y/5.png", "new.jpg"):
        put(folder / name, 9)
    (folder / "bird" / "w").mkdir()
    split = _load(folder)
    assert _tags(split) == TAGS and split.fingerprint == before.fingerprint
    assert split.left_out[0].endswith("found 5 others: bird/x, bird/y, cat/sub, new.jpg, top.png")
    (folder / "images").mkdir()
    put(folder / "images" / "top.png", 1)
    (folder / "tags.csv").write_text("image,tags\ntop.png,cat\n")
    assert _load(folder).left_out == (f"{folder}: expected files that tags.csv lists, found 2 others: new.jpg, "
                                      "top.png",)


@pytest.mark.parametrize("name", ["masks", "mask", "train", "Train", "val2017", "test_small", "validation", "seeds",
                                  "annotations", "Images", "Labels", "runs"])
def test_a_folder_that_is_hardly_a_class_is_refused_unless_classes_txt_has_it(folder, name):
    put(folder / name / "a.png", 9)
    message = rf"mine: expected a folder for each class, .* found {name}/: rename it, or move it away; if it is a "
    for act in (_load, class_folders.write_table):
        with pytest.raises(UserError, match=message + rf"class, list it in {folder}/classes.txt with all others"):
            act(folder)
    (folder / "classes.txt").write_text("cat\ndog\n")
    with pytest.raises(UserError, match=message):
        _load(folder, on_error="skip")
    (folder / "classes.txt").write_text(f"cat\ndog\n{name}\n")
    assert _tags(_load(folder)) == {**TAGS, "a": [name]}


@pytest.mark.parametrize("name", ["none", "Other", "BACKGROUND"])
def test_a_folder_of_photographs_without_a_class_is_refused(folder, name):
    put(folder / name / "a.png", 9)
    with pytest.raises(UserError, match=f"found {name}/: photographs that show no class teach nothing here"):
        _load(folder)


@pytest.mark.parametrize("name", ["valley", "trainer", "train station", "testudo", "masked owl", "runner", "image"])
def test_a_class_may_begin_like_such_a_folder(folder, name):
    put(folder / name / "a.png", 9)
    assert _tags(_load(folder))["a"] == [name]


def test_what_predict_and_a_stage_have_written_is_no_class(folder):
    before = _load(folder)
    for stem in ("1", "new"):  # as tools.predict and export.client write it, wherever they are told to
        for to in ("masks", "answers"):
            labels.write_label(folder / to / f"{stem}.png", np.ones(SIZE))
            images.write_overlay(folder / to / f"{stem}_overlay.jpg", np.zeros((*SIZE, 3), np.uint8), np.ones(SIZE))
    labels.write_label(folder / "seeds" / "1.png", np.ones(SIZE))
    (folder / "classifier").mkdir()
    for stage in ("seeds", "classifier"):
        (folder / stage / "settings.json").write_text("{}")
    split = _load(folder)
    assert _tags(split) == TAGS and split.fingerprint == before.fingerprint
    assert split.left_out[0].endswith("found 5 others: answers, cat/sub, masks, seeds, top.png")
    labels.write_label(folder / "masks" / "other.png", np.ones(SIZE))
    with pytest.raises(UserError, match="found masks/: rename it"):
        _load(folder)


@pytest.mark.parametrize("name", ["../a.png", "/cat/1.png", "cat/../x.png", "cat/.y.png", "cat/", "cat/sub/w.png",
                                  "cat\\1.png", "1.png"])
def test_a_table_without_images_names_folder_and_file(folder, name):
    (folder / "tags.csv").write_text(f"image,tags\n{name},cat\n")
    with pytest.raises(UserError, match=r"line 2: expected the name of folder and file, as dog/a.jpg .*, found '"):
        _load(folder)


def _only_top(folder):
    for name in ("cat", "dog"):
        (folder / name).rename(folder / f".{name}")
    put(folder / "bird" / "x" / "1.png", 9)


WRONG = {
    "two_endings": (lambda folder: put(folder / "dog" / "rex.jpg", 0),
                    "expected file names that differ by more than their ending, found dog/rex.jpg and dog/rex.png"),
    "a_name_that_is_another's_id": (lambda folder: put(folder / "bird" / "dog_1.png", 0),
                                    r"found bird/dog_1.png and dog/1.png \(both are 'dog_1'\); rename one"),
    "semicolon": (lambda folder: put(folder / "a;b" / "x.png", 0), "names of folders that can be tags, .*'a;b'"),
    "space": (lambda folder: put(folder / "bird " / "x.png", 0), "names of folders that can be tags, .*'bird '"),
    "background": (lambda folder: put(folder / "background" / "x.png", 0), "background.: photographs that show no"),
    "heic": (lambda folder: (folder / "dog" / "x.heic").write_bytes(b"\0\0\0\x18ftypheic"),
             r"dog/x.heic: expected a photograph \(JPEG, PNG, ...\)"),
    "none": (_only_top, r"mine: expected images/ and a table tags.csv, or a folder .* \(dog/, cat/\), found neither, "
                        r"but photographs elsewhere: top.png, bird/x$"),
    "images": (lambda folder: (folder / "images").mkdir(), r"expected a table .* \(or, without images/, a folder"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_is_ambiguous_or_no_photograph_is_named(folder, case):
    spoil, message = WRONG[case]
    spoil(folder)
    with pytest.raises((UserError, FileNotFoundError), match=message):
        _load(folder)


def test_no_table_where_there_are_images(folder):
    (folder / "images").mkdir()
    with pytest.raises(UserError, match="expected a folder of photographs for each class and no images/"):
        class_folders.write_table(folder)
    assert not (folder / "tags.csv").exists()


def test_a_table_may_name_what_no_file_can_be_called(folder):
    (folder / "tags.csv").write_text(f"image,tags\ncat/1.png,cat\ncat/{'y' * 300}.png,cat\n")
    with pytest.raises(UserError, match="expected image ids that can be file names"):
        _load(folder)
    assert _load(folder, on_error="skip").image_ids == ("1",)


@pytest.mark.parametrize("name", [b"two\nlines.png", b"gr\xfcn.png", b"x" * 201 + b".png"])
def test_a_name_that_no_table_can_hold_is_refused(folder, name):
    os.rename(folder / "dog" / "rex.png", os.fsencode(folder / "dog") + b"/" + name)
    with pytest.raises(UserError, match="expected image ids that can be file names"):
        _load(folder)
