"""Saliency maps as teachers of single pixels.

Of a classifier whose head has a background (EPS: Lee et al. 2021, "Railroad is not a train"), Eq. 1 to 6: with P the
softmax over the classes and the background at a position and S the saliency there, a tag's map is trusted where it
overlaps S: sum round(P_c) round(S) / sum round(P_c) > tau. With F the sum of P over the trusted tags and B that of the
background and of the tags that are not trusted,

    S^ = lambda F + (1 - lambda) (1 - B),   L_sal = mean (S^ - S)^2

Of a segmenter (STC: Wei et al. 2017, the initial network), from photographs of one tag c: the cross-entropy with the
probability S of c and 1 - S of the background. Saliency is more supervision than tags, see seeds/saliency.py.
"""

import tensorflow as tf

from ficklenet_tf import distribution
from ficklenet_tf.data import labels

_FLOOR = 1e-4  # of a pixel's part in the overlap's divisor (halbielee/EPS)


def eps_loss(position_logits: tf.Tensor, saliency: tf.Tensor, tags: tf.Tensor, tau: float = 0.4,
             blend: float = 0.5) -> tf.Tensor:
    """Returns L_sal, the mean over batch and positions.

    Args:
      position_logits: `[b, h, w, c + 1]`, the background last.
      saliency: `[b, h, w]` float32, 0..1.
      tags: `[b, c]` float32, 0 or 1.
      tau: 0..1.
      blend: lambda, 0..1.
    """
    probs = tf.nn.softmax(position_logits)
    of_tags = probs[..., :-1] * tags[:, None, None]
    claimed = tf.round(probs[..., :-1])
    overlap = tf.reduce_sum(claimed * tf.round(saliency)[..., None], [1, 2])
    trusted = tf.cast(overlap / tf.reduce_sum(claimed + _FLOOR, [1, 2]) > tau, probs.dtype)[:, None, None]
    foreground = tf.reduce_sum(of_tags * trusted, -1)
    background = probs[..., -1] + tf.reduce_sum(of_tags * (1 - trusted), -1)
    return tf.reduce_mean((blend * foreground + (1 - blend) * (1 - background) - saliency)**2)


def stc_loss(logits: tf.Tensor, saliency: tf.Tensor, tags: tf.Tensor) -> tf.Tensor:
    """Returns STC's loss, the mean over the pixels of the batch's photographs of one tag.

    Args:
      logits: `[b, h, w, classes]`.
      saliency: `[b, h, w]` float32, 0..1.
      tags: `[b, classes - 1]` float32, 0 or 1.

    Returns:
      A scalar; 0 where no photograph has one tag. As `losses.full_loss` of replicas.
    """
    log_probs = tf.nn.log_softmax(logits)
    of_tag = tf.einsum("bhwc,bc->bhw", log_probs[..., 1:], tags)
    cross_entropy = -(saliency * of_tag + (1 - saliency) * log_probs[..., labels.BACKGROUND])
    simple = tf.cast(tf.reduce_sum(tags, -1) == 1, logits.dtype)
    count = distribution.mean_over_replicas(tf.reduce_sum(simple))
    return tf.math.divide_no_nan(tf.reduce_sum(simple * tf.reduce_mean(cross_entropy, [1, 2])), count)
