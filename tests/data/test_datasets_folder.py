"""One's own photographs: what a directory may look like, and every way in which it may be wrong."""

import os

import numpy as np
import pytest
from PIL import Image

from ficklenet_tf.data import datasets, images, labels
from ficklenet_tf.data.datasets import folder as folder_
from ficklenet_tf.data.datasets import tags_csv
from ficklenet_tf.errors import UserError

TAGS = {"a.png": "dog;cat", "b c.jpg": "cat", "d.e.png": " cat ; dog;dog ", "f.png": "bird", "grün.png": "dog"}
SIZE = (6, 8)


def make_folder(root, tags=TAGS, header="image,tags"):
    """Writes a directory of small photographs; returns it."""
    (root / "images").mkdir(parents=True)
    for i, name in enumerate(tags):
        Image.fromarray(np.full((*SIZE, 3), 40 * (i % 6), np.uint8)).save(root / "images" / name)
    write_table(root, tags, header)
    return root


def write_table(root, tags, header="image,tags"):
    (root / "tags.csv").write_text("\n".join([header, *(f"{name},{tag}" for name, tag in tags.items())]), "utf-8")


def write_mask(folder, name, mask, class_names=("bird", "cat", "dog")):
    """Writes a label image, and the classes that its ids mean."""
    labels.write_label(folder / "labels" / name, mask)
    (folder / "classes.txt").write_text("\n".join(class_names))


@pytest.fixture
def folder(tmp_path):
    return make_folder(tmp_path / "my pictures")


def _load(folder, split="all", **options):
    return datasets.load_split("folder", split, data_dir=folder, cache_dir=folder.parent / "cache", **options)


def _tags(split, index):
    return [split.class_names[i + 1] for i in np.flatnonzero(split[index]["tags"])]


def test_classes_come_from_the_tags(folder):
    split = _load(folder)
    assert split.class_names == ("background", "bird", "cat", "dog")
    assert split.image_ids == ("a", "b c", "d.e", "f", "grün") and not split.has_labels
    assert [_tags(split, i) for i in range(5)] == [["cat", "dog"], ["cat"], ["cat", "dog"], ["bird"], ["dog"]]
    assert images.decode_image_op(split[4]["image"]).numpy().tolist() == np.full((*SIZE, 3), 160).tolist()
    assert split.left_out == ()


def test_classes_txt_fixes_the_order(folder):
    (folder / "classes.txt").write_text("\ufeffbackground\ndog\n\nzebra\ncat\nbird\n", "utf-8")
    split = _load(folder)
    assert split.class_names == ("background", "dog", "zebra", "cat", "bird")
    np.testing.assert_array_equal(split[0]["tags"], [1, 0, 1, 0])


def test_labels_are_optional_one_by_one(folder):
    mask = np.uint8([[0, 1, 2, 3, 255, 0, 0, 0]] * 6)
    write_mask(folder, "d.e.png", mask)
    split = _load(folder)
    assert split.has_labels and [split[i]["has_label"] for i in range(5)] == [False, False, True, False, False]
    np.testing.assert_array_equal(labels.decode_label_op(split[2]["label"]), mask)
    np.testing.assert_array_equal(labels.decode_label_op(split[0]["label"]), np.full(SIZE, 255))


def test_table_of_a_spreadsheet(tmp_path):
    folder = make_folder(tmp_path / "x", {"a.png": '"cat;dog"', "b.png": "dog"}, header="\ufeff image , tags")
    assert _tags(_load(folder), 0) == ["cat", "dog"]


def test_split_lists_in_either_place_by_name_or_stem(folder):
    (folder / "splits").mkdir()
    (folder / "splits" / "train.txt").write_text("d.e\na.png\n\n")
    (folder / "val.txt").write_text("b c\n")
    (folder / "holiday.txt").write_text("grün\nf.png")
    assert _load(folder, "train").image_ids == ("d.e", "a")
    assert _load(folder, "val").image_ids == ("b c",)
    assert _load(folder, "holiday").image_ids == ("grün", "f")
    assert len(_load(folder, "all")) == 5


@pytest.mark.parametrize("name", ["val", "val_small", "test"])
def test_lists_to_train_and_to_evaluate_on_share_nothing(folder, name):
    (folder / "train.txt").write_text("d.e\na.png\n")
    (folder / "holiday.txt").write_text("d.e\nf")  # any other name may share
    (folder / f"{name}.txt").write_text("f\n")
    assert len(_load(folder, "holiday")) == 2 and len(_load(folder, name)) == 1
    (folder / f"{name}.txt").write_text("f\na\n")
    with pytest.raises(UserError, match=f"{name}.txt: expected images that train does not list, found 1 of them, the "
                                        "first 'a'"):
        _load(folder, "train")


def test_what_a_test_list_holds_is_not_learned(folder):
    (folder / "test.txt").write_text("a\nf\n")
    train, val = (set(_load(folder, name).image_ids) for name in ("train", "val"))
    assert train and val and train | val == {"b c", "d.e", "grün"} and not train & val
    (folder / "test.txt").rename(folder / "train_small.txt")
    assert not {"a", "f"} & set(_load(folder, "val").image_ids)


def test_a_lone_list_leaves_the_rest_to_the_other_split(folder):
    (folder / "val.txt").write_text("b c\nf\n")
    assert _load(folder, "train").image_ids == ("a", "d.e", "grün")
    (folder / "val.txt").rename(folder / "train.txt")
    assert _load(folder, "val").image_ids == ("a", "d.e", "grün")


def test_what_is_no_list_is_none_and_a_list_is_read_in_any_case(folder):
    (folder / "splits").mkdir()
    (folder / "LICENSE-2.txt").write_text("All images are free.\n")
    (folder / "splits" / "Train.txt").write_text("a\nf\n")
    (folder / "Val.txt").write_text("b c\n")
    assert _load(folder, "train").image_ids == ("a", "f") and _load(folder, "val").image_ids == ("b c",)
    (folder / "Val.txt").rename(folder / "splits" / "Validation.txt")
    with pytest.raises(UserError, match=r"Validation.txt: expected the name val.txt for the photographs to hold out"):
        _load(folder, "train")


@pytest.mark.parametrize("name", ["test_hard", "Test_hard", "VAL2"])
def test_capitals_do_not_make_a_list_another_kind(folder, name):
    """Else photographs to measure on would be learned, without a word."""
    (folder / f"{name}.txt").write_text("a\nf\n")
    assert not {"a", "f"} & set(_load(folder, "train").image_ids)
    assert folder_.measured(folder)[name[0].lower() + name[1:] if name[0] == "T" else name.replace("VAL", "val")]


@pytest.mark.parametrize("name", ["Tags.csv", "CLASSES.TXT", "Splits", "Labels", "IMAGES"])
def test_a_name_with_a_meaning_in_other_capitals_is_refused(folder, name):
    meant = folder / name.casefold()
    meant.rename(folder / name) if meant.exists() else (folder / name).mkdir()
    if meant.exists():
        pytest.skip("here capitals make no other file")
    with pytest.raises(UserError, match=f"{name}: expected the name {name.casefold()}, in small letters; rename it"):
        _load(folder)


@pytest.mark.parametrize("text", [b"gr\xfc\xdfe", "hello".encode("utf-16")])
def test_a_text_that_is_no_list_may_have_any_encoding(folder, text):
    (folder / "README.txt").write_bytes(text)
    assert len(_load(folder)) == 5
    (folder / "README.txt").rename(folder / "val.txt")
    with pytest.raises(UserError, match=r"val\.txt: expected UTF-8 text"):
        _load(folder)


def test_names_are_the_same_however_their_letters_are_composed(tmp_path):
    """macOS writes them decomposed, a spreadsheet composed."""
    one, other = "caf\u00e9", "cafe\u0301"
    for number, (of_file, of_text) in enumerate(((other, one), (one, other))):
        folder = make_folder(tmp_path / str(number), {f"{of_file}.png": "dog", "b.png": "cat"})
        write_table(folder, {f"{of_text}.png": "dog", "b.png": "cat"})
        (folder / "val.txt").write_text(f"{of_text}.png\n", "utf-8")
        write_mask(folder, f"{of_file}.png", np.ones(SIZE, np.uint8), ("dog", "cat"))
        split = _load(folder, "val")
        assert split.image_ids == (one,) and split.labelled == (True,) and not folder_.read(folder).unlisted


def test_a_list_names_folder_and_file_however_composed(tmp_path):
    for number, tag in enumerate(("cat", "dog")):
        (tmp_path / "mine" / tag).mkdir(parents=True)
        for name in ("b", "cafe\u0301")[:number + 1]:
            Image.fromarray(np.full((*SIZE, 3), 40 * number, np.uint8)).save(tmp_path / "mine" / tag / f"{name}.png")
    (tmp_path / "mine" / "val.txt").write_text("dog/caf\u00e9.png\ncat/b.png\n", "utf-8")
    assert _load(tmp_path / "mine", "val").image_ids == ("caf\u00e9", "cat_b")


@pytest.mark.parametrize("name", ["every_image", "class_names", "unheard"])
def test_a_split_that_is_none_is_told_which_there_are(folder, name):
    with pytest.raises(UserError, match=f"folder: expected one of the splits all, train, val, found '{name}'"):
        _load(folder, name)


def test_of_a_folder_evenly_spaced_photographs_are_tried(folder):
    assert _load(folder, max_images=2).image_ids == ("a", "d.e") and len(_load(folder, max_images=9)) == 5
    whole, four = _load(folder).fingerprint, _load(folder, max_images=4).fingerprint
    assert _load(folder, max_images=9).fingerprint == whole != four


def test_letters_composed_or_not_are_one_tag(folder):
    write_table(folder, {"a.png": "\u00e9t\u00e9", "f.png": "e\u0301te\u0301"})
    (folder / "classes.txt").write_text("e\u0301te\u0301\n", "utf-8")
    split = _load(folder)
    assert split.class_names == ("background", "\u00e9t\u00e9") and split[1]["tags"].tolist() == [1]


def test_what_is_learned_is_not_measured(folder):
    train, everything = _load(folder, "train"), _load(folder, "all")
    datasets.check_apart(train, _load(folder, "val"))
    with pytest.raises(UserError, match=r"held_out: expected photographs from which nothing learns, found \d of all"):
        datasets.check_apart(everything, _load(folder, "val"))


def test_hashed_split_is_a_tenth_stable_and_never_empty(tmp_path):
    def rows(count):
        return [tags_csv.Row(f"i{i}", f"i{i}.png", ("x",), i) for i in range(count)]

    def split(count):
        splits = tags_csv.split_ids(tmp_path, rows(count))
        return {name: set(ids) for name, (_, ids) in splits.items()}

    many, more = split(2000), split(2400)
    assert 0.08 < len(many["val"]) / 2000 < 0.12
    assert not many["val"] & many["train"] and len(many["val"] | many["train"]) == 2000
    assert many["val"] == {i for i in more["val"] if int(i[1:]) < 2000}  # new images move no old one
    for count in (2, 3, 5):
        assert len(split(count)["val"]) >= 1 and len(split(count)["train"]) >= 1
    assert set(split(1)) == {tags_csv.EVERY, "train"}


def test_images_without_tags_are_only_for_splits_that_do_not_train(folder):
    write_table(folder, {**TAGS, "f.png": ""})
    (folder / "val.txt").write_text("f\n")
    np.testing.assert_array_equal(_load(folder, "val")[0]["tags"], [0, 0])
    (folder / "val.txt").write_text("a\n")
    with pytest.raises(ValueError, match=r"tags\.csv, line 5, f\.png: expected at least one tag for training"):
        _load(folder, "val")
    split = _load(folder, "train", on_error="skip")
    assert split.image_ids == ("b c", "d.e", "grün") and "line 5, f.png" in split.left_out[0]


def test_unlisted_files_are_counted_and_listed(folder, caplog):
    write_table(folder, {name: tags for name, tags in TAGS.items() if name not in ("f.png", "a.png")})
    write_mask(folder, "zz.png", np.zeros(SIZE))
    split = _load(folder)
    assert len(split) == 3
    assert [message.split("/")[-1] for message in split.left_out] == [
        "images: expected files that tags.csv lists, found 2 others: a.png, f.png",
        "labels: expected files that tags.csv lists, found 1 others: zz.png"]
    assert "found 2 others: a.png, f.png" in caplog.text
    caplog.clear()
    _load(folder)
    assert "found 2 others" in caplog.text  # also when the records are there already


def _duplicate(folder):
    (folder / "tags.csv").write_text((folder / "tags.csv").read_text("utf-8") + "\na.png,dog", "utf-8")


def _duplicate_stem(folder):
    Image.fromarray(np.zeros((*SIZE, 3), np.uint8)).save(folder / "images" / "a.jpg")
    write_table(folder, {**TAGS, "a.jpg": "dog"})


def _unknown_tag(folder):
    (folder / "classes.txt").write_text("cat\ndog\n")


def _link_to_nothing(folder):
    (folder / "images" / "f.png").unlink()
    (folder / "images" / "f.png").symlink_to("gone.png")


def _pipe(folder):
    (folder / "images" / "f.png").unlink()
    os.mkfifo(folder / "images" / "f.png")


def _mask_jpeg(folder):
    write_mask(folder, "a.png", np.zeros(SIZE))
    Image.fromarray(np.zeros(SIZE, np.uint8)).save(folder / "labels" / "a.png", "JPEG")


def _mask_pipe(folder):
    write_mask(folder, "a.png", np.zeros(SIZE))
    (folder / "labels" / "a.png").unlink()
    os.mkfifo(folder / "labels" / "a.png")


def _long_name(folder):
    name = f"{'x' * 201}.png"
    Image.fromarray(np.zeros((*SIZE, 3), np.uint8)).save(folder / "images" / name)
    write_table(folder, {**TAGS, name: "dog"})


SKIPPABLE = {
    "image_missing": (lambda folder: (folder / "images" / "f.png").unlink(), 4,
                      r"images/f\.png: expected a photograph, found no such file"),
    "truncated": (lambda folder: (folder / "images" / "b c.jpg").write_bytes(
        (folder / "images" / "b c.jpg").read_bytes()[:-9]), 4, r"b c\.jpg: expected a .*, found a file of"),
    "zero": (lambda folder: (folder / "images" / "f.png").write_bytes(b""), 4, r"f\.png: .*found a file of 0 bytes"),
    "unknown_tag": (_unknown_tag, 4, r"tags\.csv, line 5, f\.png: expected tags of .*classes\.txt \(cat, dog\), "
                                     r"found 'bird'"),
    "duplicate": (_duplicate, 5, r"tags\.csv: expected each image \(.*\) once, found 'a' twice"),
    "duplicate_stem": (_duplicate_stem, 5, r"tags\.csv: expected each image \(.*\) once, found 'a' twice"),
    "mask_size": (lambda folder: write_mask(folder, "a.png", np.zeros((8, 6))), 4,
                  r"labels/a\.png: expected the size of .*images/a\.png, 8 x 6 pixels, found 6 x 8"),
    "link_to_nothing": (_link_to_nothing, 4, r"images/f\.png: expected a photograph, found no such file"),
    "pipe": (_pipe, 4, r"images/f\.png: expected a photograph, found something that is no file"),
    "mask_pipe": (_mask_pipe, 4, r"labels/a\.png: expected a label image, found something that is no file"),
    "mask_jpeg": (_mask_jpeg, 4, r"labels/a\.png: expected a PNG of at most 67108864 pixels, found JPEG of 8 x 6"),
    "long_name": (_long_name, 5, r"expected image ids that can be file names, of 1 to 200 bytes, .*bytes\)'"),
    "mask_id": (lambda folder: write_mask(folder, "a.png", np.full(SIZE, 4)), 4,
                r"labels/a\.png: expected ids 0\.\.3 or 255, found \[4\]"),
}


@pytest.mark.parametrize("case", SKIPPABLE)
def test_bad_images_stop_with_file_expectation_and_finding_or_are_skipped(folder, case):
    spoil, kept, message = SKIPPABLE[case]
    spoil(folder)
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        _load(folder)
    split = _load(folder, on_error="skip")
    assert len(split) == kept and len(split.left_out) <= 2
    with pytest.raises(ValueError, match=message):
        raise ValueError("\n".join(split.left_out))


def test_the_first_of_two_rows_counts(folder):
    _duplicate(folder)
    assert _tags(_load(folder, on_error="skip"), 0) == ["cat", "dog"]


def test_listed_images_without_a_row(folder):
    (folder / "val.txt").write_text("f\nunheard\n")
    with pytest.raises(ValueError, match=r"val\.txt: expected images of .*tags\.csv, found 'unheard'"):
        _load(folder, "val")
    assert _load(folder, "val", on_error="skip").image_ids == ("f",)
    (folder / "val.txt").unlink()
    (folder / "diary.txt").write_text("f.png\nnice light\n")
    with pytest.raises(ValueError, match="found 'nice light'; diary.txt names a photograph and counts as a list"):
        _load(folder, "diary")


STRUCTURE = {
    "no_table": (lambda folder: (folder / "tags.csv").unlink(), r"tags\.csv: expected a table .* found no such file"),
    "columns": (lambda folder: write_table(folder, TAGS, "file;labels"),
                r"tags\.csv: expected columns image and tags, each once, .* found \['file;labels'\]"),
    "column_twice": (lambda folder: write_table(folder, {"a.png": "cat,dog"}, "image,tags,tags"),
                     r"tags\.csv: expected columns image and tags, each once, .* found \['image', 'tags', 'tags'\]"),
    "empty": (lambda folder: write_table(folder, {}), r"tags\.csv: expected at least one image, found none"),
    "encoding": (lambda folder: (folder / "tags.csv").write_bytes(b"image,tags\ngr\xfcn.png,cat"),
                 r"tags\.csv: expected UTF-8 text, found"),
    "commas": (lambda folder: write_table(folder, {"a.png": "cat,dog"}),
               r"tags\.csv, line 2: expected 2 columns \(tags are separated by ;\), found 3"),
    "quote": (lambda folder: write_table(folder, {"a.png": '"cat', "b c.jpg": "cat", "f.png": 'dog"'}),
              r"tags\.csv, line 2: expected quotes that end on their line, found a line break within quotes"),
    "quote_at_the_end": (lambda folder: write_table(folder, {"a.png": "cat", "f.png": '"dog'}),
                         r"tags\.csv, line 3: expected quotes that end on their line, found unexpected end of data"),
    "path": (lambda folder: write_table(folder, {"../a.png": "cat"}),
             r"line 2: expected the name of a file in images/, found '../a\.png'"),
    "no_name": (lambda folder: write_table(folder, {"": "cat"}), r"line 2: expected the name of a file .* found ''"),
    "no_tag_at_all": (lambda folder: write_table(folder, {"a.png": ";"}), r"expected 1 to 254 classes, found 0"),
    "too_many": (lambda folder: write_table(folder, {"a.png": ";".join(f"t{i}" for i in range(255))}),
                 r"tags\.csv: expected 1 to 254 classes, found 255"),
    "class_twice": (lambda folder: (folder / "classes.txt").write_text("cat\ndog\ncat\nbird"),
                    r"classes\.txt: expected each class once .* found cat"),
    "background": (lambda folder: write_table(folder, {"a.png": "Background"}), r"none called background.*leave them"),
    "folders_in_images": (lambda folder: ((folder / "images" / "dog").mkdir(),
                                          (folder / "images" / "a.png").rename(folder / "images" / "dog" / "a.png"),
                                          (folder / "tags.csv").unlink()), r"found folders .*--data_dir=.*images$"),
    "empty_split": (lambda folder: (folder / "val.txt").write_text("\n \n"),
                    r"val\.txt: expected at least one image, found an empty split"),
    "split_name": (lambda folder: (folder / "all.txt").write_text("a"), r"all\.txt: expected a split list with "),
    "classes_list": (lambda folder: (folder / "class_names.txt").write_text("cat\ndog"),
                     r"class_names\.txt: expected a split list .* found 'class_names'; classes are listed in classes"),
    "no_images": (lambda folder: (folder / "images").rename(folder / "photos"),
                  r"expected the name of folder and file, as dog/a\.jpg \(there is no images/\), found 'a\.png'"),
    "masks_without_classes": (lambda folder: labels.write_label(folder / "labels" / "a.png", np.zeros(SIZE)),
                              r"classes\.txt: expected the classes that the ids in .*labels mean, .* line 1 is id 1, "
                              r".* found no such file.*:\nbird\ncat\ndog$"),
}


@pytest.mark.parametrize("on_error", ["stop", "skip"])
@pytest.mark.parametrize("case", STRUCTURE)
def test_a_wrong_structure_always_stops(folder, case, on_error):
    spoil, message = STRUCTURE[case]
    spoil(folder)
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        _load(folder, on_error=on_error)


def test_254_classes_fit(tmp_path):
    folder = make_folder(tmp_path / "x", {"a.png": ";".join(f"t{i:03d}" for i in range(254)), "b.png": "t000"})
    write_mask(folder, "a.png", np.full(SIZE, 254), [f"t{i:03d}" for i in range(254)])
    split = _load(folder)
    assert len(split.class_names) == 255 and split[0]["tags"].sum() == 254
    assert (labels.decode_label_op(split[0]["label"]).numpy() == 254).all()


def test_no_directory_is_an_error():
    with pytest.raises(ValueError, match="data_dir: expected the directory of your photographs, found none"):
        datasets.load_split("folder", "train")


def test_odd_photographs_simply_work(tmp_path):
    folder = make_folder(tmp_path / "x", {f"{name}.png": "cat" for name in ("one", "long", "deep", "grey", "alpha")})
    Image.fromarray(np.full((1, 1, 3), 9, np.uint8)).save(folder / "images" / "one.png")
    Image.fromarray(np.full((10, 8000, 3), 9, np.uint8)).save(folder / "images" / "long.png")
    Image.fromarray(np.full((4, 5), 9 * 256, np.uint16)).save(folder / "images" / "deep.png")
    Image.fromarray(np.full((4, 5), 9, np.uint8)).save(folder / "images" / "grey.png")
    Image.fromarray(np.full((4, 5, 4), 9, np.uint8)).save(folder / "images" / "alpha.png")
    split = _load(folder)
    for i, shape in enumerate([(1, 1), (10, 8000), (4, 5), (4, 5), (4, 5)]):
        image = images.decode_image_op(split[i]["image"]).numpy()
        assert image.shape == (*shape, 3) and (image == 9).all()
        assert labels.decode_label_op(split[i]["label"]).shape == shape


def test_a_data_set_that_another_process_has_prepared_meanwhile(photographs_dir, tmp_path, monkeypatch):
    """A worker made its builder before the data set was there, and asks TFDS to prepare it when it is."""
    stale = datasets._builder("folder", photographs_dir, tmp_path, "stop")
    expected = datasets.load_split("folder", "train", data_dir=photographs_dir, cache_dir=tmp_path)
    make, builders = datasets._builder, [stale]
    monkeypatch.setattr(datasets, "_builder", lambda *arguments: builders.pop() if builders else make(*arguments))
    split = datasets.load_split("folder", "train", data_dir=photographs_dir, cache_dir=tmp_path)
    assert split.fingerprint == expected.fingerprint and len(split) == 9 and not builders
