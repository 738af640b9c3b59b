"""What the sections work on: photographs, given or drawn, and networks of the run given, or of random weights."""

import dataclasses
import functools
import pathlib

import keras
import numpy as np
import tensorflow as tf

from ficklenet_tf.data import datasets, images
from ficklenet_tf.data.datasets import shapes
from ficklenet_tf.models import backbones, pretrained
from tools.benchmarks import measure

HEIGHT, WIDTH = 375, 500  # of a drawn photograph: VOC's commonest size


def jpegs(photo_dir: str | pathlib.Path | None, count: int) -> list[bytes]:
    """Returns `count` photographs as JPEG bytes.

    Args:
      photo_dir: directory of `*.jpg`, of which evenly spaced ones are taken; None: drawn creatures.
      count: how many; fewer files are repeated.

    Raises:
      FileNotFoundError: there is no JPEG in the directory.
    """
    if photo_dir is None:
        return [_drawn(index % 16) for index in range(count)]
    paths = sorted(pathlib.Path(photo_dir).glob("*.jpg"))
    if not paths:
        raise FileNotFoundError(f"{photo_dir}: expected photographs (*.jpg), found none")
    step = max(1, len(paths) // count)
    return [paths[index * step % len(paths)].read_bytes() for index in range(count)]


@functools.cache
def _drawn(index: int) -> bytes:
    image, _ = shapes.draw(0, "val", index, WIDTH)
    return tf.io.encode_jpeg(image[:HEIGHT], quality=92).numpy()


def batch(photo_dir: str | pathlib.Path | None, count: int, side: int) -> tf.Tensor:
    """Returns `[count, side, side, 3]` float32 RGB 0..255: photographs warped to the network's input."""
    return tf.stack([images.warp(images.decode_image_op(data), side) for data in jpegs(photo_dir, count)])


def backbone(size: measure.Size, weights: str, trainable: str = "all",
             precision: str = "float32") -> tuple[keras.Model, images.Normalization]:
    """Returns a `Size`'s backbone, with the weights given or random ones, and its `images.Normalization`."""
    network = backbones.build(size.backbone, trainable, precision)
    pretrained.load_weights(network, weights)
    return network, pretrained.normalization_of(weights)


def features(size: measure.Size, count: int = 1, seed: int = 0) -> tf.Tensor:
    """Returns `[count, grid, grid, channels]` float32 made-up features: rectified, a third of them positive."""
    shape = (count, size.grid, size.grid, size.channels)
    return tf.constant(np.maximum(np.random.default_rng(seed).normal(-0.4, 1, shape), 0).astype(np.float32))


def folder_split(photo_dir: str | pathlib.Path | None, count: int, directory: str | pathlib.Path,
                 classes: int) -> datasets.Split:
    """Writes photographs as a data set of one's own (--dataset=folder) and opens it.

    Args:
      photo_dir: see `jpegs`.
      count: photographs.
      directory: where images/, tags.csv and the prepared records go.
      classes: number of made-up tags, one per photograph.

    Returns:
      A `datasets.Split`.
    """
    directory = pathlib.Path(directory)
    (directory / "images").mkdir(parents=True)
    lines = ["image,tags"]
    for index, data in enumerate(jpegs(photo_dir, count)):
        (directory / "images" / f"{index:05d}.jpg").write_bytes(data)
        lines.append(f"{index:05d}.jpg,class{index % classes:02d}")
    (directory / "tags.csv").write_text("\n".join(lines) + "\n")
    return datasets.load_split("folder", "all", data_dir=directory, cache_dir=directory / "records")


def described(options: measure.Options) -> str:
    """Says what a section worked on, for a table's note."""
    size = ", ".join(f"{key} {value}" for key, value in dataclasses.asdict(options.size).items())
    weights = "weights given" if options.weights else "random weights"
    return f"{size}; {weights}; {'photographs given' if options.photo_dir else 'drawn photographs'}."
