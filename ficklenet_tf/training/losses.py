"""The segmenter's losses: seed (DSRG's and SEC's), expansion and boundary (SEC), full (FickleNet, Section 4).

L = L_seed + L_boundary for weak supervision, + alpha * L_full for the strongly labelled images of
semi-supervision; SEC's own is L_seed + L_expand + L_boundary. All take float32 logits and return a scalar.
"""

import tensorflow as tf

from ficklenet_tf import crf, distribution
from ficklenet_tf.data import labels
from ficklenet_tf.errors import UserError

FLOOR = 1e-4  # of probabilities before a logarithm, and of a pixel count (DSRG's code)
FORMS = ("floored", "softmax")
MEANS = ("pixels", "balanced")
UNARIES = ("log_probs", "probs")


def log_probs(logits: tf.Tensor, form: str = "floored") -> tf.Tensor:
    """Returns `[..., classes]` logarithms of the softmax.

    "floored" is SEC's: log((p + 1e-4) / (1 + 1e-4 classes)). It limits a loss to ln 1e4, and takes the gradient away
    from a pixel that is surely wrong: of two classes, 9 against -9, it is 1.5e-4, where that of "softmax", the
    logarithm as it is, is 1.

    Args:
      logits: `[..., classes]`.
      form: one of `FORMS`.

    Raises:
      UserError: unknown form.
    """
    if form not in FORMS:
        raise UserError(f"log_probs: expected one of {', '.join(FORMS)}, found {form!r}")
    return tf.nn.log_softmax(logits) if form == "softmax" else _floored(tf.nn.softmax(logits))


def _floored(probs: tf.Tensor) -> tf.Tensor:
    return tf.math.log((probs + FLOOR) / (1 + FLOOR * tf.cast(tf.shape(probs)[-1], probs.dtype)))


def surest(num_classes: int) -> float:
    """Returns the greatest probability that a floored answer, as `refine` gives it, can have."""
    return (1 + FLOOR) / (1 + FLOOR * num_classes)


def seed_loss(logits: tf.Tensor, seeds: tf.Tensor, form: str = "floored") -> tf.Tensor:
    """Balanced seeding loss (DSRG, Eq. 2, with foreground and background normalised apart, as its code does).

    Args:
      logits: `[b, h, w, classes]`.
      seeds: `[b, h, w]` uint8: the class of a seed, 255 where there is none.
      form: see `log_probs`.

    Returns:
      Mean over the batch of -mean log p over the foreground seeds - mean log p over the background
      seeds, each mean 0 for an image that has no such seed.
    """
    num_classes = logits.shape[-1]
    target = tf.one_hot(tf.cast(seeds, tf.int32), num_classes)  # 255 gives a row of zeros
    seed_log_probs = log_probs(logits, form) * target

    def mean(class_ids: slice) -> tf.Tensor:
        num_seeds = tf.reduce_sum(target[..., class_ids], [1, 2, 3])
        return tf.reduce_sum(seed_log_probs[..., class_ids], [1, 2, 3]) / tf.maximum(num_seeds, FLOOR)

    background, foreground = slice(labels.BACKGROUND, 1), slice(1, None)
    return -tf.reduce_mean(mean(background) + mean(foreground))


def sec_seed_loss(logits: tf.Tensor, seeds: tf.Tensor, form: str = "floored") -> tf.Tensor:
    """Seeding loss (SEC, Eq. 2), foreground and background normalised together; see `seed_loss`.

    Returns:
      Mean over the batch of -mean log p over all seeds, that mean 0 for an image without seeds.
    """
    target = tf.one_hot(tf.cast(seeds, tf.int32), logits.shape[-1])
    sums = tf.reduce_sum(log_probs(logits, form) * target, [1, 2, 3])
    return -tf.reduce_mean(sums / tf.maximum(tf.reduce_sum(target, [1, 2, 3]), FLOOR))


def expand_loss(logits: tf.Tensor, tags: tf.Tensor, decay: float = 0.996,
                background_decay: float = 0.999) -> tf.Tensor:
    """Expansion loss (SEC, Eq. 3 and 4): an image's classes must cover some of it, the others none of it.

    A class' score in an image is the weighted mean of its probabilities, sorted from the greatest down, where each
    weight is `decay` times the one before (global weighted rank pooling). An absent class' score is its greatest
    probability.

    Args:
      logits: `[b, h, w, classes]`.
      tags: `[b, classes - 1]` float32, 0 or 1.
      decay: of the image's own classes, 0..1: 0 takes the greatest probability, 1 the mean.
      background_decay: of the background, which each image is taken to show.

    Returns:
      Mean over the batch of -mean log score over the image's classes - mean log(1 - score) over the absent
      ones - log score of the background; a mean over no class is 0.
    """
    probs = tf.exp(log_probs(logits))
    probs = tf.reshape(probs, [tf.shape(probs)[0], -1, probs.shape[-1]])
    background, foreground = probs[..., labels.BACKGROUND], probs[..., 1:]
    log_absent = tf.math.log(1 - tf.reduce_max(foreground, 1))
    return -tf.reduce_mean(
        tf.math.divide_no_nan(tf.reduce_sum(tags * tf.math.log(_rank_pool(foreground, decay)), -1),
                              tf.reduce_sum(tags, -1))
        + tf.math.divide_no_nan(tf.reduce_sum((1 - tags) * log_absent, -1), tf.reduce_sum(1 - tags, -1))
        + tf.math.log(_rank_pool(background[..., None], background_decay))[:, 0])


def _rank_pool(probs: tf.Tensor, decay: float) -> tf.Tensor:
    """Global weighted rank pooling of `[b, pixels, classes]` over the pixels."""
    weights = tf.pow(tf.cast(decay, probs.dtype), tf.range(tf.shape(probs)[1], dtype=probs.dtype))
    falling = tf.sort(tf.transpose(probs, [0, 2, 1]), -1, "DESCENDING")
    return tf.reduce_sum(falling * weights, -1) / tf.reduce_sum(weights)


def refine(logits: tf.Tensor, images: tf.Tensor, spec: crf.CRFSpec = crf.SEC_TRAIN,
           unaries: str = "log_probs") -> tf.Tensor:
    """Returns the dense CRF's answer to a network's: `[b, h, w, classes]` floored log Q, without a gradient.

    Args:
      logits: `[b, h, w, classes]`.
      images: `[b, h, w, 3]` RGB 0..255, the photographs at the map's size.
      spec: the CRF's parameters.
      unaries: what the CRF takes for minus the unary energies: "log_probs" (SEC), or "probs", which is what
        DSRG's code gives it in training.

    Raises:
      UserError: unknown unaries.
    """
    if unaries not in UNARIES:
        raise UserError(f"crf_unaries: expected one of {', '.join(UNARIES)}, found {unaries!r}")
    floored = tf.stop_gradient(log_probs(logits))
    refined = crf.refiner(spec, "exact")(images, floored if unaries == "log_probs" else tf.exp(floored))
    return tf.stop_gradient(_floored(refined))


def boundary_loss(logits: tf.Tensor, refined: tf.Tensor, form: str = "floored") -> tf.Tensor:
    """Constrain-to-boundary loss (SEC, Eq. 5): mean over pixels of KL(Q || f), Q the CRF's answer to f.

    Args:
      logits: `[b, h, w, classes]`.
      refined: `[b, h, w, classes]` log Q, see `refine`.
      form: see `log_probs`.

    Returns:
      The loss. No gradient flows through Q.
    """
    return tf.reduce_mean(tf.reduce_sum(tf.exp(refined) * (refined - log_probs(logits, form)), -1))


def full_loss(logits: tf.Tensor, target: tf.Tensor, mean: str = "pixels") -> tf.Tensor:
    """Softmax cross-entropy over the pixels that carry a label; 255 is ignored.

    Args:
      logits: `[b, h, w, classes]`.
      target: `[b, h, w]` uint8 labels.
      mean: one of `MEANS`. "pixels": over all of them. "balanced": over an image's objects and its background apart,
        as in `seed_loss`: where objects are small and the training is short, the other one learns background alone.

    Returns:
      The loss; 0 where no pixel carries a label. Under a `tf.distribute` strategy each replica divides by
      the replicas' mean count, so that the mean of their losses is the whole batch's.

    Raises:
      UserError: unknown mean.
    """
    if mean not in MEANS:
        raise UserError(f"full_loss: expected one of {', '.join(MEANS)}, found {mean!r}")
    if mean == "balanced":
        return seed_loss(logits, target, "softmax")
    known = tf.cast(target != labels.IGNORE, logits.dtype)
    cross_entropy = tf.nn.sparse_softmax_cross_entropy_with_logits(
        tf.where(target == labels.IGNORE, 0, tf.cast(target, tf.int32)), logits)
    count = distribution.mean_over_replicas(tf.reduce_sum(known))
    return tf.math.divide_no_nan(tf.reduce_sum(cross_entropy * known), count)
