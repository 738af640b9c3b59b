"""Looks through a SavedModel's graph for what a stock server does not run, or should not be given."""

import pathlib
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2
from tensorflow.python.framework import op_def_registry
from tensorflow.python.saved_model import fingerprinting_utils

Signature = dict[str, dict[str, dict[str, Any]]]  # "inputs" and "outputs", each name -> {"dtype": ..., "shape": ...}
_PYTHON = ("PyFunc", "PyFuncStateless", "EagerPyFunc")
_XLA = ("_XlaMustCompile", "jit_compile", "_xla_compile_id")
_TABLE = re.compile("HashTable|LookupTable|Vocab")
_PATH = re.compile(rb"(?:/[\w.\-]+){2,}")


def read(model_dir: str | pathlib.Path) -> tf.compat.v1.MetaGraphDef:
    """Returns the one MetaGraphDef of a SavedModel."""
    [meta] = _saved_model(model_dir).meta_graphs
    return meta


def _saved_model(model_dir: str | pathlib.Path) -> saved_model_pb2.SavedModel:
    return saved_model_pb2.SavedModel.FromString((pathlib.Path(model_dir) / "saved_model.pb").read_bytes())


def declare(model_dir: str | pathlib.Path, inputs: Mapping[str, Sequence[tf.TensorSpec]]) -> None:
    """Writes the shapes of inputs into the signatures of a SavedModel whose graph takes any; drops other signatures.

    Keras calls a model's only signature serving_default too.

    Args:
      model_dir: a SavedModel's directory.
      inputs: {signature: what its inputs are, by name}.
    """
    proto = _saved_model(model_dir)
    described = proto.meta_graphs[0].signature_def
    for name in [name for name in described if name not in inputs and not name.startswith("__")]:
        del described[name]
    for name, specs in inputs.items():
        for spec in specs:
            described[name].inputs[spec.name].tensor_shape.CopyFrom(spec.shape.as_proto())
    (pathlib.Path(model_dir) / "saved_model.pb").write_bytes(proto.SerializeToString(deterministic=True))
    fingerprinting_utils.write_fingerprint(str(model_dir))


def signatures(meta: tf.compat.v1.MetaGraphDef) -> dict[str, Signature]:
    """Describes what can be asked.

    Args:
      meta: a MetaGraphDef.

    Returns:
      dict: signature -> {"inputs": ..., "outputs": ...}, each name -> {"dtype": ..., "shape": ...}, None in a shape
      for any length.
    """
    def described(infos: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
        return {name: {"dtype": tf.as_dtype(info.dtype).name,
                       "shape": [None if axis.size < 0 else axis.size for axis in info.tensor_shape.dim]}
                for name, info in sorted(infos.items())}

    return {name: {"inputs": described(signature.inputs), "outputs": described(signature.outputs)}
            for name, signature in sorted(meta.signature_def.items()) if not name.startswith("__")}


def nodes(meta: tf.compat.v1.MetaGraphDef) -> Iterator[tf.compat.v1.NodeDef]:
    """Yields all nodes: of the graph and of every function in its library."""
    yield from meta.graph_def.node
    for function in meta.graph_def.library.function:
        yield from function.node_def


def scan(model_dir: str | pathlib.Path) -> list[str]:
    """Returns a list of findings, empty for a graph that stock TensorFlow Serving runs as it stands.

    It looks for calls into Python, demands for XLA (off in a stock server), ops that stock TensorFlow does not
    have, tables (none of ours is tracked), and absolute paths, which another machine does not have.

    Args:
      model_dir: a SavedModel's directory.
    """
    meta = read(model_dir)
    findings: list[str] = []
    functions = {function.signature.name for function in meta.graph_def.library.function}
    for function in meta.graph_def.library.function:
        findings += [f"{function.signature.name}: attribute {key}" for key in _XLA if _is_set(function.attr, key)]
    for node in nodes(meta):
        if node.op in _PYTHON:
            findings.append(f"{node.name}: {node.op} calls Python")
        elif op_def_registry.get(node.op) is None and node.op not in functions:
            findings.append(f"{node.name}: {node.op} is no stock op")
        elif _TABLE.search(node.op):
            findings.append(f"{node.name}: {node.op} needs a table")
        findings += [f"{node.name}: attribute {key}" for key in _XLA if _is_set(node.attr, key)]
        findings += [f"{node.name}: path {path!r}" for value in node.attr["value"].tensor.string_val
                     for path in _PATH.findall(value) if value.startswith(b"/")]
    return findings


def _is_set(attributes: Mapping[str, tf.compat.v1.AttrValue], key: str) -> bool:
    return key in attributes and attributes[key] not in (type(attributes[key])(b=False), type(attributes[key])(s=b""))
