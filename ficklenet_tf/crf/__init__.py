"""The fully connected CRF of Kraehenbuehl & Koltun (NIPS 2011), by mean field, in three backends."""

import functools

import tensorflow as tf

from ficklenet_tf.crf import exact, permutohedral, pydensecrf
from ficklenet_tf.crf.spec import DEEPLAB_LARGEFOV, DEEPLAB_V2, DSRG_TEST, SEC_TRAIN, CRFSpec

BACKENDS = {"exact": exact.mean_field, "permutohedral": permutohedral.mean_field,
            "pydensecrf": pydensecrf.mean_field}

__all__ = ["BACKENDS", "DEEPLAB_LARGEFOV", "DEEPLAB_V2", "DSRG_TEST", "SEC_TRAIN", "CRFSpec", "mean_field", "refiner"]


def mean_field(images, logits, spec, backend, iterations=None):
    """Refines a network's answer by the colours and positions of the pixels.

    Q <- softmax(logits + sum_m w_m D_m^-1/2 K_m D_m^-1/2 Q), from Q = softmax(logits);
    K_m is a Gaussian kernel between all pairs of pixels and D_m = K_m 1.

    Args:
      images: `[batch, height, width, 3]` RGB 0..255, any number type.
      logits: `[batch, height, width, classes]` float32 (or float64), minus the unary
        energies: a network's logits or log-probabilities.
      spec: a `CRFSpec`.
      backend: "exact": dense kernels of (height * width)^2 numbers an image, for maps of
        up to about 64 x 64; with static shapes XLA compiles it. "permutohedral": any size,
        known or not when traced; the numbers of pydensecrf; can be saved and served.
        "pydensecrf": the C++ package of that name (`pip install pydensecrf2`), eagerly,
        one image after another: it holds the GIL, so threads over images gain nothing.
      iterations: None for the spec's, or an int, or a scalar or `[batch]` integers: one value an image.

    Returns:
      `[batch, height, width, classes]` probabilities, of the type of `logits`. Gradients
      flow to `logits` (not with "pydensecrf"), none to `images`.

    Raises:
      ValueError: unknown backend, or static shapes that do not belong together.
    """
    if backend not in BACKENDS:
        raise ValueError(f"backend: expected one of {', '.join(BACKENDS)}, found {backend!r}")
    images, logits = tf.convert_to_tensor(images), tf.convert_to_tensor(logits)
    if logits.dtype not in (tf.float32, tf.float64):
        raise ValueError(f"logits: expected float32 or float64, found {logits.dtype.name}")
    if not images.shape.is_compatible_with([*logits.shape[:3], 3]) or logits.shape.rank != 4:
        raise ValueError("images and logits: expected [batch, height, width, 3] and [batch, height, width, classes],"
                         f" found {images.shape} and {logits.shape}")
    if iterations is None:
        iterations = spec.iterations
    if not isinstance(iterations, int):
        iterations = tf.broadcast_to(tf.cast(iterations, tf.int32), tf.shape(logits)[:1])
    return tf.ensure_shape(BACKENDS[backend](images, logits, spec, iterations), logits.shape)


@functools.lru_cache
def refiner(spec, backend="permutohedral"):
    """Returns `mean_field` for one spec as a function `(images, logits)`, to be called eagerly or in a graph.

    "permutohedral": traced once for all sizes, of uint8 images and float32 logits; op by op the lattice is several
    times slower. "exact": compiled by XLA for each shape, which takes a second or two and saves a third of the time.
    """
    if backend == "pydensecrf":
        return functools.partial(mean_field, spec=spec, backend=backend)
    signature = [tf.TensorSpec([None, None, None, 3], tf.uint8), tf.TensorSpec([None] * 4, tf.float32)]
    exact = backend == "exact"
    return tf.function(lambda images, logits: mean_field(images, logits, spec, backend), autograph=False,
                       input_signature=None if exact else signature, jit_compile=exact)
