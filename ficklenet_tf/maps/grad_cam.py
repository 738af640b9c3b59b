"""One map per selection: Grad-CAM (FickleNet, Eq. 1) by the tape and in closed form, and CAM.

`tape` takes the gradient by GradientTape, for any head. `closed_form` uses that our head is linear in x, so that the
sum inside the ReLU of Grad-CAM is sum_d t[u, d] Y_c[u, d] / (h w) with Y_c[u, d] = W_c[d] . x[u]: no expansion and no
backward pass, and Y is computed once per image.
"""

from collections.abc import Callable

import keras
import tensorflow as tf

from ficklenet_tf.models.hidden_units import inside, weights_of
from ficklenet_tf.models.stochastic import StochasticHead

CAMS = ("gradcam", "cam")
RawMaps = Callable[[tf.Tensor | None], tf.Tensor]  # bits of n selections -> their maps before the ReLU


def _general_scale(bits: tf.Tensor, rate: float) -> tf.Tensor:
    return tf.cast(bits, tf.float32) / max(1 - rate, 1e-9)


def responses(head: StochasticHead, x: tf.Tensor, tag_ids: tf.Tensor, mode: str = "stochastic") -> tf.Tensor:
    """Returns Y of the closed form, `[h * w, s * s, c]` float32: what each hidden unit adds to a map before the ReLU.

    Args:
      head: a built `stochastic.StochasticHead`.
      x: features `[h, w, k]` float32, static shape.
      tag_ids: `[c]` int32.
      mode: with "stochastic" survivors are scaled where the head asks for it.
    """
    height, width, channels = x.shape
    s, area = head.kernel_size, height * width
    kernel = tf.reshape(tf.gather(tf.convert_to_tensor(head.kernel), tag_ids, axis=3), [s * s, channels, -1])
    rescale = head.rescale and mode == "stochastic"
    scale = weights_of(tf.ones([area, s * s], tf.bool), height, width, s, head.rate, rescale)
    return tf.einsum("uk,dkc->udc", tf.reshape(x, [area, channels]), kernel) * scale[..., None] / area


def closed_form(head: StochasticHead, x: tf.Tensor, tag_ids: tf.Tensor, mode: str) -> RawMaps:
    """Returns a function from the bits of n selections to their maps before the ReLU.

    Args:
      head: a built `stochastic.StochasticHead`.
      x: features `[h, w, k]` float32, static shape.
      tag_ids: `[c]` int32.
      mode: one of `stochastic.MODES`.

    Returns:
      A function: bits `[h * w, n, s * s]`, for "general" `[h * w, n, k]`, for "deterministic" None (then n = 1) ->
      `[h * w, n, c]` float32.
    """
    height, width, channels = x.shape
    s, area = head.kernel_size, height * width
    if mode == "general":
        kernel = tf.reshape(tf.gather(tf.convert_to_tensor(head.kernel), tag_ids, axis=3), [s * s, channels, -1])
        seen = tf.constant(inside(height, width, s), tf.float32)
        contribution = tf.reshape(x, [area, channels, 1]) * tf.einsum("ud,dkc->ukc", seen, kernel) / area
        return lambda bits: tf.matmul(_general_scale(bits, head.rate), contribution)
    y = responses(head, x, tag_ids, mode)
    if mode == "deterministic":
        return lambda bits: tf.reduce_sum(y, 1, keepdims=True)
    centre = y[:, s * s // 2, None]
    others = y * (1 - tf.one_hot(s * s // 2, s * s))[:, None]
    return lambda bits: tf.matmul(tf.cast(bits, tf.float32), others) + centre


def tape(head: keras.layers.Layer, x: tf.Tensor, tag_ids: tf.Tensor, mode: str) -> RawMaps:
    """As `closed_form`, by one forward and one backward pass per selection (Eq. 1 as it is written)."""
    height, width, channels = x.shape
    num_tags, map_shape = tf.shape(tag_ids)[0], [height * width, tag_ids.shape[0]]
    tag_ids = tf.concat([tag_ids, tf.zeros(tf.maximum(1 - num_tags, 0), tf.int32)], 0)  # of no row gradients fail
    num_rows = tf.size(tag_ids)
    rows = tf.repeat(x[None], num_rows, axis=0)  # one row per class, so one gradient serves all tag_ids

    def selection_maps(factor: float | tf.Tensor, weights: tf.Tensor | None) -> tf.Tensor:
        with tf.GradientTape() as record:
            record.watch(rows)
            selected = None if weights is None else tf.repeat(weights[None], num_rows, axis=0)
            scores = tf.gather(head.logits(rows * factor, selected), tag_ids, axis=1, batch_dims=0)
            score = tf.reduce_sum(tf.linalg.diag_part(scores))
        maps = tf.reduce_sum(tf.reshape(rows * record.gradient(score, rows), [num_rows, height * width, channels]), -1)
        return tf.ensure_shape(tf.transpose(maps[:num_tags]), map_shape)

    def block_maps(bits: tf.Tensor | None) -> tf.Tensor:
        if mode == "deterministic":
            return selection_maps(1.0, None)[:, None]
        signature = tf.TensorSpec(map_shape, tf.float32)
        bits = tf.transpose(bits, [1, 0, 2])
        if mode == "general":
            factors = tf.reshape(_general_scale(bits, head.rate), [-1, *x.shape])
            maps = tf.map_fn(lambda factor: selection_maps(factor, None), factors, fn_output_signature=signature,
                             parallel_iterations=1)
        else:
            weights = weights_of(bits, height, width, head.kernel_size, head.rate, head.rescale)
            maps = tf.map_fn(lambda weight: selection_maps(1.0, weight), weights, fn_output_signature=signature,
                             parallel_iterations=1)
        return tf.transpose(maps, [1, 0, 2])

    return block_maps


def class_activation(head: keras.layers.Layer, x: tf.Tensor, tag_ids: tf.Tensor, mode: str) -> RawMaps:
    """As `closed_form`, of any head with `class_maps`: the head's own maps, which know no selection (n = 1)."""
    maps = head.class_maps(x, tag_ids)[:, None]
    return lambda bits: maps


METHODS: dict[str, Callable[[keras.layers.Layer, tf.Tensor, tf.Tensor, str], RawMaps]] = {
    "closed_form": closed_form, "tape": tape}
