"""Predicts label images with a trained segmenter: multi-scale, mirrored, with or without dense CRF, resumable."""

import dataclasses
import pathlib
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from ficklenet_tf import crf
from ficklenet_tf.data import datasets, feature_cache, images, labels
from ficklenet_tf.models import segmenter
from ficklenet_tf.runs import artifacts, layout, record, shards, stage


class Predictor:
    """A trained segmenter as a function of photographs.

    Args:
      directory: the segmenter's stage directory.
      sizes: sides of the multi-scale prediction; None for the config's.
      flip: average over the mirrored photograph, too; None for the config's.

    Attributes:
      network: `[b, s, s, 3]` normalised -> logits.
      normalization: `images.Normalization` of its backbone.
      run: the stage's run.json.
      sizes: as above.
      flip: as above.
      class_names: of the labels, the background first.
    """

    def __init__(self, directory: str | pathlib.Path, sizes: tuple[int, ...] | None = None,
                 flip: bool | None = None) -> None:
        self.network, self.normalization, self.run, config = segmenter.load(directory)
        self._config = config
        self.sizes: tuple[int, ...] = tuple(sizes or config.test_sizes)
        self.flip = config.test_flip if flip is None else flip
        self.class_names: list[str] = self.run["class_names"]
        self._probs = tf.function(self._graph, autograph=False,
                                  input_signature=[tf.TensorSpec([1, None, None, 3], tf.uint8)])

    def _graph(self, image: tf.Tensor) -> tf.Tensor:
        return segmenter.predict_probs(self.network, image, self.normalization, self.sizes, self.flip)

    def __call__(self, image: np.ndarray) -> np.ndarray:
        """Returns `[h, w, classes]` float32 probabilities of a `[h, w, 3]` uint8 photograph."""
        return self._probs(tf.convert_to_tensor(image)[None])[0].numpy()

    def of_split(self, split: datasets.Split,
                 run_dir: str | pathlib.Path) -> Callable[[str, np.ndarray], np.ndarray] | None:
        """Keeps what frozen layers give for a split in the run's features: segmenters that share them see it once.

        Args:
          split: a `datasets.Split`.
          run_dir: the run's directory. VGG-16's features of 321 pixels take 1.7 MB a photograph, float16.

        Returns:
          (image id, photograph) -> as `__call__`, by the kept features. None, and nothing is kept, where all layers
          are trained, or several sizes or mirror images predicted.
        """
        below = segmenter.below_cut(self.network, self._config.trainable_layers)
        if below is None or self.flip or len(self.sizes) > 1:
            return None
        directory = feature_cache.cache_directory(
            pathlib.Path(run_dir) / layout.FEATURES, below, self.normalization, size=self.sizes[0],
            dataset=split.dataset, precision=self._config.precision)
        features = feature_cache.FeatureCache(directory)
        features.fill(split, below, self.normalization, size=self.sizes[0])
        above = segmenter.above_cut(self.network, self._config.trainable_layers)

        @tf.function(autograph=False, reduce_retracing=True)
        def predicted(kept: tf.Tensor, shape: tf.Tensor) -> tf.Tensor:
            return segmenter.merge(segmenter.grids(above, [tf.cast(kept, tf.float32)[None]], flip=False), shape)[0]

        return lambda image_id, image: predicted(features.load(image_id), tf.constant(image.shape[:2])).numpy()

    def labels(self, image: np.ndarray, spec: crf.CRFSpec | None = crf.DSRG_TEST) -> np.ndarray:
        """Returns `[h, w]` uint8 class ids of a photograph, refined by the dense CRF unless `spec` is None."""
        return crf.refine(image, self(image), spec).argmax(-1).astype(np.uint8)

    def overlay(self, image: np.ndarray, spec: crf.CRFSpec | None = crf.DSRG_TEST) -> np.ndarray:
        """Returns `[h, w, 3]` uint8, the photograph with its labels' colours laid over it; see `labels`."""
        return images.overlay(image, self.labels(image, spec))


def load_segmenter(run_dir: str | pathlib.Path, stage_name: str | None = None, *,
                   sizes: tuple[int, ...] | None = None, flip: bool | None = None) -> Predictor:
    """Loads the trained segmenter of a run as a function of photographs.

    Args:
      run_dir: the run's directory.
      stage_name: directory of the segmenter below it; None: the last finished round's.
      sizes: see `Predictor`.
      flip: see `Predictor`.

    Raises:
      FileNotFoundError: no segmenter has finished there.
    """
    return Predictor(last_stage(run_dir, stage_name), sizes, flip)


def last_stage(run_dir: str | pathlib.Path, stage_name: str | None = None) -> pathlib.Path:
    """Returns the directory of the run's segmenter: `stage_name`, or else the last finished round."""
    run_dir = pathlib.Path(run_dir)
    if stage_name is not None:
        return run_dir / stage_name
    first_round, second_round = run_dir / layout.SEGMENTER, run_dir / layout.retrained(layout.SEGMENTER)
    label_settings = run_dir / layout.labels_of(layout.SEGMENTER) / layout.SETTINGS
    if artifacts.read_run(second_round) is None:
        return first_round
    run = artifacts.read_run(first_round)
    stale = run and label_settings.exists() and artifacts.read_json(label_settings)["segmenter"] != run["finished"]
    return first_round if stale else second_round  # stale: the second round learned from an earlier first one


def made_by(directory: str | pathlib.Path) -> str | None:
    """Returns when the segmenter was finished that made the predictions in a directory; None where none are."""
    run = artifacts.read_run(directory)
    return None if run is None else run.get("segmenter")


def restrict(probs: np.ndarray, tags: np.ndarray) -> np.ndarray:
    """Leaves the probabilities `[h, w, classes]` of background and the image's own classes; they sum to 1 again."""
    kept = np.maximum(probs, crf.FLOOR) * np.concatenate([[1.0], tags]).astype(probs.dtype)
    return kept / kept.sum(-1, keepdims=True)


def outputs(name: str, spec: crf.CRFSpec | None = None,
            further: Iterable[str] = ()) -> dict[str, crf.CRFSpec | None]:
    """Returns the directories for label images, in order: dict of name -> `crf.CRFSpec`, None for the plain ones.

    Args:
      name: of the plain ones; `<name>_crf` has those refined with `spec`.
      spec: a `crf.CRFSpec`, or None.
      further: keys of `crf.SPECS`: more parameters to refine with, in `<name>_crf_<key>`.
    """
    specs: dict[str, crf.CRFSpec | None] = {name: None}
    if spec is not None:
        specs[layout.refined(name)] = spec
    return {**specs, **{layout.refined(name, key): crf.SPECS[key] for key in further}}


@dataclasses.dataclass(frozen=True)
class Options:
    """How a split is predicted.

    Attributes:
      spec: see `outputs`.
      further: see `outputs`.
      sizes: see `Predictor`.
      flip: see `Predictor`.
      use_tags: restrict the classes to the image's tags (for training images only).
      backend: of the CRFs.
      keep_features: see `Predictor.of_split`.
    """

    spec: crf.CRFSpec | None = None
    further: tuple[str, ...] = ()
    sizes: tuple[int, ...] | None = None
    flip: bool | None = None
    use_tags: bool = False
    backend: str = "permutohedral"
    keep_features: bool = False


def settings_of(segmenter: Mapping[str, Any], split: datasets.Split, options: Options,
                name: str) -> dict[str, dict[str, Any]]:
    """Returns {output: what its predictions are made with}, by which they are known again; see `outputs`.

    Args:
      segmenter: run.json of a finished segmenter.
      split: `datasets.Split`.
      options: `Options` with sizes and flip.
      name: see `outputs`.
    """
    plain = {"stage": "predictions", "segmenter": segmenter["finished"], "fingerprint": split.fingerprint,
             "sizes": list(options.sizes or ()), "flip": options.flip, "use_tags": options.use_tags}
    return {output: plain if spec is None else {**plain, "crf": dataclasses.asdict(spec), "backend": options.backend}
            for output, spec in outputs(name, options.spec, options.further).items()}


def predict_split(run_dir: str | pathlib.Path, split: datasets.Split, options: Options = Options(), *,
                  stage_name: str | None = None, name: str = layout.PREDICTIONS,
                  shard: shards.Shard = shards.WHOLE) -> None:
    """Writes `<run_dir>/<output>/<image id>.png` for each of `outputs`; what is there is not made again.

    The network sees each image once, whatever the number of CRFs. Each `run.json` has the median "seconds_per_image"
    of the images made in the last call that made some: of the network, with "kept_features" of the layers above them,
    and of each CRF alone.

    Args:
      run_dir: the run's directory.
      split: `datasets.Split`.
      options: `Options`.
      stage_name: directory of the segmenter below run_dir, None for the last finished round's.
      name: see `outputs`.
      shard: (index, count): only every count-th image, see shards.py; without run.json.

    Raises:
      FileNotFoundError: no segmenter has finished there.
      UserError: the segmenter knows other classes than the split, or other settings were used here before.
    """
    run_dir = pathlib.Path(run_dir)
    segmenter_dir = last_stage(run_dir, stage_name)
    predictor = Predictor(segmenter_dir, options.sizes, options.flip)
    datasets.check_classes(split, predictor.class_names, segmenter_dir)
    specs = outputs(name, options.spec, options.further)
    settings = settings_of(predictor.run, split, dataclasses.replace(options, sizes=predictor.sizes,
                                                                     flip=predictor.flip), name)
    spent: dict[str, list[float]] = {output: [] for output in specs}
    kept = None

    def facts(directory: pathlib.Path) -> dict[str, Any] | None:
        seconds = spent[directory.name]
        if not seconds and artifacts.read_run(directory) is not None:
            return None
        return {"seconds_per_image": float(np.median(seconds)) if seconds else None, "kept_features": kept is not None}

    def work(pending: Sequence[int]) -> Iterator[int]:
        nonlocal kept
        if options.keep_features and pending:
            kept = predictor.of_split(split.select(pending), run_dir)
        answer = kept or (lambda _, image: predictor(image))
        for index in pending:
            _predict(run_dir, answer, split[index], specs, options, spent)
            yield index

    stage.run_per_image(
        {run_dir / output: settings[output] for output in specs}, split, shard=shard, work=work, facts=facts,
        files=lambda image_id: [layout.label_image(run_dir / output, image_id) for output in specs])


def _predict(run_dir: pathlib.Path, answer: Callable[[str, np.ndarray], np.ndarray], example: dict[str, Any],
             specs: Mapping[str, crf.CRFSpec | None], options: Options, spent: dict[str, list[float]]) -> None:
    """Predicts one image and writes the label images that are missing; adds the seconds to `spent`."""
    image = images.decode_image_op(example["image"]).numpy()
    started = time.perf_counter()
    probs = answer(example["image_id"], image)
    probs = restrict(probs, example["tags"]) if options.use_tags else probs
    network_seconds = time.perf_counter() - started
    for output, spec in specs.items():
        path = layout.label_image(run_dir / output, example["image_id"])
        if spec is None:
            spent[output].append(network_seconds)
        if record.has_size(path):  # else it is missing, or damaged
            continue
        refined = probs
        if spec is not None:
            started = time.perf_counter()
            refined = crf.refine(image, probs, spec, options.backend)
            spent[output].append(time.perf_counter() - started)
        labels.write_label(path, refined.argmax(-1))
