"""The stochastic head above convolutions with ReLU: the classifiers of SEC, OAA and DRS have such layers before CAM.

The hidden units that are selected are those of the last new layer. Above it all is linear, so the closed form of the
maps holds as it does for `StochasticHead`.

- SEC (Kolesnikov & Lampert, ECCV 2016), foreground: two layers of 1024 channels, dropout 0.5 after each, all units,
  kernel 1. Theirs has no bias below the average; ours, of each class, is in no map.
- OAA (Jiang et al., ICCV 2019): three layers of 512 channels, kernel 1.
- DRS (Kim et al., AAAI 2021): the same layers with `suppression`. Theirs suppresses after every ReLU of VGG-16 too;
  here, of the backbone, whether it is trained or not, only its last ReLU is followed by one.
"""

from typing import Any

import keras
import tensorflow as tf

from ficklenet_tf import presets
from ficklenet_tf.models import stochastic, suppression
from ficklenet_tf.models.dilated_convolution import DilatedConv2D
from ficklenet_tf.models.precision import policy


@keras.saving.register_keras_serializable("ficklenet")
class HiddenLayerHead(stochastic.StochasticHead):
    """`StochasticHead` on the units of 3 x 3 convolutions with ReLU.

    Args:
      num_tags: number of foreground classes.
      hidden: channels of each new layer.
      hidden_layers: their number, from 1.
      hidden_dropout: rate of the dropout after each of them, 0..1; in training, in every mode.
      delta: of `suppression.suppress`, on the features and after each new layer, before its dropout.
      precision: of their computation, see `precision.policy`.
      **kwargs: as of `StochasticHead`.
    """

    def __init__(self, num_tags: int, *args: Any, hidden: int = 512, hidden_layers: int = 1,
                 hidden_dropout: float = 0.0, delta: float = 1.0, precision: str = "float32", **kwargs: Any) -> None:
        super().__init__(num_tags, *args, **kwargs)
        self.hidden, self.hidden_layers, self.hidden_dropout = hidden, hidden_layers, hidden_dropout
        self.delta, self.precision = delta, precision
        with policy(precision):
            # The first has a name of its own, by which files of weights know it.
            self.convolution, *self.further = (
                DilatedConv2D(hidden, 3, padding="same", activation="relu", kernel_initializer="he_normal", name=name)
                for name in ("hidden", *(f"hidden_{i}" for i in range(2, hidden_layers + 1))))
            self.dropouts = [keras.layers.Dropout(hidden_dropout) for _ in range(hidden_layers if hidden_dropout
                                                                                 else 0)]

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Makes the convolutions and the kernel and bias above them."""
        above = (*input_shape[:-1], self.hidden)
        self.convolution.build(input_shape)
        for convolution in self.further:
            convolution.build(above)
        super().build(above)

    def units(self, x: tf.Tensor, training: bool = False) -> tf.Tensor:
        """Returns the last hidden layer's `[b, h, w, hidden]` float32 of features `[b, h, w, k]`."""
        x = suppression.suppress(x, self.delta)
        for i, convolution in enumerate((self.convolution, *self.further)):
            x = suppression.suppress(convolution(x), self.delta)
            if self.dropouts:
                x = self.dropouts[i](x, training=training)
        return tf.cast(x, tf.float32)

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        return {**super().get_config(), "hidden": self.hidden, "hidden_layers": self.hidden_layers,
                "hidden_dropout": self.hidden_dropout, "delta": self.delta, "precision": self.precision}


def build(config: presets.ClassifierConfig, num_tags: int) -> HiddenLayerHead:
    """Returns the `HiddenLayerHead` of a `presets.ClassifierConfig`, not built yet."""
    return HiddenLayerHead(num_tags, config.kernel_size, config.rate, config.rescale, config.training_mode,
                           config.inference_mode, config.form, hidden=config.hidden,
                           hidden_layers=config.hidden_layers, hidden_dropout=config.hidden_dropout,
                           delta=config.suppression, precision=config.precision, dtype="float32")
