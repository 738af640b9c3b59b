"""Warm-up: real requests in the file that TensorFlow Serving replays before it serves a version."""

import io
import pathlib

import numpy as np
import tensorflow as tf
from PIL import Image
from tensorflow_serving.apis import predict_pb2, prediction_log_pb2

PATH = "assets.extra/tf_serving_warmup_requests"


def request(signature, tensors, name="ficklenet"):
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


def photograph(side):
    """Returns `[side, side, 3]` uint8: a smooth gradient with some texture, no one's picture."""
    y, x = np.mgrid[:side, :side] / max(side, 2)
    waves = [np.sin(k * (x + k * y) + k) for k in (3, 5, 7)]
    return np.uint8(127 + 100 * np.stack(waves, -1))


def examples(signatures, sides):
    """Returns one request a signature and side, as a list of (signature, {input: array}).

    Args:
      signatures: as `graph_scan.signatures` describes them.
      sides: sides of the photographs.
    """
    rows = []
    for side in sides:
        image = photograph(side)
        given = {"images": image[None], "iterations": np.array([2], np.int32), "seed": np.array([[1, 2]], np.int32),
                 "num_maps": np.array([10], np.int32)}
        for name, found in signatures.items():
            if name == "serve_jpeg":
                rows += [(name, {"image": np.array([_encoded(image, kind)], object)}) for kind in ("JPEG", "PNG")]
                continue
            if "tags" in found["inputs"]:
                given["tags"] = np.ones([1, found["inputs"]["tags"]["shape"][1]], np.float32)
            rows.append((name, {key: given[key] for key in found["inputs"]}))
    return rows


def write(model_dir, rows):
    """Writes requests to `<model_dir>/assets.extra/tf_serving_warmup_requests`."""
    path = pathlib.Path(model_dir) / PATH
    path.parent.mkdir(exist_ok=True)
    with tf.io.TFRecordWriter(str(path)) as writer:
        for signature, tensors in rows:
            log = prediction_log_pb2.PredictionLog(
                predict_log=prediction_log_pb2.PredictLog(request=request(signature, tensors)))
            writer.write(log.SerializeToString())


def read(model_dir):
    """Returns the warm-up file's requests as a list of (signature, {input: array}).

    Raises:
      FileNotFoundError: there is no such file.
    """
    path, rows = pathlib.Path(model_dir) / PATH, []
    if not path.is_file():
        raise FileNotFoundError(f"{path}: expected warm-up requests, found no such file")
    for record in tf.data.TFRecordDataset(str(path)):
        log = prediction_log_pb2.PredictionLog.FromString(record.numpy())
        asked = log.predict_log.request
        rows.append((asked.model_spec.signature_name, {k: tf.make_ndarray(v) for k, v in asked.inputs.items()}))
    return rows


def _encoded(image, kind):
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, kind)
    return buffer.getvalue()
