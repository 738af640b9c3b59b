"""The fully connected CRF of Kraehenbuehl & Koltun (NIPS 2011), by mean field, in three backends."""

import dataclasses
import functools
from collections.abc import Callable, Sequence

import numpy as np
import tensorflow as tf

from ficklenet_tf.crf import exact, permutohedral, pydensecrf
from ficklenet_tf.crf.spec import (
    DEEPLAB_LARGEFOV,
    DEEPLAB_RELATIVE,
    DEEPLAB_V2,
    DSRG_RELATIVE,
    DSRG_TEST,
    SEC_TRAIN,
    CRFSpec,
)
from ficklenet_tf.errors import UserError

BACKENDS: dict[str, Callable[[tf.Tensor, tf.Tensor, CRFSpec, int | tf.Tensor], tf.Tensor]] = {
    "exact": exact.mean_field, "permutohedral": permutohedral.mean_field, "pydensecrf": pydensecrf.mean_field}

SPECS: dict[str, CRFSpec | None] = {"none": None, "sec": SEC_TRAIN, "dsrg": DSRG_TEST, "dsrg_relative": DSRG_RELATIVE,
                                    "deeplab": DEEPLAB_LARGEFOV, "deeplab_relative": DEEPLAB_RELATIVE,
                                    "deeplab_v2": DEEPLAB_V2}
FLOOR = 1e-6  # of probabilities before their logarithm is a CRF's unary
_ROUNDING = 0.01  # by how much probabilities of few bits may miss 0, 1 and their sum, 1
_GREY = 0.5  # by how much colours that were computed may miss 0 and 255

__all__ = ["BACKENDS", "DEEPLAB_LARGEFOV", "DEEPLAB_RELATIVE", "DEEPLAB_V2", "DSRG_RELATIVE", "DSRG_TEST", "FLOOR",
           "SEC_TRAIN", "SPECS", "CRFSpec", "logits_of", "mean_field", "refine", "refiner", "spec_of"]


def logits_of(probs: tf.Tensor | np.ndarray) -> tf.Tensor:
    """Returns log max(p, `FLOOR`) of probabilities of any shape: what `mean_field` takes for a network's logits."""
    return tf.math.log(tf.maximum(probs, FLOOR))


def spec_of(spec: CRFSpec | str | None) -> CRFSpec | None:
    """Returns what a key of `SPECS` stands for; a spec or None as it is.

    Raises:
      UserError: there is no such key.
    """
    if not isinstance(spec, str):
        return spec
    if spec not in SPECS:
        raise UserError(f"crf: expected one of {', '.join(SPECS)}, found {spec!r}")
    return SPECS[spec]


def refine(images: np.ndarray | tf.Tensor, probs: np.ndarray | tf.Tensor, spec: CRFSpec | str | None = DSRG_TEST,
           backend: str = "permutohedral") -> np.ndarray:
    """Refines probabilities, of one photograph or of a batch: `mean_field` of their floored logarithm, checked.

    In a graph, or for gradients, call `mean_field`.

    Args:
      images: `[height, width, 3]` or `[batch, height, width, 3]` RGB 0..255, any number type.
      probs: `[height, width, classes]` or `[batch, height, width, classes]`, each 0..1, 1 in sum over the classes.
        Of both, what misses its range by rounding is clipped.
      spec: a `CRFSpec` or a key of `SPECS`; None or "none": the probabilities come back as they are.
      backend: see `mean_field`.

    Returns:
      Probabilities of the same shape, float64 where they were, else float32.

    Raises:
      UserError: photographs that are not 0..255 (floating numbers none of which is above 1 are taken for 0..1, but
        for a black photograph), numbers that are no probabilities, shapes that do not belong together, an unknown key
        or backend.

    Example:
      >>> probs = np.full((48, 64, 2), 0.5, np.float32)  # of a network that cannot tell
      >>> probs[20:28, 20:28] = 0.1, 0.9  # and is sure of a few pixels of an object
      >>> photograph = np.zeros((48, 64, 3), np.uint8)
      >>> photograph[10:40, 10:40] = 200, 60, 20
      >>> refined = ficklenet_tf.crf.refine(photograph, probs)
      >>> bool(refined[12, 12, 1] > 0.9)  # the object's colour
      True
    """
    spec, images, probs = spec_of(spec), np.asarray(images), np.asarray(probs)
    if not np.issubdtype(images.dtype, np.number):  # bfloat16 is no number of NumPy's
        images = images.astype(np.float32)
    _check_backend(backend)
    _check_photographs(images, probs.shape)
    _check_probs(probs)
    if np.issubdtype(images.dtype, np.floating):
        images = images.clip(0, 255)
    probs = probs.astype(np.float64 if probs.dtype == np.float64 else np.float32).clip(0, 1)
    if spec is None:
        return probs
    if probs.ndim == 3:
        return refiner(spec, backend)(images[None], logits_of(probs[None]))[0].numpy()
    return refiner(spec, backend)(images, logits_of(probs)).numpy()


def _check_backend(backend: str) -> None:
    """Raises UserError where there is no such backend."""
    if backend not in BACKENDS:
        raise UserError(f"backend: expected one of {', '.join(BACKENDS)}, found {backend!r}")


def _check_photographs(images: np.ndarray, shape: tuple[int, ...]) -> None:
    """Raises UserError where images are not RGB 0..255, or not of probabilities of a shape."""
    if len(shape) not in (3, 4) or images.shape != (*shape[:-1], 3) or 0 in shape:
        raise UserError("images and probs: expected [height, width, 3] and [height, width, classes], or a batch of "
                        f"both, found {list(images.shape)} and {list(shape)}")
    least, most = images.min(), images.max()
    if not (least >= -_GREY and most <= 255 + _GREY):
        raise UserError(f"images: expected RGB 0..255, found numbers from {least:g} to {most:g}")
    if np.issubdtype(images.dtype, np.floating) and _ROUNDING < most <= 1 + _ROUNDING:  # below: black
        raise UserError(f"images: expected RGB 0..255, found floating numbers from {least:g} to {most:g}; if they are "
                        "0..1, multiply them by 255")


def _check_probs(probs: np.ndarray) -> None:
    """Raises UserError where numbers are no probabilities."""
    least, most, sums = probs.min(), probs.max(), probs.sum(-1, dtype=np.float32)
    if not (least >= -_ROUNDING and most <= 1 + _ROUNDING and np.abs(sums - 1).max() <= _ROUNDING):
        raise UserError(f"probs: expected probabilities, 0..1 and 1 in sum over the classes, found {least:g} to "
                        f"{most:g}, in sum {sums.min():g} to {sums.max():g}; logits go to mean_field")


def mean_field(images: tf.Tensor | np.ndarray, logits: tf.Tensor | np.ndarray, spec: CRFSpec,
               backend: str = "permutohedral",
               iterations: int | Sequence[int] | np.ndarray | tf.Tensor | None = None) -> tf.Tensor:
    """Refines a network's answer by the colours and positions of the pixels.

    Q <- softmax(logits + sum_m w_m D_m^-1/2 K_m D_m^-1/2 Q), from Q = softmax(logits);
    K_m is a Gaussian kernel between all pairs of pixels and D_m = K_m 1.

    Args:
      images: `[batch, height, width, 3]` RGB 0..255, any number type.
      logits: `[batch, height, width, classes]` float32 (or float64), minus the unary
        energies: a network's logits or log-probabilities.
      spec: a `CRFSpec`.
      backend: "exact": dense kernels of (height * width)^2 numbers per image, for maps of
        up to about 64 x 64; with static shapes XLA compiles it. "permutohedral": any size,
        known or not when traced; agrees with pydensecrf; can be saved and served. An eager call
        traces a graph, once for all sizes, so the first one takes seconds longer.
        "pydensecrf": the C++ package of that name (`pip install pydensecrf2`), eagerly,
        one image after another: it holds the GIL, so threads over images gain nothing.
      iterations: None for the spec's, or an int, or a scalar, or `[batch]` integers: one value per image.

    Returns:
      `[batch, height, width, classes]` probabilities, of the type of `logits`. Gradients
      flow to `logits` (not with "pydensecrf"), none to `images`.

    Raises:
      UserError: unknown backend, or types or static shapes that do not belong together.
    """
    _check_backend(backend)
    images, logits = tf.convert_to_tensor(images), tf.convert_to_tensor(logits)
    if logits.dtype not in (tf.float32, tf.float64):
        raise UserError(f"logits: expected float32 or float64, found {logits.dtype.name}")
    if not images.shape.is_compatible_with([*logits.shape[:3], 3]) or logits.shape.rank != 4:
        raise UserError("images and logits: expected [batch, height, width, 3] and [batch, height, width, classes],"
                        f" found {images.shape} and {logits.shape}")
    if iterations is None:
        iterations = spec.iterations
    if not isinstance(iterations, int):
        iterations = tf.broadcast_to(tf.cast(iterations, tf.int32), tf.shape(logits)[:1])
    if backend == "permutohedral" and tf.executing_eagerly():  # op by op it takes three times as long
        counts = tf.convert_to_tensor(iterations, tf.int32)
        graph = _traced(dataclasses.replace(spec, iterations=0), images.dtype, logits.dtype, counts.shape.rank)
        probs = graph(images, logits, counts)
    else:
        probs = BACKENDS[backend](images, logits, spec, iterations)
    return tf.ensure_shape(probs, logits.shape)


@functools.lru_cache
def _traced(spec: CRFSpec, image_type: tf.DType, logit_type: tf.DType,
            rank: int) -> Callable[[tf.Tensor, tf.Tensor, tf.Tensor], tf.Tensor]:
    """Returns the lattice's mean field as one graph for all sizes and numbers of iterations, int32 of that rank."""
    return tf.function(
        lambda images, logits, iterations: permutohedral.mean_field(images, logits, spec, iterations), autograph=False,
        input_signature=[tf.TensorSpec([None, None, None, 3], image_type), tf.TensorSpec([None] * 4, logit_type),
                         tf.TensorSpec([None] * rank, tf.int32)])


@functools.lru_cache
def refiner(spec: CRFSpec, backend: str = "permutohedral") -> Callable[[tf.Tensor, tf.Tensor], tf.Tensor]:
    """Returns `mean_field` for one spec as a function `(images, logits)`, to be called eagerly or in a graph.

    "exact" is compiled by XLA for each shape, which takes a second or two and saves a third of the time.
    """
    if backend == "exact":
        return tf.function(lambda images, logits: mean_field(images, logits, spec, backend), autograph=False,
                           jit_compile=True)
    return functools.partial(mean_field, spec=spec, backend=backend)
