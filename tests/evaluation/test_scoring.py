"""A split predicted once and refined by several dense CRFs, each scored on its own."""

import types

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from ficklenet_tf import crf
from ficklenet_tf.data import labels
from ficklenet_tf.evaluation import metrics, prediction, scoring
from ficklenet_tf.runs import artifacts

CLASSES = ["background", "cat", "dog"]


class Split(list):
    """Three made photographs with masks, as `datasets.Split` gives them."""

    dataset, name, fingerprint, class_names, has_labels = "made", "val", "f", CLASSES, True

    def __init__(self, directory):
        rng = np.random.default_rng(0)
        for image_id in "abc":
            mask = np.kron(rng.integers(0, 3, (3, 4)), np.ones((5, 5), int)).astype(np.uint8)
            image = np.clip(np.array([[30, 60, 90], [200, 40, 40], [90, 200, 60]])[mask]
                            + rng.normal(0, 10, (*mask.shape, 3)), 0, 255).astype(np.uint8)
            labels.write_label(directory / f"{image_id}.png", mask)
            Image.fromarray(image).save(directory / f"{image_id}_photo.png")
            self.append({"image_id": image_id, "image": (directory / f"{image_id}_photo.png").read_bytes(),
                         "label": (directory / f"{image_id}.png").read_bytes(), "has_label": True,
                         "tags": np.ones(2, np.float32), "mask": mask, "photo": image})
        self.image_ids = [example["image_id"] for example in self]


def probs_of(image):
    """What the stand-in for a network answers for a photograph: noise that leans towards no class."""
    noise = np.random.default_rng(int(image.sum())).normal(0, 1, (*image.shape[:2], 3)).astype(np.float32)
    return tf.nn.softmax(noise).numpy()


@pytest.fixture
def seen(monkeypatch):
    """The photographs that the network has been asked about."""
    asked = []

    def load(directory, sizes, flip):
        class StandIn(types.SimpleNamespace):
            def __call__(self, image):
                asked.append(image)
                return probs_of(image)

        return StandIn(run={"finished": "then"}, sizes=(32,), flip=False, class_names=list(CLASSES))

    monkeypatch.setattr(prediction, "Predictor", load)
    return asked


def test_the_network_sees_an_image_once_for_all_crfs(tmp_path, seen):
    split, run = Split(tmp_path), tmp_path / "run"
    scores = scoring.evaluate(run, split, prediction.Options(crf.DSRG_TEST, ("deeplab",)))
    specs = {"predictions": None, "predictions_crf": crf.DSRG_TEST, "predictions_crf_deeplab": crf.DEEPLAB_LARGEFOV}
    assert list(scores) == list(specs) and len(seen) == 3
    for name, spec in specs.items():
        total = 0
        for example in split:
            probs = probs_of(example["photo"])
            if spec is not None:
                probs = crf.refiner(spec)(example["photo"][None], np.log(probs)[None])[0].numpy()
            total = total + metrics.confusion(example["mask"], probs.argmax(-1).astype(np.uint8), 3)
        assert scores[name]["confusion"] == total.tolist()
        assert artifacts.read_json(run / "evaluation" / f"{name}.json")["miou"] == scores[name]["miou"]
        assert artifacts.read_run(run / name)["seconds_per_image"] > 0
    assert len({str(of_one["confusion"]) for of_one in scores.values()}) == 3  # each CRF changed something


def test_restricted_probabilities_are_probabilities():
    probs = np.array([[[0.1, 0.6, 0.3], [0.0, 1.0, 0.0]]], np.float32)
    kept = prediction.restrict(probs, np.array([0, 1], np.float32))
    np.testing.assert_allclose(kept[0], [[0.25, 0, 0.75], [0.5, 0, 0.5]])  # of the second pixel nothing is left
    assert kept.dtype == np.float32


def test_tags_restrict_before_the_crf(tmp_path, seen):
    split, run = Split(tmp_path), tmp_path / "run"
    for example in split:
        example["tags"] = np.array([1, 0], np.float32)
    prediction.predict_split(run, split, prediction.Options(crf.DSRG_TEST, use_tags=True))
    for example in split:
        assert (probs_of(example["photo"]).argmax(-1) == 2).any()
        for name in ("predictions", "predictions_crf"):
            assert labels.read_label(run / name / f"{example['image_id']}.png").max() == 1


def test_only_what_is_missing_is_made(tmp_path, seen):
    split, run = Split(tmp_path), tmp_path / "run"
    assert list(scoring.evaluate(run, split)) == ["predictions"]
    modified = {path: path.stat().st_mtime_ns for path in (run / "predictions").iterdir()}
    facts = artifacts.read_run(run / "predictions")
    assert list(scoring.evaluate(run, split)) == ["predictions"] and len(seen) == 3
    assert artifacts.read_run(run / "predictions") == facts
    scoring.evaluate(run, split, prediction.Options(crf.DSRG_TEST, ("deeplab",)))
    assert len(seen) == 6 and len(list((run / "predictions_crf_deeplab").glob("*.png"))) == 3
    assert all(path.stat().st_mtime_ns == before for path, before in modified.items() if path.suffix == ".png")
    (run / "predictions_crf_deeplab" / "b.png").unlink()
    scoring.evaluate(run, split, prediction.Options(crf.DSRG_TEST, ("deeplab",)))
    assert len(seen) == 7


def test_a_crf_added_in_shards_has_its_run(tmp_path, seen):
    split, run = Split(tmp_path), tmp_path / "run"
    scoring.evaluate(run, split)
    options = prediction.Options(crf.DSRG_TEST)
    for shard in ((0, 2), (1, 2), (0, 1)):
        prediction.predict_split(run, split, options, shard=shard)
    assert artifacts.read_run(run / "predictions_crf")["images"] == 3


def test_an_images_score_is_over_the_classes_in_its_mask():
    """By hand: 2 / (3 + 2 - 2) of the background, 3 / (4 + 4 - 3) of dog; cat was predicted once and is not there."""
    matrix = np.array([[2, 1, 0, 0], [0, 0, 0, 0], [0, 0, 3, 1]])
    matrix[0, 2], matrix[0, 1] = 1, 0
    assert scoring._mean_iou_of_present(matrix) == pytest.approx((2 / 3 + 3 / 5) / 2)
    assert scoring._mean_iou_of_present(np.zeros((3, 4), int)) == 0
