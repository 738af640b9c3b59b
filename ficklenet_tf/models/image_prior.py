"""What a segmenter says of a whole image, and MIL-seg's prior of it (Pinheiro & Collobert 2015).

Image score (LSE, a smooth maximum): s_c = (1 / r) log((1 / pixels) sum_ij exp(r f_ij(c))).
Image-level prior: P_ij(c) = softmax_ij(c) * P(c | I), with P(c | I) = softmax(s)_c.
"""

import keras
import tensorflow as tf


def pooled_scores(logits: tf.Tensor, sharpness: float) -> tf.Tensor:
    """Returns the image scores `[b, classes]` of `[b, h, w, classes]` logits.

    Args:
      logits: float32, f.
      sharpness: r, above 0: near 0 the scores are means over the image, for great r maxima.
    """
    pixels = tf.cast(tf.reduce_prod(tf.shape(logits)[1:3]), logits.dtype)
    return (tf.reduce_logsumexp(sharpness * logits, [1, 2]) - tf.math.log(pixels)) / sharpness


@keras.saving.register_keras_serializable("ficklenet_tf")
class ImagePrior(keras.layers.Layer):
    """Logits `[b, h, w, classes]` -> logits of the posterior P_ij; in training the logits as they are.

    It is the last layer of a segmenter, so that all who predict have it: log P(c | I) is added to f_ij(c), whose
    softmax is P_ij divided by its sum over c. Each view of a multi-scale prediction has the prior of its own scores.
    """

    def __init__(self, sharpness: float, **kwargs: object) -> None:
        """Makes the layer.

        Args:
          sharpness: see `pooled_scores`.
          **kwargs: of keras.layers.Layer.
        """
        super().__init__(**kwargs)
        self.sharpness = sharpness

    def call(self, logits: tf.Tensor, training: bool = False) -> tf.Tensor:
        """As the class says."""
        if training:
            return logits
        return logits + tf.nn.log_softmax(pooled_scores(logits, self.sharpness))[:, None, None]

    def get_config(self) -> dict[str, object]:
        """Returns what `__init__` takes."""
        return {**super().get_config(), "sharpness": self.sharpness}
