"""Maps of whole photographs: views, cached features, N by itself, shards, and the way to the disk and back."""

import dataclasses

import keras
import numpy as np
import pytest
import tensorflow as tf

from ficklenet_tf import presets
from ficklenet_tf.data import feature_cache, images
from ficklenet_tf.errors import UserError
from ficklenet_tf.maps import aggregation, extraction, localizer
from ficklenet_tf.maps.image_maps import ImageMaps
from ficklenet_tf.maps.localizer import Localizer
from ficklenet_tf.models import backbones, classifier
from ficklenet_tf.runs import artifacts
from tests import tiny_run

CONFIG = presets.MapsConfig(num_maps=20, sizes=(33,))
PHOTOGRAPHS = tiny_run.Photographs()


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory):
    """A classifier of random weights, in the layout of a finished stage."""
    return tiny_run.make_classifier(tmp_path_factory.mktemp("run"))


def _localizer(run_dir, config=CONFIG, mode="stochastic", features=None):
    return Localizer(*classifier.load(run_dir / "classifier")[:2], config, mode, features)


def test_maps_on_disk_are_those_of_the_localizer_whatever_the_shards(run_dir):
    options = extraction.Options(seed=5)
    whole = extraction.extract(run_dir, PHOTOGRAPHS, CONFIG, options)
    for shard in ((1, 2), (0, 2), (0, 1)):
        extraction.extract(run_dir, PHOTOGRAPHS, CONFIG, options, name="shards", shard=shard)
    assert whole["images"] == 3 and "num_maps" not in whole
    for index, image_id in enumerate("abc"):
        expected = _localizer(run_dir)(PHOTOGRAPHS[index], 5)
        for name in ("maps", "shards"):
            maps = ImageMaps.read(run_dir / name / f"{image_id}.npz")
            for field in ("tag_ids", "mean", "max", "std", "samples"):
                np.testing.assert_array_equal(getattr(maps, field), getattr(expected, field), err_msg=field)
            assert (maps.num_maps, maps.shape, maps.gradient) == (20, (40 + 8 * index, 48), None)


def test_what_is_not_asked_for():
    assert extraction.Options() == extraction.Options("classifier", "stochastic", 0, jit_compile=False, erased=())


def test_a_file_is_half_precision_and_a_damaged_one_is_named(run_dir, tmp_path):
    maps = ImageMaps(np.array([1], np.int32), *(np.full((2, 3, 1), value, np.float32) for value in (0.1, 0.2, 0.3)),
                     np.full((1, 2, 3, 1), 1 / 3, np.float32), 7, (4, 6), np.full((5, 5), 0.7, np.float32))
    maps.write(tmp_path / "a.npz")
    read, rounded = ImageMaps.read(tmp_path / "a.npz"), maps.rounded()
    for field in ("mean", "max", "std", "samples", "gradient"):
        np.testing.assert_array_equal(getattr(read, field), np.float16(getattr(maps, field)).astype(np.float32))
        np.testing.assert_array_equal(getattr(read, field), getattr(rounded, field))
    (tmp_path / "b.npz").write_bytes((tmp_path / "a.npz").read_bytes()[:200])
    with pytest.raises(UserError, match="b.npz: expected maps of tools.extract_maps"):
        ImageMaps.read(tmp_path / "b.npz")
    with pytest.raises(FileNotFoundError):
        ImageMaps.read(tmp_path / "c.npz")


def test_the_gradient_is_that_of_the_mean_score_scaled_to_one(run_dir):
    localizer = _localizer(run_dir, dataclasses.replace(CONFIG, gradient="pixels"))
    gradient = localizer(PHOTOGRAPHS[1], 5).gradient
    image = images.decode_image_op(PHOTOGRAPHS[1]["image"])
    x = tf.Variable(images.normalize(images.warp(image, 33), localizer.normalization)[None])
    with tf.GradientTape() as tape:
        score = tf.reduce_sum(localizer.model.head.expected_logits(localizer.model.backbone(x)))
    expected = np.abs(tape.gradient(score, x)).max(-1)[0]
    np.testing.assert_allclose(gradient, expected / expected.max(), atol=1e-3)
    assert gradient.shape == (33, 33)
    localizer = _localizer(run_dir, dataclasses.replace(CONFIG, gradient="features"))
    backbone = localizer.model.backbone
    both = keras.Model(backbone.input, [backbone.get_layer("block5_relu").output, backbone.output])
    with tf.GradientTape() as tape:
        features, output = both(x)  # SEC's: by the features of stride 8, the greatest over their channels
        score = tf.reduce_sum(localizer.model.head.expected_logits(output))
    expected = np.abs(tape.gradient(score, features)).max(-1)[0]
    np.testing.assert_allclose(localizer(PHOTOGRAPHS[1], 5).gradient, expected / expected.max(), atol=1e-3)
    assert expected.shape == (5, 5)


def test_vgg_has_secs_layer():
    for name, backbone in backbones.BACKBONES.items():
        below = backbones.after(backbones.build(name), backbone.cue_layer)[0]
        assert below.compute_output_shape((1, 65, 65, 3))[1:3] == (9, 9), name  # stride 8
    assert backbones.BACKBONES["vgg16"].cue_layer == "block4_conv1"


def test_cached_features_are_those_of_this_photograph(run_dir, tmp_path):
    example = PHOTOGRAPHS[1]
    artifacts.write_json(tmp_path / "features.json", {"shape": [5, 5, 128], "size": 33})
    np.save(tmp_path / "b.npy", np.full((5, 5, 128), 0.5, np.float16))
    for checksum, cached in ((feature_cache.checksum(example["image"]), True),
                             (feature_cache.checksum(b"another of the same name"), False)):
        artifacts.write_json(tmp_path / "photographs.json", {"b": checksum})
        view = _localizer(run_dir, features=feature_cache.FeatureCache(tmp_path)).prepare(example)["views"][0]
        if cached:
            assert view.shape == (5, 5, 128) and (view.numpy() == 0.5).all()
        else:
            assert view.shape == (1, 33, 33, 3)


def test_the_mirrored_view_takes_what_is_kept_of_the_mirrored_photograph(run_dir, tmp_path):
    example, kept = PHOTOGRAPHS[1], np.random.default_rng(0).random((5, 5, 128)).astype(np.float16)
    artifacts.write_json(tmp_path / "features.json", {"shape": [5, 5, 128], "size": 33})
    np.save(tmp_path / "b.npy", kept)
    config = dataclasses.replace(CONFIG, sizes=(33, 41), flip_views=True)
    localizer = _localizer(run_dir, config, features=feature_cache.FeatureCache(tmp_path, flips=True))
    views = localizer.prepare(example)["views"]
    assert [view.shape for view in views] == [(5, 5, 128), (1, 33, 33, 3), (1, 41, 41, 3), (1, 41, 41, 3)]
    np.testing.assert_array_equal(views[3], views[2].numpy()[:, :, ::-1])
    (tmp_path / "flipped").mkdir()
    np.save(tmp_path / "flipped" / "b.npy", kept / 2)
    views = localizer.prepare(example)["views"]
    np.testing.assert_array_equal(views[0], kept)
    np.testing.assert_array_equal(views[1], kept / 2)


def test_n_auto_tells_how_many_maps_it_took(run_dir):
    config = dataclasses.replace(CONFIG, num_maps="auto", auto_tolerance=0.1, auto_most=160)
    run = extraction.extract(run_dir, PHOTOGRAPHS, config, extraction.Options(seed=5), name="auto")
    taken = [ImageMaps.read(run_dir / "auto" / f"{image_id}.npz").num_maps for image_id in "abc"]
    assert run["num_maps"] == {"median": np.median(taken), "max": max(taken)} and set(taken) <= {20, 40, 80, 160}


@pytest.mark.parametrize("num_maps, message", [(0, "num_maps: expected a whole number from 1"),
                                               ("many", "or auto, found 'many'")])
def test_a_number_of_maps_that_cannot_be(num_maps, message):
    with pytest.raises(UserError, match=message):
        Localizer(None, None, dataclasses.replace(CONFIG, num_maps=num_maps))


def test_a_classifier_of_other_classes_is_refused(run_dir):
    class Others(tiny_run.Photographs):
        class_names = ("background", "x", "z", "y")

    with pytest.raises(UserError, match="knows the classes background, x, y, z; found background, x, z, y"):
        extraction.extract(run_dir, Others(), CONFIG, name="refused")


def test_views_are_joined_and_cam_is_chosen(run_dir):
    model, normalization, *_ = classifier.load(run_dir / "classifier")
    config = dataclasses.replace(CONFIG, sizes=(33, 49), flip_views=True, cam="cam")
    example = PHOTOGRAPHS[1]
    merged = Localizer(model, normalization, config, "deterministic")(example, 5)
    views = []
    for size in (33, 49):
        x = images.normalize(images.warp(images.decode_image_op(example["image"]), size), normalization)[None]
        for mirrored in (False, True):
            features = model.backbone(x[:, :, ::-1] if mirrored else x)[0]
            options = aggregation.Options(num_maps=1, mode="deterministic", cam="cam")
            view = aggregation.localize(model.head, features, tf.constant([1]), tf.constant([0, 0]), options)
            view = view["mean"].numpy()
            views.append(images.resize_maps(view[:, ::-1] if mirrored else view, merged.mean.shape[:2]))
    np.testing.assert_allclose(merged.mean, np.mean(views, 0), rtol=1e-3, atol=1e-4)  # half precision
    np.testing.assert_allclose(merged.max, np.max(views, 0), rtol=1e-3, atol=1e-4)


def test_the_joint_spread_is_that_of_all_maps_together():
    """A view whose maps are all 0 and one whose are all 1: mean 1/2, spread 1/2, as of one set of zeros and ones."""
    maps = np.random.default_rng(0).random((2, 7, 3, 4, 1)).astype(np.float32)  # two views of seven maps
    for views in (np.stack([np.zeros((7, 3, 4, 1)), np.ones((7, 3, 4, 1))]), maps):
        joint = localizer.merged([{"mean": view.mean(0), "max": view.max(0), "std": view.std(0), "samples": None,
                                   "num_maps": 7} for view in views])
        together = views.reshape(14, 3, 4, 1)
        for name, expected in (("mean", together.mean(0)), ("max", together.max(0)), ("std", together.std(0))):
            np.testing.assert_allclose(joint[name], expected, atol=1e-6)


def test_no_more_maps_are_kept_than_were_drawn():
    for mode, counts in (("stochastic", {1: 1, 2: 2, 200: 3}), ("deterministic", {1: 1})):
        assert {count: localizer._options(dataclasses.replace(presets.TINY.maps, num_maps=count), mode).samples
                for count in counts} == counts
