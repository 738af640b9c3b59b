"""VGG-16's classifier as fc6 and fc7, from a file of keras.applications' layout."""

import dataclasses
import hashlib
import pathlib

import h5py
import keras
import numpy as np
import pytest
from keras import layers

from ficklenet_tf import presets
from ficklenet_tf.data import images
from ficklenet_tf.errors import UserError
from ficklenet_tf.models import backbones, classifier, pretrained, segmenter
from ficklenet_tf.runs import artifacts
from ficklenet_tf.training import optimizers
from ficklenet_tf.training import segmenter as segmenter_training

CHANNELS = 64  # of the file's fc layers, where VGG-16 has 4096


@pytest.fixture(scope="module")
def vgg16_file(tmp_path_factory):
    """A file with convolutions and classifier, as keras.applications writes them; (its path, its arrays)."""
    rng = np.random.default_rng(0)
    arrays = {layer.name: [rng.normal(size=v.shape).astype(np.float32) for v in layer.weights]
              for layer in backbones.build("vgg16").layers if layer.weights}
    arrays["fc1"] = [rng.normal(size=(7 * 7 * 512, CHANNELS)), rng.normal(size=CHANNELS)]
    arrays["fc2"] = [rng.normal(size=(CHANNELS, CHANNELS)), rng.normal(size=CHANNELS)]
    path = tmp_path_factory.mktemp("weights") / "vgg16_tf_kernels.h5"
    with h5py.File(path, "w") as file:
        for layer_name, values in arrays.items():
            group = file.create_group(layer_name)
            group.attrs["weight_names"] = [f"{layer_name}_W_1:0".encode(), f"{layer_name}_b_1:0".encode()]
            for key, value in zip(group.attrs["weight_names"], values, strict=True):
                group[key] = value
    return str(path), arrays


@pytest.fixture(autouse=True)
def small_file(monkeypatch):
    monkeypatch.setattr(pretrained, "_FC_CHANNELS", CHANNELS)


def test_convolutions_of_a_file_with_its_classifier(vgg16_file):
    path, arrays = vgg16_file
    model = backbones.build("vgg16")
    pretrained.load_weights(model, path)
    np.testing.assert_array_equal(model.get_layer("block4_conv2").kernel, arrays["block4_conv2"][0])
    assert pretrained.normalization_of(path).order == "bgr"


def _head(depth, num_classes, **changes):
    return segmenter.build_head(dataclasses.replace(presets.PAPER.segmenter, **changes), (None, None, depth),
                                num_classes)


@pytest.mark.parametrize("head_name, num_branches", [("largefov", 1), ("largefov4", 4)])
def test_decimation_keeps_every_third_row_and_column_and_evenly_spaced_channels(vgg16_file, head_name,
                                                                                        num_branches):
    path, arrays = vgg16_file
    head = _head(512, 21, head=head_name, channels=16)
    assert len(pretrained.load_fc_layers(head, path)) == 4 * num_branches
    dense, bias = arrays["fc1"]
    for layer in head.layers:
        if layer.name.startswith("fc6"):
            kernel = np.asarray(layer.kernel)
            assert kernel.shape == (3, 3, 512, 16)
            for row, column, channel, out in [(0, 0, 0, 0), (1, 2, 7, 3), (2, 1, 511, 15)]:
                index = (3 * row * 7 + 3 * column) * 512 + channel  # of the flattened 7 x 7 x 512
                np.testing.assert_allclose(kernel[row, column, channel, out], dense[index, 4 * out], rtol=1e-6)
            np.testing.assert_allclose(layer.bias, bias[::4], rtol=1e-6)
        if layer.name.startswith("fc7"):
            np.testing.assert_allclose(layer.kernel[0, 0], arrays["fc2"][0][::4, ::4], rtol=1e-6)


def test_weights_without_a_classifier_leave_new_layers(tmp_path):
    head = _head(8, 3, channels=16)
    assert pretrained.load_fc_layers(head, "") == [] and pretrained.load_fc_layers(head, "vgg.npz") == []
    aspp = _head(8, 3, head="aspp")
    assert pretrained.load_fc_layers(aspp, "imagenet") == []  # nothing to load them into: no download
    with pytest.raises(FileNotFoundError, match="absent.h5: expected the weights that the classifier started from"):
        pretrained.load_fc_layers(head, str(tmp_path / "absent.h5"))
    (tmp_path / "text.h5").write_text("not HDF5")
    with pytest.raises(ValueError, match="text.h5: expected an HDF5 file"):
        pretrained.load_fc_layers(head, str(tmp_path / "text.h5"))


def test_channels_that_do_not_divide(vgg16_file):
    with pytest.raises(ValueError, match="expected a divisor of 64 .* found 24; or pass --nopretrained_fc"):
        pretrained.load_fc_layers(_head(512, 3, channels=24), vgg16_file[0])


def test_new_layers_are_normal_with_the_deviation_of_deeplab():
    head = _head(128, 21, channels=64)
    for name in ("fc6_12", "fc7_12", "fc8_12"):
        kernel = np.asarray(head.get_layer(name).kernel)
        assert abs(kernel.mean()) < 1e-3 and abs(kernel.std() - 0.01) < 1e-3, name


def test_multipliers_of_pretrained_and_new_layers(vgg16_file):
    config = dataclasses.replace(presets.PAPER.segmenter, channels=16)
    network, _, head, _ = segmenter.build(config, 3, "vgg16")
    loaded = pretrained.load_fc_layers(head, vgg16_file[0])
    parts = segmenter_training._Parts(network, network, head, None, None, None, loaded, "classifier")

    def multipliers(parts):
        optimizer = optimizers.segmenter_optimizer(config, network, parts.new_variables(config.optimizer))
        return {v.path: m for v, m in zip(network.trainable_variables, optimizer.multipliers, strict=True)}

    by_path = multipliers(parts)
    assert [by_path[f"fc{n}_12/kernel"] for n in (6, 7, 8)] == [1, 1, 10]  # SEC's and DSRG's prototxts
    assert [by_path[f"fc{n}_12/bias"] for n in (6, 7, 8)] == [2, 2, 20]
    assert by_path["block5_conv3/kernel"] == 1 and by_path["block5_conv3/bias"] == 2
    by_path = multipliers(dataclasses.replace(parts, pretrained_fc=[]))
    assert [by_path[f"fc{n}_12/kernel"] for n in (6, 7, 8)] == [10, 10, 10]  # all new
    by_path = multipliers(dataclasses.replace(parts, pretrained_fc=[], initial="segmenter"))
    assert [by_path[f"fc{n}_12/kernel"] for n in (6, 7, 8)] == [1, 1, 10]  # an earlier round has trained them
    config = dataclasses.replace(config, optimizer="adam", pretrained_multiplier=0.1)
    by_path = multipliers(dataclasses.replace(parts, pretrained_fc=[], initial="segmenter"))
    assert [by_path[f"{name}/bias"] for name in ("block5_conv3", "fc6_12", "fc8_12")] == [0.1, 1, 1]


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
    reloaded = backbones.build("vgg16")
    pretrained.load_weights(reloaded, str(tmp_path / "own.weights.h5"))
    np.testing.assert_array_equal(reloaded.get_layer("block5_conv3").bias, arrays["conv5_3/b"])
    arrays["conv4_1/W"] = arrays["conv4_1/W"][..., :5]
    np.savez(tmp_path / "wrong.npz", **arrays)
    with pytest.raises(ValueError, match="conv4_1/W of shape"):
        pretrained.load_weights(model, str(tmp_path / "wrong.npz"))
    data = (tmp_path / "vgg.npz").read_bytes()
    (tmp_path / "cut.npz").write_bytes(data[:len(data) // 2])
    with open(tmp_path / "single.npz", "wb") as file:
        np.save(file, np.zeros(3))
    spoiled = bytearray(data)
    spoiled[len(data) // 2] ^= 8  # within an array
    (tmp_path / "spoiled.npz").write_bytes(spoiled)
    with pytest.raises(ValueError, match="spoiled.npz: expected a whole array .* found Bad CRC-32"):
        pretrained.load_weights(model, str(tmp_path / "spoiled.npz"))
    for name in ("cut", "single"):
        with pytest.raises(ValueError, match=f"{name}.npz: expected arrays of NumPy"):
            pretrained.load_weights(model, str(tmp_path / f"{name}.npz"))
    with pytest.raises(FileNotFoundError, match="absent.npz"):
        pretrained.load_weights(model, str(tmp_path / "absent.npz"))
    with pytest.raises(ValueError, match="small"):
        pretrained.load_weights(backbones.build("small"), str(tmp_path / "vgg.npz"))


def test_a_file_without_the_classifier_loads_by_its_layers(vgg16_file, tmp_path):
    """keras.applications' "notop" file: layers by their names, in the legacy layout."""
    convolutions = {name: values for name, values in vgg16_file[1].items() if name.startswith("block")}
    with h5py.File(tmp_path / "notop.h5", "w") as file:
        file.attrs["layer_names"] = [name.encode() for name in convolutions]
        for name, values in convolutions.items():
            group = file.create_group(name)
            group.attrs["weight_names"] = [f"{name}_W_1:0".encode(), f"{name}_b_1:0".encode()]
            for key, value in zip(group.attrs["weight_names"], values, strict=True):
                group[key] = value
    model = backbones.build("vgg16")
    pretrained.load_weights(model, str(tmp_path / "notop.h5"))
    for name, (kernel, bias) in convolutions.items():
        np.testing.assert_array_equal(model.get_layer(name).kernel, kernel)
        np.testing.assert_array_equal(model.get_layer(name).bias, bias)


def test_a_backbones_own_file_has_the_normalisation_of_its_run(tmp_path):
    path = str(tmp_path / "backbone.weights.h5")
    assert pretrained.normalization_of(path) == images.TORCH
    artifacts.write_run(tmp_path, normalization=dataclasses.asdict(images.CAFFE))
    assert pretrained.normalization_of(path).order == images.CAFFE.order
    assert tuple(pretrained.normalization_of(path).mean) == images.CAFFE.mean
    for run, found in (({"classes": 3}, "'normalization'"), ({"normalization": {"order": "rgb"}}, "missing 3")):
        artifacts.write_json(tmp_path / "run.json", run)
        with pytest.raises(UserError, match=f"run.json: expected a normalization with order, .* found .*{found}"):
            pretrained.normalization_of(path)


def _chain(names):
    def build(x):
        for number, name in enumerate(names):
            x = layers.Conv2D(4 + number, 3, strides=2, padding="same", activation="relu", name=name)(x)
        return x

    return build


def test_a_registered_backbone_takes_the_weights_of_the_same_layers_in_the_same_order(tmp_path, monkeypatch):
    monkeypatch.setattr(backbones, "BACKBONES", dict(backbones.BACKBONES))
    backbones.register_backbone("mine", _chain("abc"))
    inputs = keras.Input((None, None, 3))
    source = keras.Model(inputs, _chain(["stem", "middle", None])(inputs))  # somebody's network
    source.save_weights(tmp_path / "source.weights.h5")
    weights = str(tmp_path / "source.weights.h5")
    config = presets.ClassifierConfig(backbone="mine", input_size=33, kernel_size=3)
    model, normalization = classifier.build(config, 3, weights)
    photograph = np.random.default_rng(0).normal(size=(1, 33, 33, 3)).astype(np.float32)
    np.testing.assert_array_equal(model.backbone(photograph), source(photograph))
    assert normalization == images.TORCH
    shifted = {"order": "rgb", "scale": 1 / 127.5, "mean": [1, 1, 1], "std": [1, 1, 1]}
    artifacts.write_json(tmp_path / "run.json", {"normalization": shifted})  # as a user writes it
    normalization = classifier.build(config, 3, weights)[1]
    assert normalization == images.Normalization(**shifted)
    np.testing.assert_allclose(images.normalize(np.full((1, 1, 3), 255, np.uint8), normalization), 1, atol=1e-6)
    before = pretrained.digest(weights)
    for wrong, message in (({"order": "grb"}, "grb"), ({"mean": [1, 1]}, r"\[1, 1\]"), ({"std": [1, 0, 1]}, "above 0"),
                           ({"scale": "x"}, "not supported")):
        artifacts.write_json(tmp_path / "run.json", {"normalization": {**shifted, **wrong}})
        with pytest.raises(UserError, match=f"run.json: expected a normalization with .*, found .*{message}"):
            pretrained.normalization_of(weights)
    artifacts.write_json(tmp_path / "run.json", {"normalization": {**shifted, "scale": 1 / 255}})
    assert pretrained.digest(weights) != before
    for wrong in ("imagenet", str(tmp_path / "keras.h5")):
        (tmp_path / "keras.h5").touch()
        with pytest.raises(UserError, match=r"expected a \.weights\.h5 file of mine"):
            classifier.build(config, 3, wrong)


def test_a_file_of_weights_is_told_from_another_at_its_path(tmp_path):
    path = tmp_path / "x.npz"
    assert pretrained.digest("") == pretrained.digest("random") == pretrained.digest("imagenet") == {}
    assert pretrained.digest(str(path)) == {}  # removed when the training had ended
    path.write_bytes(b"first")
    run = {"weights": str(path), **pretrained.digest(str(path))}
    assert run["weights_digest"] == hashlib.sha256(hashlib.sha256(b"first").hexdigest().encode()).hexdigest()[:16]
    pretrained.check_same(run)
    path.write_bytes(b"second")
    with pytest.raises(UserError, match=r"x\.npz: expected the weights that the classifier began with, found others"):
        pretrained.check_same(run)
    pretrained.check_same({"weights": str(path)})  # of an earlier version
    path.unlink()
    pretrained.check_same(run)


def test_a_large_backbone_that_begins_at_random_is_told_once_and_the_small_one_never(monkeypatch, capsys):
    monkeypatch.setattr(pretrained, "_told", set())
    for backbone in ("small", "resnet50", "resnet50", "vgg16"):
        pretrained.check("", backbone, "all")
    told = capsys.readouterr().err
    assert [told.count(f"NO PRETRAINED WEIGHTS: {name}") for name in ("small", "resnet50", "vgg16")] == [0, 1, 1]
    with pytest.raises(UserError, match="expected --weights=imagenet or a file, because trainable_layers=head"):
        pretrained.check("", "small", "head")


@pytest.mark.parametrize(("harm", "message"), [
    ("shape", "expected arrays of block1_conv1, found"), ("names", "expected arrays of block1_conv1, found"),
    ("classifier", "expected VGG-16's fc1 and fc2, kernel and bias each, found")])
def test_other_arrays_under_the_right_names_are_named(vgg16_file, tmp_path, harm, message):
    path = tmp_path / "other.h5"
    path.write_bytes(pathlib.Path(vgg16_file[0]).read_bytes())
    with h5py.File(path, "a") as file:
        group = file["fc1" if harm == "classifier" else "block1_conv1"]
        if harm == "names":
            del group.attrs["weight_names"]
        else:
            name = group.attrs["weight_names"][0]
            del group[name]
            group[name] = np.zeros((3, 5))
    with pytest.raises(ValueError, match=f"other.h5: {message}"):
        if harm == "classifier":
            pretrained.load_fc_layers(_head(512, 21, channels=16), str(path))
        else:
            pretrained.load_weights(backbones.build("vgg16"), str(path))


def test_weights_that_are_not_finite_are_named(tmp_path):
    network = backbones.build("small")
    path = str(tmp_path / "a.weights.h5")
    network.save_weights(path)
    pretrained.load_weights(network, path)
    kernel = network.get_layer("block2_conv").weights[0]
    values = kernel.numpy()
    values[0, 0, 0, 0] = np.nan
    kernel.assign(values)
    network.save_weights(path)
    with pytest.raises(UserError, match="a.weights.h5: expected finite numbers, found others in block2_conv/kernel"):
        pretrained.load_weights(backbones.build("small"), path)
