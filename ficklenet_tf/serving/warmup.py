"""Warm-up: real requests in the file that TensorFlow Serving replays before it serves a version."""

import io
import pathlib
from collections.abc import Iterable, Mapping

import numpy as np
import tensorflow as tf
from PIL import Image
from tensorflow_serving.apis import predict_pb2, prediction_log_pb2

from ficklenet_tf.serving import bare_session, graph_scan

PATH = "assets.extra/tf_serving_warmup_requests"


def request(signature: str, tensors: Mapping[str, np.ndarray | list[bytes]],
            name: str = "ficklenet") -> predict_pb2.PredictRequest:
    """Makes a PredictRequest.

    Args:
      signature: its name.
      tensors: {input: array}; bytes as an `[n]` object array or list.
      name: of the model, as the server knows it.
    """
    message = predict_pb2.PredictRequest()
    message.model_spec.name, message.model_spec.signature_name = name, signature
    for key, value in tensors.items():
        message.inputs[key].CopyFrom(tf.make_tensor_proto(value))
    return message


def photograph(side: int) -> np.ndarray:
    """Returns `[side, side, 3]` uint8: a smooth gradient with some texture, no one's picture."""
    y, x = np.mgrid[:side, :side] / max(side, 2)
    waves = [np.sin(k * (x + k * y) + k) for k in (3, 5, 7)]
    return (127 + 100 * np.stack(waves, -1)).astype(np.uint8)


def examples(signatures: Mapping[str, graph_scan.Signature], sides: Iterable[int],
             max_pixels: int) -> list[bare_session.Message]:
    """Returns one request per signature and side, all of its outputs wanted.

    Args:
      signatures: as `graph_scan.signatures` describes them.
      sides: sides of the photographs.
      max_pixels: of a photograph; one that would have more is as wide and not as high.
    """
    requests = []
    for side in sorted({min(side, max_pixels) for side in sides}):
        image = photograph(side)[:max_pixels // side]
        tensors = {"images": image[None], "iterations": np.array([2], np.int32), "seed": np.array([[1, 2]], np.int32),
                   "num_maps": np.array([10], np.int32)}
        for name, signature in signatures.items():
            if name == "serve_jpeg":
                files = [np.array([_encoded(image, file_format)], object) for file_format in ("JPEG", "PNG")]
                requests += [bare_session.Message(name, {"image": file}) for file in files]
                continue
            if "tags" in signature["inputs"]:
                tensors["tags"] = np.ones([1, signature["inputs"]["tags"]["shape"][1]], np.float32)
            requests.append(bare_session.Message(name, {key: tensors[key] for key in signature["inputs"]}))
    return requests


def write(model_dir: str | pathlib.Path, requests: Iterable[bare_session.Message]) -> None:
    """Writes requests to `<model_dir>/assets.extra/tf_serving_warmup_requests`."""
    path = pathlib.Path(model_dir) / PATH
    path.parent.mkdir(exist_ok=True)
    with tf.io.TFRecordWriter(str(path)) as writer:
        for message in requests:
            log = prediction_log_pb2.PredictionLog(
                predict_log=prediction_log_pb2.PredictLog(request=request(message.signature, message.tensors)))
            writer.write(log.SerializeToString())


def read(model_dir: str | pathlib.Path) -> list[bare_session.Message]:
    """Returns the warm-up file's requests.

    Raises:
      FileNotFoundError: there is no such file.
    """
    path, requests = pathlib.Path(model_dir) / PATH, []
    if not path.is_file():
        raise FileNotFoundError(f"{path}: expected warm-up requests, found no such file")
    for record in tf.data.TFRecordDataset(str(path)):
        log = prediction_log_pb2.PredictionLog.FromString(record.numpy())
        message = log.predict_log.request
        requests.append(bare_session.Message(message.model_spec.signature_name, {
            name: tf.make_ndarray(proto) for name, proto in message.inputs.items()}))
    return requests


def _encoded(image: np.ndarray, file_format: str) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, file_format)
    return buffer.getvalue()
