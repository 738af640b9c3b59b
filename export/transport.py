"""Requests to TensorFlow Serving over gRPC or REST: deadlines, retries, no 4 MB limit. Nothing of the model.

Needs grpcio and protobuf; NumPy where numbers are sent or asked for, files of photographs need none.
"""

import http.client
import json
import random
import ssl
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import grpc

from export import messages

if TYPE_CHECKING:
    import numpy as np

MAX_MESSAGE = 2**31 - 1
STABLE = "stable"  # the label of the version that serves
Tensors = Mapping[str, "np.ndarray | list[bytes]"]
_LONGEST_WAIT = 2.0  # seconds between two attempts
_RETRIED = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.RESOURCE_EXHAUSTED)
_RETRIED_HTTP = (429, 502, 503)  # not 504: the server has worked as long as it may, and would again
_NEVER = "larger than max"  # gRPC's own limit on a message, which no waiting cures
_PREDICTION, _MODEL = "/tensorflow.serving.PredictionService/", "/tensorflow.serving.ModelService/"


class ServerError(Exception):
    """The server refused a request, or could not be reached before the deadline; the message holds its answer."""


class Client:
    """Asks one model of one server; safe to use from several threads.

    A server that cannot be reached, is overloaded or is still loading the version is asked again until the deadline.

    Args:
      server: "host:port" for gRPC, "http://host:port" (or https) for REST.
      model: its name in the server.
      version: a label such as "stable", or an integer; None for the server's choice, which is the greatest number that
        it has loaded, a canary too.
      deadline: seconds for one request, its retries included.
    """

    def __init__(self, server: str, model: str = "ficklenet", version: int | str | None = STABLE,
                 deadline: float = 60.0) -> None:
        self.model, self.version, self.deadline, self._target = model, version, deadline, server
        self._rest = server.rstrip("/") if server.startswith(("http://", "https://")) else None
        self._channel: grpc.Channel | None = None
        if self._rest is None:
            self._channel = grpc.insecure_channel(server, options=[
                ("grpc.max_send_message_length", MAX_MESSAGE), ("grpc.max_receive_message_length", MAX_MESSAGE),
                ("grpc.initial_reconnect_backoff_ms", 200), ("grpc.max_reconnect_backoff_ms", 2000)])

    def __enter__(self) -> "Client":
        """Returns the client."""
        return self

    def __exit__(self, *_: object) -> None:
        """Closes the connection."""
        if self._channel is not None:
            self._channel.close()

    @property
    def is_rest(self) -> bool:
        """Whether the server is asked over REST."""
        return self._rest is not None

    def predict(self, signature: str, inputs: Tensors, outputs: Sequence[str] = (),
                optional: Sequence[str] = ()) -> dict[str, Any]:
        """Asks a signature.

        Args:
          signature: its name.
          inputs: {name: array with a leading batch axis}; bytes as a list.
          outputs: names to send back; empty: all. REST sends all in any case.
          optional: names to take besides, where the version has them. With some, gRPC sends all too: a server refuses
            a request for an output that the version does not have, and batches only requests for all outputs.

        Returns:
          {name: array}; bytes as a list.

        Raises:
          ServerError: see there.
          ValueError: an input is of a type that cannot be sent.
        """
        ask = self._ask_grpc if self._rest is None else self._ask_rest
        return self._until_answered(signature, lambda left: ask(signature, inputs, outputs, optional, left))

    def states(self) -> dict[int, str]:
        """Returns {version: its state}, as {1: "AVAILABLE"}; of a failed one with the server's reason.

        Raises:
          ServerError: see there.
        """
        def ask(left: float) -> dict[int, str]:
            if self._rest is not None:
                rows = json.loads(self._http(f"/v1/models/{_quoted(self.model)}", None, left))["model_version_status"]
                return {int(row["version"]): _state(row["state"], row["status"]["error_message"]) for row in rows}
            request = messages.new("GetModelStatusRequest", model_spec=messages.new("ModelSpec", name=self.model))
            answer = self._call(_MODEL + "GetModelStatus", request, "GetModelStatusResponse", left)
            return {row.version: _state(messages.STATES.get(row.state, str(row.state)), row.status.error_message)
                    for row in answer.model_version_status}

        return self._until_answered("status", ask, await_loading=False)

    def version_of(self, label: str) -> int | None:
        """Returns the loaded version that a label names, None where there is no such label or it is not loaded yet.

        The server's status does not look at labels; its metadata do.

        Raises:
          ServerError: the server cannot be reached.
        """
        def ask(left: float) -> int | None:
            if self._rest is not None:
                text = self._http(f"/v1/models/{_quoted(self.model)}/labels/{_quoted(label)}/metadata", None, left)
                return int(json.loads(text)["model_spec"]["version"])
            spec = messages.new("ModelSpec", name=self.model, version_label=label)
            request = messages.new("GetModelMetadataRequest", model_spec=spec, metadata_field=["signature_def"])
            answer = self._call(_PREDICTION + "GetModelMetadata", request, "GetModelMetadataResponse", left)
            return int(answer.model_spec.version.value)

        try:
            return self._until_answered("metadata", ask, await_loading=False)
        except _Refused as error:
            if error.code in ("NOT_FOUND", "INVALID_ARGUMENT"):
                return None
            raise

    def reload(self, config: bytes) -> None:
        """Gives the server a ModelServerConfig, over gRPC, in place of waiting until it reads its file.

        Args:
          config: its bytes.

        Raises:
          ServerError: the server refuses it, or is asked over REST.
        """
        if self._rest is not None:
            raise ServerError("reload: expected gRPC, found a REST server")
        answer = self._until_answered("reload", lambda left: self._call(
            _MODEL + "HandleReloadConfigRequest", messages.new("ReloadConfigRequest", config=config),
            "ReloadConfigResponse", left))
        if answer.status.error_code:
            raise ServerError(f"reload: {answer.status.error_message}")

    def _until_answered(self, what: str, ask: Callable[[float], Any], await_loading: bool = True) -> Any:
        end, wait, reason, again = time.monotonic() + self.deadline, 0.1, "no answer", await_loading
        while (left := end - time.monotonic()) > 0:
            try:
                return ask(left)
            except _TryAgain as error:
                reason = str(error)
            except _Refused as error:
                if not (again and error.code == "NOT_FOUND"):
                    raise _Refused(f"{what}: {error}", error.code) from error
                again = self._is_loading(left)  # if not, it may have come between the two: once more
                reason = str(error)
            time.sleep(max(0.0, min(wait * random.uniform(0.5, 1.5), end - time.monotonic())))
            wait = min(2 * wait, _LONGEST_WAIT)
        raise ServerError(f"{what}: no answer within {self.deadline:g} s: {reason}")

    def _is_loading(self, left: float) -> bool:
        """Whether a version is on its way, so that what was not found may be soon."""
        with Client(self._target, self.model, None, min(2.0, left)) as other:
            try:
                return any(state in ("START", "LOADING") for state in other.states().values())
            except ServerError:
                return False

    def _call(self, method: str, request: Any, answer: str, left: float) -> Any:
        assert self._channel is not None
        call = self._channel.unary_unary(method, request_serializer=type(request).SerializeToString,
                                         response_deserializer=lambda data: messages.parse(answer, data))
        try:
            return call(request, timeout=left)
        except grpc.RpcError as error:
            text = f"{error.code().name}: {error.details()}"
            if error.code() in _RETRIED and _NEVER not in (error.details() or ""):
                raise _TryAgain(text) from error
            raise _Refused(text, error.code().name) from error

    def _http(self, place: str, body: bytes | None, left: float) -> bytes:
        request = urllib.request.Request(f"{self._rest}{place}", body, {"Content-Type": "application/json"})
        try:
            with urllib.request.urlopen(request, timeout=left) as response:
                return bytes(response.read())
        except urllib.error.HTTPError as error:
            text = f"HTTP {error.code}: {error.read().decode(errors='replace')[:500]}"
            if error.code in _RETRIED_HTTP:
                raise _TryAgain(text) from error
            raise _Refused(text, {400: "INVALID_ARGUMENT", 404: "NOT_FOUND"}.get(error.code, "")) from error
        except (OSError, http.client.HTTPException) as error:
            text = f"{type(error).__name__}: {error}"
            if isinstance(getattr(error, "reason", None), ssl.SSLCertVerificationError):
                raise _Refused(text) from error
            raise _TryAgain(text) from error

    def _ask_grpc(self, signature: str, inputs: Tensors, outputs: Sequence[str], optional: Sequence[str],
                  left: float) -> dict[str, Any]:
        spec = messages.new("ModelSpec", name=self.model, signature_name=signature)
        if isinstance(self.version, int):
            spec.version.value = self.version
        elif self.version:
            spec.version_label = self.version
        request = messages.new("PredictRequest", model_spec=spec, output_filter=[] if optional else outputs)
        for name, value in inputs.items():
            request.inputs[name].CopyFrom(messages.as_tensor(name, value))
        found = self._call(_PREDICTION + "Predict", request, "PredictResponse", left).outputs
        try:
            return {name: messages.from_tensor(found[name]) for name in messages.chosen(found, outputs, optional)}
        except KeyError as error:
            raise _Refused(f"expected {', '.join(outputs)} in the answer, found no {error}") from error

    def _ask_rest(self, signature: str, inputs: Tensors, outputs: Sequence[str], optional: Sequence[str],
                  left: float) -> dict[str, Any]:
        place = "" if not self.version else (
            f"/versions/{self.version}" if isinstance(self.version, int) else f"/labels/{_quoted(self.version)}")
        names, columns = list(inputs), [messages.as_json(value) for value in inputs.values()]
        instances = [dict(zip(names, row, strict=True)) for row in zip(*columns, strict=True)]
        body = json.dumps({"signature_name": signature, "instances": instances}).encode()
        answer = self._http(f"/v1/models/{_quoted(self.model)}{place}:predict", body, left)
        try:
            return messages.columns(json.loads(answer)["predictions"], outputs, optional)
        except (ValueError, KeyError) as error:
            wanted = ", ".join(outputs) or "predictions"
            raise _Refused(f"expected {wanted} in the answer, found no {error}") from error


class _TryAgain(Exception):
    """What a second attempt may cure."""


class _Refused(ServerError):
    """An answer that says no; `code` is gRPC's name of the reason, where it is known."""

    def __init__(self, message: str, code: str = "") -> None:
        super().__init__(message)
        self.code = code


def _quoted(part: str) -> str:
    return urllib.parse.quote(part, safe="")


def _state(name: str, reason: str) -> str:
    return f"{name}: {reason}" if reason else name
