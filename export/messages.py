"""TensorFlow Serving's messages and the arrays in them, as far as a client needs them, without TensorFlow.

The published packages of these messages import TensorFlow. Here stand the same fields with the same numbers
(apis/*.proto of TensorFlow Serving, tensor.proto of TensorFlow), which is all that the wire knows, in a pool of their
own.
"""

import base64
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

if TYPE_CHECKING:
    import numpy as np

_FIELD = descriptor_pb2.FieldDescriptorProto
_TYPES = {"int32": _FIELD.TYPE_INT32, "int64": _FIELD.TYPE_INT64, "uint32": _FIELD.TYPE_UINT32,
          "uint64": _FIELD.TYPE_UINT64, "float": _FIELD.TYPE_FLOAT, "double": _FIELD.TYPE_DOUBLE,
          "bool": _FIELD.TYPE_BOOL, "string": _FIELD.TYPE_STRING, "bytes": _FIELD.TYPE_BYTES}
# Message: {field: (number, type)}; "*" before a type: repeated, "%": a map from strings.
_MESSAGES: dict[str, dict[str, tuple[int, str]]] = {
    "Dim": {"size": (1, "int64")},
    "TensorShapeProto": {"dim": (2, "*Dim"), "unknown_rank": (3, "bool")},
    "TensorProto": {
        "dtype": (1, "int32"), "tensor_shape": (2, "TensorShapeProto"), "tensor_content": (4, "bytes"),
        "float_val": (5, "*float"), "double_val": (6, "*double"), "int_val": (7, "*int32"),
        "string_val": (8, "*bytes"), "int64_val": (10, "*int64"), "bool_val": (11, "*bool"),
        "uint32_val": (16, "*uint32"), "uint64_val": (17, "*uint64")},
    "Int64Value": {"value": (1, "int64")},
    "ModelSpec": {"name": (1, "string"), "version": (2, "Int64Value"), "signature_name": (3, "string"),
                  "version_label": (4, "string")},
    "PredictRequest": {"model_spec": (1, "ModelSpec"), "inputs": (2, "%TensorProto"), "output_filter": (3, "*string")},
    "PredictResponse": {"outputs": (1, "%TensorProto"), "model_spec": (2, "ModelSpec")},
    "GetModelStatusRequest": {"model_spec": (1, "ModelSpec")},
    "StatusProto": {"error_code": (1, "int32"), "error_message": (2, "string")},
    "ModelVersionStatus": {"version": (1, "int64"), "state": (2, "int32"), "status": (3, "StatusProto")},
    "GetModelStatusResponse": {"model_version_status": (1, "*ModelVersionStatus")},
    "GetModelMetadataRequest": {"model_spec": (1, "ModelSpec"), "metadata_field": (2, "*string")},
    "GetModelMetadataResponse": {"model_spec": (1, "ModelSpec")},
    "ReloadConfigRequest": {"config": (1, "bytes")},  # a ModelServerConfig, as bytes
    "ReloadConfigResponse": {"status": (1, "StatusProto")}}
STATES = {0: "UNKNOWN", 10: "START", 20: "LOADING", 30: "AVAILABLE", 40: "UNLOADING", 50: "END"}
# TensorFlow's numbers of types: NumPy's name of each, and the field that holds its values where they are not raw.
TENSOR_TYPES = {1: ("float32", "float_val"), 2: ("float64", "double_val"), 3: ("int32", "int_val"),
                4: ("uint8", "int_val"), 5: ("int16", "int_val"), 6: ("int8", "int_val"), 9: ("int64", "int64_val"),
                10: ("bool", "bool_val"), 17: ("uint16", "int_val"), 22: ("uint32", "uint32_val"),
                23: ("uint64", "uint64_val")}
STRING = 7


def _add(message: Any, name: str, number: int, kind: str) -> None:
    field = message.field.add(name=name, number=number, label=_FIELD.LABEL_OPTIONAL)
    if kind[0] in "*%":
        field.label, mark, kind = _FIELD.LABEL_REPEATED, kind[0], kind[1:]
        if mark == "%":
            entry = message.nested_type.add(name=f"{name.title()}Entry")
            entry.options.map_entry = True
            _add(entry, "key", 1, "string")
            _add(entry, "value", 2, kind)
            field.type, field.type_name = _FIELD.TYPE_MESSAGE, f".serving.{message.name}.{entry.name}"
            return
    if kind in _TYPES:
        field.type = _TYPES[kind]
    else:
        field.type, field.type_name = _FIELD.TYPE_MESSAGE, f".serving.{kind}"


def _classes() -> dict[str, Any]:
    file = descriptor_pb2.FileDescriptorProto(name="serving.proto", package="serving", syntax="proto3")
    for name, fields in _MESSAGES.items():
        message = file.message_type.add(name=name)
        for field, (number, kind) in fields.items():
            _add(message, field, number, kind)
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return {name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"serving.{name}")) for name in _MESSAGES}


_CLASSES = _classes()


def new(message: str, /, **values: Any) -> Any:
    """Returns a message, as `new("ModelSpec", name="ficklenet")`."""
    return _CLASSES[message](**values)


def parse(message: str, data: bytes) -> Any:
    """Returns a message from its bytes."""
    return _CLASSES[message].FromString(data)


def as_tensor(name: str, value: "np.ndarray | list[bytes]") -> Any:
    """Returns the TensorProto of an input.

    Args:
      name: the input's, for the message.
      value: an array of numbers or bytes of any shape, or a list of bytes.

    Raises:
      ValueError: it is of another type.
    """
    tensor = new("TensorProto")
    if isinstance(value, list) or value.dtype.kind in "OS":
        rows = value if isinstance(value, list) else value.ravel().tolist()
        if not all(isinstance(row, bytes) for row in rows):
            raise ValueError(f"{name}: expected bytes in a list, or an array of numbers")
        tensor.dtype, shape = STRING, [len(value)] if isinstance(value, list) else value.shape
        tensor.string_val.extend(rows)
    else:
        numbers = [number for number, (kind, _) in TENSOR_TYPES.items() if kind == value.dtype.name]
        if not numbers:
            raise ValueError(f"{name}: expected an array of a type that TensorFlow Serving takes, found {value.dtype}")
        native = value.astype(value.dtype.newbyteorder("="), copy=False)
        tensor.dtype, tensor.tensor_content, shape = numbers[0], native.tobytes(), value.shape
    for size in shape:
        tensor.tensor_shape.dim.add(size=size)
    return tensor


def from_tensor(tensor: Any) -> Any:
    """Returns the array of a TensorProto; of bytes a list."""
    if tensor.dtype == STRING:
        return list(tensor.string_val)
    import numpy as np  # here, so that files of photographs go without

    name, field = TENSOR_TYPES[tensor.dtype]
    shape = [dim.size for dim in tensor.tensor_shape.dim]
    if tensor.tensor_content:
        return np.frombuffer(tensor.tensor_content, name).reshape(shape).copy()
    values = np.array(getattr(tensor, field), name)
    missing = int(np.prod(shape)) - values.size  # the last value, or 0, stands for all that are left out
    return np.concatenate([values, np.full(missing, values[-1] if values.size else 0, name)]).reshape(shape)


def as_json(value: "np.ndarray | list[bytes]") -> list[Any]:
    """One JSON value per row: bytes by {"b64": ...}, numbers as nested lists."""
    if isinstance(value, list) or value.dtype.kind in "OS":
        return [{"b64": base64.b64encode(row).decode()} for row in value]
    return list(value.tolist())


def chosen(there: Collection[str], outputs: Sequence[str], optional: Sequence[str] = ()) -> list[str]:
    """Returns the names to take of an answer's: `outputs` and those of `optional` that are there; without outputs all.

    Raises:
      KeyError: one of `outputs` is not there.
    """
    absent = [name for name in outputs if name not in there]
    if absent:
        raise KeyError(", ".join(absent))
    return [*outputs, *(name for name in optional if name in there)] if outputs else list(there)


def columns(rows: list[dict[str, Any]], outputs: Sequence[str], optional: Sequence[str] = ()) -> dict[str, Any]:
    """Turns REST's predictions, one dict per row, into {name: array}; "..._bytes" come as {"b64": ...}.

    Args:
      rows: the predictions.
      outputs: names to take; empty: all.
      optional: names to take besides, where they are there.

    Raises:
      KeyError: one of `outputs` is not there.
    """
    tensors: dict[str, Any] = {}
    for name in chosen(rows[0], outputs, optional):
        values = [row[name] for row in rows]
        if name.endswith("_bytes"):
            tensors[name] = [base64.b64decode(value["b64"]) for value in values]
        else:
            import numpy as np  # as above

            tensors[name] = np.array(values)
    return tensors
