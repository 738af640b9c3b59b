"""The segmenter's losses: balanced seed loss (DSRG), boundary loss (SEC), full loss (FickleNet, Section 4).

L = L_seed + L_boundary for weak supervision, + alpha * L_full for the strongly labelled images of
semi-supervision. All take float32 logits and return a scalar.
"""

import tensorflow as tf

from ficklenet_tf import crf, distribution, labels

FLOOR = 1e-4  # of probabilities before a logarithm, and of a pixel count (DSRG's code)


def log_probs(logits):
    """Returns `[..., classes]` logarithms of the softmax, floored: log((p + 1e-4) / (1 + 1e-4 classes)).

    Adding the floor, where SEC's code clips, keeps a gradient for a pixel that is surely wrong.
    """
    return _floored(tf.nn.softmax(logits))


def _floored(probs):
    return tf.math.log((probs + FLOOR) / (1 + FLOOR * tf.cast(tf.shape(probs)[-1], probs.dtype)))


def seed_loss(logits, seeds):
    """Balanced seeding loss (DSRG, Eq. 2, with foreground and background normalised apart, as its code does).

    Args:
      logits: `[b, h, w, classes]`.
      seeds: `[b, h, w]` uint8: the class of a seed, 255 where there is none.

    Returns:
      Mean over the batch of -mean log p over the foreground seeds - mean log p over the background
      seeds, each mean 0 for an image that has no such seed.
    """
    classes = logits.shape[-1]
    target = tf.one_hot(tf.cast(seeds, tf.int32), classes)  # 255 gives a row of zeros
    picked = log_probs(logits) * target

    def mean(part, kind):
        return tf.reduce_sum(part, [1, 2, 3]) / tf.maximum(tf.reduce_sum(kind, [1, 2, 3]), FLOOR)

    background, foreground = slice(labels.BACKGROUND, 1), slice(1, None)
    return -tf.reduce_mean(mean(picked[..., background], target[..., background])
                           + mean(picked[..., foreground], target[..., foreground]))


def boundary_loss(logits, images, spec=crf.SEC_TRAIN, backend="exact"):
    """Constrain-to-boundary loss (SEC, Eq. 5): mean over pixels of KL(Q || f), Q the CRF's answer to f.

    Args:
      logits: `[b, h, w, classes]`.
      images: `[b, h, w, 3]` RGB 0..255, the photographs at the map's size.
      spec: the CRF's parameters.
      backend: see `crf.mean_field`.

    Returns:
      The loss. No gradient flows through Q.
    """
    own = log_probs(logits)
    refined = _floored(crf.mean_field(images, tf.stop_gradient(own), spec, backend))
    refined = tf.stop_gradient(refined)
    return tf.reduce_mean(tf.reduce_sum(tf.exp(refined) * (refined - own), -1))


def full_loss(logits, target):
    """Softmax cross-entropy, mean over the pixels that carry a label; 255 is ignored.

    Args:
      logits: `[b, h, w, classes]`.
      target: `[b, h, w]` uint8 labels.

    Returns:
      The loss; 0 where no pixel carries a label. Under a `tf.distribute` strategy each replica divides by
      the replicas' mean count, so that the mean of their losses is the whole batch's.
    """
    known = tf.cast(target != labels.IGNORE, logits.dtype)
    each = tf.nn.sparse_softmax_cross_entropy_with_logits(
        tf.where(target == labels.IGNORE, 0, tf.cast(target, tf.int32)), logits)
    count = distribution.mean_over_replicas(tf.reduce_sum(known))
    return tf.math.divide_no_nan(tf.reduce_sum(each * known), count)
