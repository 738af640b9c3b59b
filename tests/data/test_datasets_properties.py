"""Any tags.csv, classes.txt and split lists give splits that keep their promises, or an error that names the file."""

import csv
import io
import os
import pathlib
import tempfile

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from ficklenet_tf.data import datasets
from ficklenet_tf.data.datasets import tags_csv
from ficklenet_tf.errors import UserError

_LETTERS = st.characters(codec="utf-8")
_TEXT = st.text(_LETTERS, max_size=12)
_NAMES = st.one_of(
    st.sampled_from(["a.png", "b.png", "b.jpg", "c d.png", "é.png", "x.flipped.png", "../e.png", ".h", ""]),
    _TEXT.map(lambda text: f"{text}.png"))
_TAGS = st.lists(st.one_of(st.sampled_from(["cat", "dog", "background", " cat ", ""]), _TEXT),
                 max_size=4).map(";".join)
_ROWS = st.lists(st.tuples(_NAMES, _TAGS), max_size=8)


def _table(rows, header=("image", "tags")):
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([header, *rows])
    return text.getvalue().encode("utf-8", "surrogatepass")


_TABLES = st.one_of(_ROWS.map(_table), st.binary(max_size=80), _TEXT.map(lambda text: f"image,tags\n{text}".encode()),
                    st.tuples(_ROWS, st.binary(max_size=3), st.integers(0, 200)).map(
                        lambda t: _table(t[0])[:t[2]] + t[1] + _table(t[0])[t[2]:]))
_LISTS = st.dictionaries(st.sampled_from(["train", "val", "test", "train_small", "holiday", "all", "1st"]),
                         st.one_of(st.lists(_NAMES, max_size=6).map("\n".join), _TEXT), max_size=3)
_CLASSES = st.one_of(st.none(), st.lists(_TEXT, max_size=5).map("\n".join))
# What any table may be refused for: the file, and where it has lines, the line.
_FILES = ("tags.csv", "classes.txt", ".txt")


def _write(root, table, classes, lists):
    (root / "tags.csv").write_bytes(table)
    if classes is not None:
        (root / "classes.txt").write_bytes(classes.encode("utf-8", "surrogatepass"))
    (root / "splits").mkdir()
    for name, text in lists.items():
        (root / "splits" / f"{name}.txt").write_bytes(text.encode("utf-8", "surrogatepass"))


def _check(table, classes, lists):
    """Reads a directory's texts and checks what every stage relies on."""
    with tempfile.TemporaryDirectory() as directory:
        root = pathlib.Path(directory)
        _write(root, table, classes, lists)
        try:
            rows = tags_csv.read_table(root / "tags.csv")
            class_names = tags_csv.read_classes(root, rows)
            splits = tags_csv.split_ids(root, rows)
        except UserError as error:
            assert any(name in str(error) for name in _FILES) and "expected" in str(error), error
            return
    assert rows and class_names[0] == "background" and len(set(class_names)) == len(class_names) <= 255
    for row in rows:
        assert row.image and "/" not in row.image and "\\" not in row.image and row.image[0] != "."
        assert "" not in row.tags and list(row.tags) == sorted(set(row.tags)) and row.line >= 2
    assert all(ids for _, ids in splits.values()) and splits[tags_csv.EVERY][1] == [row.image_id for row in rows]
    for name, (_, ids) in splits.items():
        if name.startswith(("val", "test")):
            for other, (_, train_ids) in splits.items():
                assert not other.startswith("train") or not set(ids) & set(train_ids)


@settings(max_examples=300, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(_TABLES, _CLASSES, _LISTS)
def test_any_text_gives_splits_or_an_error_with_its_file(table, classes, lists):
    _check(table, classes, lists)


@pytest.mark.slow
@pytest.mark.timeout(3600)
@settings(max_examples=20_000, deadline=None, suppress_health_check=list(HealthCheck))
@given(_TABLES, _CLASSES, _LISTS)
def test_any_text_for_long(table, classes, lists):
    _check(table, classes, lists)


_CONTENTS = st.sampled_from(["png", "jpeg", "empty", "cut", "text", "link", "directory", "missing"])


@settings(max_examples=25, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(st.dictionaries(st.sampled_from(["a.png", "b.jpg", "c.png", "d.bmp"]), _CONTENTS, min_size=1),
       st.dictionaries(st.sampled_from(["a.png", "c.png", "z.png"]), _CONTENTS, max_size=2))
def test_any_folder_gives_a_sound_split_or_names_a_file(contents, masks):
    with tempfile.TemporaryDirectory() as directory:
        root = pathlib.Path(directory)
        for folder, files in (("images", contents), ("labels", masks)):
            (root / folder).mkdir()
            for name, content in files.items():
                _put(root / folder / name, content, mask=folder == "labels")
        (root / "tags.csv").write_bytes(_table([(name, "cat") for name in contents]))
        (root / "classes.txt").write_text("cat\n")
        try:
            split = datasets.load_split("folder", "all", data_dir=root, cache_dir=root / "cache", on_error="skip")
        except UserError as error:
            assert "expected at least one usable image" in str(error) and "left out" in str(error)
            return
        usable = {name.split(".")[0] for name, content in contents.items() if content in ("png", "jpeg")}
        assert set(split.image_ids) <= usable and len(split) == len(split.image_ids) == len(split.labelled)
        for index in range(len(split)):
            example = split[index]
            assert example["image_id"] == split.image_ids[index] and example["tags"].tolist() == [1.0]
        assert len(split.left_out) >= len(contents) - len(split)


def _put(path, content, mask):
    pixels = np.zeros((6, 8), np.uint8) if mask else np.zeros((6, 8, 3), np.uint8)
    if content == "link":
        path.symlink_to("nothing")
    elif content == "directory":
        path.mkdir()
    elif content in ("empty", "text"):
        path.write_bytes(b"" if content == "empty" else b"not a picture")
    elif content != "missing":
        Image.fromarray(pixels).save(path, "JPEG" if content == "jpeg" else "PNG")
        if content == "cut":
            os.truncate(path, path.stat().st_size // 2)
