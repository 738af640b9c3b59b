"""The head with a hidden layer and a background beside the classes (EPS: Lee et al. 2021).

Tags know no background: only what is said of single positions teaches it, see training/pixel_saliency.py. So the tags'
logits, their maps and their closed form are `HiddenLayerHead`'s, and the background is a channel more of the answer at
each position. EPS' own is ResNet-38 with one 1 x 1 convolution: --kernel_size=1 --training_mode=deterministic.
"""

import keras
import tensorflow as tf

from ficklenet_tf import presets
from ficklenet_tf.models import hidden_layer_head, hidden_units


@keras.saving.register_keras_serializable("ficklenet")
class BackgroundHead(hidden_layer_head.HiddenLayerHead):
    """`HiddenLayerHead` whose positions also answer "background"; its arguments are those of that head."""

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Makes what `HiddenLayerHead` makes, and a kernel `[s, s, hidden, 1]` and a bias `[1]` of the background."""
        super().build(input_shape)
        self.background_kernel = self.add_weight(shape=(*self.kernel.shape[:3], 1), initializer="glorot_uniform",
                                                 name="background_kernel")
        self.background_bias = self.add_weight(shape=(1,), initializer="zeros", name="background_bias")

    def position_logits(self, x: tf.Tensor, training: bool = False, rng_seeds: tf.Tensor | None = None) -> tf.Tensor:
        """Returns `[b, h, w, num_tags + 1]` float32, the background last, on the selections of `call`.

        Each position's own part in the scores; over the positions the mean of a tag's is its logit, and above the bias
        its positive part is the map that Grad-CAM shows.

        Args:
          x: features `[b, h, w, k]`, static h and w.
          training: chooses between the two modes.
          rng_seeds: `[b, 2]` int32, one selection per image.
        """
        return self._at_positions(*self.selected(x, training, rng_seeds))

    def class_probs(self, x: tf.Tensor, tag_ids: tf.Tensor, mode: str | None = None) -> tf.Tensor:
        """Returns the softmax over all classes and the background at each position of a photograph.

        Of the mean of the positions' logits over all selections of a mode.

        Args:
          x: features `[h, w, k]` float32, static shape.
          tag_ids: `[c]` int32, 0 the first foreground class.
          mode: see `expected_selection`.

        Returns:
          `[h, w, c + 1]` float32, the background last.
        """
        units = self.units(x[None])
        height, width = units.shape[1:3]
        probs = tf.nn.softmax(self._at_positions(units, self.expected_selection(height, width, mode)))[0]
        return tf.gather(probs, tf.concat([tag_ids, [self.num_tags]], 0), axis=-1)

    def _at_positions(self, units: tf.Tensor, selection: tf.Tensor | None = None) -> tf.Tensor:
        """Returns sum_d t[u, d] W[d] x[u] + b at each position u; arguments as of `logits`."""
        (height, width, channels), s = units.shape[1:], self.kernel_size
        kernel = tf.concat([tf.convert_to_tensor(self.kernel), tf.convert_to_tensor(self.background_kernel)], 3)
        if selection is None:
            selection = tf.constant(hidden_units.inside(height, width, s)[None], tf.float32)
        parts = tf.einsum("buk,dkc->budc", tf.reshape(units, [-1, height * width, channels]),
                          tf.reshape(kernel, [s * s, channels, self.num_tags + 1]))
        logits = tf.matmul(selection[:, :, None], parts)[:, :, 0] + tf.concat([self.bias, self.background_bias], 0)
        return tf.reshape(logits, [-1, height, width, self.num_tags + 1])


def build(config: presets.ClassifierConfig, num_tags: int) -> BackgroundHead:
    """Returns the `BackgroundHead` of a `presets.ClassifierConfig`, not built yet: "hidden" and a background."""
    return BackgroundHead.from_config(hidden_layer_head.build(config, num_tags).get_config())
