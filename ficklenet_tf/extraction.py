"""Extracts seeds: photographs and tags -> N maps an image -> seeds/<image id>.png, resumable and in shards."""

import concurrent.futures
import dataclasses
import io
import pathlib

import numpy as np
import tensorflow as tf
from tqdm import tqdm

from ficklenet_tf import (
    artifacts,
    classifier,
    evaluation,
    features,
    images,
    labels,
    localization,
    refinement,
    seeds,
)


def extract(run_dir, split, preset, *, stage="classifier", name="seeds", selection="stochastic", seed=0,
            saliency_dir=None, maps=False, shard=(0, 1)):
    """Writes one seed image a photograph, at the photograph's size.

    The answer for an image is a function of (classifier, preset, seed, image id), not of batch,
    order or shard. Files that are there are not made again.

    Args:
      run_dir: the run's directory.
      split: `datasets.Split`; its masks, if any, serve the report only.
      preset: `presets.Seeds`.
      stage: the classifier's directory below run_dir.
      name: directory below run_dir for the seeds; maps go to `<name>_maps`.
      selection: "stochastic", "general" or "deterministic" (a plain Grad-CAM).
      seed: of the selections.
      saliency_dir: for the background cue "saliency".
      maps: also write mean, maximum, spread and the first three maps (.npz, float16).
      shard: (index, count): only every count-th image.

    Returns:
      The content of run.json (of a shard: without metrics, which need every image).
    """
    run_dir = pathlib.Path(run_dir)
    directory = run_dir / name
    model, normalization, run, trained = classifier.load(run_dir / stage)
    settings = {"stage": "seeds", "preset": dataclasses.asdict(preset), "selection": selection, "seed": seed,
                "dataset": split.dataset, "split": split.name, "fingerprint": split.fingerprint,
                "classifier": run["finished"]}
    directory.mkdir(parents=True, exist_ok=True)
    artifacts.claim(directory, settings)
    finished = artifacts.read_run(directory)
    if finished:
        return finished
    cached = run["features_dir"] if preset.sizes[0] == trained.input_size else None
    localizer = Localizer(model, normalization, preset, selection, cached)
    own = range(shard[0], len(split), shard[1])
    pending = [i for i in own if not (directory / f"{split.image_ids[i]}.png").exists()]
    with (concurrent.futures.ThreadPoolExecutor(1) as reader, concurrent.futures.ThreadPoolExecutor(1) as writer,
          tqdm(total=len(own), initial=len(own) - len(pending), desc=name, unit="img") as bar):
        ahead = [reader.submit(split.__getitem__, i) for i in pending[:1]]
        written = None
        for position in range(len(pending)):
            example = ahead.pop().result()
            ahead = [reader.submit(split.__getitem__, i) for i in pending[position + 1:position + 2]]
            found = localizer(example, seed)
            if written is not None:
                written.result()
            written = writer.submit(_write, example["image_id"], found, preset, directory, saliency_dir, maps)
            bar.update()
        if written is not None:
            written.result()
    if shard[1] > 1:
        return settings
    result = evaluation.score_directory(directory, split) if split.has_labels else None
    artifacts.write_run(directory, **settings, images=len(split), metrics=result)
    return artifacts.read_run(directory)


class Localizer:
    """Maps of one photograph by a trained classifier, over the preset's views (sizes, mirror).

    Args:
      model: a `classifier.Classifier`.
      normalization: its backbone's.
      preset: `presets.Seeds`.
      selection: see `localization.localize`.
      features_dir: cached features for the first size, or None.
    """

    def __init__(self, model, normalization, preset, selection, features_dir=None):
        self.model, self.normalization, self.preset = model, normalization, preset
        self.selection, self.features_dir = selection, features_dir
        self._views = [(size, mirrored) for size in preset.sizes
                       for mirrored in ((False, True) if preset.flip_views else (False,))]
        self._shape = None if features_dir is None else features.shape_in(features_dir)
        self._features = {size: tf.function(lambda x: tf.cast(model.backbone(x, training=False), tf.float32))
                          for size in preset.sizes}
        self._localize = tf.function(self._run, reduce_retracing=True)
        self._gradient = tf.function(self._saliency)

    def _run(self, x, tags, seed):
        return localization.localize(self.model.head, x, tags, seed, selections=self.preset.selections,
                                     selection=self.selection, method=self.preset.method,
                                     samples=1 if self.selection == "deterministic" else 3)

    def _saliency(self, x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            score = tf.reduce_sum(self.model.head.expected_logits(tf.cast(self.model.backbone(x), tf.float32)))
        return tf.reduce_max(tf.abs(tape.gradient(score, x)), -1)[0]

    def __call__(self, example, seed):
        """Localizes the classes of an example (of a `datasets.Split`).

        Returns:
          dict: "classes" `[c]`, "mean", "max", "std" `[h, w, c]` and "samples" `[3, h, w, c]` at the first view's
          map size, "image" and "shape" (height, width) of the photograph, and for
          the cue "gradient" that, `[h', w']`.
        """
        image = images.decode(example["image"])
        tags = np.flatnonzero(example["tags"]).astype(np.int32)
        views = []
        for number, (size, mirrored) in enumerate(self._views):
            x = self._view_features(example, image, size, mirrored, number)
            own = tf.random.fold_in(localization.image_seed(seed, example["image_id"]), number)
            found = {k: v.numpy() for k, v in self._localize(x, tf.constant(tags), own).items()}
            views.append({k: v[..., ::-1, :] for k, v in found.items()} if mirrored else found)
        result = {**_merge(views), "classes": tags, "image": image.numpy(), "shape": tuple(image.shape[:2])}
        if self.preset.background_cue == "gradient":
            x = images.normalize(images.warp(image, self.preset.sizes[0]), self.normalization)
            result["gradient"] = self._gradient(x[None]).numpy()
        return result

    def _view_features(self, example, image, size, mirrored, number):
        if self.features_dir is not None and number == 0:
            path = features.path_of(self.features_dir, example["image_id"])
            if path.exists():
                return tf.cast(features.read(str(path), self._shape), tf.float32)
        x = images.normalize(images.warp(image, size), self.normalization)
        return self._features[size]((tf.reverse(x, [1]) if mirrored else x)[None])[0]


def _merge(views):
    """All views' selections as one set: the mean of means, the greatest of maxima."""
    first = views[0]
    shape = first["mean"].shape[:2]
    for view in views[1:]:
        for key in ("mean", "max", "std"):
            view[key] = seeds.resize_maps(view[key], shape)
    return {"mean": np.mean([v["mean"] for v in views], 0), "max": np.max([v["max"] for v in views], 0),
            "std": np.mean([v["std"] for v in views], 0), "samples": first["samples"]}


def make_seed(found, preset, image_id="", saliency_dir=None):
    """Turns a `Localizer`'s answer into a seed image `[height, width]` uint8 at the photograph's size."""
    shape = found["shape"]
    if preset.refine == "crf":
        return refinement.crf_refine(found["image"], found["mean"], found["classes"], preset.refine_low,
                                     preset.refine_high, scale=preset.refine_scale)
    if preset.refine != "none":
        raise ValueError(f"refine: expected none or crf, found {preset.refine!r}")
    mean, highest = (seeds.resize_maps(found[k], shape) if len(found["classes"]) else
                     np.zeros((*shape, 0), np.float32) for k in ("mean", "max"))
    label = seeds.allot(highest, mean, found["classes"], preset.theta)
    if preset.background_cue == "activation":
        background = seeds.activation_cue(mean, preset.background_threshold)
    elif preset.background_cue == "gradient":
        gradient = seeds.gradient_cue(found["gradient"], preset.background_threshold)
        background = seeds.resize_maps(gradient.astype(np.float32)[..., None], shape)[..., 0] > 0.5
    elif preset.background_cue == "saliency":
        background = seeds.saliency_cue(saliency_dir, image_id, shape, preset.background_threshold)
    else:
        raise ValueError(f"background_cue: expected one of {', '.join(seeds.CUES)}, found {preset.background_cue!r}")
    return seeds.add_background(label, background)


def _write(image_id, found, preset, directory, saliency_dir, maps):
    label = make_seed(found, preset, image_id, saliency_dir)
    if maps:
        buffer = io.BytesIO()
        np.savez(buffer, classes=found["classes"], **{k: found[k].astype(np.float16)
                                                      for k in ("mean", "max", "std", "samples")})
        artifacts.write_bytes(directory.with_name(directory.name + "_maps") / f"{image_id}.npz", buffer.getvalue())
    labels.write_label(directory / f"{image_id}.png", label)
