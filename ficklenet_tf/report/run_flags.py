"""The flags that a run was made with: what its files say, and what the caller of the report knows."""

import dataclasses
import pathlib
from collections.abc import Mapping
from typing import Any

from ficklenet_tf import presets
from ficklenet_tf.runs import artifacts, layout

CONFIGURED = (layout.CLASSIFIER, layout.MAPS, layout.SEEDS, layout.SEGMENTER)  # as the fields of `presets.Preset`
_PATHS = ("data_dir", "cache_dir")  # what the caller gives leads there now, also where the run was moved
_OF_DATA = ("dataset", *_PATHS, "split", "held_out", "on_error", "max_images", "preset", "seed", "import")


def read(directory: pathlib.Path, dataset: str, settings: Mapping[str, Mapping[str, Any]],
         result: Mapping[str, Any], caller: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the flags of a run, name -> value.

    Args:
      directory: the run's.
      dataset: name of its data set.
      settings: stage -> content of its settings.json, {} where it never began.
      result: content of result.json, whose "flags" tools.run_pipeline was given; {} for a run made stage by stage.
      caller: flags that the caller was given, for what the files do not say.
    """
    given = {name: caller[name] for name in _OF_DATA if name in caller}
    if "flags" in result:
        known = {"preset": result["preset"], **result["flags"]} if "preset" in result else dict(result["flags"])
    else:
        classifier = settings[layout.CLASSIFIER]
        known = {"preset": _nearest_preset(settings)} | {
            name: classifier.get(name) for name in ("split", "weights", "seed")}
        known = {name: value for name, value in known.items() if value} | given
    moved = {name: given[name] for name in _PATHS if name in given}
    return {"dataset": dataset, **known, **moved, "output_dir": str(directory)}


def _nearest_preset(settings: Mapping[str, Mapping[str, Any]]) -> str | None:
    """Returns the preset from which the stages' configs differ in the fewest fields; None where none has begun."""
    begun = [name for name in CONFIGURED if settings[name].get("config")]
    counts = {preset: sum(len(changed(settings[name], preset, name)) for name in begun) for preset in presets.PRESETS}
    return min(counts, key=lambda preset: counts[preset]) if begun else None


def changed(settings: Mapping[str, Any], preset: str, stage: str) -> dict[str, Any]:
    """Returns what flags changed in a stage's config.

    Args:
      settings: content of its settings.json, or {}.
      preset: name of the run's.
      stage: one of `CONFIGURED`.

    Returns:
      field -> value, those that the preset has otherwise.
    """
    base = artifacts.as_json(dataclasses.asdict(getattr(presets.PRESETS[preset], stage)))
    settled = {"precision"} if base.get("precision") == "auto" else set()  # by the hardware, see models/precision.py
    return {field: value for field, value in settings.get("config", {}).items()
            if field in base.keys() - settled and value != base[field]}
