"""Saliency maps, which tell objects from background without their class: a stage, and how seeds read them.

FickleNet and DSRG take the background from such maps (DRFI's). Here a network in an ONNX file makes them, U2-Net-p
(Qin et al. 2020) or another of its form. They are more supervision than tags: it has learned from masks of objects.
"""

import concurrent.futures
import hashlib
import importlib
import pathlib
from collections.abc import Callable, Iterator
from typing import Any

import cv2
import numpy as np

from ficklenet_tf.data import datasets, feature_cache, images
from ficklenet_tf.errors import UserError
from ficklenet_tf.maps.image_maps import ImageMaps
from ficklenet_tf.runs import artifacts, layout, shards, stage

_SIZE = 320  # side of the network's input in pixels, where its file leaves it open
_POINTED_AT = 0.2  # of a mean map's maximum: above it a region is looked at again, see docs/voc.md
_MARGIN = 1.5  # side of the square that is looked at, of the region's longer side;
_SMALLEST = 0.25  # no smaller than this share of the photograph's shorter side
_NEGLIGIBLE, _WHOLE = 0.005, 0.7  # shares of the photograph: smaller regions and larger squares are left out


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
        check_model(pathlib.Path(path))
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
    return _make(pathlib.Path(run_dir) / name, split, model, {}, lambda network, image, _: network(image), shard)


def make_closer(run_dir: str | pathlib.Path, split: datasets.Split, model: str | pathlib.Path, *,
                maps: str = layout.MAPS, name: str = layout.CLOSER, shard: shards.Shard = shards.WHOLE,
                ) -> dict[str, Any]:
    """As `make`, but looks `closer` where maps point; it begins with the run's saliency/, of the same network.

    Args:
      run_dir: the run's directory.
      split: `datasets.Split`; its tags are used by way of the maps.
      model: path of the ONNX file, see `Network`.
      maps: directory below run_dir with the finished maps of the split.
      name: directory below run_dir for the result.
      shard: as of `make`.

    Raises:
      FileNotFoundError: maps or saliency/ have not been finished.
      UserError: they are of other images, or saliency/ is another network's; see `Network`.
    """
    run_dir = pathlib.Path(run_dir)
    first, map_dir = run_dir / layout.SALIENCY, run_dir / maps
    runs = {first: artifacts.finished_run(first, "set of saliency maps", "tools.make_saliency"),
            map_dir: artifacts.finished_run(map_dir, "set of maps", "tools.extract_maps")}
    for directory, run in runs.items():
        if run.get("fingerprint") != split.fingerprint:
            raise UserError(f"{directory}: expected maps of {split.dataset} {split.name}, found those of other images")

    if pathlib.Path(model).is_file() and _digest(pathlib.Path(model)) != runs[first].get("model"):
        raise UserError(f"{first}: expected maps of the network {model}, found those of another")

    def look(network: Network, image: np.ndarray, image_id: str) -> np.ndarray:
        mean = images.resize_maps(ImageMaps.read(layout.map_file(map_dir, image_id)).mean, image.shape[:2])
        return closer(network, image, read(first, image_id, image.shape[:2]), mean)

    return _make(run_dir / name, split, model, {"maps": runs[map_dir]["finished"]}, look, shard)


def _make(directory: pathlib.Path, split: datasets.Split, model: str | pathlib.Path, settings: dict[str, Any],
          look: Callable[[Network, np.ndarray, str], np.ndarray], shard: shards.Shard) -> dict[str, Any]:
    """Writes what `look(network, photograph, image id)` returns for each photograph."""
    finished = artifacts.read_run(directory)
    settings = {"fingerprint": split.fingerprint, **settings}
    if finished and settings.items() <= finished.items() and not pathlib.Path(model).is_file():
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
                image_id = split.image_ids[index]
                images.write_grey(layout.label_image(directory, image_id), look(network, image, image_id))
                yield index

    settings = {"stage": "saliency", "model": _digest(pathlib.Path(model)),
                "dataset": split.dataset, "split": split.name, **settings}
    def facts(_: pathlib.Path) -> dict[str, Any]:
        artifacts.write_json(directory / layout.PHOTOGRAPHS, {
            image_id: feature_cache.checksum(split[i]["image"]) for i, image_id in enumerate(split.image_ids)})
        return {}

    return stage.run_per_image({directory: settings}, split, work=work, facts=facts, shard=shard,
                               files=lambda image_id: [layout.label_image(directory, image_id)])


def closer(network: Callable[[np.ndarray], np.ndarray], image: np.ndarray, saliency: np.ndarray,
           mean: np.ndarray) -> np.ndarray:
    """Looks again at each region that a map points at: what is lost in the whole photograph may stand out there.

    Each answer is stretched to 0..1, so it only adds; what it gains and costs: docs/voc.md.

    Args:
      network: `Network`.
      image: `[h, w, 3]` uint8 RGB.
      saliency: `[h, w]` float32 of the whole photograph.
      mean: `[h, w, c]` float32, the photograph's mean maps.

    Returns:
      `[h, w]` float32: at each pixel the greatest of `saliency` and of the network's answers for `squares`.
    """
    saliency = saliency.copy()
    for square in squares(mean):
        saliency[square] = np.maximum(saliency[square], network(np.ascontiguousarray(image[square])))
    return saliency


def squares(mean: np.ndarray) -> list[tuple[slice, slice]]:
    """Returns the squares (rows, columns) of a photograph that its mean maps, `[h, w, c]` float32, point at.

    A region is connected and above a fifth of its map's maximum; its square has one and a half times its longer side
    and is cut off at the photograph's rim. Tiny regions, and squares of most of the photograph, are left out.
    """
    height, width = mean.shape[:2]
    found = []
    for values in np.moveaxis(mean, -1, 0):
        regions = (values > _POINTED_AT * values.max()).astype(np.uint8)
        _, _, boxes, _ = cv2.connectedComponentsWithStats(regions)
        for left, top, w, h, area in boxes[1:].tolist():
            half = max(_MARGIN * max(w, h), _SMALLEST * min(height, width)) / 2
            x, y = left + w / 2, top + h / 2
            rows = slice(max(0, int(y - half)), min(height, int(y + half)))
            columns = slice(max(0, int(x - half)), min(width, int(x + half)))
            share = (rows.stop - rows.start) * (columns.stop - columns.start) / (height * width)
            if area >= _NEGLIGIBLE * height * width and share <= _WHOLE:
                found.append((rows, columns))
    return found


def check_model(path: str | pathlib.Path) -> None:
    """Raises FileNotFoundError, with what fetches one, where there is no saliency network."""
    path = pathlib.Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: expected the ONNX file of a saliency network, found none; `make saliency` "
                                "fetches U2-Net-p")


def _digest(path: pathlib.Path) -> str:
    check_model(path)
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
      UserError: it cannot be read, or is not what was written there.
    """
    if directory is None:
        raise UserError(f"{image_id}: expected saliency maps (tools.make_saliency, or --saliency_dir), found none")
    path = layout.label_image(directory, image_id)
    if not path.exists():
        raise FileNotFoundError(f"{path}: expected a grey saliency map, found none")
    return cv2.resize(images.read_grey(path), shape[::-1], interpolation=cv2.INTER_LINEAR).astype(np.float32) / 255
