"""The number type that networks compute in: a Keras policy, and which one "auto" is on this machine."""

import contextlib
import dataclasses
import pathlib
from collections.abc import Iterator
from typing import TypeVar

import keras

from ficklenet_tf import configs, distribution, presets
from ficklenet_tf.errors import UserError
from ficklenet_tf.runs import artifacts, hardware, layout, progress

PRECISIONS, AUTO = configs.PRECISIONS, configs.AUTO
_Config = TypeVar("_Config", presets.ClassifierConfig, presets.SegmenterConfig)


@contextlib.contextmanager
def policy(precision: str) -> Iterator[None]:
    """Makes layers built inside compute in `precision` and keep float32 variables.

    Args:
      precision: one of `PRECISIONS`.

    Raises:
      UserError: unknown precision.
    """
    if precision not in PRECISIONS:
        raise UserError(f"precision: expected one of {', '.join(PRECISIONS)} (or auto for a training), found "
                        f"{precision!r}")
    previous = keras.config.dtype_policy()
    keras.config.set_dtype_policy("float32" if precision == "float32" else f"mixed_{precision}")
    try:
        yield
    finally:
        keras.config.set_dtype_policy(previous)


def settled(config: _Config, run_dir: str | pathlib.Path) -> _Config:
    """Returns a stage's config with the precision "auto" replaced by this run's.

    The first stage of a run that asks chooses: the precision of the classifier that is there already, else
    bfloat16 where the hardware computes in it, else float32. It says so in one line and writes
    `run_dir`/precision.json, from which all later and resumed stages take it, on whatever machine.

    Args:
      config: `presets.ClassifierConfig` or `presets.SegmenterConfig`.
      run_dir: the run's directory; with several workers, one that all of them see.
    """
    if config.precision != AUTO:
        return config
    path = pathlib.Path(run_dir) / layout.PRECISION
    distribution.on_chief(_choose, path)
    return dataclasses.replace(config, precision=artifacts.read_json(path)["precision"])


def _choose(path: pathlib.Path) -> None:
    if path.exists():
        return
    classifier_settings, unit = path.parent / layout.CLASSIFIER / layout.SETTINGS, hardware.bfloat16_unit()
    if classifier_settings.exists():
        settings = artifacts.read_json(classifier_settings)
        if "config" not in settings:
            raise UserError(f"{classifier_settings}: expected format {artifacts.FORMAT}, found an earlier one; make "
                            "the run again in another directory")
        precision, reason = settings["config"]["precision"], "as the classifier's"
    elif unit:
        precision, reason = "bfloat16", unit
    else:
        precision, reason = "float32", "no hardware for bfloat16 in use here"
    artifacts.write_json(path, {"precision": precision, "why": reason, "hardware": hardware.describe()})
    progress.say(f"precision: {precision} ({reason})")
