"""Expansion, center-preserving dropout, classifier head (FickleNet, Section 3.2, Figure 3, Algorithm 1, lines 2 to 4).

What a selection of hidden units is, and how it is drawn: `hidden_units.py`.
"""

from typing import Any

import keras
import numpy as np
import tensorflow as tf

from ficklenet_tf import configs, presets, random_seeds
from ficklenet_tf.errors import UserError
from ficklenet_tf.models import hidden_units

FORMS = ("contracted", "expanded")
MODES = configs.MODES  # the paper's S, G, D (Table 7)
_Shape = tuple[int | None, ...]


def _check(kernel_size: int, rate: float) -> None:
    if kernel_size < 1 or kernel_size % 2 == 0:
        raise UserError(f"kernel_size: expected an odd number (a window has a centre), found {kernel_size}")
    if not 0 <= rate <= 1:
        raise UserError(f"rate: expected 0..1, found {rate}")


@keras.saving.register_keras_serializable("ficklenet")
class FeatureMapExpansion(keras.layers.Layer):
    """Gives every s x s window its own copy: `[b, h, w, k]` -> `[b, h * s, w * s, k]` (Section 3.2, Figure 3).

    A convolution with kernel s and stride s over the result equals a SAME convolution with
    stride 1 over the input (zero padded).

    Args:
      kernel_size: s, odd.
    """

    def __init__(self, kernel_size: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        _check(kernel_size, 0)
        self.kernel_size = kernel_size

    def call(self, x: tf.Tensor) -> tf.Tensor:
        """Expands `[b, h, w, k]` features, static h and w, to `[b, h * s, w * s, k]`."""
        s, (height, width, channels) = self.kernel_size, x.shape[1:]
        patches = tf.image.extract_patches(x, [1, s, s, 1], [1, 1, 1, 1], [1, 1, 1, 1], "SAME")
        patches = tf.reshape(patches, [-1, height, width, s, s, channels])
        return tf.reshape(tf.transpose(patches, [0, 1, 3, 2, 4, 5]), [-1, height * s, width * s, channels])

    def compute_output_shape(self, input_shape: _Shape) -> _Shape:
        """Returns (b, h * s, w * s, k)."""
        batch, height, width, channels = input_shape
        s = self.kernel_size
        return batch, height and height * s, width and width * s, channels

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        return {**super().get_config(), "kernel_size": self.kernel_size}


@keras.saving.register_keras_serializable("ficklenet")
class CenterPreservingDropout(keras.layers.Layer):
    """Spatial dropout on an expanded map that always keeps each window's centre (Section 3.2).

    One mask for all channels. Active in training and in inference alike, because
    inference draws its hidden units at random too; `active=False` turns it off.

    Args:
      rate: p, the probability that a position other than a centre is dropped.
      kernel_size: s of the expansion.
      rescale: whether survivors other than the centre are scaled by 1 / (1 - p).
      seed: for calls without `selection`.
    """

    def __init__(self, rate: float, kernel_size: int, rescale: bool = False, seed: int | None = None,
                 **kwargs: Any) -> None:
        super().__init__(**kwargs)
        _check(kernel_size, rate)
        self.rate, self.kernel_size, self.rescale, self.seed = rate, kernel_size, rescale, seed
        self.seed_generator = keras.random.SeedGenerator(seed)

    def call(self, x: tf.Tensor, selection: tf.Tensor | None = None, active: bool = True) -> tf.Tensor:
        """Drops positions.

        Args:
          x: `[b, h * s, w * s, k]`, expanded.
          selection: `[b, h * w, s * s]`, as `hidden_units.draw` gives it; without it the layer draws it.
          active: whether anything is dropped.

        Returns:
          As `x`.
        """
        if not active:
            return x
        s = self.kernel_size
        height, width = x.shape[1] // s, x.shape[2] // s
        if selection is None:
            rng_seeds = draw_seeds(self.seed_generator, tf.shape(x)[0])
            selection = hidden_units.draw(rng_seeds, height, width, s, self.rate, self.rescale)
        mask = hidden_units.windows_of(selection, height, width, s)
        mask = tf.transpose(tf.reshape(mask, [-1, height, width, s, s]), [0, 1, 3, 2, 4])
        return x * tf.cast(tf.reshape(mask, [-1, height * s, width * s, 1]), x.dtype)

    def compute_output_shape(self, input_shape: _Shape) -> _Shape:
        """Returns the shape of the input."""
        return input_shape

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        return {**super().get_config(), "rate": self.rate, "kernel_size": self.kernel_size, "rescale": self.rescale,
                "seed": self.seed}


def draw_seeds(generator: keras.random.SeedGenerator, count: int | tf.Tensor) -> tf.Tensor:
    """Draws `[count, 2]` int32 seeds from a `keras.random.SeedGenerator`, which moves on."""
    seed = tf.cast(generator.next(), tf.int32) & random_seeds.SEED_BITS
    return tf.random.stateless_uniform([count, 2], seed, None, None, tf.int32)


@keras.saving.register_keras_serializable("ficklenet")
class StochasticHead(keras.layers.Layer):
    """From features to class logits: selection, s x s convolution, global average (Algorithm 1, lines 2 to 4).

    Two forms with the same weights. `expanded` is the paper's: expansion, dropout,
    convolution with stride s, average. `contracted` uses that all of it is linear in
    the features: with z[d] = sum_u t[u, d] x[u], the logits are sum_d W[d] z[d] / (h w) + b,
    which needs no expanded map and no convolution.

    Args:
      num_tags: number of foreground classes.
      kernel_size: s, odd.
      rate: p.
      rescale: see `CenterPreservingDropout`.
      training_mode: one of `MODES`, used when training.
      inference_mode: one of `MODES`, used otherwise.
      form: "contracted" or "expanded".
      seed: for calls without `rng_seeds`.
    """

    def __init__(self, num_tags: int, kernel_size: int = 9, rate: float = 0.9, rescale: bool = False,
                 training_mode: str = "stochastic", inference_mode: str = "stochastic", form: str = "contracted",
                 seed: int | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        _check(kernel_size, rate)
        for name, value, legal in (("training_mode", training_mode, MODES),
                                   ("inference_mode", inference_mode, MODES),
                                   ("form", form, FORMS)):
            if value not in legal:
                raise UserError(f"{name}: expected one of {', '.join(legal)}, found {value!r}")
        self.num_tags, self.kernel_size, self.rate = num_tags, kernel_size, rate
        self.rescale, self.seed = rescale, seed
        self.training_mode, self.inference_mode, self.form = training_mode, inference_mode, form
        self.seed_generator = keras.random.SeedGenerator(seed)
        self.expansion = FeatureMapExpansion(kernel_size, dtype=self.dtype_policy)
        self.dropout = CenterPreservingDropout(rate, kernel_size, rescale, dtype=self.dtype_policy)

    def build(self, input_shape: _Shape) -> None:
        """Makes the kernel `[s, s, k, classes]` and the bias `[classes]`."""
        s = self.kernel_size
        self.kernel = self.add_weight(shape=(s, s, input_shape[-1], self.num_tags), initializer="glorot_uniform",
                                      name="kernel")
        self.bias = self.add_weight(shape=(self.num_tags,), initializer="zeros", name="bias")

    def units(self, x: tf.Tensor, training: bool = False) -> tf.Tensor:
        """Returns the hidden units that are selected, `[b, h, w, k]`: the features themselves."""
        del training  # of heads that compute their units
        return x

    def call(self, x: tf.Tensor, training: bool = False, rng_seeds: tf.Tensor | None = None) -> tf.Tensor:
        """Returns class logits `[b, classes]` float32 on a selection of the mode in force.

        Args:
          x: features `[b, h, w, k]`, static h and w.
          training: chooses between the two modes.
          rng_seeds: `[b, 2]` int32, one selection per image; without it the layer's generator draws it.
        """
        return self.logits(*self.selected(x, training, rng_seeds))

    def selected(self, x: tf.Tensor, training: bool = False,
                 rng_seeds: tf.Tensor | None = None) -> tuple[tf.Tensor, tf.Tensor | None]:
        """Returns what `logits` takes, units and selection, of the arguments of `call`."""
        x = self.units(x, training)
        mode = self.training_mode if training else self.inference_mode
        if mode == "deterministic":
            return x, None
        rng_seeds = draw_seeds(self.seed_generator, tf.shape(x)[0]) if rng_seeds is None else rng_seeds
        if mode == "general":
            return x * tf.cast(hidden_units.general_mask(rng_seeds, x.shape[1:], self.rate), x.dtype), None
        height, width = x.shape[1:3]
        return x, hidden_units.draw(rng_seeds, height, width, self.kernel_size, self.rate, self.rescale)

    def logits(self, x: tf.Tensor, selection: tf.Tensor | None = None) -> tf.Tensor:
        """Returns class logits `[b, classes]` float32 on a given selection.

        Args:
          x: `units` `[b, h, w, k]`, static h and w.
          selection: `[b, h * w, s * s]` as `hidden_units.draw` gives it, or None: every hidden unit.
        """
        return self.scores(x, selection, self.kernel) + tf.cast(self.bias, tf.float32)

    def scores(self, x: tf.Tensor, selection: tf.Tensor | None, kernel: keras.Variable | tf.Tensor) -> tf.Tensor:
        """As `logits`, with a kernel `[s, s, k, classes]` and without a bias."""
        return (self._expanded if self.form == "expanded" else self._contracted)(x, selection, kernel)

    def class_maps(self, x: tf.Tensor, tag_ids: tf.Tensor) -> tf.Tensor:
        """Returns the convolution's output over all hidden units, `[h * w, c]`; its mean is the logit less the bias.

        These are the class activation maps of Zhou et al. 2016, "cam" of `presets.MapsConfig`.

        Args:
          x: `units` `[h, w, k]` float32, static shape.
          tag_ids: `[c]` int32, 0 the first foreground class.
        """
        kernel = tf.gather(tf.convert_to_tensor(self.kernel), tag_ids, axis=3)
        return tf.reshape(tf.nn.conv2d(x[None], kernel, 1, "SAME"), [x.shape[0] * x.shape[1], -1])

    def expected_logits(self, x: tf.Tensor) -> tf.Tensor:
        """Returns the mean of the logits over all selections of the inference mode, exactly: they are linear in it.

        Args:
          x: features `[b, h, w, k]`, static h and w.
        """
        x = self.units(x)
        expected = self.expected_selection(*x.shape[1:3])
        return self.logits(x, None if expected is None else tf.repeat(expected, tf.shape(x)[0], axis=0))

    def expected_selection(self, height: int, width: int, mode: str | None = None) -> tf.Tensor | None:
        """Returns the mean of all selections of a mode, `[1, h * w, s * s]`; None: every hidden unit.

        Args:
          height: of the features.
          width: of the features.
          mode: None: the inference mode.
        """
        s, mode = self.kernel_size, mode or self.inference_mode
        if mode == "general" and self.rate >= 1:  # no unit is ever selected
            return tf.zeros([1, height * width, s * s])
        if mode != "stochastic":
            return None
        keep_all = tf.ones([1, height * width, s * s], tf.bool)
        weights = hidden_units.weights_of(keep_all, height, width, s, self.rate, self.rescale)
        keep_probs = np.full(s * s, 1 - self.rate, np.float32)
        keep_probs[s * s // 2] = 1
        return weights * keep_probs

    def _expanded(self, x: tf.Tensor, selection: tf.Tensor | None, kernel: keras.Variable | tf.Tensor) -> tf.Tensor:
        s = self.kernel_size
        x = self.dropout(self.expansion(x), selection=selection, active=selection is not None)
        x = tf.nn.conv2d(x, tf.cast(kernel, x.dtype), s, "VALID")
        return tf.reduce_mean(tf.cast(x, tf.float32), axis=(1, 2))

    def _contracted(self, x: tf.Tensor, selection: tf.Tensor | None,
                    kernel: keras.Variable | tf.Tensor) -> tf.Tensor:
        (height, width, channels), s = x.shape[1:], self.kernel_size
        x = tf.reshape(x, [-1, height * width, channels])
        if x.dtype == tf.float16:  # whose greatest number, 65504, such a sum exceeds
            x = tf.cast(x, tf.float32)
        if selection is None:
            z = tf.einsum("ud,buk->bdk", tf.constant(hidden_units.inside(height, width, s), x.dtype), x)
        else:
            z = tf.matmul(tf.cast(selection, x.dtype), x, transpose_a=True)
        kernel = tf.cast(tf.reshape(tf.convert_to_tensor(kernel), [s * s * channels, self.num_tags]), tf.float32)
        return tf.matmul(tf.reshape(tf.cast(z, tf.float32), [-1, s * s * channels]), kernel) / (height * width)

    def compute_output_shape(self, input_shape: _Shape) -> _Shape:
        """Returns (b, classes)."""
        return input_shape[0], self.num_tags

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        return {**super().get_config(), "num_tags": self.num_tags, "kernel_size": self.kernel_size,
                "rate": self.rate, "rescale": self.rescale, "training_mode": self.training_mode,
                "inference_mode": self.inference_mode, "form": self.form, "seed": self.seed}


def build(config: presets.ClassifierConfig, num_tags: int) -> StochasticHead:
    """Returns the `StochasticHead` of a `presets.ClassifierConfig`, not built yet, in float32."""
    return StochasticHead(num_tags, config.kernel_size, config.rate, config.rescale, config.training_mode,
                          config.inference_mode, config.form, dtype="float32")
