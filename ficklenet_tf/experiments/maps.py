"""Scores localization maps against masks: fifteen thresholds on the mean map in one pass, and seeds by the rule.

A threshold says where the foreground begins; which class it is, the strongest of the
image's maps says. The masks of training images are used for nothing but this.
"""

import concurrent.futures
import dataclasses
import pathlib

import keras
import numpy as np
import tensorflow as tf

from ficklenet_tf.data import images, labels
from ficklenet_tf.evaluation import metrics
from ficklenet_tf.maps import localizer
from ficklenet_tf.models import classifier
from ficklenet_tf.runs import artifacts, progress
from ficklenet_tf.seeds import extraction

THRESHOLDS = (0.01, 0.02, 0.03, 0.05, 0.07, 0.1, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8)
KEYS = ("miou", "recall", "precision")


def threshold_confusions(mean, classes, target, num_classes, thresholds=THRESHOLDS):
    """Confusion matrices of one image's maps at every threshold, by one resize and one histogram.

    Args:
      mean: `[h, w, c]` float32 maps, 0..1.
      classes: `[c]` class of each map, 0 the first foreground class.
      target: `[height, width]` uint8 mask; 255 is left out.
      num_classes: with the background.
      thresholds: rising; a pixel is foreground where its strongest map is above.

    Returns:
      `[thresholds, num_classes, num_classes + 1]` int64, see `metrics.confusion`.
    """
    labels.check_label(target, num_classes, "mask")
    known = target != labels.IGNORE
    bins = len(thresholds) + 1
    if len(classes):
        resized = images.resize_maps(mean, target.shape)
        strongest = resized.argmax(-1)[known]
        winner = np.asarray(classes, np.int64)[strongest] + 1
        passed = np.searchsorted(np.float32(thresholds), resized.max(-1)[known], side="left")
    else:
        winner = passed = np.zeros(int(known.sum()), np.int64)
    index = (target[known].astype(np.int64) * num_classes + winner) * bins + passed
    counts = np.bincount(index, minlength=num_classes**2 * bins).reshape(num_classes, num_classes, bins)
    result = np.zeros((len(thresholds), num_classes, num_classes + 1), np.int64)
    for number in range(len(thresholds)):
        result[number, :, :-1] = counts[..., number + 1:].sum(-1)
        result[number, :, labels.BACKGROUND] += counts[..., :number + 1].sum((1, 2))
    return result


def aggregate(parts):
    """Joins the answers of `localizer.Localizer` for several draws of selections to the one for all of them.

    Args:
      parts: list of (number of selections, answer).

    Returns:
      The first answer with "mean", "max", "std" and "selections" of all.
    """
    total = sum(n for n, _ in parts)
    mean = sum(n * found["mean"] for n, found in parts) / total
    squares = sum(n * (found["std"]**2 + found["mean"]**2) for n, found in parts) / total
    highest = np.max([found["max"] for _, found in parts], 0)
    return {**parts[0][1], "mean": mean, "max": highest, "std": np.sqrt(np.maximum(squares - mean**2, 0)),
            "selections": total}


class Draws:
    """Maps of one photograph at several numbers of selections; the greater ones hold the smaller ones' maps.

    Args:
      stage_dir: a finished classifier's directory.
      preset: `presets.Seeds`.
      selection: of the inference, see `localization.localize`.
      counts: rising numbers of selections, or ("auto",).
    """

    def __init__(self, stage_dir, preset, selection, counts):
        keras.backend.clear_session()
        self.model, normalization, self.run, trained = classifier.load(stage_dir)
        cached = self.run["features_dir"] if preset.sizes[0] == trained.input_size else None
        self.steps = [*counts[:1], *(b - a for a, b in zip(counts, counts[1:], strict=False))]
        self._localizers = {step: localizer.Localizer(
            self.model, normalization, dataclasses.replace(preset, selections=step), selection, cached)
            for step in self.steps}
        self._backbone = tf.function(lambda x: tf.cast(self.model.backbone(x, training=False), tf.float32)[0])

    def prepare(self, example):
        """Decodes an example and gives it its features: what `__call__` takes."""
        prepared = self._localizers[self.steps[0]].prepare(example)
        views = [self._backbone(view) if len(view.shape) == 4 else view for view in prepared["views"]]
        return {**prepared, "views": views}

    def __call__(self, prepared, seed):
        """Returns a list of (number of selections, answer of `Localizer.localize`), parts to `aggregate`."""
        found = [self._localizers[step].localize(prepared, seed if k == 0 else f"{seed} part {k}")
                 for k, step in enumerate(self.steps)]
        return [(answer["selections"], answer) for answer in found]


def score(directory, split, stage_dir, preset, *, selection, seed, counts=None, rule=True, draws=None,
          saliency_dir=None):
    """Scores the maps of one classifier on a split; what is finished is not done again.

    Args:
      directory: where run.json goes.
      split: `datasets.Split`; every image needs a mask.
      stage_dir: the classifier's directory.
      preset: `presets.Seeds`.
      selection: of the inference, see `localization.localize`.
      seed: of the selections.
      counts: rising numbers of selections to score at; default (preset.selections,). The maps of a greater
        number hold those of the smaller ones, so all cost no more than the greatest.
      rule: also score the seeds by the preset's rule, from the last count's maps.
      draws: a `Draws` of these settings, where there is one already.
      saliency_dir: for the rule's background cue "saliency".

    Returns:
      The content of run.json: "counts", "thresholds", "maps" (one dict a count: key of `KEYS` -> list over the
      thresholds) and "seeds" (key -> number, or None).
    """
    directory, counts = pathlib.Path(directory), tuple(counts or (preset.selections,))
    cue = extraction.cue_settings(preset, saliency_dir)
    run = artifacts.finished_run(stage_dir, "classifier", "tools.train_classifier")
    settings = {"stage": "map scores", "preset": dataclasses.asdict(preset), "selection": selection, "seed": seed,
                "counts": counts, "thresholds": THRESHOLDS, "rule": rule, "classifier": run["finished"],
                "fingerprint": split.fingerprint, **cue}
    artifacts.claim(directory, settings)
    finished = artifacts.read_run(directory)
    if finished:
        return finished
    draws = draws or Draws(stage_dir, preset, selection, counts)
    classes = len(split.class_names)

    def measure(example, parts):
        target = labels.decode_label(example["label"]).numpy()
        each = np.zeros((len(counts), len(THRESHOLDS), classes, classes + 1), np.int64)
        for k in range(len(parts)):
            whole = aggregate(parts[:k + 1])
            each[k] = threshold_confusions(whole["mean"], whole["classes"], target, classes)
        made = extraction.make_seed(whole, preset, example["image_id"], saliency_dir) if rule else target
        return each, metrics.confusion(target, made, classes)

    def localized():
        for index in progress.bar(range(len(split)), desc=directory.name, unit="img"):
            example = split[index]
            if not example["has_label"]:
                raise ValueError(f"{example['image_id']}: expected a mask to score maps against, found none")
            yield example, draws(draws.prepare(example), seed)

    total, by_rule = _summed(measure, localized())
    artifacts.write_run(directory, **settings, images=len(split), maps=[_by_threshold(each) for each in total],
                        seeds={k: metrics.scores(by_rule)[k] for k in KEYS} if rule else None)
    return artifacts.read_run(directory)


def _summed(measure, arguments):
    """Sums `measure(*each)`, pairs of arrays, over `arguments`; measures one while the next is being made."""
    sums, waiting = None, None
    with concurrent.futures.ThreadPoolExecutor(1) as worker:
        for each in arguments:
            future = worker.submit(measure, *each)
            if waiting is not None:
                sums = _added(sums, waiting.result())
            waiting = future
        return _added(sums, waiting.result())


def _added(sums, more):
    return more if sums is None else tuple(one + other for one, other in zip(sums, more, strict=True))


def _by_threshold(matrices):
    each = [metrics.scores(matrix) for matrix in matrices]
    return {key: [scores[key] for scores in each] for key in KEYS}
