"""The feature cache: computed once, equal to the network's, of this photograph and this network."""

import dataclasses

import keras
import numpy as np
import pytest

from ficklenet_tf import presets
from ficklenet_tf.data import datasets, feature_cache, images, input_pipeline
from ficklenet_tf.data.feature_cache import FeatureCache
from ficklenet_tf.errors import UserError
from ficklenet_tf.models import backbones
from ficklenet_tf.runs import artifacts


@pytest.fixture(scope="module")
def split(drawings_dir):
    return datasets.load_split("shapes", "train", cache_dir=drawings_dir, max_images=7)


def test_features_are_computed_once_and_equal_the_network(split, tmp_path):
    backbone = backbones.build("small", "head")
    cache, options = FeatureCache(tmp_path / "f", flips=True), dict(size=33, batch_size=4)
    assert cache.fill(split, backbone, images.TORCH, **options) == 14
    assert cache.fill(split, backbone, images.TORCH, **options) == 0
    cache.path(split.image_ids[2]).unlink()
    assert cache.fill(split, backbone, images.TORCH, **options) == 1
    image = images.warp(images.decode_image_op(split[2]["image"]), 33)
    for flipped in (False, True):
        x = images.normalize(image[:, ::-1] if flipped else image, images.TORCH)
        expected = backbone(x[None], training=False)[0]
        features = cache.read(cache.path(split.image_ids[2], flipped))
        np.testing.assert_allclose(features, expected, rtol=2e-3, atol=2e-3)
        np.testing.assert_array_equal(cache.load(split.image_ids[2], flipped), features)


@pytest.mark.parametrize("harm", ["flip", "swap", "cut"])
def test_damaged_features_are_named_and_a_cut_file_is_made_again(split, tmp_path, harm):
    backbone, options = backbones.build("small", "head"), dict(size=33, batch_size=4)
    FeatureCache(tmp_path / "f").fill(split, backbone, images.TORCH, **options)
    cache = FeatureCache(tmp_path / "f")
    path, other = (cache.path(image_id) for image_id in split.image_ids[2:4])
    data = bytearray(path.read_bytes())
    data[500] ^= 8
    path.write_bytes({"flip": bytes(data), "swap": other.read_bytes(), "cut": bytes(data[:-2])}[harm])
    with pytest.raises(UserError, match=f"{path}: expected the .* bytes of checksum .* Remove {path}, then run"):
        cache.load(split.image_ids[2])
    assert cache.load(split.image_ids[3]).shape == cache.shape
    assert cache.fill(split, backbone, images.TORCH, **options) == (harm == "cut")
    path.unlink()
    assert cache.fill(split, backbone, images.TORCH, **options) == (harm != "cut" or 1)
    assert cache.load(split.image_ids[2]).std() > 0


def test_a_lost_shape_is_noted_again(split, tmp_path):
    backbone, options = backbones.build("small", "head"), dict(size=33, batch_size=4)
    FeatureCache(tmp_path / "f").fill(split, backbone, images.TORCH, **options)
    (tmp_path / "f" / "features.json").unlink()
    cache = FeatureCache(tmp_path / "f")
    assert cache.fill(split, backbone, images.TORCH, **options) == 0 and cache.shape == (5, 5, 128)


def test_features_of_another_photograph_or_network_are_not_taken(split, tmp_path):
    backbone = backbones.build("small", "head")
    cache, options = FeatureCache(tmp_path / "f"), dict(size=33, batch_size=4)
    assert cache.fill(split, backbone, images.TORCH, **options) == 7
    rows = (*split.rows[:2], split.rows[4], *split.rows[3:])  # another photograph under the third one's name
    replaced_split = dataclasses.replace(split, rows=rows)
    assert cache.fill(replaced_split, backbone, images.TORCH, **options) == 1
    assert cache.fill(replaced_split, backbone, images.TORCH, **options) == 0
    keras.utils.set_random_seed(1)
    other = backbones.build("small", "head")
    options = dict(dataset="d", precision="p")
    names = [feature_cache.cache_directory("", below, normalization, size=size, **options)
             for below, size, normalization in (
                 (backbone, 33, images.TORCH), (other, 33, images.TORCH), (backbone, 41, images.TORCH),
                 (backbones.cut(backbone, "last_block").below, 33, images.TORCH), (backbone, 33, images.CAFFE))]
    assert len(set(names)) == 5
    other.set_weights(backbone.get_weights())
    normalization = images.Normalization(**artifacts.as_json(dataclasses.asdict(images.TORCH)))  # read back: lists
    assert feature_cache.cache_directory("", other, normalization, size=33, **options) == names[0]
    with pytest.raises(ValueError, match="photometric and random_crop: .* --photometric=0 --norandom_crop"):
        feature_cache.check_augmentation(
            dataclasses.replace(presets.PAPER.segmenter, photometric=0.1, random_crop=True))


def test_features_of_any_number_of_channels_are_mirrored(split, tmp_path):
    """OpenCV mirrors up to 128 channels."""
    artifacts.write_json(tmp_path / "features.json", {"shape": [3, 3, 512], "size": 33})
    stored = np.random.default_rng(0).random((3, 3, 512)).astype(np.float16)
    for image_id in split.image_ids:
        np.save(FeatureCache(tmp_path).path(image_id), stored)
    reader = input_pipeline.ExampleReader(split, 4, 33, features=FeatureCache(tmp_path))
    seen = [reader.example(position)["features"] for position in range(12)]
    mirrored = [bool((array == stored[:, ::-1]).all()) for array in seen]
    assert set(mirrored) == {True, False}
    assert all(m or (array == stored).all() for m, array in zip(mirrored, seen, strict=True))


def test_a_photograph_that_was_replaced_leaves_no_features_behind(split, tmp_path, monkeypatch):
    """Neither those of its mirror image, nor what a pass that was killed had written."""
    backbone, options = backbones.build("small", "head"), dict(size=33, batch_size=2)
    rows = (*split.rows[:2], split.rows[4], *split.rows[3:])  # another photograph under the third one's name
    other, third = dataclasses.replace(split, rows=rows), split.image_ids[2]
    cache = FeatureCache(tmp_path / "f", flips=True)
    cache.fill(split, backbone, images.TORCH, **options)
    assert cache.fill(other, backbone, images.TORCH, flips=False, **options) == 1
    assert not cache.path(third, flipped=True).exists()
    assert cache.fill(other, backbone, images.TORCH, **options) == 1

    written, write = [], feature_cache._write

    def killed(path, features):
        if len(written) == 4:
            raise KeyboardInterrupt
        written.append(path.stem)
        write(path, features)

    monkeypatch.setattr(feature_cache, "_write", killed)
    with pytest.raises(KeyboardInterrupt):
        FeatureCache(tmp_path / "g").fill(split, backbone, images.TORCH, **options)
    monkeypatch.setattr(feature_cache, "_write", write)
    assert third in written
    killed_cache = FeatureCache(tmp_path / "g")
    assert killed_cache.holds(third, split[2]["image"]) and not killed_cache.holds(third, other[2]["image"])
    assert killed_cache.fill(other, backbone, images.TORCH, **options) == 4  # three that were missing, and this one
    np.testing.assert_array_equal(killed_cache.load(third), killed_cache.load(split.image_ids[4]))
