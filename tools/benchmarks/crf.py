"""Time and memory of the dense CRF's backends beside pydensecrf's."""

import functools
import pathlib
from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from ficklenet_tf import crf
from ficklenet_tf.data import images
from tools.benchmarks import inputs, measure
from tools.benchmarks.tables import Goal, Table

Refine = Callable[[np.ndarray, np.ndarray], np.ndarray]  # photographs and logits -> probabilities
SHAPES: dict[str, tuple[tuple[int, int], ...]] = {"full": ((321, 321), (375, 500)), "tiny": ((33, 33),)}


def run(options: measure.Options) -> list[Table]:
    """Returns the section's tables."""
    return [full_size(options), maps(options), memory(options)]


def made_up(photo_dir: str | pathlib.Path | None, batch: int, height: int, width: int,
            classes: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns photographs `[batch, height, width, 3]` uint8 and logits, blobs with noise, `[..., classes]` float32."""
    random = np.random.default_rng(0)
    photos = [tf.image.resize(images.decode_image_op(data), (height, width))
              for data in inputs.jpegs(photo_dir, batch)]
    coarse = random.normal(size=(batch, -(-height // 16), -(-width // 16), classes)).astype(np.float32)
    noise = random.normal(0, 0.3, (batch, height, width, classes)).astype(np.float32)
    return tf.cast(photos, tf.uint8).numpy(), 3 * tf.image.resize(coarse, (height, width)).numpy() + noise


def eager(spec: crf.CRFSpec, backend: str) -> Refine:
    """Returns `mean_field` as a user calls it."""
    return lambda photos, logits: crf.mean_field(photos, logits, spec, backend).numpy()


def compiled(spec: crf.CRFSpec, backend: str, xla: bool = False) -> Refine:
    """Returns `mean_field` as one graph for any shape, or with `xla` one per shape; pydensecrf as it is."""
    if backend == "pydensecrf":
        return eager(spec, backend)
    shapes = None if xla else (tf.TensorSpec([None] * 3 + [3], tf.uint8), tf.TensorSpec([None] * 4))
    graph = tf.function(lambda photos, logits: crf.mean_field(photos, logits, spec, backend), shapes, jit_compile=xla)
    return lambda photos, logits: graph(photos, logits).numpy()


def work(backend: str, batch: int, height: int, width: int, classes: int,
         photo_dir: str | None = None) -> measure.Work:
    """Makes the work "the CRF on a batch": `SEC_TRAIN` for the exact kernels and at 41 x 41, else `DSRG_TEST`."""
    photos, logits = made_up(photo_dir, batch, height, width, classes)
    refine = compiled(crf.SEC_TRAIN if backend == "exact" or height <= 41 else crf.DSRG_TEST, backend)
    refine(photos[:1, :8, :8], logits[:1, :8, :8])
    return lambda: refine(photos, logits)


def full_size(options: measure.Options) -> Table:
    """Photographs of usual size: the lattice beside pydensecrf."""
    rows, goals = [], []
    refine = {name: eager(crf.DSRG_TEST, name) for name in ("pydensecrf", "permutohedral")}
    for batch in (1, 8):
        for height, width in SHAPES[options.scale]:
            for classes in (options.size.classes + 1, 3):
                photos, logits = made_up(options.photo_dir, batch, height, width, classes)
                works = {name: functools.partial(function, photos, logits) for name, function in refine.items()}
                labels = [function().argmax(-1) for function in works.values()]
                times = measure.compare(works, min(options.rounds, 5 if batch == 1 else 2), warm=0)
                theirs, ours = times["pydensecrf"], times["permutohedral"]
                rows.append([f"{height} x {width}", classes, batch, 1000 * theirs.median / batch,
                             1000 * ours.median / batch, 1000 * ours.processor_median / batch, ours.over(theirs),
                             ours.processor_over(theirs),
                             int((labels[0] != labels[1]).sum())])
                if batch == 1:
                    case, many = f"permutohedral, {height} x {width}, {classes} classes", classes > 3
                    goals.append(Goal(case, "pydensecrf", 0.6 if many else 1.0, ours.over(theirs)))
                    if many:
                        goals.append(Goal(f"{case}: processor time", "pydensecrf", 0.9, ours.processor_over(theirs)))
    return Table(
        "Dense CRF at full size",
        ("size", "classes", "images", "pydensecrf, ms per image", "permutohedral, ms per image",
         "the same, all cores' time", "ratio by the clock", "ratio of all cores' time", "labels that differ"), rows,
        "`DSRG_TEST`, ten iterations, logits of blobs with noise on photographs warped to the size; ours by the "
        "public call, `crf.mean_field`, after its first. By the clock it is all cores against pydensecrf's one, which "
        "also holds Python's lock.",
        tuple(goals))


def maps(options: measure.Options) -> Table:
    """A batch of 41 x 41 maps: the boundary loss's case."""
    side, batch = options.size.grid, options.size.batch
    rows: list[list[Any]] = []
    goals: tuple[Goal, ...] = ()
    refine = {"exact, XLA": compiled(crf.SEC_TRAIN, "exact", xla=True), "exact": compiled(crf.SEC_TRAIN, "exact"),
              "permutohedral": compiled(crf.SEC_TRAIN, "permutohedral"),
              "pydensecrf": compiled(crf.SEC_TRAIN, "pydensecrf")}
    for classes in (options.size.classes + 1, 3):
        photos, logits = made_up(options.photo_dir, batch, side, side, classes)
        times = measure.compare({name: functools.partial(function, photos, logits)
                                 for name, function in refine.items()}, options.rounds)
        rows += [[classes, name, 1000 * timing.median / batch, 1000 * timing.processor_median / batch,
                  timing.over(times["pydensecrf"])] for name, timing in times.items()]
        if not goals:
            best = min(times["exact, XLA"].median, times["exact"].median)
            goals = (Goal(f"exact CRF, {side} x {side}, batch {batch}, {classes} classes: ms per image", "10 ms", 10.0,
                          1000 * best / batch),)
    return Table(f"Dense CRF on {side} x {side} maps, batch {batch}",
                 ("classes", "backend", "ms per image", "all cores' time", "times pydensecrf, by the clock"), rows,
                 "`SEC_TRAIN`, ten iterations.", goals)


def memory(options: measure.Options) -> Table:
    """Peak memory of each backend, each in a fresh process."""
    height, width = SHAPES[options.scale][-1]
    cases = [(name, 1, height, width, classes) for classes in (options.size.classes + 1, 3)
             for name in ("pydensecrf", "permutohedral")]
    cases += [(name, options.size.batch, options.size.grid, options.size.grid, options.size.classes + 1)
              for name in ("pydensecrf", "exact")]
    rows = []
    for case in cases[:: 1 if options.scale == "full" else 3]:
        arguments: dict[str, Any] = dict(zip(("backend", "batch", "height", "width", "classes"), case, strict=True))
        arguments["photo_dir"] = options.photo_dir and str(options.photo_dir)
        peak = measure.peak_memory(f"{__name__}:work", arguments)["peak_mib"]
        rows.append([case[0], case[1], f"{case[2]} x {case[3]}", case[4], peak])
    return Table("Dense CRF: peak memory", ("backend", "images", "size", "classes", "peak MiB"), rows,
                 "Each in a fresh process, above the loaded process.")
