"""The classifier: a backbone and the stochastic head, trained with image-level tags (FickleNet, Section 3)."""

import pathlib

import keras

from ficklenet_tf import presets
from ficklenet_tf.data import images
from ficklenet_tf.models import backbones, pretrained, stochastic
from ficklenet_tf.runs import artifacts


@keras.saving.register_keras_serializable("ficklenet")
class Classifier(keras.Model):
    """Photographs -> class logits.

    Args:
      backbone: keras.Model, normalised images -> features.
      head: a `stochastic.StochasticHead`.
    """

    def __init__(self, backbone, head, **kwargs):
        super().__init__(**kwargs)
        self.backbone, self.head = backbone, head

    def call(self, x, training=False, seeds=None):
        """Returns `[b, classes]` float32 logits of normalised `[b, side, side, 3]` images; see `StochasticHead`."""
        return self.head(self.backbone(x, training=training), training=training, seeds=seeds)

    def get_config(self):
        """Returns the constructor's arguments."""
        return {**super().get_config(), "backbone": keras.saving.serialize_keras_object(self.backbone),
                "head": keras.saving.serialize_keras_object(self.head)}

    @classmethod
    def from_config(cls, config):
        """Makes the model that `get_config` describes."""
        parts = {name: keras.saving.deserialize_keras_object(config.pop(name)) for name in ("backbone", "head")}
        return cls(**parts, **config)


def feature_shape(preset, backbone):
    """Returns (height, width, channels) of the features at the preset's input size."""
    side = -(-preset.input_size // backbones.STRIDE)
    return side, side, backbone.output_shape[-1]


def build(preset, num_tags, weights=""):
    """Builds a classifier and loads the backbone's pretrained weights.

    Args:
      preset: a `presets.Classifier`.
      num_tags: number of foreground classes.
      weights: see `pretrained.load_weights`.

    Returns:
      (a built `Classifier`, its `images.Normalization`).
    """
    trainable = "none" if preset.trainable_layers == "head" else preset.trainable_layers
    backbone = backbones.build(preset.backbone, trainable, preset.precision)
    pretrained.load_weights(backbone, weights)
    head = stochastic.StochasticHead(num_tags, preset.kernel_size, preset.rate, preset.rescale,
                                     preset.training_selection, preset.inference_selection, preset.form,
                                     dtype="float32")
    head.build((None, *feature_shape(preset, backbone)))
    model = Classifier(backbone, head)
    model.built = True
    return model, pretrained.normalization_of(weights)


def load(directory):
    """Loads what `tools.train_classifier` finished in `directory`.

    Returns:
      (Classifier, images.Normalization, the stage's run.json as a dict, presets.Classifier).

    Raises:
      FileNotFoundError: the stage has not finished there.
    """
    run = artifacts.finished_run(directory, "classifier", "tools.train_classifier")
    preset = presets.Classifier(**run["preset"])
    model, _ = build(preset, len(run["class_names"]) - 1)
    model.load_weights(pathlib.Path(directory) / "model.weights.h5")
    return model, images.Normalization(**run["normalization"]), run, preset
