"""What a classifier learns of a photograph: its tags (FickleNet, Section 4.1), and what other systems add.

A loss is a function of a `Step` that returns a scalar, already weighted, and a line in `LOSSES`.
"""

from collections.abc import Callable

import keras
import tensorflow as tf

from ficklenet_tf import presets
from ficklenet_tf.data import input_pipeline
from ficklenet_tf.maps import erased
from ficklenet_tf.training import attention_mining, pixel_saliency
from ficklenet_tf.training.loop import Batch, Scalars
from ficklenet_tf.training.once import once


class Step:
    """What the losses of one step are functions of.

    Args:
      target: what is trained: a `classifier.Classifier`, or a head alone.
      batch: a prepared batch of `input_pipeline.training_batches`.
      config: `presets.ClassifierConfig`.

    Attributes:
      tags: `[b, classes - 1]` float32, 0 or 1.
      rng_seeds: `[b, 2]` int32, of the photographs' selections.
    """

    def __init__(self, target: keras.layers.Layer, batch: Batch, config: presets.ClassifierConfig) -> None:
        self.target, self.batch, self.config = target, batch, config
        self.tags, self.rng_seeds = batch["tags"], batch["rng_seeds"]

    @property
    def head(self) -> keras.layers.Layer:
        """The classifier's head, see `classifier.HEADS`."""
        return getattr(self.target, "head", self.target)

    @once
    def x(self) -> tf.Tensor:
        """What is trained gets this: normalised photographs `[b, side, side, 3]`, or cached features."""
        return self._covered(input_pipeline.network_input(self.batch), "pixels")

    def _covered(self, x: tf.Tensor, form: str) -> tf.Tensor:
        """`x` with 0 where it is to be erased in this form, see maps/erased.py."""
        return erased.covered(x, self.batch["keep"]) if "keep" in self.batch and self.config.erase == form else x

    def features_of(self, x: tf.Tensor, training: bool = True) -> tf.Tensor:
        """Returns the head's features `[b, h, w, k]` of what is like `x`."""
        return self.target.backbone(x, training=training) if self.head is not self.target else x

    @once
    def features(self) -> tf.Tensor:
        """The head's features of the photographs."""
        return self._covered(self.features_of(self.x), "features")

    @once
    def logits(self) -> list[tf.Tensor]:
        """`[b, classes - 1]` float32 of each branch of the head, on the step's selections."""
        branches = getattr(self.head, "branch_logits", lambda *args, **kwargs: [self.head(*args, **kwargs)])
        return branches(self.features, training=True, rng_seeds=self.rng_seeds)

    @once
    def drawn_tag(self) -> tf.Tensor:
        """`[b, classes - 1]` float32, one of each photograph's tags, see `attention_mining.draw_tag`."""
        return attention_mining.draw_tag(self.tags, self.rng_seeds)

    @once
    def attention(self) -> tf.Tensor:
        """`[b, h, w, 1]` float32, 0..1: where the head sees the drawn tag, see `attention_mining.attention`."""
        features = tf.cast(self.features, tf.float32)
        return attention_mining.attention(self.head, features, self.drawn_tag, self.rng_seeds)

    @once
    def rest(self) -> tf.Tensor:
        """The head's features of the photographs without what has the drawn tag, see `attention_mining.erased`."""
        rest = self.features_of(attention_mining.erased(self.x, self.attention), training=False)
        return self._covered(rest, "features")


def _tags(step: Step) -> tf.Tensor:
    """Sigmoid cross-entropy of the tags; of a head of several branches the sum of theirs."""
    return tf.add_n([tf.reduce_mean(tf.nn.sigmoid_cross_entropy_with_logits(step.tags, logits))
                     for logits in step.logits])


def _mining(step: Step) -> tf.Tensor:
    """GAIN's L_am: the drawn tag's probability where its region is erased, in the same selections."""
    logits = step.head(step.rest, training=True, rng_seeds=step.rng_seeds)
    return step.config.mining_weight * attention_mining.mining_loss(logits, step.drawn_tag)


def _mining_masks(step: Step) -> tf.Tensor:
    """GAIN_ext's L_e: the drawn tag's region is the mask's."""
    return step.config.mining_masks_weight * attention_mining.masks_loss(step.attention, step.drawn_tag,
                                                                         step.batch["label"])


def _saliency(step: Step) -> tf.Tensor:
    """EPS' L_sal, on the step's selections."""
    position_logits = step.head.position_logits(step.features, training=True, rng_seeds=step.rng_seeds)
    return pixel_saliency.eps_loss(position_logits, step.batch["saliency"], step.tags, step.config.eps_tau,
                                   step.config.eps_lambda)


# By the word in --losses.
LOSSES: dict[str, Callable[[Step], tf.Tensor]] = {
    "tags": _tags, "mining": _mining, "mining_masks": _mining_masks, "saliency": _saliency}
NEED_MASKS, NEED_SALIENCY = ("mining_masks",), ("saliency",)


def total_loss(step: Step) -> Scalars:
    """Returns "loss", and where `step.config.objectives` are several, the parts that it is the sum of."""
    parts = {f"{name}_loss": LOSSES[name](step) for name in step.config.objectives}
    total = {"loss": tf.add_n(list(parts.values()))}
    return total if len(parts) == 1 else {**total, **parts}
