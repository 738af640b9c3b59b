"""The classifier's input pipeline against the same JPEGs only decoded, and where its time goes."""

import tempfile
from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from ficklenet_tf.data import augmentation, datasets, images, input_pipeline
from tools.benchmarks import inputs, measure
from tools.benchmarks.tables import Goal, Table


def run(options: measure.Options) -> list[Table]:
    """Returns the section's tables."""
    size, count = options.size, 400 if options.scale == "full" else 8
    with tempfile.TemporaryDirectory() as directory:
        split = inputs.folder_split(options.photo_dir, count, f"{directory}/data", size.classes)
        return [throughput(options, split, count), parts(options, split)]


def decoded(split: datasets.Split, count: int) -> measure.Work:
    """Returns the work "decode `count` JPEGs by tf.io.decode_jpeg alone on all cores"."""
    encoded = [split[index]["image"] for index in range(count)]
    data = tf.data.Dataset.from_tensor_slices(encoded).map(
        lambda jpeg: tf.io.decode_jpeg(jpeg, channels=3), num_parallel_calls=tf.data.AUTOTUNE).prefetch(8)
    return lambda: [None for _ in data]


def batches(split: datasets.Split, count: int, size: measure.Size,
            prepare: Callable[[dict[str, tf.Tensor]], dict[str, tf.Tensor]] | None = None,
            **options: Any) -> measure.Work:
    """Returns the work "make batches of `count` images", from a fresh iterator: nothing is read ahead untimed."""
    reader = input_pipeline.ExampleReader(split, 0, size.side, **options)
    data = input_pipeline.training_batches(reader, batch_size=size.batch, start_step=0)
    data = (data if prepare is None else data.map(prepare).prefetch(2)).take(count // size.batch)
    return lambda: [None for _ in data]


def throughput(options: measure.Options, split: datasets.Split, count: int) -> Table:
    """Images per second."""
    size = options.size
    variants = {
        "tf.io.decode_jpeg alone": decoded(split, count),
        "training pipeline": batches(split, count, size),
        "with scale and crop in place of warping": batches(split, count, size, crop=(0.5, 1.5)),
        "with colours and normalisation on the CPU": batches(
            split, count, size, lambda batch: input_pipeline.prepared(batch, images.CAFFE, 0.2)),
    }
    times = measure.compare(variants, options.rounds)
    base, ours = times["tf.io.decode_jpeg alone"], times["training pipeline"]
    rows = [[name, count / timing.median, base.over(timing), 1000 * timing.processor_median / count]
            for name, timing in times.items()]
    return Table(
        "The classifier's input pipeline", ("what", "images/s", "of decode_jpeg", "processor ms per image"), rows,
        f"{inputs.described(options)} {count} JPEGs. The pipeline reads records at random places, decodes, warps, "
        "mirrors and batches, uint8; brightness, contrast, saturation and normalisation are part of the step, on its "
        "device. The processor's time is all cores' together: what the work costs, whatever else the machine does.",
        (Goal("input pipeline, images/s", "the same JPEGs by tf.io.decode_jpeg alone", 0.85, base.over(ours),
              at_least=True),))


def parts(options: measure.Options, split: datasets.Split) -> Table:
    """What each part costs on one core."""
    size, numbers = options.size, range(min(len(split), 100))
    encoded = [split[index]["image"] for index in numbers]
    photos = [images.decode_image(jpeg) for jpeg in encoded]
    warped = [images.warp_pixels(photo, size.side) for photo in photos]
    functions = {
        "record: read and unpacked": lambda: [split[index] for index in numbers],
        "decode (OpenCV)": lambda: [images.decode_image(jpeg) for jpeg in encoded],
        "decode (tf.io.decode_jpeg)": lambda: [tf.io.decode_jpeg(jpeg, channels=3) for jpeg in encoded],
        "warp (OpenCV, uint8)": lambda: [images.warp_pixels(photo, size.side) for photo in photos],
        "warp (tf.image.resize, float32)": lambda: [images.warp(photo, size.side) for photo in photos],
        "mirror": lambda: [augmentation.mirror(photo, True) for photo in warped],
        "batch": lambda: np.stack(warped),
    }
    times = measure.compare(functions, options.rounds)
    return Table("Its parts, one after another", ("part", "ms per image"),
                 [[name, 1000 * timing.median / len(encoded)] for name, timing in times.items()])
