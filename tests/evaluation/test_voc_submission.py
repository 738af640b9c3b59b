"""The archive for the VOC server, read back by tarfile and Pillow, and what is refused."""

import io
import tarfile

import cv2
import numpy as np
import pytest
from PIL import Image

from ficklenet_tf.data import datasets, labels
from ficklenet_tf.data.datasets import records
from ficklenet_tf.evaluation import voc_submission

FOLDER = "results/VOC2012/Segmentation/comp6_test_cls"


@pytest.fixture
def split():
    """Two photographs without masks or tags, as of a test split."""
    rows = [{"image": cv2.imencode(".jpg", np.zeros((*size, 3), np.uint8))[1].tobytes(), "tags": [],
             "label": records.encode_ids(np.full(size, 255, np.uint8)), "has_label": False}
            for size in ((4, 6), (7, 5))]
    return datasets.Split("voc", "test", datasets.voc.CLASS_NAMES, ("2008_000001", "2008_000002"), False, "none",
                          records=rows, rows=(0, 1), labelled=(False, False))


def _predict(directory, **changes):
    predictions = {"2008_000001": np.arange(24).reshape(4, 6) % 21, "2008_000002": np.full((7, 5), 20), **changes}
    for image_id, label in predictions.items():
        labels.write_label(directory / f"{image_id}.png", label)
    return predictions


def test_the_archive_is_what_the_server_takes(split, tmp_path):
    predictions = _predict(tmp_path / "predictions")
    path = voc_submission.write(tmp_path / "predictions", split, tmp_path / "submission")
    with tarfile.open(path, "r:gz") as archive:
        assert archive.getnames() == [f"{FOLDER}/{image_id}.png" for image_id in split.image_ids]
        for image_id, label in predictions.items():
            png = archive.extractfile(f"{FOLDER}/{image_id}.png").read()
            assert png == (tmp_path / "submission" / FOLDER / f"{image_id}.png").read_bytes()
            image = Image.open(io.BytesIO(png))
            assert image.mode == "P" and image.getpalette()[:9] == [0, 0, 0, 128, 0, 0, 0, 128, 0]
            np.testing.assert_array_equal(np.asarray(image), label)
    written = path.read_bytes()
    assert voc_submission.write(tmp_path / "predictions", split, tmp_path / "submission").read_bytes() == written


@pytest.mark.parametrize("label, message", [
    (np.full((7, 5), 255), "2008_000002.png: expected a class for each pixel, found 255 at 35"),
    (np.zeros((5, 7)), r"2008_000002.png: expected \(7, 5\) pixels"),
    (np.full((7, 5), 21), "2008_000002.png"),
])
def test_what_the_server_would_refuse_is_named(split, tmp_path, label, message):
    _predict(tmp_path / "predictions", **{"2008_000002": label})
    with pytest.raises(ValueError, match=message):
        voc_submission.write(tmp_path / "predictions", split, tmp_path / "submission")
    assert not (tmp_path / "submission" / "results.tar.gz").exists()


def test_a_missing_prediction_is_named(split, tmp_path):
    _predict(tmp_path / "predictions")
    (tmp_path / "predictions" / "2008_000001.png").unlink()
    with pytest.raises(FileNotFoundError, match="2008_000001.png"):
        voc_submission.write(tmp_path / "predictions", split, tmp_path / "submission")


def test_the_test_split_has_photographs_alone(tmp_path):
    """A kit whose test images have neither annotations nor masks; train images without tags stay an error."""
    base = tmp_path / "VOCdevkit" / "VOC2012"
    for folder in ("JPEGImages", "Annotations", "ImageSets/Segmentation"):
        (base / folder).mkdir(parents=True)
    Image.fromarray(np.zeros((5, 6, 3), np.uint8)).save(base / "JPEGImages" / "2008_000001.jpg")
    (base / "ImageSets" / "Segmentation" / "test.txt").write_text("2008_000001\n")
    test = datasets.load_split("voc", "test", data_dir=tmp_path, cache_dir=tmp_path / "cache")
    assert test.image_ids == ("2008_000001",) and not test.has_labels and not test[0]["tags"].any()
    (base / "ImageSets" / "Segmentation" / "train.txt").write_text("2008_000001\n")
    with pytest.raises(FileNotFoundError, match="expected the image's annotation"):
        datasets.load_split("voc", "train", data_dir=tmp_path, cache_dir=tmp_path / "cache")
