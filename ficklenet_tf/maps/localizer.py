"""Maps of whole photographs by a trained classifier: decoding, views (sizes, mirror), backbone, `aggregation`."""

import hashlib
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from ficklenet_tf import configs
from ficklenet_tf.data import images
from ficklenet_tf.data.feature_cache import FeatureCache
from ficklenet_tf.errors import UserError
from ficklenet_tf.maps import aggregation, erased
from ficklenet_tf.maps.image_maps import ImageMaps
from ficklenet_tf.models import backbones
from ficklenet_tf.models.classifier import Classifier, Trained
from ficklenet_tf.presets import MapsConfig

AUTO = configs.AUTO  # presets.MapsConfig.num_maps
SAMPLES = 3  # single maps that an answer holds


class Localizer:
    """The maps of one photograph by a trained classifier, over the configured views (sizes, mirror).

    Args:
      model: a `classifier.Classifier`.
      normalization: its backbone's `images.Normalization`.
      config: `presets.MapsConfig`.
      mode: see `aggregation.localize`.
      features: a `FeatureCache` for the first size, or None.
      above: keras.Model from what the cache keeps to the head's features; None: the cache keeps these.
      jit_compile: compile by XLA; the maps anew for each number of classes, so that all shapes are static.
      covering: an `erased.Erased`, for photographs that it has maps of: what is not to be seen of them; or None.
    """

    def __init__(self, model: Classifier, normalization: images.Normalization, config: MapsConfig,
                 mode: str = "stochastic", features: FeatureCache | None = None, above: keras.Model | None = None,
                 jit_compile: bool = False, covering: erased.Erased | None = None) -> None:
        self._covering = covering
        self.model, self.normalization, self.config = model, normalization, config
        self._options, self._cache = _options(config, mode), features
        self._views = [(size, mirrored) for size in config.sizes
                       for mirrored in ((False, True) if config.flip_views else (False,))]
        self._features = {size: tf.function(lambda x: tf.cast(model.backbone(x, training=False), tf.float32),
                                            autograph=False, jit_compile=jit_compile)
                          for size in config.sizes}
        self._above = above and tf.function(lambda x: tf.cast(above(x, training=False), tf.float32),
                                            autograph=False, jit_compile=jit_compile)
        # Without XLA one graph serves all numbers of tags.
        self._localize = {size: tf.function(self._run, autograph=False, jit_compile=jit_compile,
                                             reduce_retracing=not jit_compile)
                          for size in config.sizes}
        self._gradient = tf.function(self._saliency, autograph=False)
        if config.gradient == "features":
            layer = backbones.BACKBONES[model.backbone.name].cue_layer
            if layer is None:
                raise UserError("gradient features: expected a backbone with a cue_layer, found "
                                f"{model.backbone.name}")
            self._below, self._above_cue = backbones.after(model.backbone, layer)

    def _run(self, x: tf.Tensor, tag_ids: tf.Tensor, seed: tf.Tensor) -> dict[str, tf.Tensor]:
        head = self.model.head
        aggregates = aggregation.localize(head, x, tag_ids, seed, self._options)
        if hasattr(head, "class_probs"):
            aggregates["probs"] = head.class_probs(x, tag_ids, self._options.mode)
        return aggregates

    def _saliency(self, x: tf.Tensor, keep: tf.Tensor | None = None) -> tf.Tensor:
        """Returns how much the classes' mean scores, added up, depend on each place of the photograph or features."""
        forward = self.model.backbone
        if self.config.gradient == "features":
            x, forward = self._below(x, training=False), self._above_cue
        with tf.GradientTape() as tape:
            tape.watch(x)
            features = self._covered(forward(x, training=False), keep, "features")
            score = tf.reduce_sum(self.model.head.expected_logits(tf.cast(features, tf.float32)))
        gradient = tf.cast(tf.reduce_max(tf.abs(tape.gradient(score, x)), -1)[0], tf.float32)
        return tf.math.divide_no_nan(gradient, tf.reduce_max(gradient))

    def prepare(self, example: dict[str, Any]) -> dict[str, Any]:
        """Decodes an example (of a `datasets.Split`): all that can be done before the network is free.

        Returns:
          What `localize` takes: the example's "image_id", "tags", the decoded "image" and "views": for each view
          what the cache keeps, `[h, w, k]`, or the network's input `[1, size, size, 3]`. Of a mirrored photograph the
          cache has something only if it was made with `flips`. And "keep": for each view `[1, side, side]` uint8, see
          `Erased.keep`, or None for all of it.
        """
        image = images.decode_image_op(example["image"])
        held = self._cache is not None and self._cache.holds(example["image_id"], example["image"])
        keeps = [self._keep(example["image_id"], *view) for view in self._views]
        views: list[tf.Tensor] = []
        for (size, mirrored), keep in zip(self._views, keeps, strict=True):
            path = self._cache.path(example["image_id"], mirrored) if self._cache else None
            if self._cache and held and path and size == self.config.sizes[0] and path.exists():
                views.append(tf.cast(self._cache.read(path), tf.float32))
                continue
            x = images.normalize(images.warp(image, size), self.normalization)
            views.append(self._covered((tf.reverse(x, [1]) if mirrored else x)[None], keep, "pixels"))
        return {"image_id": example["image_id"], "tags": example["tags"], "image": image, "views": views,
                "keep": keeps}

    def _keep(self, image_id: str, size: int, mirrored: bool) -> np.ndarray | None:
        """What is to be seen of a view, or None for all."""
        if self._covering is None:
            return None
        keep = self._covering.keep(image_id, -(-size // backbones.STRIDE))[None]
        return keep[..., ::-1] if mirrored else keep

    def _covered(self, x: tf.Tensor, keep: np.ndarray | tf.Tensor | None, form: str) -> tf.Tensor:
        """`x` with 0 where it is to be erased in this form."""
        return x if keep is None or self._covering is None or self._covering.form != form else erased.covered(x, keep)

    def features(self, prepared: dict[str, Any]) -> list[tf.Tensor]:
        """Returns the head's features `[h, w, k]` float32 of each view of what `prepare` made."""
        features = [self._features[size](view) if len(view.shape) == 4 else
                    view[None] if self._above is None else self._above(view[None])
                    for (size, _), view in zip(self._views, prepared["views"], strict=True)]
        return [self._covered(x, keep, "features")[0] for x, keep in zip(features, prepared["keep"], strict=True)]

    def __call__(self, example: dict[str, Any], seed: int | str) -> ImageMaps:
        """As `localize`, of an example that is not prepared yet."""
        return self.localize(self.prepare(example), seed)

    def localize(self, prepared: dict[str, Any], seed: int | str) -> ImageMaps:
        """Localizes the classes of what `prepare` made.

        Args:
          prepared: as above; with "features", if it holds them, in place of the views.
          seed: of the selections, an int or a string.

        Returns:
          `ImageMaps` at the first view's map size, rounded as in a file.
        """
        tag_ids = np.flatnonzero(prepared["tags"]).astype(np.int32)
        views = []
        features = prepared.get("features") or self.features(prepared)
        for number, ((size, mirrored), x) in enumerate(zip(self._views, features, strict=True)):
            view_seed = tf.random.fold_in(aggregation.image_seed(seed, prepared["image_id"]), number)
            aggregates = self._localize[size](x, tf.constant(tag_ids), view_seed)
            maps = {name: array.numpy() for name, array in aggregates.items()}
            views.append({name: array[..., ::-1, :] if mirrored and name != "num_maps" else array
                          for name, array in maps.items()})
        gradient = None
        if self.config.gradient != "none":
            x = images.normalize(images.warp(prepared["image"], self.config.sizes[0]), self.normalization)
            keep = prepared["keep"][0]
            gradient = self._gradient(self._covered(x[None], keep, "pixels"), keep).numpy()
        height, width = prepared["image"].shape[:2]
        return ImageMaps(tag_ids, **merged(views), shape=(height, width), gradient=gradient).rounded()


def _options(config: MapsConfig, mode: str) -> aggregation.Options:
    """Returns what `aggregation.localize` does for a config."""
    greatest = config.auto_most if isinstance(config.num_maps, str) else config.num_maps
    samples = 1 if mode == "deterministic" else min(SAMPLES, greatest)
    return aggregation.Options(greatest, mode, config.method, config.cam, samples,
                               config.auto_tolerance if config.num_maps == AUTO else None)


def merged(views: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Joins the views' aggregates at the first one's size, each view counting alike: those of all their maps together.

    Of a head with a background the softmax maps' mean, "probs".

    So the spread is that of the maps about the joint mean, within the views and between them.
    """
    shape = views[0]["mean"].shape[:2]
    for view in views[1:]:
        for name in view.keys() & {"mean", "max", "std", "probs"}:
            view[name] = images.resize_maps(view[name], shape)
    mean = np.mean([view["mean"] for view in views], 0)
    squares = np.mean([view["std"]**2 + view["mean"]**2 for view in views], 0)
    probs = {"probs": np.mean([view["probs"] for view in views], 0)} if "probs" in views[0] else {}
    return {"mean": mean, "max": np.max([view["max"] for view in views], 0),
            "std": np.sqrt(np.maximum(squares - mean**2, 0)), "samples": views[0]["samples"],
            "num_maps": max(int(view["num_maps"]) for view in views), **probs}


def localize(classifier: Trained, photograph: np.ndarray, tags: Sequence[str], *, num_maps: int = 200,
             mode: str | None = None, seed: int = 0, size: int | None = None) -> ImageMaps:
    """Localizes what a photograph is tagged with: N Grad-CAMs on random selections of hidden units, aggregated.

    For many photographs make one `Localizer`: this function traces its graphs anew in each call.

    Args:
      classifier: of `models.classifier.load_classifier`.
      photograph: `[h, w, 3]` uint8 RGB.
      tags: class names, without the background.
      num_maps: N.
      mode: "stochastic", "general" or "deterministic" (one plain Grad-CAM); None: the classifier's own, by which it
        predicts tags.
      seed: of the selections, with the photograph's pixels: others have selections of their own.
      size: side to which the photograph is warped, within `configs.SIDES`; None: the classifier's own.

    Returns:
      `ImageMaps`, its last axis in the order of the classes, not of `tags`.

    Raises:
      UserError: the classifier does not know a tag; something else than a photograph; a number that cannot be.
    """
    example = tagged(photograph, tags, classifier.run["class_names"])
    return of_classifier(classifier, num_maps, mode, size)(example, seed)


def of_classifier(classifier: Trained, num_maps: int = 200, mode: str | None = None,
                  size: int | None = None) -> Localizer:
    """Returns the `Localizer` that `localize` makes; the arguments are its."""
    config = MapsConfig(num_maps=num_maps, sizes=(classifier.config.input_size if size is None else size,))
    return Localizer(classifier.model, classifier.normalization, config, mode or classifier.config.inference_mode)


def tagged(photograph: np.ndarray, tags: Sequence[str], class_names: Sequence[str]) -> dict[str, Any]:
    """Returns a photograph and its tags as an example that a `Localizer` takes, named after its pixels.

    Args:
      photograph: `[h, w, 3]` uint8 RGB.
      tags: class names, without the background.
      class_names: all of them, the background first.

    Raises:
      UserError: a tag that is none of them; something else than a photograph.
    """
    photograph = images.photograph(photograph)
    tags, names = [tags] if isinstance(tags, str) else list(tags), list(class_names[1:])
    unknown = [tag for tag in tags if tag not in names]
    if unknown:
        raise UserError(f"tags: expected some of {', '.join(names)}, found {', '.join(map(str, unknown))}")
    present = np.array([name in tags for name in names], np.float32)
    name = hashlib.sha256(photograph.tobytes()).hexdigest()
    return {"image_id": name, "tags": present, "image": tf.io.encode_png(photograph)}
