"""Predicts label images with a trained segmenter: multi-scale, mirrored, with or without dense CRF, resumable."""

import dataclasses
import pathlib
import time

import numpy as np
import tensorflow as tf

from ficklenet_tf import crf
from ficklenet_tf.data import datasets, images, labels
from ficklenet_tf.models import segmenter
from ficklenet_tf.runs import artifacts, progress, shards

CRFS = {"none": None, "sec": crf.SEC_TRAIN, "dsrg": crf.DSRG_TEST, "deeplab": crf.DEEPLAB_LARGEFOV,
        "deeplab_v2": crf.DEEPLAB_V2}


class Predictor:
    """A trained segmenter as a function of photographs.

    Args:
      directory: the segmenter's stage directory.
      sizes: sides of the multi-scale prediction; None for the preset's.
      flip: also mirrored; None for the preset's.
    """

    def __init__(self, directory, sizes=None, flip=None):
        self.network, self.normalization, self.run, preset = segmenter.load(directory)
        self.sizes = tuple(sizes or preset.test_sizes)
        self.flip = preset.test_flip if flip is None else flip
        self.class_names = self.run["class_names"]
        self._probs = tf.function(self._graph, input_signature=[tf.TensorSpec([1, None, None, 3], tf.uint8)])

    def _graph(self, image):
        return segmenter.predict_probs(self.network, image, self.normalization, self.sizes, self.flip)

    def __call__(self, image):
        """Returns `[h, w, classes]` float32 probabilities of a `[h, w, 3]` uint8 photograph."""
        return self._probs(tf.convert_to_tensor(image)[None])[0].numpy()


def last_stage(run_dir, stage=None):
    """Returns the directory of the run's segmenter: `stage`, or else the last finished round."""
    run_dir = pathlib.Path(run_dir)
    if stage is not None:
        return run_dir / stage
    first, second = run_dir / "segmenter", run_dir / "segmenter_retrained"
    labelled = run_dir / "segmenter_labels" / "settings.json"
    if artifacts.read_run(second) is None:
        return first
    run = artifacts.read_run(first)
    stale = run and labelled.exists() and artifacts.read_json(labelled)["segmenter"] != run["finished"]
    return first if stale else second  # stale: the second round of an earlier first one


def refine(image, probs, spec, backend="permutohedral"):
    """Applies the dense CRF to the logarithm of probabilities; `[h, w, classes]` in and out."""
    logits = np.log(np.maximum(probs, 1e-6))[None]
    return np.asarray(crf.refiner(spec, backend)(image[None], logits))[0]


def restrict(probs, tags):
    """Leaves the background and the image's own classes; `[h, w, classes]`, the others 0."""
    return probs * np.concatenate([[1.0], tags]).astype(probs.dtype)


def outputs(name, spec=None, further=()):
    """Returns the directories for label images, in order: dict of name -> `crf.CRFSpec`, None for the plain ones.

    Args:
      name: of the plain ones; `<name>_crf` are those refined with `spec`.
      spec: a `crf.CRFSpec`, or None.
      further: keys of `CRFS`: more parameters to refine with, in `<name>_crf_<key>`.
    """
    refined = {} if spec is None else {f"{name}_crf": spec}
    return {name: None, **refined, **{f"{name}_crf_{key}": CRFS[key] for key in further}}


def predict_split(run_dir, split, *, stage=None, name="predictions", spec=None, further=(), sizes=None, flip=None,
                  use_tags=False, backend="permutohedral", shard=shards.WHOLE):
    """Writes `<run_dir>/<output>/<image id>.png` for each of `outputs`; what is there is not made again.

    The network sees each image once, whatever the number of CRFs. Each `run.json` has the median "seconds_per_image"
    of the images made in the last call that made some: of the network, and of each CRF alone.

    Args:
      run_dir: the run's directory.
      split: `datasets.Split`.
      stage: directory of the segmenter below run_dir, None for the last finished round's.
      name: see `outputs`.
      spec: see `outputs`.
      further: see `outputs`.
      sizes: see `Predictor`.
      flip: see `Predictor`.
      use_tags: restrict the classes to the image's tags (for training images only).
      backend: of the CRFs.
      shard: (index, count): only every count-th image, see shards.py; without run.json.
    """
    run_dir = pathlib.Path(run_dir)
    directory = last_stage(run_dir, stage)
    predictor = Predictor(directory, sizes, flip)
    datasets.check_classes(split, predictor.class_names, directory)
    settings = {"stage": "predictions", "segmenter": predictor.run["finished"], "fingerprint": split.fingerprint,
                "sizes": list(predictor.sizes), "flip": predictor.flip, "use_tags": use_tags}
    specs = outputs(name, spec, further)
    own = {output: settings if one is None else {**settings, "crf": dataclasses.asdict(one), "backend": backend}
           for output, one in specs.items()}
    for output in specs:
        artifacts.claim(run_dir / output, own[output])

    def missing(image_id):
        return [output for output in specs if not (run_dir / output / f"{image_id}.png").exists()]

    spent = {output: [] for output in specs}
    indices, began = shards.own(shard, len(split)), time.monotonic()
    pending = [i for i in indices if missing(split.image_ids[i])]
    shards.check_complete(run_dir / name, shard, [split.image_ids[i] for i in pending])
    for index in progress.bar(pending, total=len(indices), initial=len(indices) - len(pending), desc=name, unit="img"):
        example = split[index]
        image = images.decode(example["image"]).numpy()
        started = time.perf_counter()
        probs = predictor(image)
        probs = restrict(probs, example["tags"]) if use_tags else probs
        spent[name].append(time.perf_counter() - started)
        for output in missing(example["image_id"]):
            answer = probs
            if specs[output] is not None:
                started = time.perf_counter()
                answer = refine(image, probs, specs[output], backend)
                spent[output].append(time.perf_counter() - started)
            labels.write_label(run_dir / output / f"{example['image_id']}.png", answer.argmax(-1))
    shards.write_manifest(run_dir / name, shard, [split.image_ids[i] for i in indices], len(pending), began)
    if shard != shards.WHOLE:
        return
    for output, seconds in spent.items():
        if seconds or artifacts.read_run(run_dir / output) is None:
            artifacts.write_run(run_dir / output, **own[output], images=len(split),
                                seconds_per_image=float(np.median(seconds)) if seconds else None)
