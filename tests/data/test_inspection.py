"""A look at a data set before the long work: each kind of finding, on a folder made up to have it."""

import numpy as np
import pytest
from PIL import Image, ImageEnhance

from ficklenet_tf.data import datasets, images, inspection, labels
from ficklenet_tf.data.datasets import class_folders
from ficklenet_tf.data.inspection import duplicates, photographs, tag_names
from ficklenet_tf.errors import UserError
from tests.data.test_datasets import make_kit

SIDE = 96


def scene(seed, side=SIDE):
    """Returns a picture that looks like no other: smooth patches of random brightness."""
    coarse = np.random.default_rng(seed).integers(0, 256, (6, 6, 3)).astype(np.uint8)
    return Image.fromarray(coarse).resize((side, side), Image.Resampling.BICUBIC)


def make_folder(root, tags, splits=None):
    """Writes a directory with a scene for each of `tags`, {file name: tags}; returns it."""
    (root / "images").mkdir(parents=True)
    for seed, name in enumerate(tags):
        scene(seed).save(root / "images" / name)
    write_table(root, tags)
    for name, listed in (splits or {}).items():
        (root / f"{name}.txt").write_text("\n".join(listed))
    return root


def write_table(root, tags):
    (root / "tags.csv").write_text("\n".join(["image,tags", *(f"{name},{tag}" for name, tag in tags.items())]))


TAGS = {f"{kind}{number}.png": kind for kind in ("cat", "dog") for number in range(14)}
VAL = ["cat12", "cat13", "dog12", "dog13"]


@pytest.fixture
def folder(tmp_path):
    """Twelve cats and twelve dogs to train on, two of each held out; nothing is wrong with them."""
    return make_folder(tmp_path / "mine", TAGS, {"val": VAL})


def _inspect(folder):
    return inspection.inspect("folder", folder)


FACTS = ("missing", "unreadable", "bad_ids", "bad_annotations", "untagged", "unknown_tags", "repeated", "unheard",
         "bad_masks", "mask_sizes", "mask_ids", "unlisted", "alike_tags", "same", "alike", "small", "large",
         "not_shown", "not_tagged", "few", "everywhere")


def _facts(findings):
    """Returns the fields that are not empty."""
    return {name: getattr(findings, name) for name in FACTS if getattr(findings, name)}


def test_a_sound_folder_is_counted_and_has_no_finding(folder):
    findings = _inspect(folder)
    assert _facts(findings) == {} and not findings.stops and findings.root == folder
    assert (findings.num_images, findings.num_train, findings.num_held_out, findings.num_masks) == (28, 24, 4, 0)
    assert findings.tags == {"cat": inspection.Count(12, 2), "dog": inspection.Count(12, 2)}


def _save(folder, name, picture, **options):
    picture.save(folder / "images" / name, **options)


def _masks(folder, name, mask, classes="cat\ndog\n"):
    labels.write_label(folder / "labels" / f"{name}.png", mask)
    (folder / "classes.txt").write_text(classes)


def _cut(folder):
    path = folder / "images" / "dog1.png"
    path.write_bytes(path.read_bytes()[:-200])


def _mask(**ids):
    """Returns a label image with a stripe of each id."""
    mask = np.zeros((SIDE, SIDE), np.uint8)
    for row, class_id in enumerate(ids.values()):
        mask[row] = class_id
    return mask


LONG = f"{'x' * 201}.png"


def _odd_names(folder):
    """Adds a photograph whose id is too long, and one with a control character."""
    for seed, name in enumerate([LONG, "a\tb.png"]):
        scene(50 + seed).save(folder / "images" / name)
    write_table(folder, {**TAGS, LONG: "dog", "a\tb.png": "cat"})


STOPS = {
    "bad_ids": (_odd_names, (LONG, "a\tb.png")),
    "missing": (lambda folder: (folder / "images" / "dog1.png").unlink(), ("dog1.png",)),
    "untagged": (lambda folder: write_table(folder, {**TAGS, "dog1.png": ""}), ("dog1.png",)),
    "unknown_tags": (lambda folder: ((folder / "classes.txt").write_text("cat\n"), write_table(
        folder, {**dict.fromkeys(TAGS, "cat"), "dog1.png": "cat;cats"})), {"dog1.png": ("cats",)}),
    "repeated": (lambda folder: (folder / "tags.csv").write_text((folder / "tags.csv").read_text() + "\ndog1.png,dog"),
                 ("dog1",)),
    "unheard": (lambda folder: (folder / "val.txt").write_text("cat12\nowl\n"), {"val.txt": ("owl",)}),
    "mask_sizes": (lambda folder: _masks(folder, "dog1", _mask(dog=2)[:50]), {"dog1.png": ((SIDE, SIDE), (SIDE, 50))}),
    "mask_ids": (lambda folder: _masks(folder, "dog1", _mask(dog=2, other=7, unknown=255)), {"dog1.png": (7,)}),
}


@pytest.mark.parametrize("kind", STOPS)
def test_what_stops_a_training(folder, kind):
    spoil, expected = STOPS[kind]
    spoil(folder)
    findings = _inspect(folder)
    assert getattr(findings, kind) == expected and findings.stops
    assert set(_facts(findings)) - {"alike_tags", "everywhere", "few"} == {kind}


def test_photographs_and_masks_that_cannot_be_read(folder):
    _cut(folder)
    (folder / "images" / "cat1.png").write_bytes(b"")
    scene(0).save(folder / "images" / "cat2.jpg")
    data = (folder / "images" / "cat2.jpg").read_bytes()
    (folder / "images" / "cat2.jpg").unlink()
    (folder / "images" / "cat2.png").write_bytes(data[:-300])  # a JPEG cut off, which draft mode must notice too
    _masks(folder, "dog2", _mask())
    (folder / "labels" / "dog2.png").write_bytes(b"none")
    findings = _inspect(folder)
    assert list(findings.unreadable) == ["cat1.png", "cat2.png", "dog1.png"] and findings.stops
    for name, reason in findings.unreadable.items():
        with pytest.raises(UserError) as error:
            images.read_image(folder / "images" / name)
        assert str(error.value) == f"{folder / 'images' / name}: {reason}"
    assert findings.bad_masks["dog2.png"].startswith("expected a label image (PNG), found ")
    assert findings.num_masks == 1


ADVICE = {
    "few": (lambda folder: (folder / "train.txt").write_text("\n".join([f"cat{k}" for k in range(12)] + ["dog0"])),
            {"dog": 1}),
    "everywhere": (lambda folder: write_table(folder, {name: f"{tag};pet" for name, tag in TAGS.items()}), ("pet",)),
    "alike_tags": (lambda folder: write_table(folder, {**TAGS, "cat0.png": "Cat", "dog0.png": "dogs"}),
                   (("Cat", "cat"), ("dog", "dogs"))),
    "joined_tags": (lambda folder: write_table(folder, {**TAGS, **{f"cat{k}.png": '"cat, dog"' for k in range(12)}}),
                    ("cat, dog",)),
    "unlisted": (lambda folder: (_save(folder, "new.png", scene(99)), _masks(folder, "owl", _mask())),
                 ("images/new.png", "labels/owl.png")),
    "small": (lambda folder: _save(folder, "dog1.png", scene(50).resize((80, 63))), {"dog1.png": (80, 63)}),
    "large": (lambda folder: _save(folder, "dog1.png", scene(50).resize((2001, 80))), {"dog1.png": (2001, 80)}),
    "not_shown": (lambda folder: _masks(folder, "dog1", _mask()), {"dog1.png": ("dog",)}),
    "not_tagged": (lambda folder: _masks(folder, "dog1", _mask(dog=2, cat=1)), {"dog1.png": ("cat",)}),
}


@pytest.mark.parametrize("kind", ADVICE)
def test_what_is_worth_a_thought_and_stops_nothing(folder, kind):
    spoil, expected = ADVICE[kind]
    spoil(folder)
    findings = _inspect(folder)
    assert getattr(findings, kind) == expected and not findings.stops
    assert set(_facts(findings)) <= {kind, "few"}


def test_an_untagged_photograph_that_is_held_out_stops_nothing(folder):
    write_table(folder, {**TAGS, "dog12.png": ""})
    assert _facts(_inspect(folder)) == {}


def test_a_split_without_photographs_stops(tmp_path):
    findings = _inspect(make_folder(tmp_path / "one", {"a.png": "cat"}))
    assert (findings.num_train, findings.num_held_out) == (1, 0) and findings.stops


def test_copies_are_grouped_and_one_that_is_learned_and_held_out_is_a_leak(folder):
    copy = (folder / "images" / "dog0.png").read_bytes()
    for name in ("cat3.png", "dog13.png"):  # learned, with another tag; held out
        (folder / "images" / name).write_bytes(copy)
    picture = scene(5)
    _save(folder, "cat6.png", picture.convert("L"))
    _save(folder, "dog12.png", ImageEnhance.Brightness(picture.resize((300, 200))).enhance(0.8))
    _save(folder, "cat7.png", scene(8).resize((70, 70)))  # cat8.png is that scene
    findings = _inspect(folder)
    same, = findings.same
    assert same == inspection.Group(("cat3.png", "dog0.png", "dog13.png"), ("cat3.png", "dog13.png"), True)
    assert [group.names for group in findings.alike] == [
        ("cat5.png", "cat6.png", "dog12.png"), ("cat7.png", "cat8.png")]
    assert [group.leak for group in findings.alike] == [("cat5.png", "dog12.png"), None]
    assert [group.tags_differ for group in findings.alike] == [True, False]
    assert not findings.stops


@pytest.mark.parametrize("orientation", [6, 9])
def test_a_turned_photograph_has_the_size_of_its_mask(folder, orientation):
    """Above 8 there is no orientation: such a one stays as it is."""
    picture, exif = scene(1).crop((0, 0, 96, 72) if orientation == 6 else (0, 0, 72, 96)), Image.Exif()
    exif[0x0112] = orientation
    picture.save(folder / "images" / "dog1.png", "JPEG", exif=exif)  # decoded small
    read = photographs.read_photograph(folder / "images" / "dog1.png")
    assert read.size == (72, 96) == images.read_image(folder / "images" / "dog1.png").shape[1::-1]
    _masks(folder, "dog1", np.full((96, 72), 2))
    assert _facts(_inspect(folder)) == {}


def test_a_jpeg_decoded_small_is_like_itself(tmp_path):
    picture = scene(3, 1024)
    picture.save(tmp_path / "a.jpg", quality=95)
    picture.save(tmp_path / "a.png")
    patterns = np.stack([photographs.read_photograph(tmp_path / name).pattern for name in ("a.jpg", "a.png")])
    assert duplicates.alike(patterns) == [[0, 1]] and np.abs(np.diff(patterns.astype(int), axis=0)).max() < 6


def test_groups_of_alike_pictures_are_those_of_plain_comparison():
    rng = np.random.default_rng(0)
    patterns = rng.integers(0, 256, (700, *duplicates.SHAPE)).astype(np.uint8)
    patterns[650] = patterns[10]  # in another block
    patterns[300] = np.clip(patterns[299] + rng.normal(0, 3, duplicates.SHAPE), 0, 255)
    patterns[400:402] = 77  # nothing to be seen: like nothing
    patterns[500:502] = np.arange(17)
    patterns[501, ::2] += 100  # every difference alike, the pictures not
    patterns[600:602] = 12 * np.arange(16)[:, None] + rng.integers(0, 4, (2, *duplicates.SHAPE))  # and the reverse
    assert duplicates.alike(patterns) == [[10, 650], [299, 300]]
    bits = (patterns[:, :, 1:] > patterns[:, :, :-1]).reshape(700, -1)
    near = {(i, j) for i in range(700) for j in np.flatnonzero((bits[i] != bits[i + 1:]).sum(1) <= 40) + i + 1}
    assert near == {(10, 650), (299, 300), (400, 401), (500, 501)}
    assert duplicates.alike(patterns[:1]) == [] == duplicates.alike(patterns[:0])


@pytest.mark.parametrize("a, b, expected", [
    ("dog", "Dog", True), ("dog", "dogs", True), ("fire truck", "fire-truck", True), ("person", "persn", True),
    ("horse", "hrose", True), ("sheep", "sheap", True), ("cat", "car", False), ("cat", "cow", False),
    ("bus", "car", False), ("ox", "fox", False), ("tiger", "tigress", False), ("dog", "gdo", False),
    ("bottle", "bottel", True), ("man", "mane", False), ("cat", "act", False), ("star", "stars", True),
    ("class_1", "class_2", False), ("room1", "room2", False), ("room1", "room11", False), ("room12", "room21", False),
    ("type-a1", "type-a2", False), ("class", "class2", False), ("class 1", "Class_1", True),
    ("bottle 2", "botle 2", True), ("1-1", "11", False), ("type a", "type b", False), ("t-shirt", "tshirt", True),
    ("x wing", "x wings", True), ("c++", "c", False)])
def test_tags_that_look_like_one(a, b, expected):
    assert tag_names.one_edit(a.casefold(), b.casefold()) is tag_names.one_edit(b.casefold(), a.casefold())
    assert bool(tag_names.alike([a, b, a])) is expected is bool(tag_names.alike([b, a, b]))


def test_of_short_words_the_rare_one_is_a_slip():
    assert tag_names.alike([*["man"] * 9, "mane"]) == [] == tag_names.alike([*["cat"] * 19, "act", "act"])
    assert tag_names.alike([*["man"] * 10, "mane"]) == [("man", "mane")]
    assert tag_names.alike([*["cat"] * 20, "act", "act"]) == [("act", "cat")]
    assert tag_names.alike([*["dog"] * 99, "dof"]) == []  # another letter in a short word is another word


def test_a_slip_in_a_table_is_found_and_two_classes_are_not(folder):
    names = {name: {"cat": "man", "dog": "mane"}[tag] for name, tag in TAGS.items()}
    write_table(folder, names)
    assert _inspect(folder).alike_tags == ()
    write_table(folder, {**dict.fromkeys(TAGS, "man"), "cat0.png": "mane", "cat1.png": "mane"})
    assert _inspect(folder).alike_tags == (("man", "mane"),)
    (folder / "classes.txt").write_text("man\nmane\n")
    assert _inspect(folder).alike_tags == (("man", "mane"),)


def test_a_name_longer_than_a_files_may_be(folder):
    """The system refuses to look whether there is such a file."""
    (folder / "labels").mkdir()
    name = f"{'y' * 300}.png"
    write_table(folder, {**TAGS, name: "dog"})
    findings = _inspect(folder)
    assert findings.bad_ids == (name,) and list(findings.unreadable) == [name] and findings.stops
    with pytest.raises(UserError, match="expected image ids that can be file names"):
        datasets.load_split("folder", "train", data_dir=folder, cache_dir=folder.parent / "cache")


def test_photographs_of_folders_that_are_not_used(tmp_path):
    root, names = tmp_path / "mine", ("dog/1.png", "cat/2.png", "bird/x/3.png", "loose.png")
    for seed, name in enumerate(names):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        scene(seed).save(root / name)
    assert _inspect(root).unlisted == ("bird/x", "loose.png")
    class_folders.write_table(root)
    (root / "cat" / "1.png").write_bytes((root / "dog" / "1.png").read_bytes())
    findings = _inspect(root)
    assert findings.unlisted == ("bird/x", "cat/1.png", "loose.png") and findings.num_images == 2


def test_vocs_kit(tmp_path):
    kit = make_kit(tmp_path)
    findings = inspection.inspect("voc", kit)
    assert (findings.num_images, findings.num_train, findings.num_held_out, findings.num_masks) == (4, 3, 1, 4)
    assert findings.tags["person"] == inspection.Count(1, 0) and findings.tags["dog"] == inspection.Count(0, 1)
    assert findings.small["2007_000001"] == (30, 20) and findings.not_shown["2007_000004"] == ("dog",)
    assert findings.not_tagged["2007_000004"] == ("aeroplane", "person") and not findings.stops
    (kit / "VOC2012" / "JPEGImages" / "2007_000002.jpg").unlink()
    assert inspection.inspect("voc", kit).missing == ("2007_000002",)


def test_bad_annotations_of_vocs_kit_are_findings_of_their_photographs(tmp_path):
    kit = make_kit(tmp_path)
    annotations = kit / "VOC2012" / "Annotations"
    (annotations / "2007_000001.xml").write_text("<annotation><object>")
    (annotations / "2007_000002.xml").write_text("<annotation><object><name>unicorn</name></object></annotation>")
    (annotations / "2007_000003.xml").unlink()
    (annotations / "2007_000004.xml").write_text('<?xml version="1.0" encoding="none"?><annotation/>')
    findings = inspection.inspect("voc", kit)
    assert {name: reason[:51] for name, reason in findings.bad_annotations.items()} == {
        "2007_000003": "expected the image's annotation, found no such file",
        "2007_000001": "expected an annotation in XML, found no element fou",
        "2007_000002": "expected VOC's 20 classes, found 'unicorn'",
        "2007_000004": "expected an annotation in XML, found unknown encodi"}
    assert findings.stops and findings.untagged == () and findings.not_tagged == {} and findings.num_images == 4
    assert len(findings.small) == 4  # the photographs are looked at all the same


def test_what_cannot_be_looked_at_is_said(tmp_path):
    with pytest.raises(UserError, match="expected folder or voc, found shapes, whose images are drawn"):
        inspection.inspect("shapes", None)
    with pytest.raises(UserError, match="data_dir: expected VOCdevkit, found none"):
        inspection.inspect("voc", None)
    with pytest.raises(UserError, match="data_dir: expected the directory of your photographs, found none"):
        inspection.inspect("folder", None)
