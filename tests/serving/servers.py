"""A gRPC and an HTTP server over a loaded SavedModel that keep TensorFlow Serving's rules for Predict.

Written from the protos of tensorflow-serving-api and the REST API's documentation: every input of the signature is
required and no other is taken, types must fit, an unknown output is refused; in the row form ("instances") every
input and output has a batch axis, bytes come and go as {"b64": ...}, outputs of bytes by names ending in "_bytes".
"""

import base64
import concurrent.futures
import contextlib
import http.server
import json
import re
import threading

import grpc
import numpy as np
import tensorflow as tf
from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc

from export import transport

LABELS = {"stable": 1}


class Refused(Exception):
    """What the server answers with an error: a gRPC status code and a message."""

    def __init__(self, code, message):
        super().__init__(message)
        self.code = code


class Model:
    """A SavedModel, loaded as a server loads it: a graph, a session, signatures."""

    def __init__(self, model_dir):
        self.session = tf.compat.v1.Session(graph=tf.Graph())
        with self.session.graph.as_default():
            meta = tf.compat.v1.saved_model.loader.load(self.session, ["serve"], str(model_dir))
        self.signatures = dict(meta.signature_def)

    def signature(self, name):
        """Returns a SignatureDef, or refuses."""
        if name not in self.signatures:
            raise Refused(grpc.StatusCode.FAILED_PRECONDITION, f'Serving signature key "{name}" not found.')
        return self.signatures[name]

    def run(self, name, inputs, outputs=()):
        """Answers {input: array}; refuses what TensorFlow Serving refuses."""
        signature = self.signature(name)
        if set(inputs) != set(signature.inputs):
            raise Refused(grpc.StatusCode.INVALID_ARGUMENT,
                          f"input size does not match signature: sent {{{','.join(sorted(inputs))}}}, signature "
                          f"{{{','.join(sorted(signature.inputs))}}}")
        for key, value in inputs.items():
            expected, sent = tf.as_dtype(signature.inputs[key].dtype), tf.as_dtype(value.dtype)
            if expected != sent:
                raise Refused(grpc.StatusCode.INVALID_ARGUMENT, f"{key}: expected {expected.name}, found {sent.name}")
        unknown = set(outputs) - set(signature.outputs)
        if unknown:
            raise Refused(grpc.StatusCode.INVALID_ARGUMENT, f"output tensor alias not found in signature: {unknown}")
        try:
            return self.session.run({key: signature.outputs[key].name for key in outputs or signature.outputs},
                                    {signature.inputs[key].name: value for key, value in inputs.items()})
        except (tf.errors.InvalidArgumentError, ValueError) as error:
            raise Refused(grpc.StatusCode.INVALID_ARGUMENT, str(error)) from error


class _Service(prediction_service_pb2_grpc.PredictionServiceServicer):
    def __init__(self, model, failures):
        self.model, self.failures, self.num_requests = model, failures, 0

    def Predict(self, request, context):  # noqa: N802, the service's own name
        self.num_requests += 1
        if self.failures:
            context.abort(self.failures.pop(0), "not now")
        spec = request.model_spec
        try:
            _check_name(spec.name, spec.version.value or LABELS.get(spec.version_label, spec.version_label or 1))
            inputs = {key: tf.make_ndarray(value) for key, value in request.inputs.items()}
            outputs = self.model.run(spec.signature_name or "serving_default", inputs, request.output_filter)
        except Refused as error:
            context.abort(error.code, str(error)[:1000])
        answer = predict_pb2.PredictResponse(model_spec=spec)
        for key, value in outputs.items():
            answer.outputs[key].CopyFrom(tf.make_tensor_proto(value))
        return answer


def _check_name(name, version):
    if name != "ficklenet" or version != 1:
        raise Refused(grpc.StatusCode.NOT_FOUND, f"Servable not found for request: {name} {version}")


@contextlib.contextmanager
def serve_grpc(model, failures=()):
    """Serves a `Model` on a free port; yields ("localhost:port", service). It answers with `failures` first."""
    server = grpc.server(concurrent.futures.ThreadPoolExecutor(4), options=[
        ("grpc.max_send_message_length", transport.MAX_MESSAGE),
        ("grpc.max_receive_message_length", transport.MAX_MESSAGE)])
    service = _Service(model, list(failures))
    prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(service, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield f"127.0.0.1:{port}", service
    finally:
        server.stop(None)


class _Handler(http.server.BaseHTTPRequestHandler):
    def do_POST(self):  # noqa: N802, the base class' name
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.server.failures:
            return self._send(self.server.failures.pop(0), {"error": "not now"})
        try:
            self._send(200, {"predictions": self._predict(body)})
        except Refused as error:
            self._send(404 if error.code == grpc.StatusCode.NOT_FOUND else 400, {"error": str(error)})

    def _predict(self, body):
        place = re.fullmatch(r"/v1/models/(\w+)(?:/versions/(\d+)|/labels/(\w+))?:predict", self.path)
        if not place:
            raise Refused(grpc.StatusCode.NOT_FOUND, "Malformed request: POST " + self.path)
        _check_name(place[1], int(place[2] or LABELS.get(place[3], 0 if place[3] else 1)))
        request = json.loads(body)
        name, model = request.get("signature_name", "serving_default"), self.server.model
        signature = model.signature(name)
        rows = [row if isinstance(row, dict) else dict.fromkeys(signature.inputs, row) for row in request["instances"]]
        for row in rows:
            if set(row) != set(signature.inputs):
                raise Refused(grpc.StatusCode.INVALID_ARGUMENT,
                              f"Failed to process element: expected {sorted(signature.inputs)}, found {sorted(row)}")
        return _rows(model.run(name, {key: _column([row[key] for row in rows], info)
                                      for key, info in signature.inputs.items()}), len(rows))

    def _send(self, code, value):
        data = json.dumps(value).encode()
        self.send_response(code)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_):
        """Says nothing."""


def _column(values, info):
    if not info.tensor_shape.dim:
        raise Refused(grpc.StatusCode.INVALID_ARGUMENT, "instances need a batch axis on every input")
    dtype = tf.as_dtype(info.dtype)
    if dtype == tf.string:
        return np.array([base64.b64decode(value["b64"]) for value in values], object)
    try:
        if np.array(values).dtype.kind == "f" and dtype.is_integer:
            raise TypeError("a number with a fraction")
        return np.array(values, dtype.as_numpy_dtype)
    except (ValueError, TypeError, OverflowError) as error:
        raise Refused(grpc.StatusCode.INVALID_ARGUMENT, f"JSON value is no {dtype.name}: {error}") from error


def _rows(outputs, count):
    rows = [{} for _ in range(count)]
    for key, value in outputs.items():
        if not value.ndim or len(value) != count:
            raise Refused(grpc.StatusCode.INVALID_ARGUMENT, f"Tensor name: {key} has inconsistent batch size")
        if value.dtype == object and not key.endswith("_bytes"):
            raise Refused(grpc.StatusCode.INVALID_ARGUMENT, f"{key}: bytes that are no text, and no name in _bytes")
        for row, element in zip(rows, value, strict=True):
            row[key] = {"b64": base64.b64encode(element).decode()} if value.dtype == object else element.tolist()
    return rows


@contextlib.contextmanager
def serve_http(model, failures=()):
    """Serves a `Model` on a free port; yields "http://localhost:port". It answers with HTTP codes `failures` first."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    server.model, server.failures = model, list(failures)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
