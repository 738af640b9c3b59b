"""What tells which nearby pixels belong together: small networks above a classifier's backbone, which stays."""

import pathlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf
from keras import layers

from ficklenet_tf import distribution, presets
from ficklenet_tf.data import datasets, images
from ficklenet_tf.data.feature_cache import FeatureCache
from ficklenet_tf.errors import UserError
from ficklenet_tf.models import backbones, boundary, classifier, embedding
from ficklenet_tf.runs import artifacts, layout


class Kind(NamedTuple):
    """One of these networks, and how maps walk by it (`seeds.affinity`).

    Attributes:
      build: (height, width, channels) of each feature map -> keras.Model, list of those maps -> `[b, h, w, k]`.
      affinities: `[b, h, w, k]` -> for each of `neighbours.offsets` the affinities `[b, h', w']`, 0..1, of its pairs.
      beta: power of the affinities in a walk.
      inside: `[h, w, k]` -> share `[h, w, 1]` of a map that begins the walk; None: all of it.
      joint: whether walked maps are divided by the greatest number of all classes, in place of each by its own.
    """

    build: Callable[[Sequence[tuple[int | None, int | None, int]]], keras.Model]
    affinities: Callable[[tf.Tensor], Iterator[tf.Tensor]]
    beta: float
    inside: Callable[[tf.Tensor], tf.Tensor] | None = None
    joint: bool = False


# By the name in --kind.
KINDS: dict[str, Kind] = {"embedding": Kind(embedding.build, embedding.affinities, 8.0),
                          "boundary": Kind(boundary.build, boundary.affinities, 10.0, boundary.inside, joint=True)}


class Frozen(NamedTuple):
    """The layers below the trained part: a classifier's.

    Attributes:
      model: what the classifier's cache keeps, `[b, h, w, k]` float32, or without one normalised photographs
        `[b, size, size, 3]` -> list of feature maps of one size for `Kind.build`.
      features: the `FeatureCache`; None: the classifier was trained whole.
      size: side to which photographs are warped, in pixels.
      below: keras.Model, normalised photographs -> what is kept; None without a cache.
      normalization: of the photographs.
    """

    model: keras.Model
    features: FeatureCache | None
    size: int
    below: keras.Model | None
    normalization: images.Normalization

    def fill(self, split: datasets.Split) -> None:
        """Computes what the cache, if there is one, lacks of a split: the classifier may have learned other images."""
        if self.features is not None and self.below is not None:
            distribution.on_chief(self.features.fill, split, self.below, self.normalization, size=self.size)

    def network_input(self, image_id: str, image: np.ndarray) -> tf.Tensor:
        """Returns what `model` takes of one photograph, `[h, w, 3]` uint8, without the batch's axis."""
        if self.features is not None:
            return tf.constant(self.features.load(image_id).astype(np.float32))
        return images.normalize(images.warp_pixels(image, self.size), self.normalization)


def frozen(trained: classifier.Trained, run_dir: str | pathlib.Path) -> Frozen:
    """Returns the feature maps of a classifier that affinities stand on; `run_dir` is its run's directory.

    With frozen layers these are what is kept below its cut, and its last. One that was trained whole counts as frozen
    now: its last, and that of the backbone's `cue_layer`, if it has one, are computed of the photograph each time.
    """
    features = FeatureCache.of_run(trained.run, run_dir)
    below, above = backbones.cut(trained.model.backbone, trained.config.trainable_layers)
    if features is None:
        inputs = keras.Input((trained.config.input_size,) * 2 + (3,))
        maps = _of_photographs(trained.model.backbone)(inputs)
    else:
        assert below is not None  # it made the features
        size = trained.config.input_size  # of the cache itself nothing may be there yet
        inputs = keras.Input(below.compute_output_shape((None, size, size, 3))[1:])
        maps = [inputs] if above is None else [inputs, above(inputs)]
    height, width = maps[-1].shape[1:3]
    model = keras.Model(inputs, [x if x.shape[1:3] == (height, width) else layers.Resizing(height, width)(x)
                                 for x in maps])
    model.trainable = False
    return Frozen(model, features, trained.config.input_size, below, trained.normalization)


def _of_photographs(backbone: keras.Model) -> keras.Model:
    """Returns the model normalised photographs -> list of a backbone's feature maps, its own last."""
    cue_layer = backbones.BACKBONES[backbone.name].cue_layer
    middle = [] if cue_layer is None else [backbone.get_layer(cue_layer).output]
    return keras.Model(backbone.input, [*middle, backbone.output])


class Trained(NamedTuple):
    """A trained network of affinities, as `load` returns it.

    Attributes:
      below: `Frozen`.
      network: the trained part.
      kind: `Kind`.
      run: contents of the stage's run.json.
    """

    below: Frozen
    network: keras.Model
    kind: Kind
    run: dict[str, Any]


def load(run_dir: str | pathlib.Path, name: str = layout.AFFINITY) -> Trained:
    """Loads what `tools.train_affinity` finished.

    Raises:
      FileNotFoundError: it has not.
      UserError: the classifier has been trained again since.
    """
    directory = pathlib.Path(run_dir) / name
    run = artifacts.finished_run(directory, "affinity network", "tools.train_affinity")
    trained = classifier.load(pathlib.Path(run_dir) / run["classifier_name"])
    if trained.run["finished"] != run["classifier"]:
        raise UserError(f"{directory}: expected affinities on {run['classifier_name']}, found those on an earlier "
                        f"classifier there; remove {directory}")
    below, kind = frozen(trained, run_dir), KINDS[presets.AffinityConfig(**run["config"]).kind]
    network = kind.build([tuple(output.shape[1:]) for output in below.model.outputs])
    artifacts.load_weights(network, directory / layout.WEIGHTS)
    return Trained(below, network, kind, run)
