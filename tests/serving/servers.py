"""A stand-in for tensorflow_model_server that keeps its rules, over gRPC (the real protos) and HTTP.

Written from TensorFlow Serving's sources (server_core.cc, get_model_status_impl.cc, json_tensor.cc and
batching_session.cc) and from what the real server did. Versions: only those that models.config lists, loaded one
after another; a label is taken where its version is available, at the first start too, unless `allow_labels` is
given, which covers labels that point to no other version; one label that is refused refuses the whole config; the
greatest available version answers requests without a label. Requests: every input of the signature is required and no
other is taken; shapes are not looked at; in JSON a number is cast to uint8 as C does; in the row form every input and
output has a batch axis, bytes come and go as {"b64": ...}. Status does not look at labels, metadata do.
"""

import base64
import concurrent.futures
import contextlib
import http.server
import json
import pathlib
import re
import threading
import time

import grpc
import numpy as np
import tensorflow as tf
from google.protobuf import text_format
from tensorflow_serving.apis import (
    get_model_metadata_pb2,
    get_model_status_pb2,
    model_management_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
)
from tensorflow_serving.config import model_server_config_pb2

from export import transport

CODE = grpc.StatusCode
_HTTP = {CODE.INVALID_ARGUMENT: 400, CODE.NOT_FOUND: 404, CODE.FAILED_PRECONDITION: 400, CODE.RESOURCE_EXHAUSTED: 429,
         CODE.UNAVAILABLE: 503, CODE.DEADLINE_EXCEEDED: 504}
START, LOADING, AVAILABLE, END = 10, 20, 30, 50


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
            raise Refused(CODE.FAILED_PRECONDITION, f'Serving signature key "{name}" not found.')
        return self.signatures[name]

    def run(self, name, inputs, outputs=()):
        """Answers {input: array}; refuses what TensorFlow Serving refuses, and leaves the rest to the graph."""
        signature = self.signature(name)
        if set(inputs) != set(signature.inputs):
            raise Refused(CODE.INVALID_ARGUMENT,
                          f"input size does not match signature: sent {{{','.join(sorted(inputs))}}}, signature "
                          f"{{{','.join(sorted(signature.inputs))}}}")
        unknown = set(outputs) - set(signature.outputs)
        if unknown:
            raise Refused(CODE.INVALID_ARGUMENT, f"output tensor alias not found in signature: {unknown}")
        names, tensor = list(outputs or signature.outputs), self.session.graph.get_tensor_by_name
        feeds = {tensor(signature.inputs[key].name).ref(): np.asarray(value) for key, value in inputs.items()}
        fetches = [tensor(signature.outputs[key].name) for key in names]
        try:  # Session.run would look at shapes and cast, which the server does not
            return dict(zip(names, self.session._do_run(None, [], fetches, feeds, None, None), strict=True))
        except tf.errors.InvalidArgumentError as error:
            raise Refused(CODE.INVALID_ARGUMENT, str(error)) from error


class Versions:
    """What the server has loaded, and how a config changes it.

    Args:
      models: {version: `Model`} that are loaded from the start.
      labels: {label: version}; None: none were ever set.
      base_paths: {base_path of models.config: the directory on this machine}.
      load_seconds: how long loading takes beside the loading itself.
      allow_labels: --allow_version_labels_for_unavailable_models.
      loader: function of a version's directory.
    """

    def __init__(self, models=(), labels=None, base_paths=(), load_seconds=0.0, allow_labels=False, loader=Model):
        self.models, self.labels, self.base_paths = dict(models), labels, dict(base_paths)
        self.states = {version: (AVAILABLE, "") for version in self.models}
        self.load_seconds, self.allow_labels, self.loader = load_seconds, allow_labels, loader
        self.look_seconds, self._under_way = 0.3, set()
        self.refused, self._lock, self._loading, self._failed = [], threading.RLock(), None, set()

    def reload(self, config, wait=False):
        """Takes a ModelServerConfig, or refuses it whole."""
        with self._lock:
            [model] = config.model_config_list.config
            if not model.base_path.startswith("/"):
                raise Refused(CODE.INVALID_ARGUMENT, f"Expected model {model.name} to have an absolute path or URI")
            for label, version in model.version_labels.items():
                before = (self.labels or {}).get(label)
                allowed = self.allow_labels and before in (None, version)
                if not allowed and self.states.get(version, (None,))[0] != AVAILABLE:
                    raise Refused(CODE.FAILED_PRECONDITION, f"Request to assign label to version {version} of model "
                                  f"{model.name}, which is not currently available for inference")
            self.labels = dict(model.version_labels)
            directory = pathlib.Path(self.base_paths.get(model.base_path, model.base_path))
            wanted = [version for version in model.model_version_policy.specific.versions
                      if (directory / str(version)).is_dir()]
            for version in [version for version in self.models if version not in wanted]:
                if len(self.models) > 1:  # its policy keeps the last one
                    del self.models[version]
                    self.states[version] = END, ""
            self._failed &= set(wanted)  # what failed is tried again only after it was taken off the list
            new = [version for version in wanted
                   if version not in self._failed | self._under_way and version not in self.models]
            self._under_way |= set(new)
            self._loading = threading.Thread(target=self._load, args=(directory, new), daemon=True)
            self._loading.start()
        if wait:
            self._loading.join()

    def _load(self, directory, versions):
        time.sleep(self.look_seconds)  # until it looks at the directory; so long an earlier state stands
        for version in versions:
            self.states[version] = LOADING, ""
            time.sleep(self.load_seconds)
            try:
                loaded = self.loader(directory / str(version))
            except Exception as error:
                self._failed.add(version)
                self._under_way.discard(version)
                self.states[version] = END, f"{type(error).__name__}: {error}"[:200]
                continue
            with self._lock:
                self._under_way.discard(version)
                self.models[version], self.states[version] = loaded, (AVAILABLE, "")

    def find(self, spec):
        """Returns (version, `Model`) for a ModelSpec, or refuses."""
        with self._lock:
            if spec.name != "ficklenet":
                raise Refused(CODE.NOT_FOUND, f"Servable not found for request: Latest({spec.name})")
            kind = spec.WhichOneof("version_choice")
            version = max(self.models, default=None) if kind is None else spec.version.value
            if kind == "version_label":
                if self.labels is None:
                    raise Refused(CODE.UNAVAILABLE, f"Model labels does not init yet.{spec.version_label}")
                if spec.version_label not in self.labels:
                    raise Refused(CODE.INVALID_ARGUMENT,
                                  f"Unrecognized servable version label: {spec.version_label}")
                version = self.labels[spec.version_label]
            if version not in self.models:
                raise Refused(CODE.NOT_FOUND, f"Servable not found for request: Specific({spec.name}, {version})")
            return version, self.models[version]

    def status(self, spec):
        """Returns a GetModelStatusResponse; a label is not looked at."""
        if spec.name != "ficklenet" or not self.states:
            raise Refused(CODE.NOT_FOUND, f"Could not find any versions of model {spec.name}")
        wanted = [spec.version.value] if spec.HasField("version") else sorted(self.states, reverse=True)
        answer = get_model_status_pb2.GetModelStatusResponse()
        for version in wanted:
            if version not in self.states:
                raise Refused(CODE.NOT_FOUND, f"Could not find version {version} of model {spec.name}")
            state, error = self.states[version]
            row = answer.model_version_status.add(version=version, state=state)
            row.status.error_message, row.status.error_code = error, 13 if error else 0
        return answer


class Batcher:
    """Puts requests for one signature that come within a moment into one batch, as --enable_batching does.

    Requests for some of its outputs go past it: the server looks for a signature of just these inputs and outputs.

    Args:
      model: a `Model`.
      most: max_batch_size.
    """

    SECONDS = 0.05  # batch_timeout_micros

    def __init__(self, model, most):
        self.model, self.most, self._lock, self._waiting = model, most, threading.Lock(), {}

    def run(self, name, inputs, outputs=()):
        """As `Model.run`."""
        if outputs and set(outputs) != set(self.model.signature(name).outputs):
            return self.model.run(name, inputs, outputs)
        count = len(next(iter(inputs.values())))
        if count > self.most:
            raise Refused(CODE.INVALID_ARGUMENT,
                          f"Task size {count} is larger than maximum input batch size {self.most}")
        future = concurrent.futures.Future()
        with self._lock:
            waiting = self._waiting.setdefault(name, [])
            if waiting and sum(len(next(iter(each.values()))) for each, _ in waiting) + count > self.most:
                self._flush(name)
                waiting = self._waiting.setdefault(name, [])
            waiting.append((inputs, future))
            if len(waiting) == 1:
                threading.Timer(self.SECONDS, lambda: self._flush(name, self._lock)).start()
        answer = future.result()
        return answer

    def _flush(self, name, lock=None):
        with lock or contextlib.nullcontext():
            tasks = self._waiting.pop(name, [])
        threading.Thread(target=self._answer, args=(name, tasks), daemon=True).start()

    def _answer(self, name, tasks):
        try:
            if len({tuple((key, np.shape(value)[1:]) for key, value in sorted(inputs.items()))
                    for inputs, _ in tasks}) > 1:
                raise Refused(CODE.FAILED_PRECONDITION, "Tensors with name 'images' from different tasks have "
                              "different shapes and padding is turned off.")
            if not tasks:
                return
            joined = {key: np.concatenate([inputs[key] for inputs, _ in tasks]) for key in tasks[0][0]}
            answer, start = self.model.run(name, joined), 0
            for inputs, future in tasks:
                end = start + len(next(iter(inputs.values())))
                future.set_result({key: value[start:end] for key, value in answer.items()})
                start = end
        except Exception as error:
            for _, future in tasks:
                future.set_exception(error)


class _Service:
    """Both protocols' common part: counts requests, answers with `failures` first."""

    def __init__(self, versions, failures=(), batch=None):
        self.versions, self.failures, self.num_requests = versions, list(failures), 0
        self.batch, self._batchers = batch, {}

    def runner(self, spec):
        """Returns (version, what runs it)."""
        version, model = self.versions.find(spec)
        if self.batch is None:
            return version, model
        return version, self._batchers.setdefault(version, Batcher(model, self.batch))


class _Prediction(prediction_service_pb2_grpc.PredictionServiceServicer):
    def __init__(self, service):
        self.service = service

    def Predict(self, request, context):  # noqa: N802, the service's own name
        self.service.num_requests += 1
        if self.service.failures:
            failure = self.service.failures.pop(0)
            context.abort(*(failure if isinstance(failure, tuple) else (failure, "not now")))
        spec = request.model_spec
        try:
            version, model = self.service.runner(spec)
            inputs = {key: tf.make_ndarray(value) for key, value in request.inputs.items()}
            outputs = model.run(spec.signature_name or "serving_default", inputs, request.output_filter)
        except Refused as error:
            context.abort(error.code, str(error)[:1000])
        answer = predict_pb2.PredictResponse()
        answer.model_spec.name, answer.model_spec.version.value = spec.name, version
        for key, value in outputs.items():
            answer.outputs[key].CopyFrom(_as_proto_field(value))
        return answer

    def GetModelMetadata(self, request, context):  # noqa: N802
        try:
            version, _ = self.service.versions.find(request.model_spec)
        except Refused as error:
            context.abort(error.code, str(error))
        answer = get_model_metadata_pb2.GetModelMetadataResponse()
        answer.model_spec.name, answer.model_spec.version.value = request.model_spec.name, version
        return answer


def _as_proto_field(value):
    """As the server sends tensors by default: in the field of their type, not as raw bytes."""
    if value.dtype == object or value.size < 2:
        return tf.make_tensor_proto(value)
    kind = tf.as_dtype(value.dtype)
    proto = tf.make_tensor_proto(value[..., :0])
    proto.tensor_shape.CopyFrom(tf.TensorShape(value.shape).as_proto())
    field = {"float32": "float_val", "bool": "bool_val", "int64": "int64_val"}.get(kind.name, "int_val")
    getattr(proto, field).extend(value.ravel().tolist())
    return proto


class _Models(model_service_pb2_grpc.ModelServiceServicer):
    def __init__(self, service):
        self.service = service

    def GetModelStatus(self, request, context):  # noqa: N802
        try:
            return self.service.versions.status(request.model_spec)
        except Refused as error:
            context.abort(error.code, str(error))

    def HandleReloadConfigRequest(self, request, context):  # noqa: N802
        try:
            self.service.versions.reload(request.config)
        except Refused as error:
            context.abort(error.code, str(error))
        return model_management_pb2.ReloadConfigResponse()


@contextlib.contextmanager
def serve_grpc(versions, failures=(), *, batch=None, threads=16, port=0):
    """Serves `Versions` or one `Model`; yields ("localhost:port", service). It answers with `failures` first.

    Args:
      versions: what to serve.
      failures: status codes.
      batch: max_batch_size, where batching is on.
      threads: --grpc_max_threads; more requests at once are RESOURCE_EXHAUSTED.
      port: 0: a free one.
    """
    service = _Service(_versions(versions), failures, batch)
    server = grpc.server(concurrent.futures.ThreadPoolExecutor(threads), maximum_concurrent_rpcs=threads, options=[
        ("grpc.max_send_message_length", transport.MAX_MESSAGE), ("grpc.so_reuseport", 0),
        ("grpc.max_receive_message_length", transport.MAX_MESSAGE)])
    prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(_Prediction(service), server)
    model_service_pb2_grpc.add_ModelServiceServicer_to_server(_Models(service), server)
    port = server.add_insecure_port(f"127.0.0.1:{port}")
    server.start()
    try:
        yield f"127.0.0.1:{port}", service
    finally:
        server.stop(None).wait()


def _versions(versions):
    return Versions({1: versions}, {"stable": 1}) if isinstance(versions, Model) else versions


@contextlib.contextmanager
def polling(versions, path, seconds=0.1):
    """Reads models.config at the start and again and again; a first one that is refused ends the server's start."""
    def config():
        return text_format.Parse(pathlib.Path(path).read_text(), model_server_config_pb2.ModelServerConfig())

    versions.reload(config(), wait=True)
    ended = threading.Event()

    def poll():
        while not ended.wait(seconds):
            try:
                versions.reload(config())
            except Refused as error:
                versions.refused.append(str(error))

    thread = threading.Thread(target=poll, daemon=True)
    thread.start()
    try:
        yield versions
    finally:
        ended.set()
        thread.join()


class _Handler(http.server.BaseHTTPRequestHandler):
    _PLACE = re.compile(r"/v1/models/(\w+)(?:/versions/(\d+)|/labels/(\w+))?(:predict|/metadata)?")

    def do_POST(self):  # noqa: N802, the base class' name
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.server.service.failures:
            return self._send(self.server.service.failures.pop(0), {"error": "not now"})
        self._answer(lambda: self._predict(body))

    def do_GET(self):  # noqa: N802
        def answer():
            spec, method = self._spec()
            if method:
                version, _ = self.server.service.versions.find(spec)
                return {"model_spec": {"name": spec.name, "signature_name": "", "version": str(version)}}
            rows = self.server.service.versions.status(spec).model_version_status
            names = {START: "START", LOADING: "LOADING", AVAILABLE: "AVAILABLE", END: "END"}
            return {"model_version_status": [
                {"version": str(row.version), "state": names[row.state],
                 "status": {"error_code": "OK" if not row.status.error_code else "INTERNAL",
                            "error_message": row.status.error_message}} for row in rows]}
        self._answer(answer)

    def _answer(self, function):
        try:
            self._send(200, function())
        except Refused as error:
            self._send(_HTTP[error.code], {"error": str(error)})

    def _spec(self):
        place = self._PLACE.fullmatch(self.path)
        if not place:
            raise Refused(CODE.INVALID_ARGUMENT, f"Malformed request: {self.command} {self.path}")
        spec = predict_pb2.PredictRequest().model_spec
        spec.name = place[1]
        if place[2]:
            spec.version.value = int(place[2])
        elif place[3]:
            spec.version_label = place[3]
        return spec, place[4]

    def _predict(self, body):
        (spec, _), request = self._spec(), json.loads(body)
        _, model = self.server.service.runner(spec)
        name = request.get("signature_name", "serving_default")
        signature = model.signature(name) if isinstance(model, Model) else model.model.signature(name)
        if "inputs" in request:
            given = request["inputs"]
            given = given if isinstance(given, dict) else dict.fromkeys(signature.inputs, given)
            if set(given) != set(signature.inputs):
                raise Refused(CODE.INVALID_ARGUMENT, f"Missing 'inputs' key: expected {sorted(signature.inputs)}")
            outputs = model.run(name, {key: _column(given[key], info) for key, info in signature.inputs.items()})
            columns = {key: _plain(value, key) for key, value in outputs.items()}
            return {"outputs": columns if len(columns) > 1 else next(iter(columns.values()))}
        rows = [row if isinstance(row, dict) else dict.fromkeys(signature.inputs, row) for row in request["instances"]]
        for row in rows:
            if set(row) != set(signature.inputs):
                raise Refused(CODE.INVALID_ARGUMENT,
                              f"Failed to process element: expected {sorted(signature.inputs)}, found {sorted(row)}")
        return {"predictions": _rows(model.run(name, {key: _column([row[key] for row in rows], info)
                                                      for key, info in signature.inputs.items()}), len(rows))}

    def _send(self, code, value):
        data = json.dumps(value).encode()
        self.send_response(code)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_):
        """Says nothing."""


def _column(values, info):
    dtype = tf.as_dtype(info.dtype)
    if dtype == tf.string:
        return np.array([base64.b64decode(value["b64"]) for value in values], object)
    try:
        numbers = np.array(values)
        if numbers.dtype.kind == "f" and dtype.is_integer:
            raise TypeError("a number with a fraction")
        return numbers.astype(dtype.as_numpy_dtype)  # 300 becomes 44 as a uint8, -1 becomes 255
    except (ValueError, TypeError, OverflowError) as error:
        raise Refused(CODE.INVALID_ARGUMENT, f"JSON value is no {dtype.name}: {error}") from error


def _plain(value, key):
    if value.dtype == object and not key.endswith("_bytes"):
        raise Refused(CODE.INVALID_ARGUMENT, f"{key}: bytes that are no text, and no name in _bytes")
    return [{"b64": base64.b64encode(row).decode()} for row in value] if value.dtype == object else value.tolist()


def _rows(outputs, count):
    rows = [{} for _ in range(count)]
    for key, value in outputs.items():
        if not value.ndim or len(value) != count:
            raise Refused(CODE.INVALID_ARGUMENT, f"Tensor name: {key} has inconsistent batch size")
        for row, element in zip(rows, _plain(value, key), strict=True):
            row[key] = element
    return rows


@contextlib.contextmanager
def serve_http(versions, failures=(), *, batch=None):
    """Serves `Versions` or one `Model` on a free port; yields "http://localhost:port"; `failures`: HTTP codes."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    server.service = _Service(_versions(versions), failures, batch)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
