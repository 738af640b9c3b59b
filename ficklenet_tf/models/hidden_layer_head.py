"""The stochastic head above a convolution with ReLU: the classifiers of SEC, OAA and DRS have such layers before CAM.

The hidden units that are selected are those of the new layer. Above it all is linear, so the closed form of the maps
holds as it does for `StochasticHead`.
"""

from typing import Any

import keras
import tensorflow as tf

from ficklenet_tf import presets
from ficklenet_tf.models import stochastic
from ficklenet_tf.models.dilated_convolution import DilatedConv2D
from ficklenet_tf.models.precision import policy


@keras.saving.register_keras_serializable("ficklenet")
class HiddenLayerHead(stochastic.StochasticHead):
    """`StochasticHead` on the units of a 3 x 3 convolution with ReLU.

    Args:
      num_tags: number of foreground classes.
      hidden: channels of the new layer.
      precision: of its computation, see `precision.policy`.
      **kwargs: as of `StochasticHead`.
    """

    def __init__(self, num_tags: int, *args: Any, hidden: int = 512, precision: str = "float32",
                 **kwargs: Any) -> None:
        super().__init__(num_tags, *args, **kwargs)
        self.hidden, self.precision = hidden, precision
        with policy(precision):
            self.convolution = DilatedConv2D(hidden, 3, padding="same", activation="relu",
                                             kernel_initializer="he_normal", name="hidden")

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Makes the convolution and the kernel and bias above it."""
        self.convolution.build(input_shape)
        super().build((*input_shape[:-1], self.hidden))

    def units(self, x: tf.Tensor) -> tf.Tensor:
        """Returns the hidden layer's `[b, h, w, hidden]` float32 of features `[b, h, w, k]`."""
        return tf.cast(self.convolution(x), tf.float32)

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        return {**super().get_config(), "hidden": self.hidden, "precision": self.precision}


def build(config: presets.ClassifierConfig, num_tags: int) -> HiddenLayerHead:
    """Returns the `HiddenLayerHead` of a `presets.ClassifierConfig`, not built yet."""
    return HiddenLayerHead(num_tags, config.kernel_size, config.rate, config.rescale, config.training_mode,
                           config.inference_mode, config.form, hidden=config.hidden, precision=config.precision,
                           dtype="float32")
