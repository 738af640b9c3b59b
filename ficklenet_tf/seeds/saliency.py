"""Saliency maps, which tell objects from background without their class: a stage, and how seeds read them.

FickleNet and DSRG take the background from such maps (DRFI's). Here a network in an ONNX file makes them, U2-Net-p
(Qin et al. 2020) or another of its form. They are more supervision than tags: it has learned from masks of objects.
"""

import concurrent.futures
import hashlib
import importlib
import pathlib
from collections.abc import Iterator
from typing import Any

import cv2
import numpy as np

from ficklenet_tf.data import datasets, images
from ficklenet_tf.errors import UserError
from ficklenet_tf.runs import artifacts, layout, shards, stage

_SIZE = 320  # side of the network's input in pixels, where its file leaves it open


class Network:
    """A salient object detector in an ONNX file, as a function of photographs.

    The file takes one `[1, 3, s, s]` float32 photograph, divided by its maximum and normalised by ImageNet's mean and
    deviation (U2-Net's code); its first output, `[1, 1, h, w]` or `[1, h, w]`, is the map, of any range.

    Args:
      path: of the file.
      threads: that work on one photograph; 0: as many as there are cores.

    Raises:
      FileNotFoundError: there is no such file.
      UserError: it is no such network, or the package onnxruntime is not installed.
    """

    def __init__(self, path: str | pathlib.Path, threads: int = 0) -> None:
        _check_file(pathlib.Path(path))
        try:
            runtime = importlib.import_module("onnxruntime")
        except ImportError as error:
            raise UserError("saliency: expected the package onnxruntime; pip install -r requirements-saliency.txt "
                            f"({error})") from error
        options = runtime.SessionOptions()
        options.intra_op_num_threads = threads
        try:
            self._session = runtime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # onnxruntime has a class of its own for each kind of bad file
            raise UserError(f"{path}: expected an ONNX file, found {error}") from error
        inputs = self._session.get_inputs()
        shape = inputs[0].shape
        if len(inputs) != 1 or len(shape) != 4 or shape[1] != 3:
            raise UserError(f"{path}: expected one input [1, 3, height, width], found "
                            f"{', '.join(str(each.shape) for each in inputs)}")
        self._input = inputs[0].name
        self._height, self._width = (side if isinstance(side, int) else _SIZE for side in shape[2:])

    def __call__(self, image: np.ndarray) -> np.ndarray:
        """Returns the saliency `[h, w]` float32 of a `[h, w, 3]` uint8 RGB photograph, stretched to 0..1."""
        x = cv2.resize(image, (self._width, self._height), interpolation=cv2.INTER_LINEAR).astype(np.float32)
        x = (x / max(float(x.max()), 1.0) - images.TORCH.mean) / images.TORCH.std
        output = self._session.run(None, {self._input: x.astype(np.float32).transpose(2, 0, 1)[None]})[0]
        saliency = output.reshape(output.shape[-2:]).astype(np.float32)
        low, high = float(saliency.min()), float(saliency.max())
        stretched = (saliency - low) / (high - low) if high > low else np.zeros_like(saliency)
        return cv2.resize(stretched, image.shape[1::-1], interpolation=cv2.INTER_LINEAR)


def make(run_dir: str | pathlib.Path, split: datasets.Split, model: str | pathlib.Path, *,
         name: str = layout.SALIENCY, shard: shards.Shard = shards.WHOLE) -> dict[str, Any]:
    """Writes the saliency map of each photograph, `<image id>.png`, grey, 255 for 1; what is there is not made again.

    Args:
      run_dir: the run's directory.
      split: `datasets.Split`; tags and masks are not used.
      model: path of the ONNX file, see `Network`.
      name: directory below run_dir.
      shard: (index, count): only every count-th image, see shards.py.

    Returns:
      The content of run.json (of a shard: the settings).

    Raises:
      FileNotFoundError, UserError: see `Network`.
    """
    directory = pathlib.Path(run_dir) / name
    finished = artifacts.read_run(directory)
    if finished and finished["fingerprint"] == split.fingerprint and not pathlib.Path(model).is_file():
        return finished

    def work(pending: list[int]) -> Iterator[int]:
        network = Network(model)
        with concurrent.futures.ThreadPoolExecutor(1) as reader:  # decodes the next one meanwhile
            decoded = [reader.submit(lambda i: images.decode_image(split[i]["image"]), i) for i in pending[:1]]
            for position, index in enumerate(pending):
                image = decoded.pop().result()
                if position + 1 < len(pending):
                    decoded.append(reader.submit(lambda i: images.decode_image(split[i]["image"]),
                                                 pending[position + 1]))
                images.write_grey(layout.label_image(directory, split.image_ids[index]), network(image))
                yield index

    settings = {"stage": "saliency", "model": _digest(pathlib.Path(model)),
                "dataset": split.dataset, "split": split.name, "fingerprint": split.fingerprint}
    return stage.run_per_image({directory: settings}, split, work=work, facts=lambda _: {}, shard=shard,
                               files=lambda image_id: [layout.label_image(directory, image_id)])


def _check_file(path: pathlib.Path) -> None:
    if not path.is_file():
        raise FileNotFoundError(f"{path}: expected the ONNX file of a saliency network, found none; `make saliency` "
                                "fetches U2-Net-p")


def _digest(path: pathlib.Path) -> str:
    _check_file(path)
    return hashlib.sha256(path.read_bytes()).hexdigest()[:16]


def read(directory: str | pathlib.Path | None, image_id: str, shape: tuple[int, int]) -> np.ndarray:
    """Returns the saliency of a photograph, `[h, w]` float32 in 0..1 at `shape`.

    Args:
      directory: with `<image id>.png`, grey, of any system; None: there is none.
      image_id: of the photograph.
      shape: (height, width).

    Raises:
      UserError: there is no directory.
      FileNotFoundError: there is no such map in it.
    """
    if directory is None:
        raise UserError(f"{image_id}: expected saliency maps (tools.make_saliency, or --saliency_dir), found none")
    path = layout.label_image(directory, image_id)
    grey = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
    if grey is None:
        raise FileNotFoundError(f"{path}: expected a grey saliency map, found none that can be read")
    return cv2.resize(grey, shape[::-1], interpolation=cv2.INTER_LINEAR).astype(np.float32) / 255
