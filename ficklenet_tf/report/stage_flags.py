"""The flags that each stage of a run was begun with, as its settings.json says them."""

import dataclasses
from typing import Any

from ficklenet_tf import crf, presets
from ficklenet_tf.report.stages import Run
from ficklenet_tf.runs import layout
from ficklenet_tf.seeds import needed

RUN = ("dataset", "data_dir", "cache_dir", "on_error", "max_images", "preset", "seed", "import", "output_dir")
_DEFAULT_CRF = "dsrg"
# Settings of a segmenter that are flags, too: their defaults.
_TRAINING = {"supervision": "weak", "seeds": layout.SEEDS, "initial": "classifier", "weights": ""}


def preset(run: Run) -> presets.Preset:
    """Returns the run's preset, or the one that is nearest to its settings."""
    return presets.PRESETS.get(run.flags.get("preset", ""), presets.TINY)


def settings(run: Run, name: str) -> dict[str, Any]:
    """Returns a stage's settings; of maps that were not kept, those in the settings of their seeds."""
    own: dict[str, Any] = run.stages[name].settings
    if name == layout.MAPS and not own:
        return dict(run.stages[layout.SEEDS].settings.get("maps", {}))
    return own


def common(run: Run, name: str) -> dict[str, Any]:
    """Returns the flags of data and run, with the seed and the split that a stage was begun with."""
    own = settings(run, name)
    own = {**own.get("maps", {}), **own}  # of seeds: those of their maps
    return {key: run.flags.get(key) for key in RUN} | {
        key: own[key] or None if key in own else run.flags.get(key) for key in ("seed", "split")}


def weights(run: Run) -> dict[str, str]:
    """Returns the flag of the backbone's weights; a run that has not begun takes ImageNet's where there are any."""
    given, begun = run.flags.get("weights"), run.stages[layout.CLASSIFIER].state != "missing"
    if not begun and preset(run).classifier.backbone != presets.TINY.classifier.backbone:
        given = given or "imagenet"
    return {"weights": given} if given else {}


def drawing(run: Run) -> dict[str, str]:
    """Returns how maps were begun, where that differs from the flags' defaults."""
    begun = settings(run, layout.MAPS)
    classifier = begun.get("classifier_name", layout.CLASSIFIER)
    stage = run.stages.get(classifier)
    own = stage.settings.get("config", {}).get("inference_mode") if stage else None
    mode = begun.get("mode", own)
    return ({} if mode == own else {"mode": mode}) | (
        {} if classifier == layout.CLASSIFIER else {"classifier": classifier})


def saliency_dir(run: Run) -> str | None:
    """Returns where the saliency maps lie that the seeds were begun with, where that is not their usual place."""
    identity = run.stages[layout.SEEDS].settings.get("saliency")
    if identity is None:
        return None
    own = [run.directory / name for name in (layout.SALIENCY, layout.CLOSER)]
    same = [path for path in own if path.exists() and needed.saliency_identity(path) == identity]
    if same:
        return str(same[0])
    return None if identity.startswith(needed.MADE_BY) else identity  # of maps made in another run nobody says where


def training(run: Run) -> dict[str, Any]:
    """Returns how a segmenter was begun, where that differs from the flags' defaults."""
    begun = run.stages[layout.SEGMENTER].settings
    given = {name: begun[name] for name, default in _TRAINING.items()
             if begun.get(name, default) not in (default, None)}
    return given | (_strong(begun) if begun.get("supervision") == "semi" else {})


def _strong(begun: dict[str, Any]) -> dict[str, Any]:
    """Returns which images' masks a segmenter learns beside seeds: those of another split, or so many of its own.

    All that its own has are as many as there are.
    """
    strong = begun["strong"]
    return ({"strong_images": strong["images"]} if strong["split"] == begun["split"] else
            {"strong_split": strong["split"]})


def prediction(run: Run) -> dict[str, Any]:
    """Returns how predictions were begun, where that differs from the flags' defaults."""
    begun = run.stages[layout.PREDICTIONS].settings
    config = run.stages[layout.SEGMENTER].settings.get("config", {})
    given = {flag: begun[key] for key, flag in (("sizes", "test_sizes"), ("flip", "test_flip"))
             if key in begun and begun[key] != config.get(flag)}
    return given | {"crf": crf_of(run)}


def crf_of(run: Run) -> str | None:
    """Returns the run's dense CRF by its name, None for the flags' default."""
    begun = run.stages[layout.REFINED_PREDICTIONS].settings.get("crf")
    found = [name for name, spec in crf.SPECS.items() if spec is not None and begun == dataclasses.asdict(spec)]
    name = run.result.get("crf") or next(iter(found), _DEFAULT_CRF)
    return None if name == _DEFAULT_CRF else name
