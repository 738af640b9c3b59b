"""Weak, semi and full supervision, growing seeds: what is learned from what, by hand and in tiny trainings."""

import csv
import dataclasses
import json
import shutil
import types

import cv2
import keras
import numpy as np
import pytest
import tensorflow as tf

from ficklenet_tf import crf, presets
from ficklenet_tf.data import datasets, feature_cache, images, labels
from ficklenet_tf.data.datasets import records
from ficklenet_tf.errors import UserError
from ficklenet_tf.evaluation import prediction
from ficklenet_tf.models import backbones, classifier, segmenter
from ficklenet_tf.runs import artifacts
from ficklenet_tf.training import loop, losses, objective, rehearsal, rounds
from ficklenet_tf.training import segmenter as segmenter_training
from ficklenet_tf.training.segmenter import Options

pytestmark = pytest.mark.trains
NAMES = ("background", "disc", "square")
SIDE = 24  # pixels; the network's input has 32, its map 4 x 4


def _split(ids, masked, name="train"):
    """Photographs of one square each, of class 1 or 2, with masks for those in `masked`."""
    rows = []
    for image_id in ids:
        rng = np.random.default_rng(sum(map(ord, image_id)))
        tag, image = 1 + len(rows) % 2, rng.integers(0, 60, (SIDE, SIDE, 3)).astype(np.uint8)
        image[4:16, 4:16, tag] = 220
        mask = np.full((SIDE, SIDE), labels.IGNORE, np.uint8)
        if image_id in masked:
            mask[:] = 0
            mask[4:16, 4:16] = tag
        rows.append({"image": cv2.imencode(".png", image)[1].tobytes(), "tags": [tag],
                     "label": records.encode_ids(mask), "has_label": image_id in masked})
    return datasets.Split("shapes", name, NAMES, tuple(ids), bool(masked), f"fingerprint of {name}", records=rows,
                          rows=tuple(range(len(rows))), labelled=tuple(i in masked for i in ids))


def test_strong_images_are_left_out_of_the_weak_ones():
    split, strong = _split("abcdef", "abcdef"), _split("cfx", "cfx", "masks")
    task = objective.plan("semi", split, strong)
    assert "".join(task.weak.image_ids) == "abde" and "".join(task.strong.image_ids) == "cfx"
    assert task.settings()["strong"] == {"split": "masks", "images": 3, "fingerprint": "fingerprint of masks"}
    assert objective.plan("weak", split).weak is split and objective.plan("full", split).strong is split
    assert objective.plan("full", split).losses_used == ("full",)


def test_images_without_a_mask_cannot_be_strong_and_are_counted(caplog):
    task = objective.plan("semi", _split("abcd", ""), _split("abc", "ac", "masks"))
    assert "".join(task.strong.image_ids) == "ac" and "".join(task.weak.image_ids) == "bd"
    assert "1 of 3 images have no mask" in caplog.text


@pytest.mark.parametrize("message, arguments", [
    ("expected masks in shapes train", ("full", _split("ab", ""))),
    ("not among the strong ones", ("semi", _split("ab", "ab"), _split("abc", "abc"))),
    ("semi: expected strong images", ("semi", _split("ab", "ab"))),
    ("weak: expected no strong images", ("weak", _split("ab", "ab"), _split("ab", "ab"))),
    ("supervision: expected one of weak, semi, full, found 'strong'", ("strong", _split("ab", ""))),
    ("losses: expected some of .* found 'seed,size'", ("weak", _split("ab", ""), None, ("seed", "size"))),
    ("losses", ("weak", _split("ab", ""), None, ())),
    ("growing dsrg: .* the seed loss", ("weak", _split("ab", ""), None, ("full",), "dsrg")),
    ("growing dsrg: .* supervision full", ("full", _split("ab", "ab"), None, ("seed",), "dsrg")),
])
def test_what_does_not_go_together(message, arguments):
    with pytest.raises(ValueError, match=message):
        objective.plan(*arguments)


def test_batches_are_shared_out():
    weak, strong = range(90), range(10)
    assert objective.batch_sizes(10, weak, strong, 0.5) == (5, 5)
    assert objective.batch_sizes(10, weak, strong, 0.0) == (9, 1)  # as of one pool
    assert objective.batch_sizes(4, weak, strong, 0.01) == (3, 1)  # each has one at least
    assert objective.batch_sizes(10, weak, None, 0.5) == (10, 0)
    assert objective.batch_sizes(20, None, strong, 0.5) == (0, 10)
    with pytest.raises(ValueError, match="strong_share"):
        objective.batch_sizes(10, weak, strong, 1.0)


def _batch(count, seed, **label):
    rng = np.random.default_rng(seed)
    return {"image": tf.constant(rng.normal(size=(count, 4, 4, 3)), tf.float32), "tags": tf.ones([count, 2]),
            "small_image": tf.constant(rng.integers(0, 255, (count, 4, 4, 3)), tf.uint8),
            "label": tf.constant(rng.choice([0, 1, 255], (count, 4, 4)), tf.uint8), **label}


def _model(x, training):
    assert training
    return 3 * x


@pytest.mark.parametrize("used", [("seed", "boundary"), ("seed", "expand", "boundary"), ("full",)])
def test_the_parts_are_those_of_each_group_of_images(used):
    """L_seed + L_boundary on the first three images, alpha L_full on the other two, and nothing else."""
    weak, strong = _batch(3, 0), _batch(2, 1)
    config = dataclasses.replace(presets.PAPER.segmenter, alpha=3.0)
    task = objective.Task("semi", None, None, used, "none")
    scalars = {k: float(v) for k, v in task.total_loss(_model, config)({**weak, "strong": strong}).items()}
    logits = 3 * weak["image"]
    parts = {"seed": losses.seed_loss(logits, weak["label"]), "full": losses.full_loss(logits, weak["label"]),
             "expand": losses.expand_loss(logits, weak["tags"], 0.996, 0.999),
             "boundary": losses.boundary_loss(logits, losses.refine(logits, weak["small_image"]))}
    expected = {f"{name}_loss": float(parts[name]) for name in used}
    expected["strong_loss"] = 3 * float(losses.full_loss(3 * strong["image"], strong["label"]))
    assert scalars.pop("loss") == pytest.approx(sum(expected.values()), rel=1e-5)
    assert scalars == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("mean", losses.MEANS)
def test_masks_are_learned_by_the_mean_that_was_asked_for(mean):
    weak, strong = _batch(3, 0), _batch(2, 1)
    config = dataclasses.replace(presets.PAPER.segmenter, alpha=3.0, full_loss=mean, log_probs="softmax")
    task = objective.Task("semi", None, None, ("seed", "full"), "none")
    scalars = task.total_loss(_model, config)({**weak, "strong": strong})
    for name, factor, batch in (("full_loss", 1, weak), ("strong_loss", 3, strong)):
        expected = factor * losses.full_loss(3 * batch["image"], batch["label"], mean)
        assert float(scalars[name]) == pytest.approx(float(expected), rel=1e-5)
    expected = losses.seed_loss(3 * weak["image"], weak["label"], "softmax")
    assert float(scalars["seed_loss"]) == pytest.approx(float(expected), rel=1e-5)


def test_seeds_grow_by_the_boundary_losses_own_crf(monkeypatch):
    """One CRF per step; the seed loss is that of the grown seeds, and the share counts them."""
    weak, calls, mean_field = _batch(2, 2), [], crf.mean_field
    monkeypatch.setattr(crf, "mean_field", lambda *a, **k: calls.append(a) or mean_field(*a, **k))
    config = dataclasses.replace(presets.PAPER.segmenter, growing_foreground=0.5, growing_background=0.5)
    task = objective.Task("weak", None, None, ("seed", "boundary"), "dsrg")
    scalars = task.total_loss(_model, config)(weak)
    assert len(calls) == 1
    q = np.exp(losses.refine(3 * weak["image"], weak["small_image"]))
    grown = objective.region_growing.dsrg(q, weak["label"], weak["tags"], 0.5, 0.5)
    assert (grown.numpy() != weak["label"].numpy()).any()
    assert float(scalars["seed_loss"]) == pytest.approx(float(losses.seed_loss(3 * weak["image"], grown)), rel=1e-5)
    assert float(scalars["seeds_share"]) == pytest.approx(np.mean(grown.numpy() != 255))
    assert float(scalars["loss"]) == pytest.approx(float(scalars["seed_loss"] + scalars["boundary_loss"]), rel=1e-6)


@pytest.fixture
def run_dir(tmp_path):
    """A run with a finished classifier, its backbone frozen but no features cached yet, and seeds for a to d."""
    keras.utils.set_random_seed(0)
    config = dataclasses.replace(presets.TINY.classifier, input_size=32, kernel_size=3, trainable_layers="head")
    model, normalization = classifier.build(config, 2)
    (tmp_path / "classifier").mkdir()
    model.save_weights(tmp_path / "classifier" / "model.weights.h5")
    artifacts.write_run(tmp_path / "classifier", config=dataclasses.asdict(config), class_names=NAMES,
                        normalization=dataclasses.asdict(normalization),
                        features={"directory": str(tmp_path / "features"), "flips": False})
    for image_id in "abcd":
        label = np.full((SIDE, SIDE), labels.IGNORE, np.uint8)
        label[6:12, 6:12], label[20:] = 1 + "abcd".index(image_id) % 2, 0
        labels.write_label(tmp_path / "seeds" / f"{image_id}.png", label)
    artifacts.write_run(tmp_path / "seeds")
    return tmp_path


def _config(**changes):
    return dataclasses.replace(presets.TINY.segmenter, **{"channels": 4, "batch_size": 4, "steps": 2,
                                                          "trainable_layers": "head", **changes})


def _log(directory):
    with open(directory / "log.csv", newline="") as file:
        return list(csv.DictReader(file))


def test_a_semi_supervised_batch_has_seeds_and_masks(run_dir):
    """Three images with seeds, of which most positions have none, and one whose mask leaves no position open."""
    parts = types.SimpleNamespace(classifier=presets.ClassifierConfig(input_size=32), normalization=images.TORCH,
                                  features=None)
    task = objective.plan("semi", _split("abcd", ""), _split("xy", "xy"))
    config = _config(strong_share=0.25)
    data = segmenter_training._batches(task, config, parts, run_dir / "seeds", 1, 0, tf.distribute.InputContext())
    for batch in data.take(3):
        assert batch["label"].shape == (3, 4, 4) and batch["strong"]["label"].shape == (1, 4, 4)
        assert (batch["label"].numpy() == labels.IGNORE).mean() == 11 / 16
        mask = batch["strong"]["label"].numpy()[0]
        assert set(np.unique(mask)) == {0, 1 + int(batch["strong"]["tags"].numpy().argmax())}


def test_a_segmenter_begins_with_the_classifiers_backbone_and_colours_change(run_dir):
    trained, *_ = classifier.load(run_dir / "classifier")
    first = {}
    for photometric in (0.0, 0.9):
        config = _config(steps=1, trainable_layers="all", learning_rate=1e-9, photometric=photometric)
        name = f"segmenter_{photometric:g}"
        segmenter_training.train(run_dir, _split("abcd", ""), config, name=name)
        network, *_ = segmenter.load(run_dir / name)
        backbone = network.get_layer(trained.backbone.name)
        for before, after in zip(trained.backbone.weights, backbone.weights, strict=True):
            if "moving" not in after.path:  # batch norm's own
                np.testing.assert_allclose(after, before, atol=1e-6)
        first[photometric] = float(_log(run_dir / name)[0]["loss"])
    assert first[0.0] != pytest.approx(first[0.9], rel=1e-5)


def test_semi_supervised_rounds(run_dir):
    """The second round learns the first one's labels and goes on with the masks; missing features are made."""
    options = Options(supervision="semi", strong=_split("cdx", "cdx", "masks"))
    stage = rounds.train_rounds(run_dir, _split("abcd", "cd"), _config(retrain_steps=1), options)
    assert stage == "segmenter_retrained"
    names = [[k for k in _log(run_dir / name)[-1] if k.endswith("_loss")] for name in ("segmenter", stage)]
    assert names == [["seed_loss", "boundary_loss", "strong_loss"], ["full_loss", "strong_loss"]]
    settings = json.loads((run_dir / "segmenter" / "settings.json").read_text())
    assert settings["supervision"] == "semi" and settings["strong"]["images"] == 3 and settings["seeds"] == "seeds"
    features = feature_cache.FeatureCache.of_run(artifacts.read_run(run_dir / "segmenter"))
    assert features.directory.parent == run_dir / "features" and features.shape == (4, 4, 128)
    assert {p.stem for p in features.directory.glob("*.npy")} == set("abcdx")


def test_masks_alone_need_no_seeds_and_one_round(run_dir):
    (run_dir / "seeds" / "run.json").unlink()
    config = _config(retrain_steps=1, head="aspp", schedule="poly", steps=3)
    assert rounds.train_rounds(run_dir, _split("abxy", "abx"), config, Options(supervision="full")) == "segmenter"
    rows = _log(run_dir / "segmenter")
    assert [k for k in rows[0] if k.endswith("_loss")] == ["full_loss"]
    assert [float(row["learning_rate"]) for row in rows] == pytest.approx([1e-3 * (2 / 3) ** 0.9, 0.0], rel=1e-5)
    network, *_ = segmenter.load(run_dir / "segmenter")
    assert network(np.zeros((1, 16, 24, 3), np.float32)).shape == (1, 2, 3, 3)
    with pytest.raises(FileNotFoundError, match="finished set of seeds"):
        segmenter_training.train(run_dir, _split("ab", "ab"), config, name="weak")


def _without_seeds(run_dir):
    shutil.rmtree(run_dir / "seeds")
    return run_dir


@pytest.mark.parametrize("used", [("em_adapt",), ("em_fixed",), ("mil_lse",), ("mil_max", "expand", "boundary")])
def test_tags_alone_need_no_seeds(run_dir, used, monkeypatch):
    """No label image is read, of the photographs' own masks neither; the losses are those of the batch's tags."""
    monkeypatch.setattr(labels, "decode_label", None)
    run = segmenter_training.train(_without_seeds(run_dir), _split("abcd", "abcd"), _config(losses=used))
    assert run["seeds"] is None and run["seeds_made"] is None
    rows = _log(run_dir / "segmenter")
    assert {k for k in rows[0] if k.endswith("_loss")} == {f"{name}_loss" for name in used}
    assert all(float(row["loss"]) > 0 for row in rows)


def test_tags_alone_go_on_where_they_stopped(run_dir):
    """Two steps and two more are four, to the bit of the log; with other settings it does not go on."""
    config = _config(losses=("em_adapt",), steps=4, dropout=0.5)
    options = Options(training=loop.Options(save_every=2, log_every=1))
    segmenter_training.train(_without_seeds(run_dir), _split("abcd", ""), config, options, name="whole")
    calls, save = [], loop._check_weights

    def killed(*args):
        save(*args)
        calls.append(args)
        if len(calls) == 2:
            raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(loop, "_check_weights", killed)
        segmenter_training.train(run_dir, _split("abcd", ""), config, options, name="parts")
    segmenter_training.train(run_dir, _split("abcd", ""), config, options, name="parts")
    assert [row["loss"] for row in _log(run_dir / "parts")] == [row["loss"] for row in _log(run_dir / "whole")]


def test_tags_and_masks_need_no_seeds_and_the_second_round_learns_labels(run_dir):
    """WSSL's semi-supervision: three images by EM beside one by its mask; then the first network's labels."""
    options = Options(supervision="semi", strong=_split("cdx", "cdx", "masks"))
    config = _config(losses=("em_adapt",), strong_share=0.25, retrain_steps=1)
    stage = rounds.train_rounds(_without_seeds(run_dir), _split("abcd", "cd"), config, options)
    names = [[k for k in _log(run_dir / name)[-1] if k.endswith("_loss")] for name in ("segmenter", stage)]
    assert names == [["em_adapt_loss", "strong_loss"], ["full_loss", "strong_loss"]]
    settings = [json.loads((run_dir / name / "settings.json").read_text()) for name in ("segmenter", stage)]
    assert [each["seeds"] for each in settings] == [None, "segmenter_labels"]
    parts = types.SimpleNamespace(classifier=presets.ClassifierConfig(input_size=32), normalization=images.TORCH,
                                  features=None)
    task = objective.plan("semi", _split("ab", ""), _split("xy", "xy"), ("em_adapt",))
    for batch in segmenter_training._batches(task, config, parts, run_dir, 1, 0, tf.distribute.InputContext()).take(1):
        assert "label" not in batch and batch["small_image"].shape == (3, 4, 4, 3)
        assert batch["strong"]["label"].shape == (1, 4, 4)


def test_tags_alone_are_rehearsed_without_seeds(run_dir):
    artifacts.write_json(run_dir / "classifier" / "settings.json", {"config": {"precision": "float32"}})
    config = _config(losses=("em_adapt",), retrain_steps=1)
    rehearsal.rehearse_segmenter(_without_seeds(run_dir), _split("abcd", ""), config)
    assert not [path for path in run_dir.iterdir() if "rehearsal" in path.name or "segmenter" in path.name]


def test_one_loss_of_seeds_needs_them(run_dir):
    with pytest.raises(FileNotFoundError, match="finished set of seeds"):
        segmenter_training.train(_without_seeds(run_dir), _split("ab", ""), _config(losses=("seed", "em_adapt")))
    with pytest.raises(ValueError, match="growing dsrg: .* the seed loss"):
        objective.plan("weak", _split("ab", ""), None, ("em_adapt",), "dsrg")
    assert not objective.plan("full", _split("ab", "ab")).needs_seeds


def test_a_loss_looks_at_label_images_or_needs_none():
    """Those that are said to need none are given none; the others miss them."""
    batch = {name: value for name, value in _batch(2, 0).items() if name != "label"}
    batch["saliency"] = tf.fill(batch["image"].shape[:3], 0.3)
    batch["tags"] = tf.one_hot([0, 1], batch["tags"].shape[-1])  # of one tag, which stc looks at
    for name, loss in objective.LOSSES.items():
        step = objective.Step(3 * batch["image"], batch, presets.PAPER.segmenter)
        if name in objective.SEEDLESS:
            assert float(loss(step)) > 0, name
        else:
            with pytest.raises(KeyError, match="label"):
                loss(step)


def test_the_labels_of_a_second_round_have_the_image_prior(run_dir, monkeypatch):
    """What the CRF is given is the product of the pixel's and the image's probabilities, restricted to the tags."""
    given, split = [], _split("ab", "")

    def refiner(spec, backend):
        def least_first(image, logits):
            given.append((image.numpy()[0], logits.numpy()[0]))
            return -logits  # absent classes above all

        assert (spec, backend) == (crf.SEC_TRAIN, "exact")
        return least_first

    monkeypatch.setattr(rounds.crf, "refiner", refiner)
    config = _config(losses=("mil_lse",), image_prior=True, mil_sharpness=3.0, learning_rate=0.3, steps=3)
    segmenter_training.train(_without_seeds(run_dir), split, config)
    tf.config.run_functions_eagerly(True)
    try:
        rounds.label_split(run_dir, split, "segmenter", "labels")
    finally:
        tf.config.run_functions_eagerly(False)
    network, normalization, _, _ = segmenter.load(run_dir / "segmenter")
    _, backbone, head = network.layers
    plain = keras.Model(head.inputs, head.get_layer("logits").output)
    for index, (small, logits) in enumerate(given):
        image = images.decode_image_op(split[index]["image"])
        np.testing.assert_allclose(small, images.warp(image, 4), atol=1e-4)
        f = plain(backbone(images.normalize(images.warp(image, 32), normalization)[None]))[0].numpy()
        scores = np.log(np.exp(3 * f).mean((0, 1))) / 3
        probs = np.exp(f + scores) / np.exp(f + scores).sum(-1, keepdims=True)
        allowed = np.concatenate([[0], 1 + np.flatnonzero(split[index]["tags"])])
        expected = np.log(probs[..., allowed] / probs[..., allowed].sum(-1, keepdims=True))
        np.testing.assert_allclose(logits[..., allowed], expected, atol=0.02)  # the kept features are float16
        label = labels.read_label(run_dir / "labels" / f"{split[index]['image_id']}.png")
        np.testing.assert_array_equal(label, np.array(allowed)[logits[..., allowed].argmin(-1)])  # a tagged one
        without = np.exp(f[..., allowed]) / np.exp(f[..., allowed]).sum(-1, keepdims=True)
        assert np.abs(np.log(without) - expected).max() > 0.05


def test_the_second_round_is_labelled_by_what_was_trained(run_dir, monkeypatch):
    """What is trained above the cut labels the images: the labels are those of the whole network."""
    config = _config(trainable_layers="last_block", retrain_steps=1)
    centred = lambda image, logits: tf.exp(logits - tf.reduce_mean(logits, [1, 2], keepdims=True))  # noqa: E731
    monkeypatch.setattr(rounds.crf, "refiner", lambda spec, backend: centred)  # several classes win
    split = _split("abcd", "")
    assert rounds.train_rounds(run_dir, split, config) == "segmenter_retrained"
    kept = [artifacts.read_run(run_dir / stage)["features"] for stage in ("segmenter", "segmenter_retrained")]
    assert kept[0] == kept[1] and feature_cache.FeatureCache.of_run({"features": kept[0]}).shape == (8, 8, 64)
    network, normalization, _, _ = segmenter.load(run_dir / "segmenter")
    seen = set()
    for index, image_id in enumerate("abcd"):
        image = images.decode_image_op(split[index]["image"])
        logits = network(images.normalize(images.warp(image, 32), normalization)[None], training=False)[0].numpy()
        allowed = np.concatenate([[1], split[index]["tags"]]) > 0
        log_probs = np.log(np.maximum(np.exp(logits) / np.exp(logits).sum(-1, keepdims=True), 1e-4))
        log_probs = np.where(allowed, log_probs - log_probs.mean((0, 1)), -np.inf)
        label = labels.read_label(run_dir / "segmenter_labels" / f"{image_id}.png")
        assert (label == log_probs.argmax(-1)).mean() > 0.9  # the kept features are float16
        seen.update(label.ravel().tolist())
    assert len(seen) > 1
    assert prediction.last_stage(run_dir).name == "segmenter_retrained"
    artifacts.write_json(run_dir / "segmenter_labels" / "settings.json", {"segmenter": "an earlier one"})
    assert prediction.last_stage(run_dir).name == "segmenter"


def test_simple_to_complex_above_frozen_layers(run_dir, tmp_path_factory):
    """The third network's labels are of photographs that the first two have not seen; the run may have been moved."""
    split = _split("abcd", "")
    split.records[3]["tags"] = [1, 2]
    config = _config(trainable_layers="last_block", simple_first=True, steps=4)
    assert rounds.train_rounds(run_dir, split.select(range(3)), config) == "segmenter_retrained"
    features = feature_cache.FeatureCache.of_run(artifacts.read_run(run_dir / "segmenter"))
    assert {path.stem for path in features.directory.glob("*.npy")} == set("abc")
    moved = tmp_path_factory.mktemp("moved") / "run"
    run_dir.rename(moved)
    rounds.label_split(moved, split, "segmenter_simple", "segmenter_more_labels")
    assert {path.stem for path in (moved / "segmenter_more_labels").glob("*.png")} == set("abcd")
    assert {path.stem for path in (moved / "features" / features.directory.name).glob("*.npy")} == set("abcd")


def test_the_same_seeds_made_again_are_the_same(run_dir):
    artifacts.write_json(run_dir / "seeds" / "settings.json", {"theta": 0.35})
    segmenter_training.train(run_dir, _split("abcd", ""), _config())
    artifacts.write_run(run_dir / "seeds", images=4)
    assert segmenter_training.train(run_dir, _split("abcd", ""), _config())["seeds"] == "seeds"
    artifacts.write_json(run_dir / "seeds" / "settings.json", {"theta": 0.4})
    with pytest.raises(ValueError, match="seeds_made"):
        segmenter_training.train(run_dir, _split("abcd", ""), _config())


def test_growing_in_a_training(run_dir):
    config = _config(growing_foreground=0.3, growing_background=0.3, growing="dsrg")
    segmenter_training.train(run_dir, _split("abcd", ""), config)
    shares = [float(row["seeds_share"]) for row in _log(run_dir / "segmenter")]
    assert all(5 / 16 < share <= 1 for share in shares)  # 5 of an image's 16 positions have seeds
    with pytest.raises(ValueError, match="XLA cannot compile"):
        compiled = Options(training=loop.Options(jit_compile=True))
        segmenter_training.train(run_dir, _split("abcd", ""), config, compiled, name="other")
    with pytest.raises(ValueError, match="random crop pads"):
        segmenter_training.train(run_dir, _split("abcd", ""), dataclasses.replace(config, random_crop=True),
                                 name="other")
    for names in (("seed", "expand"), ("em_adapt",)):
        cropped = dataclasses.replace(_config(), losses=names, random_crop=True)
        with pytest.raises(UserError, match=f"losses {names[-1]}: of a random crop they would teach what is padded"):
            segmenter_training.train(run_dir, _split("abcd", ""), cropped, name="other")
    with pytest.raises(UserError, match=r"below 0.9998, the surest answer of 3 classes, found 0.3 and 0.9999; seeds"):
        segmenter_training.train(run_dir, _split("abcd", ""), dataclasses.replace(config, growing_background=0.9999),
                                 name="other")
    for image_id in "abcd":
        labels.write_label(run_dir / "seeds" / f"{image_id}.png", np.zeros((SIDE, SIDE)))
    with pytest.raises(ValueError, match="expected seeds with unlabelled pixels"):
        segmenter_training.train(run_dir, _split("abcd", ""), config, name="full")


def test_heads_are_the_sums_of_their_branches():
    """DSRG's four branches and ASPP: with the same weights in all, four times one branch."""
    x = np.random.default_rng(0).normal(size=(1, 6, 6, 8)).astype("float32")
    for head_name in ("largefov4", "aspp"):
        head = segmenter.build_head(dataclasses.replace(presets.PAPER.segmenter, head=head_name, channels=5),
                                    (None, None, 8), 3)
        logits = head(x).numpy()
        branch_sum = 0
        for dilation in (6, 12, 18, 24):
            branch = head.get_layer(f"fc8_{dilation}").output
            branch_sum = branch_sum + keras.Model(head.inputs, branch)([x]).numpy()
        np.testing.assert_allclose(logits, branch_sum, rtol=1e-4, atol=1e-5)
        dilations = {layer.dilation_rate[0] for layer in head.layers if hasattr(layer, "dilation_rate")}
        assert dilations >= {6, 12, 18, 24}


def test_a_resnets_batch_norm_stays_as_it_is_in_training():
    model = backbones.build("resnet50", "all")
    frozen = [v for v in model.variables if "_bn/" in v.path]
    assert frozen and not any("_bn/" in v.path for v in model.trainable_variables)
    before = [v.numpy() for v in frozen[:8]]
    model(images.normalize(tf.random.stateless_uniform([1, 17, 17, 3], [1, 2], 0, 255), images.CAFFE), training=True)
    for value, variable in zip(before, frozen, strict=False):
        np.testing.assert_array_equal(value, variable.numpy())


def test_a_segmenter_is_of_the_classifier_whose_backbone_it_has(run_dir):
    """Made again with other settings, the classifier has another backbone: what is there is not gone on with."""
    config = _config(losses=("em_adapt",))
    segmenter_training.train(_without_seeds(run_dir), _split("abcd", ""), config)
    segmenter_training.train(run_dir, _split("abcd", ""), config)
    run = artifacts.read_json(run_dir / "classifier" / "run.json")
    artifacts.write_json(run_dir / "classifier" / "run.json", {**run, "seed": 7})
    with pytest.raises(UserError, match=r"begun with other settings \(classifier: [0-9a-f]{16} -> [0-9a-f]{16}\)"):
        segmenter_training.train(run_dir, _split("abcd", ""), config)
