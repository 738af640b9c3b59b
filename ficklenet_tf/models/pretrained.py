"""Pretrained weights, and the normalisation of photographs that they were trained with.

The backbone's weights and those of LargeFOV's fc6 and fc7, which DeepLab takes from VGG-16's classifier by decimation.
"""

import functools
import hashlib
import pathlib
import zipfile
from collections.abc import Mapping
from typing import Any

import h5py
import keras
import numpy as np

from ficklenet_tf.data import images
from ficklenet_tf.errors import UserError
from ficklenet_tf.runs import artifacts, layout, progress

_FC_INPUT, _FC_CHANNELS = (7, 7, 512), 4096  # of VGG-16's fc1, a dense layer; fc2 has as many channels


_told: set[str] = set()  # backbones of which it was said that they begin at random numbers
RANDOM = "random"  # asked for by name, where frozen layers would otherwise be refused


def are_given(weights: str) -> bool:
    """Whether there is anything to load; `weights` as in `load_weights`."""
    return weights not in ("", RANDOM)


def check(weights: str, backbone: str, trainable: str, flag: str = "weights") -> None:
    """Refuses a backbone of which a part would stay as it was drawn at random; says so where all of it is trained.

    Args:
      weights: as in `load_weights`.
      backbone: its name.
      trainable: what of it is trained, see `backbones.build`.
      flag: by which weights are given.

    Raises:
      UserError: there are no weights, and layers are frozen.
    """
    if weights:
        return
    if trainable != "all":
        raise UserError(f"{flag}: expected --{flag}=imagenet or a file, because trainable_layers={trainable} leaves "
                        f"layers of {backbone} as they are, found none; --{flag}={RANDOM} if they are to be random")
    if backbone != "small" and backbone not in _told:  # that one learns from nothing
        _told.add(backbone)
        progress.say(f"NO PRETRAINED WEIGHTS: {backbone} begins at random numbers, which needs far more photographs "
                     "than most have; give --weights=imagenet or a file")


def normalization_of(weights: str) -> images.Normalization:
    """Returns the normalisation of photographs that weights were trained with.

    Args:
      weights: "imagenet" or keras.applications' .h5 file: Caffe's. A backbone's own .weights.h5: that of the run.json
        beside it, else torchvision's. An .npz file, "" or "random": torchvision's.

    Raises:
      UserError: that run.json says no normalisation.
    """
    if weights.endswith(".weights.h5"):
        run = artifacts.read_run(pathlib.Path(weights).parent)
        try:
            return images.TORCH if run is None else images.Normalization(**run["normalization"])
        except (KeyError, TypeError, ValueError) as error:
            raise UserError(f"{pathlib.Path(weights).parent / layout.RUN}: expected a normalization with order, "
                            f"scale, mean and std, found {error}") from error
    return images.CAFFE if weights == "imagenet" or weights.endswith(".h5") else images.TORCH


def digest(weights: str) -> dict[str, str]:
    """Returns {"weights_digest": what tells a file of weights from another at the same path}; {} where there is none.

    Of a backbone's own .weights.h5 it is also of the normalisation that the run.json beside it says.
    """
    path = pathlib.Path(weights)
    if not are_given(str(weights)) or not path.is_file():
        return {}
    of_file = _digest(str(path.resolve()), path.stat().st_size, path.stat().st_mtime_ns)
    normalization = normalization_of(str(weights)) if str(weights).endswith(".weights.h5") else images.TORCH
    of_all = of_file if normalization == images.TORCH else f"{of_file} {normalization}"
    return {"weights_digest": hashlib.sha256(of_all.encode()).hexdigest()[:16]}


@functools.lru_cache(maxsize=16)
def _digest(path: str, _size: int, _changed: int) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def check_same(run: Mapping[str, Any]) -> None:
    """Raises UserError where the file of weights that a classifier began with, by its run.json, is another one now."""
    now = digest(run["weights"])
    if now and run.get("weights_digest", now["weights_digest"]) != now["weights_digest"]:
        raise UserError(f"{run['weights']}: expected the weights that the classifier began with, found others there")


def load_weights(model: keras.Model, weights: str) -> None:
    """Loads pretrained weights into a backbone.

    Args:
      model: what `backbones.build` returned.
      weights: "" or "random" (nothing), "imagenet" (keras.applications downloads them), a
        path to `.weights.h5` (this model's own), `.h5` (keras.applications', VGG-16's
        with its classifier or without), or `.npz` (arrays `conv{block}_{k}/W` as height, width, in, out,
        and `conv{block}_{k}/b`).

    Raises:
      FileNotFoundError: the file is absent.
      UserError: a layer is missing or has another shape, a number is not finite, or a download failed.
    """
    if not are_given(weights):
        return
    _load(model, weights)
    broken = [weight.path for weight in model.weights if not np.isfinite(weight.numpy()).all()]
    if broken:
        raise UserError(f"{weights}: expected finite numbers, found others in {', '.join(broken[:3])}")


def _load(model: keras.Model, weights: str) -> None:
    """Loads the weights of a file, or of keras.applications; see `load_weights`."""
    if weights != "imagenet" and not pathlib.Path(weights).is_file():
        raise FileNotFoundError(f"{weights}: expected a file of weights, found none")
    if weights.endswith(".npz"):
        _load_npz(model, weights)
    elif weights.endswith(".weights.h5"):
        try:
            model.load_weights(weights)
        except Exception as error:
            raise UserError(f"{weights}: expected weights of {model.name}, found {error}") from error
    elif weights == "imagenet" or weights.endswith(".h5"):
        _load_applications(model, weights)
    else:
        raise UserError(f"{weights}: expected imagenet, .npz, .weights.h5 or .h5")


def _load_applications(model: keras.Model, weights: str) -> None:
    application = {"vgg16": keras.applications.VGG16, "resnet50": keras.applications.ResNet50,
                   "resnet101": keras.applications.ResNet101}.get(model.name)
    if application is None:
        raise UserError(f"{weights}: expected a .weights.h5 file of {model.name}, of which keras.applications has no "
                        "weights")
    if weights != "imagenet" and _has_top(weights):
        with h5py.File(weights) as file:
            for layer in model.layers:
                if layer.weights:
                    arrays = _arrays(file, layer.name, weights)
                    try:
                        layer.set_weights(arrays)
                    except ValueError as error:
                        raise UserError(f"{weights}: expected arrays of {layer.name}, found {error}") from error
        return
    try:
        pretrained = application(include_top=False, weights=weights)
    except Exception as error:
        raise UserError(f"{weights}: cannot load {model.name} of keras.applications ({error}); without a network, "
                        "fetch its .h5 file elsewhere and name its path") from error
    for layer in model.layers:
        if layer.weights:
            layer.set_weights(pretrained.get_layer(layer.name).get_weights())


def _has_top(path: str) -> bool:
    """Whether a Keras file holds VGG-16's classifier beside its convolutions."""
    try:
        with h5py.File(path) as file:
            return "fc1" in file and "fc2" in file
    except OSError as error:
        raise UserError(f"{path}: expected an HDF5 file of keras.applications, found {error}") from error


def _arrays(file: h5py.File, layer_name: str, path: str) -> list[h5py.Dataset]:
    """Returns the arrays of one layer in a keras.applications file."""
    if layer_name not in file:
        raise UserError(f"{path}: expected a layer {layer_name}, found none")
    group = file[layer_name]
    try:
        return [group[name] for name in group.attrs["weight_names"]]
    except KeyError as error:
        raise UserError(f"{path}: expected arrays of {layer_name}, found {error}") from error


def _load_npz(model: keras.Model, path: str) -> None:
    if model.name != "vgg16":
        raise UserError(f"{path}: .npz weights are VGG-16's, the backbone is {model.name}")
    try:
        file = np.load(path)
        if not isinstance(file, np.lib.npyio.NpzFile):
            raise ValueError("a single one (.npy)")
    except (ValueError, EOFError, zipfile.BadZipFile) as error:  # a file that is none of NumPy's, or a part of one
        raise UserError(f"{path}: expected arrays of NumPy (.npz), found {error}") from error
    with file as arrays:
        for layer in model.layers:
            if not layer.weights:
                continue
            key = layer.name.replace("block", "conv").replace("_conv", "_")
            values = []
            for suffix, variable in zip(("W", "b"), layer.weights, strict=True):
                if f"{key}/{suffix}" not in arrays:
                    raise UserError(f"{path}: expected an array {key}/{suffix}, found none")
                try:
                    value = arrays[f"{key}/{suffix}"].astype(np.float32)
                except (ValueError, EOFError, zipfile.BadZipFile) as error:
                    raise UserError(f"{path}: expected a whole array {key}/{suffix}, found {error}") from error
                if value.shape != tuple(variable.shape):
                    raise UserError(f"{path}: expected {key}/{suffix} of shape {tuple(variable.shape)}, "
                                    f"found {value.shape}")
                values.append(value)
            layer.set_weights(values)


def load_fc_layers(head: keras.Model, weights: str) -> list[keras.Variable]:
    """Gives LargeFOV's fc6 and fc7 the weights of VGG-16's classifier, by DeepLab's decimation.

    fc6 is 7 x 7 there and 3 x 3 here: every third row and column is kept, and of the 4096 channels of both layers
    as many as the head has, evenly spaced (Chen et al. 2015, Section 3.1; for 1024 channels every fourth).

    Args:
      head: what `segmenter.build_head` made.
      weights: see `load_weights`; only "imagenet" and keras.applications' VGG-16 file with its classifier have them.

    Returns:
      The variables that were loaded; none where the weights or the head have no such layers.

    Raises:
      UserError: the number of channels does not divide 4096, or the download failed.
      FileNotFoundError: the file is absent.
    """
    layers = [layer for layer in head.layers if layer.name.startswith(("fc6", "fc7"))]
    dense_layers = _classifier_layers(weights) if layers else None
    if dense_layers is None:
        return []
    try:
        (kernel6, bias6), (kernel7, bias7) = dense_layers
        kernel6 = kernel6.reshape(*_FC_INPUT, _FC_CHANNELS)
    except ValueError as error:
        raise UserError(f"{weights}: expected VGG-16's fc1 and fc2, kernel and bias each, found {error}") from error
    channels = layers[0].filters
    if _FC_CHANNELS % channels:
        raise UserError(f"channels: expected a divisor of {_FC_CHANNELS} for fc6 and fc7 of {weights}, found "
                        f"{channels}; or pass --nopretrained_fc")
    step = _FC_CHANNELS // channels
    values = {"fc6": [kernel6[::3, ::3, :, ::step], bias6[::step]],
              "fc7": [kernel7[None, None, ::step, ::step], bias7[::step]]}
    for layer in layers:
        layer.set_weights(values[layer.name[:3]])
    return [variable for layer in layers for variable in layer.trainable_variables]


def _classifier_layers(weights: str) -> list[list[np.ndarray]] | None:
    """Returns VGG-16's two hidden dense layers, [kernel, bias] each, or None where the weights have none."""
    if weights == "imagenet":
        try:
            network = keras.applications.VGG16(weights="imagenet")
        except Exception as error:
            raise UserError(f"imagenet: cannot fetch VGG-16's classifier for fc6 and fc7 ({error}); pass "
                            "--nopretrained_fc, or the path of keras.applications' .h5 file") from error
        return [network.get_layer(name).get_weights() for name in ("fc1", "fc2")]
    if not weights.endswith(".h5") or weights.endswith(".weights.h5"):
        return None
    if not pathlib.Path(weights).is_file():
        raise FileNotFoundError(f"{weights}: expected the weights that the classifier started from, for fc6 and fc7, "
                                "found none")
    if _has_top(weights):
        with h5py.File(weights) as file:
            return [[np.asarray(array) for array in _arrays(file, name, weights)] for name in ("fc1", "fc2")]
    return None
