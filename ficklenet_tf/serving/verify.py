"""Checks an export: a fresh process that has none of our code answers as the live predictor did."""

import io
import os
import pathlib
import subprocess
import sys
import tempfile

import numpy as np
from PIL import Image

from ficklenet_tf.errors import UserError
from ficklenet_tf.serving import bare_session, warmup


def ask(model_dir, requests, timeout=900):
    """Answers requests in a fresh, isolated Python process by a bare TensorFlow session.

    Args:
      model_dir: a SavedModel's directory.
      requests: list of (signature, {input: array}); bytes as an `[n]` object array.
      timeout: seconds.

    Returns:
      list of {output: array}, one a request.

    Raises:
      FileNotFoundError: there is no SavedModel.
      ValueError: the model could not be loaded or refused a request; the message ends with what it said.
      subprocess.TimeoutExpired: no answer in time.
    """
    if not (pathlib.Path(model_dir) / "saved_model.pb").is_file():
        raise FileNotFoundError(f"{pathlib.Path(model_dir) / 'saved_model.pb'}: expected a SavedModel, found none")
    with tempfile.TemporaryDirectory() as directory:
        sent, received = (str(pathlib.Path(directory) / name) for name in ("requests.npz", "answers.npz"))
        np.savez(sent, **bare_session.pack(requests))
        environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
        environment.pop("PYTHONPATH", None)
        finished = subprocess.run(
            [sys.executable, "-I", bare_session.__file__, str(pathlib.Path(model_dir).resolve()), sent, received],
            cwd=directory, env=environment, timeout=timeout, capture_output=True, text=True, errors="replace")
        if finished.returncode:
            said = (finished.stderr.strip().splitlines() or ["nothing"])[-3:]
            raise UserError(f"{model_dir}: expected answers from a bare session, found {' '.join(said)}")
        with np.load(received) as arrays:
            return [tensors for _, tensors in bare_session.unpack(dict(arrays))]


def encode(image):
    """Encodes a `[h, w, 3]` uint8 RGB photograph as PNG bytes, without loss."""
    buffer = io.BytesIO()
    Image.fromarray(np.asarray(image, np.uint8)).save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()


def decode_ids(png):
    """Decodes the ids of a palette or grey PNG of labels; returns `[h, w]` uint8."""
    with Image.open(io.BytesIO(png)) as image:
        if image.mode not in ("P", "L"):
            raise UserError(f"labels: expected a palette or grey PNG, found mode {image.mode}")
        return np.asarray(image)


def verify(model_dir, images, expected_labels):
    """Compares what an export answers in a fresh process with expected labels.

    Each photograph goes through `serving_default` as pixels and through `serve_jpeg` as a PNG file; every other
    signature is run on its warm-up request.

    Args:
      model_dir: `<run>/saved_model/<version>`.
      images: list of `[h, w, 3]` uint8 RGB photographs.
      expected_labels: list of `[h, w]` integers, the live answer.

    Returns:
      Share of pixels, 0..1, that have the expected label; the lower of the two signatures' shares.

    Raises:
      FileNotFoundError: there is no SavedModel, or it has no warm-up requests.
      ValueError: see `ask`; or an answer of another size than its photograph.
    """
    images, expected = [np.asarray(image) for image in images], [np.asarray(label) for label in expected_labels]
    if not images or len(images) != len(expected):
        raise UserError(f"verify: expected as many labels as images, at least one, found {len(images)} images and "
                        f"{len(expected)} labels")
    requests = [("serving_default", {"images": image[None]}) for image in images]
    requests += [("serve_jpeg", {"image": np.array([encode(image)], object)}) for image in images]
    answers = ask(model_dir, requests + warmup.read(model_dir))
    found = [answer["labels"][0] for answer in answers[:len(images)]]
    found_files = [decode_ids(answer["label_png_bytes"][0]) for answer in answers[len(images):2 * len(images)]]
    return min(_agreement(found, expected), _agreement(found_files, expected))


def _agreement(found, expected):
    for one, other in zip(found, expected, strict=True):
        if one.shape != other.shape:
            raise UserError(f"labels: expected the shape {other.shape}, found {one.shape}")
    return sum((a == b).sum() for a, b in zip(found, expected, strict=True)) / sum(b.size for b in expected)
