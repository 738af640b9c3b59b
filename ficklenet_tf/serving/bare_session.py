"""Answers requests from a SavedModel with TensorFlow alone, as a server would; no import of ours, run as a script.

`python -I ficklenet_tf/serving/bare_session.py MODEL_DIR REQUESTS.npz ANSWERS.npz`. A `tf.compat.v1` session
restores what TensorFlow Serving restores; an export that lacks a variable loads in Python and
fails here. Requests and answers are arrays in an .npz, without pickles.
"""

import sys

import numpy as np

OURS = ("ficklenet_tf", "export", "tools")


def pack(rows):
    """Turns requests or answers into arrays for `numpy.savez`.

    Args:
      rows: list of (signature, {name: array}); arrays of bytes are `[n]` objects.

    Returns:
      dict of arrays.
    """
    arrays = {"signatures": np.array([signature for signature, _ in rows])}
    for i, (_, tensors) in enumerate(rows):
        for name, value in tensors.items():
            value = np.asarray(value)
            if value.dtype.kind in "OS":  # bytes may end in zeros, which NumPy's own strings lose
                arrays[f"{i}/{name}/count"] = np.array(len(value))
                for k, data in enumerate(value):
                    arrays[f"{i}/{name}/{k}"] = np.frombuffer(data, np.uint8)
            else:
                arrays[f"{i}/{name}"] = value
    return arrays


def unpack(arrays):
    """Inverts `pack`."""
    rows = [(str(signature), {}) for signature in arrays["signatures"]]
    for key in arrays:
        index, _, name = key.partition("/")
        if not name:
            continue
        name, _, part = name.partition("/")
        if part == "count":
            value = np.empty(int(arrays[key]), object)
            value[:] = [arrays[f"{index}/{name}/{k}"].tobytes() for k in range(len(value))]
            rows[int(index)][1][name] = value
        elif not part:
            rows[int(index)][1][name] = arrays[key]
    return rows


def answer(model_dir, requests):
    """Runs requests in one session.

    Args:
      model_dir: a SavedModel's directory.
      requests: list of (signature, {input: array}).

    Returns:
      list of (signature, {output: array}).

    Raises:
      ValueError: a signature or an input that the model does not have, or one that is missing.
    """
    import tensorflow as tf

    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        loaded = tf.compat.v1.saved_model.loader.load(session, ["serve"], model_dir)
        answers = []
        for name, tensors in requests:
            if name not in loaded.signature_def:
                raise ValueError(f"{model_dir}: expected the signature {name}, found {sorted(loaded.signature_def)}")
            signature = loaded.signature_def[name]
            if set(signature.inputs) != set(tensors):
                raise ValueError(f"{name}: expected inputs {sorted(signature.inputs)}, found {sorted(tensors)}")
            outputs = {key: info.name for key, info in signature.outputs.items()}
            feeds = {signature.inputs[key].name: value for key, value in tensors.items()}
            answers.append((name, session.run(outputs, feeds)))
    return answers


def main(model_dir, requests_path, answers_path):
    """Reads requests, answers them, writes the answers."""
    for name in OURS:
        sys.modules[name] = None  # an import of ours now fails, wherever it may be installed
    with np.load(requests_path) as arrays:
        requests = unpack(dict(arrays))
    np.savez(answers_path, **pack(answer(model_dir, requests)))


if __name__ == "__main__":
    main(*sys.argv[1:])
