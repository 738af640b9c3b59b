"""Optimizers and schedules of both trainings; DeepLab's learning-rate multipliers and decay."""

import keras


def staircase(rate, factor, every):
    """Returns the schedule rate * factor ** (step // every)."""
    return keras.optimizers.schedules.ExponentialDecay(rate, every, factor, staircase=True)


def of_segmenter(preset):
    """Returns the keras optimizer that a `presets.Segmenter` names.

    Raises:
      ValueError: unknown schedule or optimizer.
    """
    if preset.schedule not in ("staircase", "poly"):
        raise ValueError(f"schedule: expected staircase or poly, found {preset.schedule!r}")
    schedule = (staircase(preset.learning_rate, preset.decay, preset.decay_every)
                if preset.schedule == "staircase" else
                keras.optimizers.schedules.PolynomialDecay(preset.learning_rate, preset.steps, 0.0, preset.poly_power))
    if preset.optimizer == "adam":
        return keras.optimizers.Adam(schedule, weight_decay=preset.weight_decay or None)
    if preset.optimizer == "sgd":
        return keras.optimizers.SGD(schedule, momentum=0.9)
    raise ValueError(f"optimizer: expected sgd or adam, found {preset.optimizer!r}")


def multipliers(variables, new):
    """Learning-rate multipliers (DeepLab): new layers 10, of logits' biases 20; pretrained 1, their biases 2.

    Args:
      variables: trainable variables.
      new: those of the new layers.

    Returns:
      A list of floats.
    """
    fresh = {id(v) for v in new}
    return [(10.0 if id(v) in fresh else 1.0) * (2.0 if v.path.endswith("bias") else 1.0) for v in variables]


def adjustment(model, head, preset):
    """Returns what changes the gradients for SGD: decay and multipliers as Caffe applies them; biases do not decay.

    Args:
      model: whose trainable variables they are of.
      head: the new layers of it.
      preset: `presets.Segmenter`.

    Returns:
      Gradients -> gradients, for `training.fit`, or None: Adam decays by itself and has no multipliers.
    """
    if preset.optimizer != "sgd":
        return None
    variables = model.trainable_variables
    factors = multipliers(variables, head.trainable_variables)
    return lambda gradients: [m * (g + (0.0 if v.path.endswith("bias") else preset.weight_decay) * v)
                              for g, v, m in zip(gradients, variables, factors, strict=True)]
