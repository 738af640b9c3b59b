"""Localization maps: N Grad-CAMs of one image on N random selections (FickleNet, Section 3.3, Eq. 1).

M_c[u] = ReLU(sum_k x[u, k] * dS_c / dx[u, k]) as `grad_cam.py` computes it, each map divided by its own maximum.
Only the running maximum, sum and sum of squares over the N maps are kept, so memory does not grow with N.
"""

import dataclasses
import hashlib
from collections.abc import Callable

import keras
import numpy as np
import tensorflow as tf

from ficklenet_tf import random_seeds
from ficklenet_tf.errors import UserError
from ficklenet_tf.maps import grad_cam
from ficklenet_tf.models import stochastic
from ficklenet_tf.models.hidden_units import keep_bits

BLOCK = 10  # selections drawn at once; part of what a seed means


def image_seed(seed: int | str, image_id: str) -> tf.Tensor:
    """Returns `[2]` int32 for one image of a run: a function of (seed, image id) alone."""
    digest = hashlib.sha256(f"{seed}:{image_id}".encode()).digest()
    return tf.constant([int.from_bytes(digest[i:i + 4], "little", signed=True) for i in (0, 4)], tf.int32)


@dataclasses.dataclass(frozen=True)
class Options:
    """How the maps of one image are drawn and aggregated.

    With a `tolerance`, drawing stops at 20, 40, 80, ... selections, once doubling their number has changed neither the
    mean nor the maximum map of any class by more than this share: sum_u |new - old| <= tolerance * sum_u new.

    Attributes:
      num_maps: N, a Python int or scalar tensor; with a tolerance the greatest N.
      mode: "stochastic", "general" or "deterministic" (one map; N is not used).
      method: "closed_form" or "tape".
      cam: "gradcam", or "cam": the head's own `class_maps` (Zhou et al. 2016), without gradient, deterministic.
      samples: how many of the first maps (at most `BLOCK`) to return as they are.
      tolerance: a share, or None: all N.

    Raises:
      UserError: an unknown word, or a `cam` that the mode does not have.
    """

    num_maps: int | tf.Tensor = 200
    mode: str = "stochastic"
    method: str = "closed_form"
    cam: str = "gradcam"
    samples: int = 0
    tolerance: float | None = None

    def __post_init__(self) -> None:
        for name, legal in (("method", grad_cam.METHODS), ("mode", stochastic.MODES), ("cam", grad_cam.CAMS)):
            if getattr(self, name) not in legal:
                raise UserError(f"{name}: expected one of {', '.join(legal)}, found {getattr(self, name)!r}")
        if self.cam == "cam" and self.mode != "deterministic":
            raise UserError(f"cam: expected mode deterministic with cam, found {self.mode}")


def localize(head: keras.layers.Layer, features: tf.Tensor, tag_ids: tf.Tensor, seed: tf.Tensor,
             options: Options = Options()) -> dict[str, tf.Tensor]:
    """Aggregates the maps of one image. Call it inside a tf.function.

    Args:
      head: a built `stochastic.StochasticHead`; with the method "tape" any object with `units(x)`, `kernel_size`,
        `rate`, `rescale` and a differentiable `logits(units, selection)`.
      features: `[h, w, k]` float32, static shape.
      tag_ids: `[c]` int32, the classes to localize, 0 the first foreground class.
      seed: `[2]` int32, signs do not count. The i-th selection is the same whatever N, method or batch.
      options: `Options`.

    Returns:
      A dict of float32: "mean", "max", "std" `[h, w, c]` over the N maps, each map 0..1 by its own
      maximum (a map without a positive value is 0), "samples" `[samples, h, w, c]` if any are asked for, and
      "num_maps", int32, the number of maps it took.
    """
    mode, samples = options.mode, options.samples
    features = head.units(features[None])[0]
    height, width, _ = features.shape
    make_raw_maps = grad_cam.class_activation if options.cam == "cam" else grad_cam.METHODS[options.method]
    raw_maps = make_raw_maps(head, features, tag_ids, mode)

    def block_maps(block: int | tf.Tensor) -> tf.Tensor:
        maps = tf.nn.relu(raw_maps(_draw(seed, block, features.shape, head, mode)))  # [h * w, BLOCK or 1, c]
        return tf.math.divide_no_nan(maps, tf.reduce_max(maps, axis=0, keepdims=True))

    if mode == "deterministic":
        maps = block_maps(0)
        flat = {"mean": maps[:, 0], "max": maps[:, 0], "std": tf.zeros_like(maps[:, 0]), "num_maps": tf.constant(1),
                "samples": tf.repeat(maps, samples, axis=1)}
    else:
        flat = _aggregate(block_maps, (height * width, tf.shape(tag_ids)[0]), tf.cast(options.num_maps, tf.int32),
                          samples, options.tolerance)
    aggregates = {name: tf.reshape(flat[name], [height, width, -1]) for name in ("mean", "max", "std")}
    if samples:
        aggregates["samples"] = tf.reshape(tf.transpose(flat["samples"], [1, 0, 2]),
                                           [samples, height, width, tf.shape(tag_ids)[0]])
    return {**aggregates, "num_maps": flat["num_maps"]}


def _aggregate(block_maps: Callable[[tf.Tensor], tf.Tensor], shape: tuple[int, tf.Tensor], num_maps: tf.Tensor,
               samples: int, tolerance: float | None) -> dict[str, tf.Tensor]:
    """Runs over the blocks.

    Args:
      block_maps: number of a block -> its normalised maps `[h * w, BLOCK, c]`.
      shape: (h * w, c).
      num_maps: N, scalar int32.
      samples: see `Options`.
      tolerance: see `Options`.

    Returns:
      "mean", "max", "std" `[h * w, c]`, "samples" `[h * w, samples, c]`, and "num_maps".
    """
    blocks = (num_maps + BLOCK - 1) // BLOCK

    def body(block: tf.Tensor, total: tf.Tensor, squares: tf.Tensor, highest: tf.Tensor, first_maps: tf.Tensor,
             before: tf.Tensor, change: tf.Tensor) -> tuple[tf.Tensor, ...]:
        maps = block_maps(block)
        maps *= tf.cast(block * BLOCK + tf.range(BLOCK) < num_maps, tf.float32)[:, None]
        total, squares = total + tf.reduce_sum(maps, 1), squares + tf.reduce_sum(maps * maps, 1)
        highest = tf.maximum(highest, tf.reduce_max(maps, 1))
        if samples:
            first_maps = tf.where(block == 0, maps[:, :samples], first_maps)
        if tolerance is not None:
            before, change = _doubled(block + 1, tf.stack([total, highest]), before, change)
        return block + 1, total, squares, highest, first_maps, before, change

    zero = tf.zeros(shape)
    start = (0, zero, zero, zero, tf.zeros([shape[0], samples, shape[1]]), tf.stack([zero, zero]), np.float32(np.inf))
    settled = -np.inf if tolerance is None else tolerance
    state_shapes = [zero.shape, zero.shape, zero.shape, start[4].shape, start[5].shape]
    blocks_done, total, squares, highest, first_maps, _, _ = tf.while_loop(
        lambda block, *state: (block < blocks) & (state[-1] > settled), body, start, parallel_iterations=2,
        shape_invariants=(tf.TensorShape([]), *state_shapes, tf.TensorShape([])))
    used = tf.minimum(blocks_done * BLOCK, num_maps)
    mean = total / tf.cast(used, tf.float32)
    std = tf.sqrt(tf.nn.relu(squares / tf.cast(used, tf.float32) - mean * mean))
    return {"mean": mean, "max": highest, "std": std, "samples": first_maps, "num_maps": used}


def _doubled(blocks: tf.Tensor, now: tf.Tensor, before: tf.Tensor,
             change: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """At 1, 2, 4, ... blocks compares the aggregates with those at half as many.

    Args:
      blocks: done so far.
      now: `[2, h * w, c]`, sum and maximum of the maps.
      before: as `now`, at the last power of two.
      change: the greatest relative change then.

    Returns:
      (before, change), new ones where `blocks` is a power of two.
    """
    due = tf.equal(tf.bitwise.bitwise_and(blocks, blocks - 1), 0)
    halves = tf.reshape([0.5, 1.0], [2, 1, 1])  # a mean that stayed doubles its sum
    differences = tf.reduce_sum(tf.abs(now * halves - before), 1)
    share = tf.reduce_max(tf.math.divide_no_nan(differences, tf.reduce_sum(now * halves, 1)))
    share = tf.where(blocks == 1, np.float32(np.inf), tf.maximum(share, 0.0))  # no class at all: -inf without the 0
    return tf.where(due, now, before), tf.where(due, share, change)


def _draw(seed: tf.Tensor, block: int | tf.Tensor, shape: tf.TensorShape, head: keras.layers.Layer,
          mode: str) -> tf.Tensor | None:
    """Bits of BLOCK selections: `[h * w, BLOCK, s * s]`, for "general" `[h * w, BLOCK, k]`, else None."""
    if mode == "deterministic":
        return None
    height, width, channels = shape
    units = channels if mode == "general" else head.kernel_size**2
    block_seed = random_seeds.fold_in(seed, block)
    return keep_bits(block_seed, (height * width, BLOCK, units), head.rate)
