"""Predicts label images with a trained segmenter: multi-scale, mirrored, with or without dense CRF, resumable."""

import dataclasses
import pathlib

import numpy as np
import tensorflow as tf
from tqdm import tqdm

from ficklenet_tf import artifacts, crf, images, labels, segmenter, segmenter_training

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
        self.network, self.normalization, self.run, preset = segmenter_training.load(directory)
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
    retrained = run_dir / "segmenter_retrained"
    return retrained if artifacts.read_run(retrained) else run_dir / "segmenter"


def refine(image, probs, spec, backend="permutohedral"):
    """Applies the dense CRF to the logarithm of probabilities; `[h, w, classes]` in and out."""
    logits = np.log(np.maximum(probs, 1e-6))[None]
    return np.asarray(crf.refiner(spec, backend)(image[None], logits))[0]


def restrict(probs, tags):
    """Leaves the background and the image's own classes; `[h, w, classes]`, the others 0."""
    return probs * np.concatenate([[1.0], tags]).astype(probs.dtype)


def predict_split(run_dir, split, *, stage=None, name="predictions", spec=None, sizes=None, flip=None,
                  use_tags=False, backend="permutohedral"):
    """Writes `<run_dir>/<name>/<image id>.png`, and with a CRF `<name>_crf/`; what is there is not made again.

    Args:
      run_dir: the run's directory.
      split: `datasets.Split`.
      stage: directory of the segmenter below run_dir, None for the last finished round's.
      name: directory for the label images below run_dir.
      spec: a `crf.CRFSpec` for refined labels too, or None.
      sizes: see `Predictor`.
      flip: see `Predictor`.
      use_tags: restrict the classes to the image's tags (for training images only).
      backend: of the CRF.
    """
    run_dir = pathlib.Path(run_dir)
    predictor = Predictor(last_stage(run_dir, stage), sizes, flip)
    settings = {"stage": "predictions", "segmenter": predictor.run["finished"], "fingerprint": split.fingerprint,
                "sizes": list(predictor.sizes), "flip": predictor.flip, "use_tags": use_tags}
    outputs = {name: settings}
    if spec is not None:
        outputs[f"{name}_crf"] = {**settings, "crf": dataclasses.asdict(spec), "backend": backend}
    for output, own in outputs.items():
        artifacts.claim(run_dir / output, own)
    pending = [i for i, image_id in enumerate(split.image_ids)
               if not all((run_dir / output / f"{image_id}.png").exists() for output in outputs)]
    for index in tqdm(pending, total=len(split), initial=len(split) - len(pending), desc=name, unit="img"):
        example = split[index]
        image = images.decode(example["image"]).numpy()
        probs = predictor(image)
        probs = restrict(probs, example["tags"]) if use_tags else probs
        labels.write_label(run_dir / name / f"{example['image_id']}.png", probs.argmax(-1))
        if spec is not None:
            refined = refine(image, probs, spec, backend)
            labels.write_label(run_dir / f"{name}_crf" / f"{example['image_id']}.png", refined.argmax(-1))
    for output, own in outputs.items():
        artifacts.write_run(run_dir / output, **own, images=len(split))
