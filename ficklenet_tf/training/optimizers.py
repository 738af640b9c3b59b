"""Optimizers and schedules of both trainings; learning-rate multipliers and decay as DeepLab has them."""

from collections.abc import Callable, Sequence

import keras
import tensorflow as tf

from ficklenet_tf import presets


def staircase(rate: float, factor: float, every: int) -> keras.optimizers.schedules.LearningRateSchedule:
    """Returns the schedule rate * factor ** (step // every)."""
    return keras.optimizers.schedules.ExponentialDecay(rate, every, factor, staircase=True)


class _Multiplied(keras.optimizers.Optimizer):
    """A Keras optimizer with a learning rate of its own for each variable: the schedule's times a multiplier.

    Attributes:
      multipliers: one per trainable variable, in the order in which the optimizer is built with them.
    """

    multipliers: Sequence[float] = ()

    def update_step(self, gradient: tf.Tensor, variable: keras.Variable, learning_rate: tf.Tensor) -> None:
        """Updates one variable; see `keras.optimizers.Optimizer`."""
        multiplier = self.multipliers[self._get_variable_index(variable)]
        super().update_step(gradient, variable, learning_rate * multiplier)


class MultipliedAdam(_Multiplied, keras.optimizers.Adam):
    """Adam, which divides a gradient by its own size: only a rate per variable makes some of them learn slower."""


class MultipliedSGD(_Multiplied, keras.optimizers.SGD):
    """SGD with momentum."""


def classifier_optimizer(config: presets.ClassifierConfig, model: keras.Layer, new: Sequence[keras.Variable],
                         steps_per_epoch: int) -> keras.Optimizer:
    """Returns the classifier's Adam (FickleNet, Section 4.1: 0.001, halved every 10 epochs); by steps it stays.

    Args:
      config: `presets.ClassifierConfig`.
      model: what is trained.
      new: those of its variables that start from nothing; the others learn at `config.pretrained_multiplier` times
        the rate.
      steps_per_epoch: of the training, for the schedule.
    """
    schedule = (staircase(config.learning_rate, 0.5, config.halve_every * steps_per_epoch) if config.epochs else
                config.learning_rate)
    return _adam(schedule, model, new, config.pretrained_multiplier)


def _adam(schedule: keras.optimizers.schedules.LearningRateSchedule | float, model: keras.Layer,
          new: Sequence[keras.Variable], pretrained_multiplier: float, weight_decay: float = 0.0) -> keras.Optimizer:
    optimizer, new_ids = MultipliedAdam(schedule, weight_decay=weight_decay or None), {id(v) for v in new}
    if weight_decay:
        optimizer.exclude_from_weight_decay([v for v in model.trainable_variables if not v.path.endswith("kernel")])
    optimizer.multipliers = [1.0 if id(v) in new_ids else pretrained_multiplier for v in model.trainable_variables]
    return optimizer


def segmenter_optimizer(config: presets.SegmenterConfig, model: keras.Model,
                        new: Sequence[keras.Variable]) -> keras.Optimizer:
    """Returns the keras optimizer that a `presets.SegmenterConfig` names.

    SGD has DeepLab's multipliers: new layers 10, their biases 20; pretrained ones 1, their biases 2. With Adam what is
    not new learns at `config.pretrained_multiplier` times the rate.

    Args:
      config: `presets.SegmenterConfig`.
      model: what is trained.
      new: those of its variables that start from nothing.
    """
    schedule = (staircase(config.learning_rate, config.decay, config.decay_every)
                if config.schedule == "staircase" else
                keras.optimizers.schedules.PolynomialDecay(config.learning_rate, config.steps, 0.0, config.poly_power))
    if config.optimizer == "adam":
        return _adam(schedule, model, new, config.pretrained_multiplier, config.weight_decay)
    optimizer = MultipliedSGD(schedule, momentum=0.9)
    optimizer.multipliers = multipliers(model.trainable_variables, new)
    return optimizer


def multipliers(variables: Sequence[keras.Variable], new: Sequence[keras.Variable]) -> list[float]:
    """Returns DeepLab's learning-rate multipliers of `variables`, a list of floats; see `segmenter_optimizer`."""
    new_ids = {id(v) for v in new}
    return [(10.0 if id(v) in new_ids else 1.0) * (2.0 if v.path.endswith("bias") else 1.0) for v in variables]


def weight_decay(model: keras.Model,
                 config: presets.SegmenterConfig) -> Callable[[Sequence[tf.Tensor]], list[tf.Tensor]] | None:
    """Returns gradients -> gradients with SGD's decay as Caffe adds it, for `loop.Learner`; of kernels alone.

    Args:
      model: the gradients are those of its trainable variables.
      config: `presets.SegmenterConfig`.

    Returns:
      The function, or None: Adam decays by itself.
    """
    if config.optimizer != "sgd":
        return None
    variables = model.trainable_variables
    return lambda gradients: [g + config.weight_decay * v if v.path.endswith("kernel") else g
                              for g, v in zip(gradients, variables, strict=True)]
