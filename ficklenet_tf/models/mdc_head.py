"""Multi-dilated convolutional blocks: branches that see near and far, each with its own answer (MDC).

Wei et al., "Revisiting Dilated Convolution", CVPR 2018: four 3 x 3 convolutions with ReLU stand side by side on the
features, with dilations 1, 3, 6 and 9. Each has its own average, linear layer and loss; the sum of the losses is
learned. The maps are H = H_0 + (1 / n) sum_{i=1..n} H_i, H_0 of dilation 1: the wide branches carry the response of
the discriminative part to the rest of the object, and their mean weakens what only one of them sees.

Above the ReLUs all is linear, so the branches are one stochastic head: its units are theirs side by side, its kernel
is theirs side by side, weighed as in H. So maps of every kind hold, and are H, here before Grad-CAM's ReLU, but for a
factor of 1/2: the weights sum to 1, so that the logits are a mean of the branches' logits. No map shows the factor, as
each is divided by its maximum. A selection is shared by all branches: FickleNet's random units in MDC's classifier.
MDC's own is training_mode=deterministic with kernel_size=1.

There is no public code of the authors'. Not known for sure of the paper: the branches' channels, and whether it adds
maps before or after their ReLU.
"""

from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

from ficklenet_tf import presets
from ficklenet_tf.models import stochastic
from ficklenet_tf.models.dilated_convolution import DilatedConv2D
from ficklenet_tf.models.precision import policy


@keras.saving.register_keras_serializable("ficklenet")
class MDCHead(stochastic.StochasticHead):
    """`StochasticHead` on the units of parallel dilated convolutions with ReLU.

    `logits` and `expected_logits` are the weighed mean of the branches' answers, half the first's and half the mean of
    the others': they rank photographs as H's averages do. `branch_logits` are the answers that are learned.

    Args:
      num_tags: number of foreground classes.
      hidden: channels of each branch.
      dilations: of the branches, the first is that of H_0.
      precision: of the convolutions, see `precision.policy`.
      **kwargs: as of `StochasticHead`.

    Attributes:
      kernels: of each branch `[s, s, hidden, classes]`.
      biases: of each branch `[classes]`.
    """

    def __init__(self, num_tags: int, *args: Any, hidden: int = 512, dilations: Sequence[int] = (1, 3, 6, 9),
                 precision: str = "float32", **kwargs: Any) -> None:
        super().__init__(num_tags, *args, **kwargs)
        self.hidden, self.dilations, self.precision = hidden, tuple(dilations), precision
        others = len(self.dilations) - 1
        self.branch_weights = (0.5, *[0.5 / others] * others) if others else (1.0,)
        with policy(precision):
            self.convolutions = [DilatedConv2D(hidden, 3, padding="same", dilation_rate=dilation, activation="relu",
                                               kernel_initializer="he_normal", name=f"branch_{i}")
                                 for i, dilation in enumerate(self.dilations)]

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Makes each branch's convolution, and its kernel and bias above."""
        for convolution in self.convolutions:
            convolution.build(input_shape)
        s, branches = self.kernel_size, range(len(self.dilations))
        self.kernels = [self.add_weight(shape=(s, s, self.hidden, self.num_tags), initializer="glorot_uniform",
                                        name=f"kernel_{i}") for i in branches]
        self.biases = [self.add_weight(shape=(self.num_tags,), initializer="zeros", name=f"bias_{i}")
                       for i in branches]

    @property
    def kernel(self) -> tf.Tensor:
        """The branches' kernels side by side, weighed: `[s, s, branches * hidden, classes]`."""
        return tf.concat([weight * tf.convert_to_tensor(kernel) for weight, kernel in
                          zip(self.branch_weights, self.kernels, strict=True)], axis=2)

    @property
    def bias(self) -> tf.Tensor:
        """The branches' biases, weighed: `[classes]`."""
        return tf.add_n([weight * tf.convert_to_tensor(bias) for weight, bias in
                         zip(self.branch_weights, self.biases, strict=True)])

    def units(self, x: tf.Tensor, training: bool = False) -> tf.Tensor:
        """Returns the branches' units side by side, `[b, h, w, branches * hidden]` float32."""
        return tf.concat([tf.cast(convolution(x), tf.float32) for convolution in self.convolutions], axis=-1)

    def branch_logits(self, x: tf.Tensor, training: bool = False,
                      rng_seeds: tf.Tensor | None = None) -> list[tf.Tensor]:
        """Returns each branch's class logits `[b, classes]` float32, all on the same selection; see `call`."""
        units, selection = self.selected(x, training, rng_seeds)
        return [self.scores(part, selection, kernel) + bias for part, kernel, bias in
                zip(tf.split(units, len(self.dilations), axis=-1), self.kernels, self.biases, strict=True)]

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        return {**super().get_config(), "hidden": self.hidden, "dilations": list(self.dilations),
                "precision": self.precision}


def build(config: presets.ClassifierConfig, num_tags: int) -> MDCHead:
    """Returns the `MDCHead` of a `presets.ClassifierConfig`, not built yet."""
    return MDCHead(num_tags, config.kernel_size, config.rate, config.rescale, config.training_mode,
                   config.inference_mode, config.form, hidden=config.hidden, dilations=config.dilations,
                   precision=config.precision, dtype="float32")
