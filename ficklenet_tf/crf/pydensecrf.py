"""The dense CRF by the C++ package pydensecrf: the reference, and no part of any graph.

The distribution `pydensecrf2` builds under today's Cython and is imported as `pydensecrf`.
"""

from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from ficklenet_tf.crf.spec import REFERENCE, CRFSpec
from ficklenet_tf.errors import UserError


def mean_field(images: tf.Tensor, logits: tf.Tensor, spec: CRFSpec, iterations: int | tf.Tensor) -> tf.Tensor:
    """Runs mean field image by image; see `ficklenet_tf.crf.mean_field`.

    Args:
      images: `[batch, height, width, 3]` RGB 0..255, eager.
      logits: `[batch, height, width, classes]` float32 or float64, eager.
      spec: a `CRFSpec`.
      iterations: an int, or `[batch]` int32, eager.

    Returns:
      `[batch, height, width, classes]` probabilities.

    Raises:
      ImportError: the package is not installed.
      UserError: called while a graph is traced.
    """
    if not tf.executing_eagerly():
        raise UserError("backend 'pydensecrf' runs eagerly only: in a tf.function take 'permutohedral' or 'exact'")
    counts = np.broadcast_to(iterations, logits.shape[:1])
    examples = zip(images.numpy(), logits.numpy(), counts, strict=True)
    probs = [mean_field_image(image, unary, spec, count) for image, unary, count in examples]
    return tf.cast(tf.reshape(tf.constant(np.array(probs, np.float32)), logits.shape), logits.dtype)


def mean_field_image(image: np.ndarray, logits: np.ndarray, spec: CRFSpec, iterations: int) -> np.ndarray:
    """Refines one image.

    Args:
      image: `[height, width, 3]` RGB 0..255, NumPy.
      logits: `[height, width, classes]`, NumPy.
      spec: a `CRFSpec`.
      iterations: number of updates.

    Returns:
      `[height, width, classes]` float32 probabilities, NumPy.

    Raises:
      ImportError: the package is not installed.
    """
    try:
        from pydensecrf import densecrf
    except ImportError as error:
        raise ImportError("backend 'pydensecrf' needs the package: pip install pydensecrf2") from error
    height, width, num_classes = logits.shape
    dense_crf = densecrf.DenseCRF(height * width, num_classes)
    # The package takes energies, one row per class, as contiguous float32 only.
    dense_crf.setUnaryEnergy(np.ascontiguousarray(-logits.reshape(-1, num_classes).T, np.float32))
    y, x = np.mgrid[:height, :width].astype(np.float32) * np.float32(
        REFERENCE / max(height, width) if spec.relative else 1)
    colours = image.astype(np.float32).transpose(2, 0, 1) / spec.bilateral_sigma_rgb
    dense_crf.addPairwiseEnergy(_features([x / spec.gaussian_sigma_xy, y / spec.gaussian_sigma_xy]),
                                spec.gaussian_weight)
    dense_crf.addPairwiseEnergy(_features([x / spec.bilateral_sigma_xy, y / spec.bilateral_sigma_xy, *colours]),
                                spec.bilateral_weight)
    return np.array(dense_crf.inference(int(iterations)), np.float32).T.reshape(logits.shape)


def _features(planes: Sequence[np.ndarray]) -> np.ndarray:
    """Returns `[features, pixels]` contiguous float32, as the package wants them."""
    return np.ascontiguousarray(np.stack(planes).reshape(len(planes), -1), np.float32)
