"""Order, augmentation, caches, the loop: what a step sees, and what a resumed run sees."""

import dataclasses

import keras
import numpy as np
import pytest
import tensorflow as tf

from ficklenet_tf import presets
from ficklenet_tf.data import datasets, feature_cache, images, indexed_dataset, input_pipeline
from ficklenet_tf.models import backbones, classifier, pretrained, segmenter
from ficklenet_tf.runs import artifacts
from ficklenet_tf.training import loop, optimizers
from tools import cli


@pytest.fixture(scope="module")
def split(tmp_path_factory):
    return datasets.load_split("shapes", "train", cache_dir=tmp_path_factory.mktemp("data"), max_images=7)


def test_every_epoch_is_a_permutation():
    first = [input_pipeline.index_at(position, 5, 1) for position in range(15)]
    for epoch in range(3):
        assert sorted(first[5 * epoch:5 * epoch + 5]) == [0, 1, 2, 3, 4]
    assert first[:5] != first[5:10] or first[5:10] != first[10:]
    assert [input_pipeline.index_at(position, 5, 2) for position in range(15)] != first


def test_what_reading_raises_keeps_its_text():
    def read(index):
        if index == 2:
            raise FileNotFoundError("expected a photograph, found none")
        return {"index": np.int64(index)}

    data = indexed_dataset.dataset(range(1, 9), read, {"index": tf.TensorSpec([], tf.int64)})
    assert [int(one["index"]) for one in data.take(1)] == [1]
    with pytest.raises(tf.errors.OpError, match="expected a photograph, found none") as caught:
        list(data)
    assert cli._text(caught.value) == "expected a photograph, found none"  # a binary's one line


def _batches(split, start, count, photometric=0.0, **options):
    data = input_pipeline.training_batches(split, batch_size=3, seed=4, start_step=start, size=33, **options)
    data = data.map(lambda batch: input_pipeline.prepared(batch, images.TORCH, photometric))
    return [{k: v.numpy() for k, v in batch.items()} for batch in data.take(count)]


@pytest.mark.parametrize("options", [dict(photometric=0.2), dict(label_size=5), dict(crop=(0.5, 1.5), label_size=9)])
def test_a_batch_is_a_function_of_seed_and_step(split, options):
    whole, late = _batches(split, 0, 5, **options), _batches(split, 3, 2, **options)
    for a, b in zip(whole[3:], late, strict=True):
        assert a.keys() == b.keys()
        for name in a:
            np.testing.assert_array_equal(a[name], b[name], err_msg=name)
    assert (whole[0]["seeds"] != whole[1]["seeds"]).any()
    own = tf.random.fold_in(tf.constant([4, 0x5EED], tf.int64), 5)  # of the sixth example, so the third of step 1
    np.testing.assert_array_equal(whole[1]["seeds"][2], tf.cast(own, tf.int32))


def test_the_parts_of_all_replicas_make_the_batch(split):
    def parts(**context):
        data = input_pipeline.training_batches(split, batch_size=4, seed=4, start_step=1, size=33,
                                               context=tf.distribute.InputContext(**context))
        return [batch["image"].numpy() for batch in data.take(4)]

    whole = np.concatenate(parts()[:2])
    first, second = (parts(num_input_pipelines=2, input_pipeline_id=i, num_replicas_in_sync=4) for i in range(2))
    np.testing.assert_array_equal(whole, np.concatenate([*first[:2], *second[:2], *first[2:], *second[2:]]))


def test_image_and_label_are_mirrored_together(split):
    """The label of a mirrored image is the mirrored label: both cases occur, and each is one of the two."""
    plain = {}
    for index in range(len(split)):
        label = images.warp_label(tf.io.decode_png(split[index]["label"], 3)[..., 0], 33).numpy()
        plain[split.image_ids[index]] = label
    seen = set()
    still = _batches(split, 0, 7, label_size=33, flips=False)
    moving = _batches(split, 0, 7, label_size=33, flips=True)
    for a, b in zip(still, moving, strict=True):
        for k in range(3):
            mirrored = np.array_equal(b["image"][k], a["image"][k][:, ::-1])
            assert mirrored or np.array_equal(b["image"][k], a["image"][k])
            expected = a["label"][k][:, ::-1] if mirrored else a["label"][k]
            np.testing.assert_array_equal(b["label"][k], expected)
            seen.add(mirrored)
    assert seen == {True, False}


def test_missing_seed_images_are_named(split, tmp_path):
    with pytest.raises(ValueError, match="7 are missing"):
        _batches(split, 0, 1, label_size=5, seeds_dir=tmp_path)


def test_features_are_computed_once_and_equal_the_network(split, tmp_path):
    backbone = backbones.build("small", "none")
    options = dict(size=33, directory=tmp_path / "f", flips=True, batch_size=4)
    assert feature_cache.cache(split, backbone, images.TORCH, **options) == 14
    assert feature_cache.cache(split, backbone, images.TORCH, **options) == 0
    feature_cache.path_of(tmp_path / "f", split.image_ids[2]).unlink()
    assert feature_cache.cache(split, backbone, images.TORCH, **options) == 1
    shape = feature_cache.shape_in(tmp_path / "f")
    image = images.warp(images.decode(split[2]["image"]), 33)
    for flipped in (False, True):
        x = images.normalize(image[:, ::-1] if flipped else image, images.TORCH)
        expected = backbone(x[None], training=False)[0]
        got = feature_cache.read(str(feature_cache.path_of(tmp_path / "f", split.image_ids[2], flipped)), shape)
        np.testing.assert_allclose(got, expected, rtol=2e-3, atol=2e-3)


def test_features_of_another_photograph_or_network_are_not_taken(split, tmp_path):
    backbone = backbones.build("small", "none")
    options = dict(size=33, directory=tmp_path / "f", batch_size=4)
    assert feature_cache.cache(split, backbone, images.TORCH, **options) == 7
    other = dataclasses.replace(split, rows=(*split.rows[:2], split.rows[4], *split.rows[3:]))  # the third is replaced
    assert feature_cache.cache(other, backbone, images.TORCH, **options) == 1
    assert feature_cache.cache(other, backbone, images.TORCH, **options) == 0
    names = [feature_cache.cache_directory("", dataset="d", backbone="vgg16", weights=weights, size=33, precision="p",
                                           seed=seed)
             for weights, seed in (("", 0), ("", 1), ("imagenet", 0), ("imagenet", 1))]
    assert len(set(names)) == 3 and names[2] == names[3]
    with pytest.raises(ValueError, match="photometric and random_crop: .* --photometric=0 --norandom_crop"):
        feature_cache.check_augmentation(
            dataclasses.replace(presets.PAPER.segmenter, photometric=0.1, random_crop=True))


def test_features_of_any_number_of_channels_are_mirrored(split, tmp_path):
    """OpenCV mirrors up to 128 channels."""
    artifacts.write_json(tmp_path / "features.json", {"shape": [3, 3, 512], "size": 33})
    stored = np.random.default_rng(0).random((3, 3, 512)).astype(np.float16)
    for image_id in split.image_ids:
        np.save(feature_cache.path_of(tmp_path, image_id), stored)
    seen = [array for batch in _batches(split, 0, 4, features_dir=tmp_path) for array in batch["features"]]
    mirrored = [bool((array == stored[:, ::-1]).all()) for array in seen]
    assert set(mirrored) == {True, False}
    assert all(m or (array == stored).all() for m, array in zip(mirrored, seen, strict=True))


def _fit(directory, steps, rate=0.1, save_every=3, log_every=2):
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dropout(0.5), keras.layers.Dense(1)])
    optimizer = keras.optimizers.Adam(optimizers.staircase(rate, 0.5, 4))

    def losses(batch):
        return {"loss": tf.reduce_mean((model(batch, training=True) - 1) ** 2)}

    def batches(start, _):
        return tf.data.Dataset.range(start, 1000).map(lambda k: tf.random.stateless_normal([4, 3], [k, k]))

    rows = loop.fit(directory=directory, model=model, optimizer=optimizer, losses=losses, make_batches=batches,
                    steps=steps, description="test", save_every=save_every, log_every=log_every)
    return model.get_weights(), rows


def test_a_resumed_training_is_the_uninterrupted_one(tmp_path):
    """Stopped at step 6 of 12; dropout's generator, Adam's moments and the schedule go on where they were."""
    whole, rows = _fit(tmp_path / "a", 12)
    _fit(tmp_path / "b", 6)
    resumed, again = _fit(tmp_path / "b", 12)
    for one, other in zip(whole, resumed, strict=True):
        np.testing.assert_array_equal(one, other)
    assert [row["step"] for row in again] == [row["step"] for row in rows] == [1, 2, 4, 6, 8, 10, 12]
    assert [row["loss"] for row in again] == pytest.approx([row["loss"] for row in rows])


def test_a_loss_that_is_not_finite_stops(tmp_path):
    with pytest.raises(FloatingPointError, match="step"):
        _fit(tmp_path / "logged", 40, rate=1e30)
    with pytest.raises(FloatingPointError, match="step"):
        _fit(tmp_path / "saved", 40, rate=1e30, save_every=4, log_every=100)
    assert not list((tmp_path / "saved").rglob("ckpt-*"))


@pytest.mark.parametrize("broken, steps", [(4, 12), (6, 6)])
def test_weights_that_are_not_finite_are_never_saved(tmp_path, broken, steps):
    """At a step the loss is finite and its gradient is not: at a checkpoint's and at the last one."""
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])

    def losses(batch):
        size = tf.reduce_sum(model(batch["x"]) ** 2)
        return {"loss": tf.sqrt(size * tf.cast(batch["step"] + 1 != broken, tf.float32))}  # sqrt(0): no slope

    def batches(start, _):
        return tf.data.Dataset.range(start, 1000).map(lambda step: {"x": tf.ones([2, 3]), "step": step})

    with pytest.raises(FloatingPointError, match=f"test: .*not finite after step {broken}"):
        loop.fit(directory=tmp_path, model=model, optimizer=keras.optimizers.Adam(), losses=losses,
                 make_batches=batches, steps=steps, description="test", save_every=2, log_every=100)
    kept = sorted(path.stem for path in (tmp_path / "checkpoints").glob("ckpt-*.index"))
    assert kept == [f"ckpt-{step}" for step in range(2, broken, 2)][-2:]


def test_other_settings_in_the_same_directory_are_refused(tmp_path):
    artifacts.claim(tmp_path, {"rate": 0.9, "sizes": (1, 2)})
    artifacts.claim(tmp_path, {"rate": 0.9, "sizes": (1, 2)})
    with pytest.raises(ValueError, match=r"other settings \(rate: 0.9 -> 0.5\); give another"):
        artifacts.claim(tmp_path, {"rate": 0.5, "sizes": (1, 2)})
    artifacts.claim(tmp_path / "stage", {"seed": 0, "preset": {"rate": 0.9, "epochs": 1}})
    with pytest.raises(ValueError, match=r"\(preset.epochs: 1 -> 2, preset.form: None -> expanded, seed: 0 -> 1\)"):
        artifacts.claim(tmp_path / "stage", {"seed": 1, "preset": {"rate": 0.9, "epochs": 2, "form": "expanded"}})


def test_nothing_half_written_is_left(tmp_path):
    class Broken:
        def __len__(self):
            raise RuntimeError
    with pytest.raises(TypeError):
        artifacts.write_bytes(tmp_path / "x", Broken())
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name, channels", [("vgg16", 512), ("resnet50", 2048), ("small", 128)])
def test_backbones_have_stride_8(name, channels):
    model = backbones.build(name, "none")
    assert model(tf.zeros([1, 65, 97, 3])).shape == (1, 9, 13, channels)
    assert not model.trainable_variables


def test_vgg16_gives_41_positions_for_321_pixels():
    assert backbones.build("vgg16").compute_output_shape((1, 321, 321, 3)) == (1, 41, 41, 512)


def test_only_the_last_block_is_trained():
    names = {v.path.split("/")[0] for v in backbones.build("vgg16", "last_block").trainable_variables}
    assert names == {"block5_conv1", "block5_conv2", "block5_conv3"}


def test_weights_of_a_file(tmp_path):
    rng, arrays = np.random.default_rng(0), {}
    model = backbones.build("vgg16")
    for layer in model.layers:
        if layer.weights:
            block, k = layer.name.removeprefix("block").split("_conv")
            for suffix, variable in zip("Wb", layer.weights, strict=True):
                arrays[f"conv{block}_{k}/{suffix}"] = rng.normal(size=variable.shape).astype("float16")
    np.savez(tmp_path / "vgg.npz", **arrays)
    pretrained.load_weights(model, str(tmp_path / "vgg.npz"))
    np.testing.assert_array_equal(model.get_layer("block3_conv2").kernel, arrays["conv3_2/W"])
    model.save_weights(tmp_path / "own.weights.h5")
    again = backbones.build("vgg16")
    pretrained.load_weights(again, str(tmp_path / "own.weights.h5"))
    np.testing.assert_array_equal(again.get_layer("block5_conv3").bias, arrays["conv5_3/b"])
    arrays["conv4_1/W"] = arrays["conv4_1/W"][..., :5]
    np.savez(tmp_path / "wrong.npz", **arrays)
    with pytest.raises(ValueError, match="conv4_1/W of shape"):
        pretrained.load_weights(model, str(tmp_path / "wrong.npz"))
    with pytest.raises(FileNotFoundError, match="absent.npz"):
        pretrained.load_weights(model, str(tmp_path / "absent.npz"))
    with pytest.raises(ValueError, match="small"):
        pretrained.load_weights(backbones.build("small"), str(tmp_path / "vgg.npz"))


def test_keras_weights_load_by_their_own_file(tmp_path):
    """keras.applications' «notop» layout: written from its own (random) model, read into ours."""
    source = keras.applications.VGG16(include_top=False, weights=None)
    source.save_weights(tmp_path / "vgg16_notop.weights.h5")
    (tmp_path / "vgg16_notop.weights.h5").rename(tmp_path / "vgg16.h5")
    model = backbones.build("vgg16")
    try:
        pretrained.load_weights(model, str(tmp_path / "vgg16.h5"))
    except ValueError as error:
        pytest.skip(f"this Keras writes no legacy .h5: {error}")
    np.testing.assert_array_equal(model.get_layer("block1_conv1").kernel, source.get_layer("block1_conv1").kernel)


def test_multipliers():
    preset = dataclasses.replace(presets.PAPER.segmenter, channels=8)
    network, _, head, _ = segmenter.build(preset, 3, "small")
    factors = dict(zip([v.path for v in network.trainable_variables],
                       optimizers.multipliers(network.trainable_variables, head.trainable_variables),
                       strict=True))
    assert {v for k, v in factors.items() if "fc" in k and "kernel" in k} == {10.0}
    assert {v for k, v in factors.items() if "fc" in k and "bias" in k} == {20.0}
    assert {v for k, v in factors.items() if k.startswith("block") and "kernel" in k} == {1.0}


def test_the_mean_over_all_selections_is_what_many_selections_tend_to():
    preset = dataclasses.replace(presets.TINY.classifier, input_size=33)
    model, _ = classifier.build(preset, 3)
    x = tf.random.stateless_uniform([1, 5, 5, 128], [1, 2])
    many = model.head(tf.repeat(x, 1000, axis=0), seeds=tf.random.stateless_uniform([1000, 2], [3, 4], None, None,
                                                                                    tf.int32)).numpy()
    np.testing.assert_allclose(model.head.expected_logits(x)[0], many.mean(0), atol=5 * many.std(0).max() / 1000**0.5)
