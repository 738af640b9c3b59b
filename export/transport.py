"""Requests to TensorFlow Serving over gRPC or REST: deadlines, retries, no 4 MB limit. Nothing of the model."""

import base64
import http.client
import json
import random
import time
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from typing import Any

import grpc
import numpy as np
import tensorflow as tf
from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc

MAX_MESSAGE = 2**31 - 1
Tensors = Mapping[str, np.ndarray | list[bytes]]
_RETRIED = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.RESOURCE_EXHAUSTED)
_RETRIED_HTTP = (429, 502, 503, 504)


class ServerError(Exception):
    """The server refused a request, or could not be reached before the deadline; the message holds its answer."""


class Client:
    """Asks one model of one server; safe to use from several threads.

    Args:
      server: "host:port" for gRPC, "http://host:port" (or https) for REST.
      model: its name in the server.
      version: integer, or a label such as "stable", or None for the server's choice.
      deadline: seconds for one request, its retries included.
      attempts: how often a request is sent at most; only an unreachable or overloaded server is asked again.
    """

    def __init__(self, server: str, model: str = "ficklenet", version: int | str | None = None,
                 deadline: float = 60.0, attempts: int = 4) -> None:
        self.model, self.version, self.deadline, self.attempts = model, version, deadline, attempts
        self._rest = server.rstrip("/") if server.startswith(("http://", "https://")) else None
        self._channel: grpc.Channel | None = None
        self._stub: Any = None  # generated code, which has no types
        if self._rest is None:
            self._channel = grpc.insecure_channel(server, options=[
                ("grpc.max_send_message_length", MAX_MESSAGE), ("grpc.max_receive_message_length", MAX_MESSAGE)])
            self._stub = prediction_service_pb2_grpc.PredictionServiceStub(self._channel)

    def __enter__(self) -> "Client":
        """Returns the client."""
        return self

    def __exit__(self, *_: object) -> None:
        """Closes the connection."""
        if self._channel is not None:
            self._channel.close()

    def predict(self, signature: str, inputs: Tensors, outputs: Sequence[str] = ()) -> dict[str, np.ndarray]:
        """Asks a signature.

        Args:
          signature: its name.
          inputs: {name: array with a leading batch axis}; bytes as a list.
          outputs: names to send back; empty: all. REST sends all in any case.

        Returns:
          {name: array}; bytes as an `[n]` object array.

        Raises:
          ServerError: see there.
        """
        ask = self._ask_grpc if self._rest is None else self._ask_rest
        end, reason = time.monotonic() + self.deadline, "no answer"
        for attempt in range(self.attempts):
            left = end - time.monotonic()
            if left <= 0:
                break
            try:
                return ask(signature, inputs, outputs, left)
            except _TryAgain as error:
                reason = str(error)
                if attempt + 1 < self.attempts:
                    wait = min(0.1 * 2**attempt * random.uniform(0.5, 1.5), end - time.monotonic())
                    time.sleep(max(0.0, wait))
        raise ServerError(f"{signature}: no answer within {self.deadline:g} s and {self.attempts} attempts: {reason}")

    def _ask_grpc(self, signature: str, inputs: Tensors, outputs: Sequence[str],
                  left: float) -> dict[str, np.ndarray]:
        request = predict_pb2.PredictRequest(output_filter=outputs)
        request.model_spec.name, request.model_spec.signature_name = self.model, signature
        if isinstance(self.version, int):
            request.model_spec.version.value = self.version
        elif self.version is not None:
            request.model_spec.version_label = self.version
        for name, value in inputs.items():
            request.inputs[name].CopyFrom(tf.make_tensor_proto(value))
        try:
            answer = self._stub.Predict(request, timeout=left)
        except grpc.RpcError as error:
            if error.code() in _RETRIED:
                raise _TryAgain(f"{error.code().name}: {error.details()}") from error
            raise ServerError(f"{signature}: {error.code().name}: {error.details()}") from error
        return {name: tf.make_ndarray(value) for name, value in answer.outputs.items()}

    def _ask_rest(self, signature: str, inputs: Tensors, outputs: Sequence[str],
                  left: float) -> dict[str, np.ndarray]:
        place = {int: f"/versions/{self.version}", str: f"/labels/{self.version}"}.get(type(self.version), "")
        names, columns = list(inputs), [_as_json(value) for value in inputs.values()]
        instances = [dict(zip(names, row, strict=True)) for row in zip(*columns, strict=True)]
        request = urllib.request.Request(
            f"{self._rest}/v1/models/{self.model}{place}:predict", method="POST",
            data=json.dumps({"signature_name": signature, "instances": instances}).encode(),
            headers={"Content-Type": "application/json"})
        try:
            with urllib.request.urlopen(request, timeout=left) as response:
                rows = json.load(response)["predictions"]
        except urllib.error.HTTPError as error:
            text = error.read().decode(errors="replace")[:500]
            if error.code in _RETRIED_HTTP:
                raise _TryAgain(f"HTTP {error.code}: {text}") from error
            raise ServerError(f"{signature}: HTTP {error.code}: {text}") from error
        except (OSError, http.client.HTTPException, json.JSONDecodeError, KeyError) as error:
            raise _TryAgain(f"{type(error).__name__}: {error}") from error
        return _columns(rows)


class _TryAgain(Exception):
    """What a second attempt may cure."""


def _as_json(value: np.ndarray | list[bytes]) -> list[Any]:
    """One JSON value per row: bytes by {"b64": ...}, numbers as nested lists."""
    if isinstance(value, np.ndarray) and value.dtype != object:
        return value.tolist()
    return [{"b64": base64.b64encode(row).decode()} for row in value]


def _columns(rows: list[dict[str, Any]]) -> dict[str, np.ndarray]:
    """Turns REST's predictions, one dict per row, into {name: array}; "..._bytes" come as {"b64": ...}."""
    tensors = {}
    for name in rows[0]:
        values = [row[name] for row in rows]
        if name.endswith("_bytes"):
            tensors[name] = np.empty(len(values), object)
            tensors[name][:] = [base64.b64decode(value["b64"]) for value in values]
        else:
            tensors[name] = np.array(values)
    return tensors
