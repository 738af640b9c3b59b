"""Answers requests from a SavedModel with TensorFlow alone, as a server would; no import of ours, run as a script.

`python -I ficklenet_tf/serving/bare_session.py MODEL_DIR REQUESTS.npz ANSWERS.npz`. A `tf.compat.v1` session
restores what TensorFlow Serving restores; an export that lacks a variable loads in Python and
fails here. Requests and answers are arrays in an .npz, without pickles.
"""

import sys
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

OURS = ("ficklenet_tf", "export", "tools")


class Message(NamedTuple):
    """A request or an answer.

    Attributes:
      signature: its name.
      tensors: {name: array}, of a request the inputs, of an answer the outputs; arrays of bytes are `[n]` objects.
      outputs: names of the outputs that a request wants; none: all.
    """

    signature: str
    tensors: dict[str, np.ndarray]
    outputs: tuple[str, ...] = ()


def pack(messages: Sequence[Message]) -> dict[str, Any]:
    """Turns requests or answers into arrays for `numpy.savez`.

    Args:
      messages: list of `Message`.

    Returns:
      dict of arrays.
    """
    arrays = {"signatures": np.array([message.signature for message in messages])}
    for i, message in enumerate(messages):
        arrays[f"{i}"] = np.array(message.outputs, str)
        for name, value in message.tensors.items():
            value = np.asarray(value)
            if value.dtype.kind in "OS":  # bytes may end in zeros, which NumPy's own strings lose
                arrays[f"{i}/{name}/count"] = np.array(len(value))
                for k, data in enumerate(value):
                    arrays[f"{i}/{name}/{k}"] = np.frombuffer(data, np.uint8)
            else:
                arrays[f"{i}/{name}"] = value
    return arrays


def unpack(arrays: dict[str, np.ndarray]) -> list[Message]:
    """Inverts `pack`."""
    messages = [Message(str(signature), {}, tuple(arrays[f"{i}"].tolist()))
                for i, signature in enumerate(arrays["signatures"])]
    for key in arrays:
        index, _, name = key.partition("/")
        if not name:
            continue
        name, _, part = name.partition("/")
        if part == "count":
            value = np.empty(int(arrays[key]), object)
            value[:] = [arrays[f"{index}/{name}/{k}"].tobytes() for k in range(len(value))]
            messages[int(index)].tensors[name] = value
        elif not part:
            messages[int(index)].tensors[name] = arrays[key]
    return messages


def answer(model_dir: str, requests: Sequence[Message]) -> list[Message]:
    """Runs requests in one session, which computes and copies the outputs that they want, and no others.

    Args:
      model_dir: a SavedModel's directory.
      requests: list of `Message`.

    Returns:
      list of `Message`.

    Raises:
      ValueError: a signature, an input or an output that the model does not have, or an input that is missing.
    """
    import tensorflow as tf

    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        loaded = tf.compat.v1.saved_model.loader.load(session, ["serve"], model_dir)
        answers = []
        for name, tensors, wanted in requests:
            if name not in loaded.signature_def:
                raise ValueError(f"{model_dir}: expected the signature {name}, found {sorted(loaded.signature_def)}")
            signature = loaded.signature_def[name]
            if set(signature.inputs) != set(tensors):
                raise ValueError(f"{name}: expected inputs {sorted(signature.inputs)}, found {sorted(tensors)}")
            if not set(wanted) <= set(signature.outputs):
                raise ValueError(f"{name}: expected outputs of {sorted(signature.outputs)}, found {sorted(wanted)}")
            outputs = {key: signature.outputs[key].name for key in wanted or signature.outputs}
            feeds = {signature.inputs[key].name: value for key, value in tensors.items()}
            answers.append(Message(name, session.run(outputs, feeds)))
    return answers


def main(model_dir: str, requests_path: str, answers_path: str) -> None:
    """Reads requests, answers them, writes the answers."""
    for name in OURS:
        # An import of ours now fails, wherever it may be installed: the import system's documented use of None.
        sys.modules[name] = None  # type: ignore[assignment]
    with np.load(requests_path) as arrays:
        requests = unpack(dict(arrays))
    np.savez(answers_path, **pack(answer(model_dir, requests)))


if __name__ == "__main__":
    main(*sys.argv[1:])
