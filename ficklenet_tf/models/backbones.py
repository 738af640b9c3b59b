"""Fully convolutional backbones of stride 8: dilated VGG-16, ResNet-50/101, and a small one for the demo.

VGG-16 as in DeepLab-LargeFOV: all pools 3 x 3 with padding 1, the last two of
stride 1, the last block dilated by 2, so 321 x 321 gives 41 x 41 x 512
(FickleNet, Section 4.1).
"""

import dataclasses
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import keras
import tensorflow as tf
from keras import layers

from ficklenet_tf import configs
from ficklenet_tf.errors import UserError
from ficklenet_tf.models import resnet
from ficklenet_tf.models.dilated_convolution import DilatedConv2D
from ficklenet_tf.models.precision import policy
from ficklenet_tf.runs import progress

STRIDE = 8
TRAINABLE = configs.TRAINABLE  # of a backbone: nothing, its last blocks, or all
_VGG_BLOCKS = ((64, 2, 1), (128, 2, 1), (256, 3, 1), (512, 3, 1), (512, 3, 2))  # channels, convolutions, dilation


def _vgg16(x: keras.KerasTensor) -> keras.KerasTensor:
    for block, (channels, depth, dilation) in enumerate(_VGG_BLOCKS, 1):
        if block > 1:
            x = layers.MaxPooling2D(3, strides=2 if block < 5 else 1, padding="same", name=f"block{block - 1}_pool")(x)
        for k in range(1, depth + 1):
            x = DilatedConv2D(channels, 3, padding="same", dilation_rate=dilation, activation="relu",
                              name=f"block{block}_conv{k}")(x)
    return x


def _small(x: keras.KerasTensor) -> keras.KerasTensor:
    """Six 3 x 3 convolutions with batch norm, trained from nothing in minutes.

    A unit sees 43 pixels: less than the demo's objects and more than their parts.
    """
    # With several replicas batch norm uses the mean and variance of the whole batch.
    num_replicas = tf.distribute.get_strategy().num_replicas_in_sync
    for block, (channels, stride) in enumerate(((24, 2), (32, 1), (48, 2), (64, 1), (96, 2), (128, 1)), 1):
        x = DilatedConv2D(channels, 3, strides=stride, padding="same", use_bias=False, name=f"block{block}_conv")(x)
        x = layers.BatchNormalization(synchronized=num_replicas > 1, name=f"block{block}_bn")(x)
        x = layers.ReLU(name=f"block{block}_relu")(x)
    return x


@dataclasses.dataclass(frozen=True)
class Backbone:
    """How a backbone is built.

    Attributes:
      layers: normalised `[b, height, width, 3]` symbolic tensor -> rectified features of stride 8.
      cuts: "last_block" and "last_two_blocks" -> the layer after which these begin.
      cue_layer: by whose output, of stride 8, SEC's background cue takes the gradient: conv4_1 of VGG-16;
        None: there is no such cue.
      frozen_norm: whether batch norm stays as it is, with pretrained weights (DeepLab-v2).
    """

    layers: Callable[[keras.KerasTensor], keras.KerasTensor]
    cuts: Mapping[str, str]
    cue_layer: str | None = None
    frozen_norm: bool = False


# By the name in --backbone; `register_backbone` adds to it. pretrained.py knows under which names keras.applications
# has their weights.
BACKBONES: dict[str, Backbone] = {
    "vgg16": Backbone(_vgg16, {"last_block": "block4_pool", "last_two_blocks": "block3_pool"}, "block4_conv1"),
    "resnet50": Backbone(lambda x: resnet.layers_of(x, (3, 4, 6, 3)),
                         {"last_block": "conv4_block6_out", "last_two_blocks": "conv3_block4_out"},
                         "conv4_block1_out", frozen_norm=True),
    "resnet101": Backbone(lambda x: resnet.layers_of(x, (3, 4, 23, 3)),
                          {"last_block": "conv4_block23_out", "last_two_blocks": "conv3_block4_out"},
                          "conv4_block1_out", frozen_norm=True),
    "small": Backbone(_small, {"last_block": "block4_relu", "last_two_blocks": "block2_relu"},  # by two convolutions
                      "block5_relu"),
}
_OWN = tuple(BACKBONES)


def register_backbone(name: str, build: Callable[[keras.KerasTensor], keras.KerasTensor], *,
                      cuts: Mapping[str, str] | None = None, cue_layer: str | None = None,
                      frozen_norm: bool = False) -> None:
    """Makes a backbone of your own known, for this process: `ClassifierConfig(backbone=name)`, `--backbone=name`.

    Registered again, a name gets the new function; networks that are built already stay as they are. A run keeps the
    name, not the function: register it before the run is loaded, and give a function that computes something else
    another name.

    Pretrained weights are a .weights.h5 file, as `save_weights` writes it of a Keras model of the same layers in the
    same order; their names do not matter. A run.json beside that file says how photographs are normalised, as
    {"normalization": {"order": "rgb", "scale": ..., "mean": [...], "std": [...]}}, see `images.Normalization`; without
    one, and without weights, it is torchvision's way, `images.TORCH`.

    Args:
      name: letters, digits, "_", "-" and "."; none of this software's own.
      build: symbolic normalised `[b, height, width, 3]` -> rectified features (not negative: nobody can check that)
        `[b, ceil(height / 8), ceil(width / 8), channels]`. It is called for each network that is built.
      cuts: for `trainable_layers`: "last_block" and "last_two_blocks" -> the layer after which these begin, by a name
        that `build` gives it.
      cue_layer: see `Backbone`.
      frozen_norm: see `Backbone`.

    Raises:
      UserError: the name is this software's or odd, a cut is unknown. Features and layers are checked when it is first
        built.

    Example:
      >>> def mine(x):
      ...     for block, channels in enumerate((16, 32, 64), 1):
      ...         x = keras.layers.Conv2D(channels, 3, strides=2, padding="same", name=f"block{block}")(x)
      ...         x = keras.layers.ReLU(name=f"block{block}_relu")(x)
      ...     return x
      >>> ficklenet_tf.register_backbone("mine", mine, cuts={"last_block": "block2_relu"})
      >>> config = ficklenet_tf.presets.ClassifierConfig(backbone="mine", trainable_layers="last_block")
    """
    if name in _OWN:
        raise UserError(f"backbone: expected a new name, found {name!r}, which this software has itself")
    if not re.fullmatch(r"\w[\w.-]*", name):
        raise UserError(f"backbone: expected a name of letters, digits, _, - and ., found {name!r}")
    cuts = dict(cuts or {})
    if unknown := cuts.keys() - {"last_block", "last_two_blocks"}:
        raise UserError(f"cuts of {name}: expected last_block and last_two_blocks, found {', '.join(sorted(unknown))}")
    BACKBONES[name] = Backbone(build, cuts, cue_layer, frozen_norm)
    if name not in configs.BACKBONES:
        configs.BACKBONES.append(name)


def say_sides(sides: Iterable[int]) -> None:
    """Says which sides are no 8 k + 1: of these units do not lie evenly on the photograph.

    Convolutions of stride 2 then pad on one side alone (TensorFlow's "same"): at a side of 8 k three times, and all is
    3.5 pixels aside. At 8 k + 1 units lie up to 3.4 pixels inwards at the rim and right in the middle (docs/voc.md).
    """
    odd = sorted({side for side in sides if side % STRIDE != 1})
    if odd:
        progress.say(f"sides of {', '.join(map(str, odd))}: what is computed lies up to 4 pixels to one side "
                     f"of the photograph; at {', '.join(str(round((s - 1) / STRIDE) * STRIDE + 1) for s in odd)}, of "
                     f"the form {STRIDE} k + 1, it does not")


def build(name: str, trainable: str = "all", precision: str = "float32") -> keras.Model:
    """Builds a backbone.

    Args:
      name: a key of `BACKBONES`.
      trainable: one of `TRAINABLE`: "all", the last block or two (of VGG block5 and block4, of ResNets conv5 and
        conv4), or "head": nothing. Batch norm of a pretrained ResNet stays frozen in all of them (DeepLab-v2).
      precision: of the computation, see `precision.policy`.

    Returns:
      A functional `keras.Model`: `[batch, height, width, 3]` normalised float32 ->
      `[batch, ceil(height / 8), ceil(width / 8), channels]` rectified features.

    Raises:
      UserError: unknown name or `trainable`, or a registered backbone that gives something else.
    """
    if name not in BACKBONES:
        raise UserError(f"backbone: expected one of {', '.join(BACKBONES)}, found {name!r}; one of your own is "
                        "registered first, see ficklenet_tf.register_backbone")
    if trainable not in TRAINABLE:
        raise UserError(f"trainable_layers: expected one of {', '.join(TRAINABLE)}, found {trainable!r}")
    backbone, inputs = BACKBONES[name], keras.Input((None, None, 3), name="image")
    with policy(precision):
        model = _checked(name, inputs, backbone.layers(inputs))
    above = cut(model, trainable).above
    trained = set() if above is None else {layer.name for layer in above.layers}
    for layer in model.layers:
        frozen_norm = backbone.frozen_norm and isinstance(layer, layers.BatchNormalization)
        layer.trainable = layer.name in trained and not frozen_norm
    return model


def _checked(name: str, inputs: keras.KerasTensor, features: Any) -> keras.Model:
    """Returns the model of a backbone's features; raises UserError where they, or the layers it names, cannot be."""
    if not isinstance(features, keras.KerasTensor):
        raise UserError(f"backbone {name}: expected one symbolic tensor of features, found {type(features).__name__}")
    model, backbone = keras.Model(inputs, features, name=name), BACKBONES[name]
    shape = model.compute_output_shape((1, 321, 321, 3))
    if len(shape) != 4 or shape[1:3] != (41, 41) or shape[3] is None:
        raise UserError(f"backbone {name}: expected features of stride {STRIDE}, (1, 41, 41, channels) for a "
                        f"photograph of 321 x 321, found {shape}")
    kinds = {layer.name: type(layer).__name__ for layer in model.layers}
    for layer in filter(None, (*backbone.cuts.values(), backbone.cue_layer)):
        if layer not in kinds:
            raise UserError(f"backbone {name}: expected a layer {layer!r}, found {', '.join(kinds)}")
        snake = re.sub(r"(?<=[a-z])(?=[A-Z])|(?<=.)(?=[A-Z][a-z])", "_", kinds[layer]).lower()
        if re.fullmatch(rf"{re.escape(snake)}(_\d+)?", layer):
            raise UserError(f"backbone {name}: expected that it names the layers where it is cut, found {layer!r}, a "
                            "name by Keras, which counts on from model to model")
    return model


class Cut(NamedTuple):
    """A backbone in two parts that share its layers.

    Attributes:
      below: `[b, height, width, 3]` normalised -> what the part above takes. It is never trained, so what it gives
        can be kept. None where all is trained.
      above: -> the backbone's features. None where nothing of it is trained.
    """

    below: keras.Model | None
    above: keras.Model | None


def cut(backbone: keras.Model, trainable: str) -> Cut:
    """Cuts what `build` made where training begins; `trainable` as there.

    Raises:
      UserError: the backbone has no such cut, or something goes past it.
    """
    if trainable == "all":
        return Cut(None, backbone)
    if trainable == "head":
        return Cut(backbone, None)
    return Cut(*after(backbone, cut_layer(backbone.name, trainable)))


def cut_layer(name: str, trainable: str) -> str:
    """Returns the layer after which the trained blocks of a backbone begin.

    Raises:
      UserError: the backbone has no such cut.
    """
    cuts = BACKBONES[name].cuts
    if trainable not in cuts:
        raise UserError(f"trainable_layers: expected head, all or a cut of {name} ({', '.join(cuts)}), found "
                        f"{trainable!r}")
    return cuts[trainable]


def after(backbone: keras.Model, layer: str) -> tuple[keras.Model, keras.Model]:
    """Cuts a backbone after the output of one of its layers; returns what is below and what is above.

    Raises:
      UserError: something reaches the features past that layer.
    """
    kept = backbone.get_layer(layer).output
    try:
        above = keras.Model(kept, backbone.output, name=f"{backbone.name}_above")
    except ValueError as error:
        raise UserError(f"backbone {backbone.name}: expected that everything passes through {layer!r}, where it is "
                        "cut, found a connection past it") from error
    return keras.Model(backbone.input, kept, name=f"{backbone.name}_below"), above
