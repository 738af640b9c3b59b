"""Checks an export: a fresh process that has none of our code answers as the live predictor did."""

import io
import os
import pathlib
import subprocess
import sys
import tempfile
from collections.abc import Sequence

import cv2
import numpy as np
from PIL import Image

from ficklenet_tf.errors import UserError
from ficklenet_tf.serving import bare_session, servable, warmup


def ask(model_dir: str | pathlib.Path, requests: Sequence[bare_session.Message],
        timeout: float = 900) -> list[dict[str, np.ndarray]]:
    """Answers requests in a fresh, isolated Python process by a bare TensorFlow session.

    Args:
      model_dir: a SavedModel's directory.
      requests: list of `bare_session.Message`; of a great photograph without the outputs that are not looked at:
        its probabilities alone take gigabytes.
      timeout: seconds.

    Returns:
      list of {output: array}, one per request.

    Raises:
      FileNotFoundError: there is no SavedModel.
      UserError: the model could not be loaded or refused a request; the message ends with its error.
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
            last_lines = (finished.stderr.strip().splitlines() or ["nothing"])[-3:]
            raise UserError(f"{model_dir}: expected answers from a bare session, found {' '.join(last_lines)}")
        with np.load(received) as arrays:
            return [message.tensors for message in bare_session.unpack(dict(arrays))]


def fitting(image: np.ndarray, max_pixels: int = servable.MAX_PIXELS) -> np.ndarray:
    """Returns a `[h, w, 3]` uint8 photograph, shrunk where it has more pixels than a request may have, as by a client.

    Args:
      image: the photograph.
      max_pixels: of one request.
    """
    height, width = image.shape[:2]
    scale = (max_pixels / (height * width)) ** 0.5
    return image if scale >= 1 else cv2.resize(
        image, (int(width * scale) or 1, int(height * scale) or 1), interpolation=cv2.INTER_AREA)


def encode(image: np.ndarray) -> bytes:
    """Encodes a `[h, w, 3]` uint8 RGB photograph as PNG bytes, without loss."""
    buffer = io.BytesIO()
    Image.fromarray(np.asarray(image, np.uint8)).save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()


def decode_ids(png: bytes) -> np.ndarray:
    """Decodes the ids of a palette or grey PNG of labels; returns `[h, w]` uint8."""
    with Image.open(io.BytesIO(png)) as image:
        if image.mode not in ("P", "L"):
            raise UserError(f"labels: expected a palette or grey PNG, found mode {image.mode}")
        return np.asarray(image)


def verify(model_dir: str | pathlib.Path, images: Sequence[np.ndarray],
           expected_labels: Sequence[np.ndarray]) -> float:
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
      UserError: see `ask`; or an answer of another size than its photograph.
    """
    images, expected = [np.asarray(image) for image in images], [np.asarray(label) for label in expected_labels]
    if not images or len(images) != len(expected):
        raise UserError(f"verify: expected as many labels as images, at least one, found {len(images)} images and "
                        f"{len(expected)} labels")
    requests = [bare_session.Message("serving_default", {"images": image[None]}, ("labels",)) for image in images]
    requests += [bare_session.Message("serve_jpeg", {"image": np.array([encode(image)], object)}, ("label_png_bytes",))
                 for image in images]
    answers = ask(model_dir, requests + warmup.read(model_dir))
    of_pixels = [answer["labels"][0] for answer in answers[:len(images)]]
    of_files = [decode_ids(answer["label_png_bytes"][0]) for answer in answers[len(images):2 * len(images)]]
    return min(_agreement(of_pixels, expected), _agreement(of_files, expected))


def _agreement(labels: Sequence[np.ndarray], expected_labels: Sequence[np.ndarray]) -> float:
    same = 0
    for label, expected in zip(labels, expected_labels, strict=True):
        if label.shape != expected.shape:
            raise UserError(f"labels: expected the shape {expected.shape}, found {label.shape}")
        same += (label == expected).sum()
    return same / sum(expected.size for expected in expected_labels)
