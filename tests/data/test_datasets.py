"""Splits and the VOC builder: what is stored comes back, in order, and bad kits are named."""

import hashlib
import io
import pathlib
import tarfile
import tempfile

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_datasets as tfds
from PIL import Image
from tensorflow_datasets.core.utils import file_utils

from ficklenet_tf.data import datasets, images, labels
from ficklenet_tf.data.datasets import records, voc
from ficklenet_tf.errors import UserError

SIZES = {"2007_000001": (20, 30), "2007_000002": (1, 1), "2007_000003": (24, 16), "2007_000004": (12, 12)}
TAGS = {"2007_000001": ("person", "aeroplane", "person"), "2007_000002": ("cat",), "2007_000003": ("tvmonitor",),
        "2007_000004": ("dog",)}


def _mask(image_id):
    mask = np.zeros(SIZES[image_id], np.uint8)
    mask[-1, 0], mask[-1, -1], mask[0, -1] = 255, 15, 1
    return mask


def make_kit(root, masks=True):
    """Writes a VOCdevkit of four images; returns its path."""
    base = root / "VOCdevkit" / "VOC2012"
    lists = base / "ImageSets" / "Segmentation"
    for directory in (lists, base / "JPEGImages", base / "Annotations"):
        directory.mkdir(parents=True)
    ids = sorted(SIZES)
    for name, image_ids in (("train", ids[:2]), ("trainaug", [ids[2], *ids[:2]]), ("val", ids[3:])):
        (lists / f"{name}.txt").write_text("".join(f"{image_id}\n" for image_id in image_ids))
    for image_id in ids:
        colour = np.full((*SIZES[image_id], 3), int(image_id[-1]) * 40, np.uint8)
        Image.fromarray(colour).save(base / "JPEGImages" / f"{image_id}.jpg", quality=95)
        objects = "".join(f"<object><name>{tag}</name><difficult>1</difficult></object>" for tag in TAGS[image_id])
        (base / "Annotations" / f"{image_id}.xml").write_text(f"<annotation>{objects}</annotation>")
        if masks:
            official = image_id != ids[2]
            labels.write_label(base / ("SegmentationClass" if official else "SegmentationClassAug") /
                               f"{image_id}.png", _mask(image_id))
    if masks:  # another mask for an image that has an official one
        labels.write_label(base / "SegmentationClassAug" / f"{ids[0]}.png", np.zeros(SIZES[ids[0]], np.uint8))
    return base.parent


@pytest.fixture
def kit(tmp_path):
    return make_kit(tmp_path)


def _load(kit, split, tmp_path, **options):
    return datasets.load_split("voc", split, data_dir=kit, cache_dir=tmp_path / "cache", **options)


def test_records_come_back_as_they_were(kit, tmp_path):
    split = _load(kit, "train_aug", tmp_path)
    assert split.image_ids == ("2007_000003", "2007_000001", "2007_000002")  # the list's order
    assert split.class_names == voc.CLASS_NAMES and len(split) == 3 and split.has_labels and split.left_out == ()
    for i, image_id in enumerate(split.image_ids):
        example = split[i]
        assert set(example) == {"image_id", "image", "tags", "label", "has_label"}
        assert example["image_id"] == image_id and example["has_label"] is True
        assert example["image"] == (kit / "VOC2012" / "JPEGImages" / f"{image_id}.jpg").read_bytes()
        assert images.decode_image_op(example["image"]).shape == (*SIZES[image_id], 3)
        np.testing.assert_array_equal(labels.decode_label_op(example["label"]), _mask(image_id))
        assert example["tags"].dtype == np.float32
        names = {split.class_names[k + 1] for k in np.flatnonzero(example["tags"])}
        assert names == set(TAGS[image_id]) and set(np.unique(example["tags"])) == {0, 1}


@pytest.mark.parametrize("part", [".", "VOC2012", ".."])
def test_any_level_of_the_kit_will_do(kit, part):
    assert voc.kit(kit / part) == kit / "VOC2012"


def test_weak_training_works_without_any_mask(tmp_path):
    split = _load(make_kit(tmp_path, masks=False), "train", tmp_path)
    assert not split.has_labels
    for i, image_id in enumerate(split.image_ids):
        label = labels.decode_label_op(split[i]["label"]).numpy()
        assert label.shape == SIZES[image_id] and (label == 255).all() and split[i]["has_label"] is False


def test_tfds_alone_reads_photographs_and_ids(kit, tmp_path):
    builder = voc.builder(kit, tmp_path / "records", "stop")
    builder.download_and_prepare()  # TFDS' default file format, which has as_dataset
    example = next(iter(builder.as_dataset("train", shuffle_files=False)))
    assert example["image"].shape == (20, 30, 3) and example["image"].dtype == tf.uint8
    np.testing.assert_array_equal(example["label"][..., 0], _mask("2007_000001"))
    assert example["label"].shape == (20, 30, 1)
    np.testing.assert_array_equal(example["tags"], [1, 15])
    _load(kit, "train", tmp_path)
    decoded = voc.builder(kit, tmp_path / "cache", "stop").as_data_source("train")[0]
    np.testing.assert_array_equal(decoded["label"][..., 0], _mask("2007_000001"))


def test_select_and_max_images(kit, tmp_path):
    split = _load(kit, "train_aug", tmp_path)
    part = split.select([2, 0])
    assert part.image_ids == ("2007_000002", "2007_000003")
    assert part[1]["image"] == split[0]["image"] and part.fingerprint != split.fingerprint
    assert part.fingerprint == split.select([2, 0]).fingerprint != split.select([0, 2]).fingerprint
    assert part.select([1]).image_ids == ("2007_000003",)
    assert _load(kit, "train_aug", tmp_path, max_images=1).image_ids == ("2007_000003",)
    assert len(_load(kit, "train_aug", tmp_path, max_images=9)) == 3
    with pytest.raises(IndexError):
        split[3]


def test_has_labels_of_a_selection(kit, tmp_path):
    (kit / "VOC2012" / "SegmentationClassAug" / "2007_000003.png").unlink()
    split = _load(kit, "train_aug", tmp_path)
    assert split.has_labels and not split.select([0]).has_labels and split.select([1]).has_labels


def test_fingerprint_follows_the_contents_and_not_the_place(kit, tmp_path):
    before = _load(kit, "train", tmp_path)
    assert _load(kit, "train", tmp_path).fingerprint == before.fingerprint
    elsewhere = make_kit(tmp_path / "copy")
    assert _load(elsewhere, "train", tmp_path).fingerprint == before.fingerprint
    changed = _mask("2007_000001")
    changed[0, 0] = 7
    labels.write_label(kit / "VOC2012" / "SegmentationClass" / "2007_000001.png", changed)
    after = _load(kit, "train", tmp_path)  # prepared anew: the kit is another
    assert after.fingerprint != before.fingerprint
    np.testing.assert_array_equal(labels.decode_label_op(after[0]["label"]), changed)
    (kit / "VOC2012" / "Annotations" / "2007_000001.xml").write_text(
        "<annotation><object><name>sheep</name></object></annotation>")
    assert len({before.fingerprint, after.fingerprint, _load(kit, "train", tmp_path).fingerprint}) == 3


def test_a_failed_preparation_leaves_nothing_that_passes_for_finished(kit, tmp_path):
    photograph = kit / "VOC2012" / "JPEGImages" / "2007_000004.jpg"
    whole = photograph.read_bytes()
    photograph.write_bytes(whole[:len(whole) // 2])
    for _ in range(2):
        with pytest.raises(ValueError, match=r"2007_000004\.jpg: expected a photograph .*, found a file of"):
            _load(kit, "train", tmp_path)
    assert not list((tmp_path / "cache").rglob("dataset_info.json"))
    photograph.write_bytes(whole)
    assert len(_load(kit, "train", tmp_path)) == 2


def _resize_mask(base):
    labels.write_label(base / "SegmentationClass" / "2007_000001.png", np.zeros((30, 20), np.uint8))


def _raise_id(base):
    labels.write_label(base / "SegmentationClass" / "2007_000001.png", np.full((20, 30), 21, np.uint8))


def _no_object(base):
    (base / "Annotations" / "2007_000001.xml").write_text("<annotation></annotation>")


BAD = {
    "mask_size": (_resize_mask, r"SegmentationClass/2007_000001\.png: expected the size of .*2007_000001\.jpg, "
                                r"30 x 20 pixels, found 20 x 30"),
    "id": (_raise_id, r"2007_000001\.png: expected ids 0\.\.20 or 255, found \[21\]"),
    "no_tags": (_no_object, r"2007_000001\.xml: expected at least one object for training, found none"),
    "tag": (lambda base: (base / "Annotations" / "2007_000001.xml").write_text(
        "<annotation><object><name>yeti</name></object></annotation>"),
        r"2007_000001\.xml: expected VOC's 20 classes, found 'yeti'"),
    "xml": (lambda base: (base / "Annotations" / "2007_000001.xml").write_text("<annotation>"),
            r"2007_000001\.xml: expected an annotation in XML, found no element found"),
    "no_xml": (lambda base: (base / "Annotations" / "2007_000001.xml").unlink(),
               r"2007_000001\.xml: expected the image's annotation, found no such file"),
    "no_image": (lambda base: (base / "JPEGImages" / "2007_000001.jpg").unlink(),
                 r"2007_000001\.jpg: expected a photograph, found no such file"),
    "zero_image": (lambda base: (base / "JPEGImages" / "2007_000001.jpg").write_bytes(b""),
                   r"2007_000001\.jpg: expected a photograph \(.*\), found a file of 0 bytes"),
    "zero_mask": (lambda base: (base / "SegmentationClass" / "2007_000001.png").write_bytes(b""),
                  r"2007_000001\.png: expected a label image"),
    "twice": (lambda base: (base / "ImageSets" / "Segmentation" / "train.txt").write_text(
        "2007_000002\n2007_000002\n"), r"train\.txt: expected each image .* once, found '2007_000002' twice"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_kits_stop_with_file_expectation_and_finding_or_are_skipped_and_listed(kit, tmp_path, case, caplog):
    spoil, message = BAD[case]
    spoil(kit / "VOC2012")
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        _load(kit, "train", tmp_path)
    split = _load(kit, "train", tmp_path, on_error="skip")
    assert split.image_ids == ("2007_000002",)
    assert len(split.left_out) == 1
    with pytest.raises(ValueError, match=message):
        raise ValueError(split.left_out[0])
    assert split.left_out[0] in caplog.text and "1 images kept" in caplog.text


@pytest.mark.parametrize("evil", ["../evil", "a/b", ".hidden", "x" * 201, "tab\\there"])
def test_an_id_that_is_no_file_name_is_refused_wherever_it_comes_from(kit, tmp_path, evil):
    evil = evil.replace("tab\\t", "tab\x07")
    (kit / "VOC2012" / "ImageSets" / "Segmentation" / "val.txt").write_text(f"{evil}\n2007_000004\n")
    with pytest.raises(ValueError, match=r"val.txt: expected image ids that can be file names, of 1 to 200 bytes"):
        _load(kit, "val", tmp_path)
    split = _load(kit, "val", tmp_path, on_error="skip")
    assert split.image_ids == ("2007_000004",) and "file names" in split.left_out[0]


def test_what_a_killed_preparation_left_is_removed(kit, tmp_path):
    _load(kit, "val", tmp_path)
    directory = next((tmp_path / "cache").rglob("dataset_info.json")).parent
    left = pathlib.Path(file_utils._get_incomplete_dir(str(directory)))
    directory.rename(left)
    assert _load(kit, "val", tmp_path).image_ids == ("2007_000004",)
    assert directory.exists() and not left.exists()


def test_damaged_records_are_named_with_their_remedy(kit, tmp_path):
    _load(kit, "train_aug", tmp_path)
    directory = next((tmp_path / "cache").rglob("dataset_info.json")).parent
    (shard,) = directory.glob("*train_aug*.array_record*")
    data = bytearray(shard.read_bytes())
    for position in range(len(data) // 3, 2 * len(data) // 3):
        data[position] ^= 85
    shard.write_bytes(data)
    with pytest.raises(UserError, match=f"{directory}: expected whole records, found .* remove that directory"):
        split = _load(kit, "train_aug", tmp_path)
        [split[i] for i in range(len(split))]
    (directory / "dataset_info.json").write_text("{")
    with pytest.raises(UserError, match="expected what was prepared for voc, found .* remove the directory"):
        _load(kit, "train_aug", tmp_path)


def test_val_may_lack_tags(kit, tmp_path):
    (kit / "VOC2012" / "Annotations" / "2007_000004.xml").write_text("<annotation></annotation>")
    np.testing.assert_array_equal(_load(kit, "val", tmp_path)[0]["tags"], np.zeros(20))


def test_nothing_left_is_an_error_even_when_skipping(kit, tmp_path):
    (kit / "VOC2012" / "JPEGImages" / "2007_000004.jpg").unlink()
    with pytest.raises(ValueError, match=r"val\.txt: expected at least one usable image in split 'val', found none of "
                                         r"1; left out: .*2007_000004\.jpg"):
        _load(kit, "val", tmp_path, on_error="skip")
    assert len(_load(kit, "train", tmp_path, on_error="skip")) == 2  # the other splits are none the worse
    for image_id in SIZES:
        (kit / "VOC2012" / "JPEGImages" / f"{image_id}.jpg").unlink(missing_ok=True)
    with pytest.raises(ValueError, match="expected at least one usable image in split 'val', found none of 1"):
        _load(kit, "train", tmp_path, on_error="skip")
    make_kit(kit.parent / "whole")
    kit = kit.parent / "whole" / "VOCdevkit"
    (kit / "VOC2012" / "ImageSets" / "Segmentation" / "val.txt").write_text("\n")
    with pytest.raises(ValueError, match=r"val\.txt: expected at least one usable image in split 'val', found none"):
        _load(kit, "val", tmp_path)


def test_wrong_arguments_say_what_was_expected(kit, tmp_path):
    with pytest.raises(ValueError, match="expected one of shapes, voc, folder, found 'coco'"):
        datasets.load_split("coco", "train")
    with pytest.raises(ValueError, match="expected one of the splits train, train_aug, val, found 'test'"):
        _load(kit, "test", tmp_path)
    with pytest.raises(ValueError, match="on_error: expected 'stop' or 'skip', found 'maybe'"):
        _load(kit, "train", tmp_path, on_error="maybe")
    with pytest.raises(FileNotFoundError, match="expected VOCdevkit .*(\n.*)*VOCtrainval_11-May-2012.tar"):
        datasets.load_split("voc", "train", data_dir=tmp_path / "nowhere", cache_dir=tmp_path)
    lists = kit / "VOC2012" / "ImageSets" / "Segmentation"
    (lists / "val.txt").write_text("2007_000004\n", "utf-16")  # as PowerShell writes it
    with pytest.raises(UserError, match=r"val\.txt: expected UTF-8 text, found"):
        _load(kit, "val", tmp_path)
    for path in lists.iterdir():
        path.unlink()
    with pytest.raises(FileNotFoundError, match=r"Segmentation: expected train\.txt, .* found none"):
        _load(kit, "train", tmp_path)


def test_a_cache_that_cannot_be_used_is_named(kit, tmp_path):
    (tmp_path / "cache").write_text("a file")
    with pytest.raises(OSError, match=r"cache: expected a directory that can be written, found "):
        _load(kit, "train", tmp_path)
    (tmp_path / "cache").unlink()
    builder = voc.builder(kit, tmp_path / "cache", "stop")
    builder.download_and_prepare()
    with pytest.raises(ValueError, match=r"expected records in the format array_record, found tfrecord; remove"):
        _load(kit, "train", tmp_path)


def _tar(kit, path):
    with tarfile.open(path, "w") as archive:
        archive.add(kit, "VOCdevkit")


def test_download_unpacks_a_kit_whose_checksum_is_right(kit, tmp_path, monkeypatch):
    tar = tmp_path / "kit.tar"
    _tar(kit, tar)
    monkeypatch.setattr(voc, "URL", tar.as_uri())
    monkeypatch.setattr(voc, "MD5", hashlib.md5(tar.read_bytes()).hexdigest())
    monkeypatch.setattr(tfds.download.DownloadManager, "download", lambda self, url: str(tar))
    split = datasets.load_split("voc", "train", cache_dir=tmp_path / "cache")
    assert split.image_ids == ("2007_000001", "2007_000002")


def test_download_that_fails_says_what_to_fetch_and_where_to_put_it(kit, tmp_path, monkeypatch):
    monkeypatch.setattr(voc, "URL", (tmp_path / "absent.tar").as_uri())
    with pytest.raises(OSError, match="the download failed (.|\n)*by hand(.|\n)*--data_dir"):
        datasets.load_split("voc", "train", cache_dir=tmp_path / "cache")
    _tar(kit, tmp_path / "other.tar")
    monkeypatch.setattr(voc, "URL", (tmp_path / "other.tar").as_uri())
    monkeypatch.setattr(tfds.download.DownloadManager, "download", lambda self, url: str(tmp_path / "other.tar"))
    with pytest.raises(OSError, match=rf"other\.tar: expected MD5 {voc.MD5}, found (.|\n)*by hand"):
        datasets.load_split("voc", "train", cache_dir=tmp_path / "cache")


def test_palette_png_keeps_every_id_and_refuses_other_pngs():
    every_id = np.arange(256, dtype=np.uint8).reshape(16, 16)
    png = records.palette_png(records.encode_ids(every_id))
    np.testing.assert_array_equal(labels.decode_label_op(png), every_id)
    image = Image.open(io.BytesIO(png))
    image.load()
    assert image.mode == "P"
    np.testing.assert_array_equal(np.asarray(image), every_id)
    with pytest.raises(ValueError, match="expected an 8-bit grey PNG"):
        records.palette_png(png)


def test_the_real_kit(voc_dir, tmp_path_factory):
    split_ids = voc.split_ids(voc.kit(voc_dir))
    assert {name: len(ids) for name, (_, ids) in split_ids.items()} == {"train": 916, "train_aug": 3700, "val": 300}
    root = voc.kit(voc_dir)
    assert voc.read_tags(root / "Annotations" / "2007_000032.xml") == [1, 15]
    example = records.example("2007_000032", root / "JPEGImages" / "2007_000032.jpg", [1, 15],
                              root / "SegmentationClass" / "2007_000032.png", 21)
    label = labels.decode_label_op(records.palette_png(example["label"])).numpy()
    assert label.shape == (281, 500) and set(np.unique(label)) == {0, 1, 15, 255}
    with Image.open(root / "SegmentationClass" / "2007_000032.png") as mask:
        np.testing.assert_array_equal(label, np.asarray(mask))


class VocBuilderTest(tfds.testing.DatasetBuilderTestCase):
    """TFDS' own test of a builder, on the kit of four images."""

    DATASET_CLASS = voc.FickleVoc
    SPLITS = {"train": 2, "train_aug": 3, "val": 1}
    OVERLAPPING_SPLITS = ["train_aug"]

    @classmethod
    def setUpClass(cls):
        cls._directory = tempfile.TemporaryDirectory()
        kit = make_kit(pathlib.Path(cls._directory.name))
        cls.EXAMPLE_DIR = str(kit)
        cls.BUILDER_CONFIG_NAMES_TO_TEST = [voc.VocConfig(name="four", directory=str(kit))]
        super().setUpClass()

    @classmethod
    def tearDownClass(cls):
        super().tearDownClass()
        cls._directory.cleanup()
