"""The classifier: a backbone and the stochastic head, trained with image-level tags (FickleNet, Section 3)."""

import pathlib
from collections.abc import Callable
from typing import Any, NamedTuple

import keras
import tensorflow as tf

from ficklenet_tf import presets
from ficklenet_tf.data import images
from ficklenet_tf.models import backbones, background_head, hidden_layer_head, mdc_head, pretrained, stochastic
from ficklenet_tf.runs import artifacts, layout

# By the name in --head: (`presets.ClassifierConfig`, number of foreground classes) -> an unbuilt float32 layer,
# features `[b, h, w, k]` -> logits `[b, classes]`. It has `call(x, training, rng_seeds)`, `expected_logits(x)`, and of
# `units(x)`, where maps are looked for, `logits` and for --cam=cam `class_maps`; see `StochasticHead`. A head of
# several answers that learn each by itself has `branch_logits`, which is called like `call`; one with a background has
# what `background_head.BackgroundHead` has.
HEADS: dict[str, Callable[[presets.ClassifierConfig, int], keras.layers.Layer]] = {
    "stochastic": stochastic.build, "hidden": hidden_layer_head.build, "mdc": mdc_head.build,
    "eps": background_head.build}


@keras.saving.register_keras_serializable("ficklenet")
class Classifier(keras.Model):
    """Photographs -> class logits.

    Args:
      backbone: keras.Model, normalised images -> features.
      head: a layer as `HEADS` makes it.
    """

    def __init__(self, backbone: keras.Model, head: keras.layers.Layer, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.backbone, self.head = backbone, head

    def call(self, x: tf.Tensor, training: bool = False, rng_seeds: tf.Tensor | None = None) -> tf.Tensor:
        """Returns `[b, classes]` float32 logits of normalised `[b, side, side, 3]` images; see `StochasticHead`."""
        return self.head(self.backbone(x, training=training), training=training, rng_seeds=rng_seeds)

    def expected_logits(self, x: tf.Tensor) -> tf.Tensor:
        """Returns `[b, classes]` float32, the mean of the logits over all selections; `x` as in `call`."""
        return self.head.expected_logits(tf.cast(self.backbone(x, training=False), tf.float32))

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        return {**super().get_config(), "backbone": keras.saving.serialize_keras_object(self.backbone),
                "head": keras.saving.serialize_keras_object(self.head)}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "Classifier":
        """Makes the model that `get_config` describes."""
        parts = {name: keras.saving.deserialize_keras_object(config.pop(name)) for name in ("backbone", "head")}
        return cls(**parts, **config)


def feature_shape(config: presets.ClassifierConfig, backbone: keras.Model) -> tuple[int, int, int]:
    """Returns (height, width, channels) of the features at the config's input size."""
    side = -(-config.input_size // backbones.STRIDE)
    return side, side, backbone.output_shape[-1]


def build(config: presets.ClassifierConfig, num_tags: int,
          weights: str = "") -> tuple[Classifier, images.Normalization]:
    """Builds a classifier and loads the backbone's pretrained weights.

    Args:
      config: a `presets.ClassifierConfig`.
      num_tags: number of foreground classes.
      weights: see `pretrained.load_weights`.

    Returns:
      (a built `Classifier`, the `images.Normalization` that it expects).

    Raises:
      UserError: unknown backbone, or weights that do not fit.
      FileNotFoundError: the file of the weights is absent.
    """
    backbone = backbones.build(config.backbone, config.trainable_layers, config.precision)
    pretrained.load_weights(backbone, weights)
    head = HEADS[config.head](config, num_tags)
    head.build((None, *feature_shape(config, backbone)))
    model = Classifier(backbone, head)
    model.built = True
    return model, pretrained.normalization_of(weights)


def above_cut(model: Classifier, trainable: str) -> keras.layers.Layer:
    """Returns the part of a classifier that is trained; it shares layers with the whole.

    Args:
      model: as `build` made it.
      trainable: `config.trainable_layers` of its training.

    Returns:
      A `Classifier`, or a head alone, called alike, of what `backbones.Cut.below` gives; of photographs for "all".
    """
    above = backbones.cut(model.backbone, trainable).above
    if above is None:
        return model.head
    if above is model.backbone:
        return model
    part = Classifier(above, model.head)
    part.built = True
    return part


class Trained(NamedTuple):
    """A trained classifier, as `load` returns it.

    Attributes:
      model: the network.
      normalization: what its backbone expects of photographs.
      run: contents of the stage's run.json.
      config: of its training.
    """

    model: Classifier
    normalization: images.Normalization
    run: dict[str, Any]
    config: presets.ClassifierConfig


def load(directory: str | pathlib.Path) -> Trained:
    """Loads what `tools.train_classifier` finished in `directory`.

    Raises:
      FileNotFoundError: the stage has not finished there.
    """
    run = artifacts.finished_run(directory, "classifier", "tools.train_classifier")
    config = presets.ClassifierConfig(**run["config"])
    model, _ = build(config, len(run["class_names"]) - 1)
    artifacts.load_weights(model, pathlib.Path(directory) / layout.WEIGHTS)
    return Trained(model, images.Normalization(**run["normalization"]), run, config)


def load_classifier(run_dir: str | pathlib.Path, stage_name: str = layout.CLASSIFIER) -> Trained:
    """Loads the trained classifier of a run, for `localize`; see `load`."""
    return load(pathlib.Path(run_dir) / stage_name)
