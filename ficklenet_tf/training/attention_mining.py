"""Attention mining: what is left of a photograph where a class is erased must not show it (GAIN: Li et al. 2018).

Of a photograph's tag c, with f the head's features (the paper's Eq. 1 to 6, and Eq. 7 for masks):

    A_c = ReLU(sum_k mean_u(dS_c / df_k[u]) f_k), stretched to 0..1      the attention, `attention`
    x*_c = x - T(A_c) x,  T(A) = 1 / (1 + exp(-omega (A - sigma)))       what is left, `erased`
    L_am = mean_c s_c(x*_c), s_c the probability of c                    `mining_loss`
    L_e = mean_u (A_c[u] - H_c[u])^2, H_c the mask's region of c         `masks_loss` (GAIN_ext)

The masks T(A_c) carry a gradient, of second order as A_c is made of one. Where the whole network is trained, x is the
normalised photograph, as published; where only what is above a cut is, x are the cached features below it. Of a
photograph's tags one is drawn at each step (`draw_tag`), each as likely: the expectation is the paper's mean over all
of them, and a step costs one pass more however many tags there are. In that pass batch norm takes its moving
statistics, as in ilyak93/GAIN-pytorch; that code's s_c is a softmax's, here the sigmoid that the tags are learned by.
"""

import keras
import tensorflow as tf

from ficklenet_tf import distribution, random_seeds
from ficklenet_tf.data import labels

SIGMA, OMEGA = 0.5, 10.0  # of T: those of ilyak93/GAIN-pytorch
_STREAM = 0x6A17  # of the photographs' random seeds, for the drawn tag


def draw_tag(tags: tf.Tensor, rng_seeds: tf.Tensor) -> tf.Tensor:
    """Draws one of each photograph's tags, each as likely.

    Args:
      tags: `[b, c]` float32, 0 or 1.
      rng_seeds: `[b, 2]` int32, one per photograph: the same seed gives the same tag.

    Returns:
      `[b, c]` float32, 1 at the drawn tag; all 0 for a photograph without tags.
    """
    count = tags.shape[-1]
    chances = tf.map_fn(lambda seed: random_seeds.uniform(random_seeds.fold_in(seed, _STREAM), count), rng_seeds,
                        fn_output_signature=tf.TensorSpec([count], tf.float32))
    return tags * tf.one_hot(tf.argmax(tags + tags * chances, -1), count)


def attention(head: keras.layers.Layer, features: tf.Tensor, tag: tf.Tensor, rng_seeds: tf.Tensor) -> tf.Tensor:
    """Returns A_c, `[b, h, w, 1]` in 0..1: Grad-CAM with weights that are the gradient's mean over the positions.

    Args:
      head: called with (features, training, rng_seeds), see `classifier.HEADS`.
      features: `[b, h, w, k]`.
      tag: `[b, c]`, see `draw_tag`.
      rng_seeds: `[b, 2]` int32, of the selections.
    """
    with tf.GradientTape() as tape:
        tape.watch(features)
        logits = head(features, training=True, rng_seeds=rng_seeds)
        score = tf.reduce_sum(logits * tf.cast(tag, logits.dtype))
    weights = tf.reduce_mean(tape.gradient(score, features), [1, 2], keepdims=True)
    return _stretched(tf.nn.relu(tf.reduce_sum(weights * features, -1, keepdims=True)))


def erased(x: tf.Tensor, attention_map: tf.Tensor) -> tf.Tensor:
    """Returns x*_c of `[b, h', w', k]`; the attention, `[b, h, w, 1]`, is enlarged to its size and stretched anew."""
    attention_map = _stretched(tf.image.resize(attention_map, x.shape[1:3]))
    mask = tf.sigmoid(OMEGA * (tf.cast(attention_map, x.dtype) - SIGMA))
    return x - mask * x


def _stretched(maps: tf.Tensor) -> tf.Tensor:
    """Returns each of the maps `[b, h, w, 1]` stretched to 0..1; one without differences becomes 0."""
    lowest, highest = (reduce(maps, [1, 2], keepdims=True) for reduce in (tf.reduce_min, tf.reduce_max))
    return tf.math.divide_no_nan(maps - lowest, highest - lowest)


def mining_loss(logits: tf.Tensor, tag: tf.Tensor) -> tf.Tensor:
    """Returns L_am: the mean over the batch of the drawn tag's probability; 0 for a photograph without tags.

    Args:
      logits: `[b, c]` of what is left, each class a sigmoid's.
      tag: `[b, c]`, see `draw_tag`.
    """
    return tf.reduce_mean(tf.reduce_sum(tf.sigmoid(logits) * tag, -1))


def masks_loss(attention_map: tf.Tensor, tag: tf.Tensor, label: tf.Tensor) -> tf.Tensor:
    """Returns L_e: the mean over the photographs that have a mask, and over its pixels that have a label.

    Args:
      attention_map: `[b, h, w, 1]`, see `attention`.
      tag: `[b, c]`, see `draw_tag`.
      label: `[b, h, w]` uint8, 255 where a pixel has no label; everywhere: a photograph without a mask.

    Returns:
      A scalar; 0 where no photograph has a mask. Under a `tf.distribute` strategy each replica divides by the
      replicas' mean count, so that the mean of their losses is the whole batch's.
    """
    tag_ids = tf.argmax(tag, -1, tf.int32)
    region = tf.cast(tf.cast(label, tf.int32) == tag_ids[:, None, None] + 1, attention_map.dtype)
    known = tf.cast(label != labels.IGNORE, attention_map.dtype)
    differences = tf.reduce_sum(known * (attention_map[..., 0] - region)**2, [1, 2])
    num_known = tf.reduce_sum(known, [1, 2])
    usable = tf.cast(num_known > 0, attention_map.dtype) * tf.reduce_sum(tag, -1)
    count = distribution.mean_over_replicas(tf.reduce_sum(usable))
    return tf.math.divide_no_nan(tf.reduce_sum(usable * tf.math.divide_no_nan(differences, num_known)), count)
