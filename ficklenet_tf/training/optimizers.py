"""Optimizers and schedules of both trainings; learning-rate multipliers and decay as DeepLab has them."""

import keras

from ficklenet_tf.errors import UserError


def staircase(rate, factor, every):
    """Returns the schedule rate * factor ** (step // every)."""
    return keras.optimizers.schedules.ExponentialDecay(rate, every, factor, staircase=True)


class _Multiplied:
    """A Keras optimizer with a learning rate of its own for each variable: the schedule's times a multiplier.

    `multipliers`: a list of floats, one a trainable variable, in the order in which the optimizer is built with them.
    """

    multipliers = None

    def update_step(self, gradient, variable, learning_rate):
        """Updates one variable; see `keras.optimizers.Optimizer`."""
        multiplier = self.multipliers[self._get_variable_index(variable)]
        super().update_step(gradient, variable, learning_rate * multiplier)


class MultipliedAdam(_Multiplied, keras.optimizers.Adam):
    """Adam, which divides a gradient by its own size: only a rate a variable makes some learn slower."""


class MultipliedSGD(_Multiplied, keras.optimizers.SGD):
    """SGD with momentum."""


def classifier_optimizer(config, model, new, steps_per_epoch):
    """Returns the classifier's Adam (FickleNet, Section 4.1: 0.001, halved every 10 epochs).

    Args:
      config: `presets.ClassifierConfig`.
      model: what is trained.
      new: those of its variables that start from nothing; the others have `config.pretrained_multiplier` of the rate.
      steps_per_epoch: int.
    """
    optimizer = MultipliedAdam(staircase(config.learning_rate, 0.5, config.halve_every * steps_per_epoch))
    fresh = {id(v) for v in new}
    optimizer.multipliers = [1.0 if id(v) in fresh else config.pretrained_multiplier
                             for v in model.trainable_variables]
    return optimizer


def segmenter_optimizer(config, model, new):
    """Returns the keras optimizer that a `presets.SegmenterConfig` names.

    SGD has DeepLab's multipliers: new layers 10, their biases 20; pretrained ones 1, their biases 2. Adam has none.

    Args:
      config: `presets.SegmenterConfig`.
      model: what is trained.
      new: those of its variables that start from nothing.

    Raises:
      ValueError: unknown schedule or optimizer.
    """
    if config.schedule not in ("staircase", "poly"):
        raise UserError(f"schedule: expected staircase or poly, found {config.schedule!r}")
    schedule = (staircase(config.learning_rate, config.decay, config.decay_every)
                if config.schedule == "staircase" else
                keras.optimizers.schedules.PolynomialDecay(config.learning_rate, config.steps, 0.0, config.poly_power))
    if config.optimizer == "adam":
        return keras.optimizers.Adam(schedule, weight_decay=config.weight_decay or None)
    if config.optimizer == "sgd":
        optimizer = MultipliedSGD(schedule, momentum=0.9)
        optimizer.multipliers = multipliers(model.trainable_variables, new)
        return optimizer
    raise UserError(f"optimizer: expected sgd or adam, found {config.optimizer!r}")


def multipliers(variables, new):
    """Returns DeepLab's learning-rate multipliers of `variables`, a list of floats; see `segmenter_optimizer`."""
    fresh = {id(v) for v in new}
    return [(10.0 if id(v) in fresh else 1.0) * (2.0 if v.path.endswith("bias") else 1.0) for v in variables]


def weight_decay(model, config):
    """Returns gradients -> gradients with SGD's decay as Caffe adds it, for `training.fit`; biases do not decay.

    Args:
      model: whose trainable variables they are of.
      config: `presets.SegmenterConfig`.

    Returns:
      The function, or None: Adam decays by itself.
    """
    if config.optimizer != "sgd":
        return None
    variables = model.trainable_variables
    return lambda gradients: [g if v.path.endswith("bias") else g + config.weight_decay * v
                              for g, v in zip(gradients, variables, strict=True)]
