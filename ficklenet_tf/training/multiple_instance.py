"""Multiple instance learning: an image is a bag of pixels, of which some show each of its tags.

MIL-seg (Pinheiro & Collobert 2015): the negative log likelihood of the image's classes under the softmax of its pooled
scores (see `image_prior.pooled_scores`). MIL-FCN (Pathak et al. 2015): at the pixel where a class has its greatest
probability, -log of that; the mean over the image's classes.

The background counts as one of each image's classes, as in Pathak et al. MIL-seg's authors had photographs of the
background alone beside photographs of one class; a data set of tags has none, and from its tagged classes alone a
network learns that nothing is background. An image of several tags has the mean of its classes' losses.
"""

import tensorflow as tf

from ficklenet_tf.models import image_prior


def lse_loss(logits: tf.Tensor, tags: tf.Tensor, sharpness: float) -> tf.Tensor:
    """MIL-seg's loss: mean over the batch of -mean log softmax(s)_c over an image's classes and the background.

    Args:
      logits: `[b, h, w, classes]` float32.
      tags: `[b, classes - 1]` float32, 0 or 1.
      sharpness: r of the pooled scores s.
    """
    return _mean_over_classes(-tf.nn.log_softmax(image_prior.pooled_scores(logits, sharpness)), tags)


def max_loss(logits: tf.Tensor, tags: tf.Tensor) -> tf.Tensor:
    """MIL-FCN's loss: mean over the batch of -mean_c max_ij log softmax_ij(c); arguments as of `lse_loss`."""
    return _mean_over_classes(-tf.reduce_max(tf.nn.log_softmax(logits), [1, 2]), tags)


def _mean_over_classes(loss: tf.Tensor, tags: tf.Tensor) -> tf.Tensor:
    """Means of `[b, classes]` over each image's tags and the background, then over the batch."""
    present = tf.concat([tf.ones_like(tags[:, :1]), tags], 1)
    return tf.reduce_mean(tf.reduce_sum(present * loss, 1) / tf.reduce_sum(present, 1))
