"""Other targets than TensorFlow Serving: ONNX, OpenVINO and LiteRT, each run before it is kept.

They answer as `serving_default` does, one photograph of any size at a time: "images" `[1, h, w, 3]` uint8 ->
"labels" `[1, h, w]` uint8 and "probabilities" `[1, h, w, classes]` float32. They do not have checks of the
input, files as input, localization maps, a bound on the side (no converter has antialiased resizing), or the dense CRF
by the lattice: tf2onnx has no rule for its sparse product and bit cast. OpenVINO would compute its 64-bit keys in 32
bits; the bit cast is an error there too, which saves it from wrong labels. The exact CRF converts, for small maps.
"""

import dataclasses
import importlib
import pathlib
import tempfile
from collections.abc import Callable, Sequence
from types import ModuleType

import keras
import numpy as np
import tensorflow as tf

from ficklenet_tf.errors import UserError
from ficklenet_tf.evaluation import prediction
from ficklenet_tf.runs import artifacts
from ficklenet_tf.serving import loading, model_card, saved_model, servable, warmup

FILES = {"onnx": "model.onnx", "openvino": "model.xml", "litert": "model.tflite"}
LEAST_AGREEMENT = 0.99  # of the labels with TensorFlow's; below it the export is refused
_IMAGE = tf.TensorSpec([1, None, None, 3], tf.uint8, name="images")


def export(run_dir: str | pathlib.Path, version: int, target: str, options: loading.Options = loading.Options(), *,
           stage_name: str | None = None, photographs: Sequence[np.ndarray] = ()) -> pathlib.Path:
    """Writes `<run_dir>/<target>/<version>/` with the converted model and its card.

    Args:
      run_dir: the run's directory.
      version: integer from 1.
      target: a key of `FILES`.
      options: `loading.Options`; where it names no precision, float32.
      stage_name: directory of the segmenter below run_dir; None: the last that was trained.
      photographs: `[h, w, 3]` uint8 images for the check; without them it is done on generated ones.

    Returns:
      The version's directory.

    Raises:
      FileNotFoundError: the stage has not finished.
      UserError: the converter is missing or fails, the version is there, labels differ from TensorFlow's,
        photographs would have to be shrunk, or LiteRT is to compute in another precision than float32.
    """
    if target not in FILES:
        raise UserError(f"format: expected one of {', '.join(FILES)}, found {target!r}")
    if options.max_side or options.buckets:
        raise UserError(f"format {target}: expected neither max_side nor size_buckets, as no converter has the "
                        "antialiased resizing that they need; shrink photographs before they are sent")
    options = dataclasses.replace(options, precision=options.precision or "float32")
    if target == "litert" and options.precision != "float32":
        raise UserError(f"format litert: expected the precision float32, as its kernels know no other, found "
                        f"{options.precision}")
    run_dir = pathlib.Path(run_dir)
    directory = run_dir / target / str(int(version))
    if directory.exists():
        raise UserError(f"{directory}: expected no such version, found one; give another --version")
    model, run, precision = loading.load_segmenter(prediction.last_stage(run_dir, stage_name), options)
    photographs = photographs or [warmup.photograph(side)[: side - side // 4] for side in (61, 120)]

    def build(temporary: str) -> None:
        path = pathlib.Path(temporary) / FILES[target]
        try:
            _CONVERTERS[target](model, path)
        except Exception as error:  # converters raise many kinds
            lines = str(error).strip().splitlines() or [repr(error)]
            said = next((line for line in lines if "error:" in line), lines[-1])
            raise UserError(f"{target}: the converter failed: {said}") from error
        share = compare(path, model, photographs)
        if share < LEAST_AGREEMENT:
            raise UserError(f"{directory}: expected TensorFlow's labels, found {100 * share:.2f} % of them")
        model_card.write(temporary, {
            **model_card.make(run_dir, run, None, {"format": target, "precision": precision, "sizes": model.sizes,
                                                   "flip": model.flip}, {}),
            "agreement_with_tensorflow": {"images": len(photographs), "same_labels": share}})

    saved_model.write_whole(directory, build)
    return directory


def compare(path: str | pathlib.Path, model: servable.Segmenter, photographs: Sequence[np.ndarray]) -> float:
    """Returns the share of pixels, 0..1, whose label a converted model gives as TensorFlow does."""
    labels_of = runner(path)
    pairs = [(labels_of(image), model.probs(image[None]).numpy()[0].argmax(-1)) for image in photographs]
    for labels, expected in pairs:
        if labels.shape != expected.shape:
            raise UserError(f"{path}: expected labels of the shape {expected.shape}, found {labels.shape}")
    return float(sum((labels == expected).sum() for labels, expected in pairs)
                 / sum(expected.size for _, expected in pairs))


def runner(path: str | pathlib.Path) -> Callable[[np.ndarray], np.ndarray]:
    """Loads a converted model; returns a function of `[h, w, 3]` uint8 to `[h, w]` uint8 labels."""
    path = pathlib.Path(path)
    if path.suffix == ".onnx":
        session = _package("onnxruntime").InferenceSession(str(path), providers=["CPUExecutionProvider"])
        return lambda image: session.run(["labels"], {"images": image[None]})[0][0]
    if path.suffix == ".xml":
        # Some processors would compute in bfloat16 unless told.
        compiled = _package("openvino").Core().compile_model(str(path), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
        return lambda image: np.array(compiled({"images": image[None]})["labels"])[0]
    signature = tf.lite.Interpreter(model_path=str(path)).get_signature_runner("serving_default")
    return lambda image: signature(images=image[None])["labels"][0]


def _function(model: servable.Segmenter) -> Callable[[tf.Tensor], dict[str, tf.Tensor]]:
    def serve(images: tf.Tensor) -> dict[str, tf.Tensor]:
        probs = model.probs(images)
        return {"labels": tf.cast(tf.argmax(probs, -1, tf.int32), tf.uint8), "probabilities": probs}

    return serve


def _write_plain(model: servable.Segmenter, directory: str) -> None:
    archive = keras.export.ExportArchive()
    archive.track(model.network)
    archive.add_endpoint("serving_default", _function(model), [_IMAGE])
    archive.write_out(directory, verbose=False)


def _onnx(model: servable.Segmenter, path: pathlib.Path) -> None:
    function = tf.function(_function(model), input_signature=[_IMAGE], autograph=False)
    _package("tf2onnx").convert.from_function(function, input_signature=[_IMAGE], opset=18, output_path=str(path))


def _openvino(model: servable.Segmenter, path: pathlib.Path) -> None:
    openvino = _package("openvino")
    with tempfile.TemporaryDirectory() as directory:
        _write_plain(model, directory)
        openvino.save_model(openvino.convert_model(directory), str(path), compress_to_fp16=False)


def _litert(model: servable.Segmenter, path: pathlib.Path) -> None:
    with tempfile.TemporaryDirectory() as directory:
        _write_plain(model, directory)
        artifacts.write_bytes(path, tf.lite.TFLiteConverter.from_saved_model(directory).convert())


_CONVERTERS: dict[str, Callable[[servable.Segmenter, pathlib.Path], None]] = {
    "onnx": _onnx, "openvino": _openvino, "litert": _litert}


def _package(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise UserError(f"this format needs a package: pip install {name}") from error
