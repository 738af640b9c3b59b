"""EM-Fixed and EM-Adapt (WSSL, Papandreou et al. 2015): a segmenter learns its own labels, drawn towards the tags.

E-step, without a gradient: Y = argmax_l f_l + b_l at each pixel, f the network's scores, b_l > 0 for an image's own
classes, with the background, which each image is taken to show. M-step: the mean cross-entropy of f against Y.

EM-Fixed: b_l is one number for the background and a greater one for each tagged class; absent classes have 0.
EM-Adapt: the b_l of each image are raised until class l wins on about the share rho_l of its pixels, as in the
AdaptiveBiasChannelLayer of the authors' DeepLab. m is the greatest score of the present classes at a pixel. Five
times, for each of them, the background first:

    q = the n-th smallest m - f_l - b_l, n = rho_l * pixels;    b_l += q;    m = max(m, f_l + b_l)

Absent classes never win. The layer also keeps their scores below the others and shifts all scores of an image; neither
changes the argmax, so neither is done here. It visits tagged classes in random order, we in that of their ids, so that
a step is a function of its batch. The shares are not met exactly: a class takes pixels of those before it.
"""

import tensorflow as tf

ROUNDS = 5


def fixed_labels(logits: tf.Tensor, tags: tf.Tensor, background_bias: float, foreground_bias: float) -> tf.Tensor:
    """Returns EM-Fixed's labels `[b, h, w]` uint8, without a gradient.

    Args:
      logits: `[b, h, w, classes]` float32.
      tags: `[b, classes - 1]` float32, 0 or 1.
      background_bias: b of the background, in units of the logits.
      foreground_bias: b of each tagged class; greater in the paper, so that the background does not take all.
    """
    biases = tf.concat([tf.fill([tf.shape(tags)[0], 1], float(background_bias)), foreground_bias * tags], 1)
    return tf.cast(tf.argmax(tf.stop_gradient(logits) + biases[:, None, None], -1), tf.uint8)


def adapted_labels(logits: tf.Tensor, tags: tf.Tensor, background_share: float, foreground_share: float) -> tf.Tensor:
    """Returns EM-Adapt's labels `[b, h, w]` uint8, without a gradient.

    Args:
      logits: `[b, h, w, classes]` float32.
      tags: `[b, classes - 1]` float32, 0 or 1.
      background_share: of an image's pixels, 0..1: rho of the background.
      foreground_share: rho of each tagged class.
    """
    shape = tf.shape(logits)
    scores = tf.transpose(tf.reshape(tf.stop_gradient(logits), [shape[0], -1, shape[-1]]), [0, 2, 1])
    present = tf.concat([tf.ones_like(tags[:, :1]), tags], 1) > 0
    biases = _adaptive_biases(scores, present, background_share, foreground_share)
    biased = tf.where(present[..., None], scores + biases[..., None], scores.dtype.min)
    return tf.reshape(tf.cast(tf.argmax(biased, 1), tf.uint8), shape[:-1])


def _adaptive_biases(scores: tf.Tensor, present: tf.Tensor, background_share: float,
                     foreground_share: float) -> tf.Tensor:
    """Returns EM-Adapt's b `[b, classes]` of scores `[b, classes, pixels]`; `present` is `[b, classes]` bool."""
    num_classes, num_pixels = tf.shape(scores)[1], tf.shape(scores)[2]
    # Visit by visit: an image's own classes by their ids. Those with fewer than others wait at the end of a round.
    order = tf.argsort(tf.cast(~present, tf.int32), 1, stable=True)
    num_visits = tf.reduce_max(tf.reduce_sum(tf.cast(present, tf.int32), 1))
    ranks = [tf.minimum(tf.cast(share * tf.cast(num_pixels, tf.float32), tf.int32), num_pixels - 1)
             for share in (background_share, foreground_share)]

    def visit(step: tf.Tensor, biases: tf.Tensor, highest: tf.Tensor) -> tuple[tf.Tensor, ...]:
        place = step % num_visits
        class_ids = order[:, place]
        own = tf.gather(present, class_ids, batch_dims=1)[:, None]
        score = tf.gather(scores, class_ids, batch_dims=1) + tf.gather(biases, class_ids, batch_dims=1)[:, None]
        behind = tf.sort(highest - score, 1)[:, tf.where(place == 0, ranks[0], ranks[1]), None]
        biases += behind * tf.one_hot(class_ids, num_classes)  # absent classes' are not used
        return step + 1, biases, tf.where(own, tf.maximum(highest, score + behind), highest)

    highest = tf.reduce_max(tf.where(present[..., None], scores, scores.dtype.min), 1)
    _, biases, _ = tf.while_loop(lambda step, *_: step < ROUNDS * num_visits, visit,
                                 (0, tf.zeros_like(scores[..., 0]), highest))
    return biases
