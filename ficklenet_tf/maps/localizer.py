"""Maps of whole photographs by a trained classifier: decoding, views (sizes, mirror), backbone, `localization`."""

import numpy as np
import tensorflow as tf

from ficklenet_tf.data import feature_cache, images
from ficklenet_tf.maps import aggregation

AUTO = "auto"  # presets.Seeds.selections
SAMPLES = 3  # single maps that an answer holds


class Localizer:
    """Maps of one photograph by a trained classifier, over the preset's views (sizes, mirror).

    Args:
      model: a `classifier.Classifier`.
      normalization: its backbone's.
      preset: `presets.Seeds`.
      selection: see `localization.localize`.
      features_dir: cached features for the first size, or None.
      jit_compile: compile by XLA; the maps anew for each number of classes, so that all shapes are static.
    """

    def __init__(self, model, normalization, preset, selection, features_dir=None, jit_compile=False):
        if isinstance(preset.selections, str) and preset.selections != AUTO:
            raise ValueError(f"selections: expected a number or {AUTO}, found {preset.selections!r}")
        if (preset.auto_most if preset.selections == AUTO else preset.selections) < 1:
            raise ValueError(f"selections: expected at least 1, found {preset.selections} (auto_most "
                             f"{preset.auto_most})")
        self.model, self.normalization, self.preset = model, normalization, preset
        self.selection, self.features_dir = selection, features_dir
        self._views = [(size, mirrored) for size in preset.sizes
                       for mirrored in ((False, True) if preset.flip_views else (False,))]
        self._shape = None if features_dir is None else feature_cache.shape_in(features_dir)
        self._checksums = {} if features_dir is None else feature_cache.checksums(features_dir)
        self._features = {size: tf.function(lambda x: tf.cast(model.backbone(x, training=False), tf.float32),
                                            jit_compile=jit_compile)
                          for size in preset.sizes}
        # Else one graph for all numbers of tags.
        self._localize = {size: tf.function(self._run, jit_compile=jit_compile, reduce_retracing=not jit_compile)
                          for size in preset.sizes}
        self._gradient = tf.function(self._saliency)

    def _run(self, x, tags, seed):
        auto = self.preset.selections == AUTO
        return aggregation.localize(
            self.model.head, x, tags, seed, selections=self.preset.auto_most if auto else self.preset.selections,
            selection=self.selection, method=self.preset.method, cam=self.preset.cam,
            samples=1 if self.selection == "deterministic" else SAMPLES,
            tolerance=self.preset.auto_tolerance if auto else None)

    def _saliency(self, x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            score = tf.reduce_sum(self.model.head.expected_logits(tf.cast(self.model.backbone(x), tf.float32)))
        return tf.reduce_max(tf.abs(tape.gradient(score, x)), -1)[0]

    def prepare(self, example):
        """Decodes an example (of a `datasets.Split`): all that can be done before the network is free.

        Returns:
          What `localize` takes: the example's "image_id", "tags", the decoded "image" and "views", for each view
          cached features `[h, w, k]` or the network's input `[1, size, size, 3]`.
        """
        image = images.decode(example["image"])
        cached = None
        if self.features_dir is not None:
            path = feature_cache.path_of(self.features_dir, example["image_id"])
            own = feature_cache.checksum(example["image"])
            if path.exists() and self._checksums.get(example["image_id"], own) == own:  # of this photograph
                cached = tf.cast(feature_cache.read(str(path), self._shape), tf.float32)
        views = []
        for number, (size, mirrored) in enumerate(self._views):
            if number == 0 and cached is not None:
                views.append(cached)
                continue
            x = images.normalize(images.warp(image, size), self.normalization)
            views.append((tf.reverse(x, [1]) if mirrored else x)[None])
        return {"image_id": example["image_id"], "tags": example["tags"], "image": image, "views": views}

    def __call__(self, example, seed):
        """As `localize`, of an example that is not prepared yet."""
        return self.localize(self.prepare(example), seed)

    def localize(self, prepared, seed):
        """Localizes the classes of what `prepare` made.

        Returns:
          dict: "classes" `[c]`, "mean", "max", "std" `[h, w, c]` and "samples" `[3, h, w, c]` at the first view's
          map size, "selections" (the number it took, with several views the greatest), "image" and "shape" (height,
          width) of the photograph, and for the cue "gradient" that, `[h', w']`.
        """
        tags = np.flatnonzero(prepared["tags"]).astype(np.int32)
        image, found = prepared["image"].numpy(), []
        for number, ((size, mirrored), view) in enumerate(zip(self._views, prepared["views"], strict=True)):
            x = self._features[size](view)[0] if len(view.shape) == 4 else view
            own = tf.random.fold_in(aggregation.image_seed(seed, prepared["image_id"]), number)
            maps = {k: v.numpy() for k, v in self._localize[size](x, tf.constant(tags), own).items()}
            found.append({k: v[..., ::-1, :] if mirrored and k != "selections" else v for k, v in maps.items()})
        result = {**_merge(found), "classes": tags, "image": image, "shape": image.shape[:2]}
        if self.preset.background_cue == "gradient":
            x = images.normalize(images.warp(prepared["image"], self.preset.sizes[0]), self.normalization)
            result["gradient"] = self._gradient(x[None]).numpy()
        return result


def _merge(views):
    """All views' selections as one set: the mean of means, the greatest of maxima."""
    first = views[0]
    shape = first["mean"].shape[:2]
    for view in views[1:]:
        for key in ("mean", "max", "std"):
            view[key] = images.resize_maps(view[key], shape)
    return {"mean": np.mean([v["mean"] for v in views], 0), "max": np.max([v["max"] for v in views], 0),
            "std": np.mean([v["std"] for v in views], 0), "samples": first["samples"],
            "selections": max(int(v["selections"]) for v in views)}
