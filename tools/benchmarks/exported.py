"""What is served against the bare network: latency, throughput, size and time to load."""

import dataclasses
import functools
import pathlib
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from ficklenet_tf.data import images
from ficklenet_tf.evaluation import prediction
from ficklenet_tf.runs import artifacts, layout, progress
from ficklenet_tf.serving import loading, model_card, signatures, verify


class Loaded:
    """A version, loaded as a server loads it; `seconds` says how long that took."""

    def __init__(self, model_dir: str | pathlib.Path) -> None:
        start = time.perf_counter()
        self._session = tf.compat.v1.Session(graph=tf.Graph())
        with self._session.graph.as_default():
            self._meta = tf.compat.v1.saved_model.loader.load(self._session, ["serve"], str(model_dir))
        self.seconds = time.perf_counter() - start

    def call(self, name: str, inputs: Mapping[str, np.ndarray],
             outputs: Collection[str] | None = None) -> dict[str, np.ndarray]:
        """Runs a signature on {input: array}; fetches `outputs`, or all."""
        signature = self._meta.signature_def[name]
        return self._session.run({key: signature.outputs[key].name for key in outputs or signature.outputs},
                                 {signature.inputs[key].name: value for key, value in inputs.items()})

    def inputs(self, name: str) -> set[str]:
        """Names of a signature's inputs; none where the version does not have it."""
        return set(self._meta.signature_def[name].inputs) if name in self._meta.signature_def else set()


def calls(loaded: Loaded, network: Callable[[tf.Tensor], tf.Tensor], settings: dict[str, Any], num_tags: int,
          photograph: np.ndarray, iterations: int, num_maps: int) -> dict[str, Callable[[], object]]:
    """Returns {name: a function that does it once} for a `[h, w, 3]` uint8 photograph.

    Args:
      loaded: a `Loaded`.
      network: the bare network, a function of a batch.
      settings: those of the export, for the sizes.
      num_tags: number of foreground classes.
      photograph: as above.
      iterations: of serve_crf.
      num_maps: of localization_maps.
    """
    sides, longest = settings["sizes"], max(photograph.shape[:2])
    if settings["size_buckets"]:  # one of them serves a photograph: the smallest that holds it
        sides = [next((side for side in settings["size_buckets"] if side >= longest), settings["size_buckets"][-1])]
    views = [tf.zeros([1 + settings["flip"], side, side, 3]) for side in sides]
    tensors = {"images": photograph[None], "image": np.array([verify.encode(photograph)], object),
               "iterations": np.array([iterations], np.int32), "tags": np.eye(1, num_tags, dtype=np.float32),
               "seed": np.array([[1, 2]], np.int32), "num_maps": np.array([num_maps], np.int32)}
    functions: dict[str, Callable[[], object]] = {
        "bare network": lambda: [network(view).numpy() for view in views]}
    for name in ("serving_default", "serve_jpeg", "serve_crf", "localization_maps"):
        if loaded.inputs(name):
            inputs = {key: tensors[key] for key in loaded.inputs(name)}
            functions[name] = functools.partial(loaded.call, name, inputs)
    return functions


def measure(runs: Sequence[Mapping[str, Callable[[], object]]], count: int) -> dict[str, np.ndarray]:
    """Times functions in turns.

    Args:
      runs: list of {name: function}, one per photograph; each is called once beforehand, untimed.
      count: of timed calls of each.

    Returns:
      {name: `[count * len(runs)]` seconds}.
    """
    seconds: dict[str, list[float]] = {name: [] for name in runs[0]}
    for functions in runs:
        for function in functions.values():
            function()
        for _ in range(count):
            for name, function in functions.items():
                start = time.perf_counter()
                function()
                seconds[name].append(time.perf_counter() - start)
    return {name: np.array(values) for name, values in seconds.items()}


def table(seconds: Mapping[str, np.ndarray]) -> str:
    """Formats what `measure` returned, one line each, the bare network first."""
    bare = np.median(seconds["bare network"])
    lines = [f"{'':<18}{'p50 ms':>10}{'p99 ms':>10}{'photos/s':>10}{'over bare':>11}"]
    for name, values in seconds.items():
        p50, p99 = (1000 * np.percentile(values, q) for q in (50, 99))
        lines.append(f"{name:<18}{p50:>10.1f}{p99:>10.1f}{1 / values.mean():>10.2f}{p50 / 10 / bare - 100:>10.1f}%")
    return "\n".join(lines)


@dataclasses.dataclass(frozen=True)
class Measured:
    """What `measure_version` found: seconds per call of each signature, and the export's size and loading time."""

    seconds: dict[str, np.ndarray]
    mebibytes: float
    load_seconds: float
    sizes: tuple[int, ...]


def measure_version(run_dir: str | pathlib.Path, directory: str | pathlib.Path, photographs: Sequence[np.ndarray],
                    count: int, iterations: int, num_maps: int) -> Measured:
    """Times a version on photographs.

    Args:
      run_dir: the run's directory.
      directory: the version's.
      photographs: `[h, w, 3]` uint8 images; what is larger than serve_crf takes is shrunk.
      count: timed calls of each signature on each photograph.
      iterations: of serve_crf.
      num_maps: of localization_maps.

    Returns:
      A `Measured`.

    Raises:
      FileNotFoundError: there is no such version.
    """
    directory = pathlib.Path(directory)
    exported = artifacts.read_run(directory / model_card.DIRECTORY)
    if exported is None:
        raise FileNotFoundError(f"{directory}: expected an exported version, found none")
    settings = exported["settings"]
    model, segmenter_run, _ = loading.load_segmenter(prediction.last_stage(run_dir, settings["stage"]),
                                                     loading.Options(settings["precision"]))
    loaded, network = Loaded(directory), tf.function(lambda x: model.network(x, training=False))
    most = settings["max_pixels"] // signatures.CRF_SHARE
    fitting = [verify.fitting(photograph, most) for photograph in photographs]
    for fit, photograph in zip(fitting, photographs, strict=True):
        if fit is not photograph:
            progress.say(f"shrunk to {fit.shape[1]} x {fit.shape[0]} pixels, as serve_crf takes no more")
    size = sum(path.stat().st_size for path in directory.rglob("*") if path.is_file())
    runs = [calls(loaded, network, settings, len(segmenter_run["class_names"]) - 1, photograph, iterations, num_maps)
            for photograph in fitting]
    return Measured(measure(runs, count), size / 2**20, loaded.seconds,
                    tuple(settings["size_buckets"] or settings["sizes"]))


def run(run_dir: str | pathlib.Path, version: int, paths: Sequence[str | pathlib.Path], count: int, iterations: int,
        num_maps: int) -> str:
    """Times a version on photographs; returns what is to be printed. See `measure_version`."""
    directory = pathlib.Path(run_dir) / layout.SAVED_MODEL / str(version)
    measured = measure_version(run_dir, directory, [images.read_image(path) for path in paths], count, iterations,
                               num_maps)
    return (f"{directory}: {measured.mebibytes:.1f} MiB, loaded in {measured.load_seconds:.1f} s\n"
            f"{table(measured.seconds)}")
