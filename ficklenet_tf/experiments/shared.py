"""Stages that compared systems share: equal classifiers and maps have one name, and are made once."""

import dataclasses
import pathlib
from collections.abc import Callable
from typing import Any

from ficklenet_tf import presets
from ficklenet_tf.experiments import costs
from ficklenet_tf.experiments.job import Job, Names
from ficklenet_tf.models import precision
from ficklenet_tf.runs import artifacts, layout, stage
from ficklenet_tf.seeds import extraction, needed
from ficklenet_tf.training import classifier as classifier_training

Choose = Callable[[Job, extraction.Options], presets.SeedsConfig]


@dataclasses.dataclass(frozen=True)
class Made:
    """A system that has been trained.

    Attributes:
      work: its `Job`, with the names of its stages.
      segmenter: name of its last round's directory.
      seeds: run.json of its seeds, None where it needs none.
      cost: of all its stages, see `costs.of`.
      cost_of_seeds: of its maps and seeds; None where that is not known, or trains classifiers too.
    """

    work: Job
    segmenter: str
    seeds: dict[str, Any] | None
    cost: dict[str, float] | None
    cost_of_seeds: dict[str, float] | None


def named(work: Job, key: str, base: presets.ClassifierConfig, base_seed: int = 0) -> Job:
    """Returns the job with names of its own, but for what has been made with equal settings.

    Args:
      work: a `Job`.
      key: of its system.
      base: of the run's own classifier, classifier/, from which all segmenters start.
      base_seed: of the run's own classifier.
    """
    own = f"{key}_semi_seed{work.seed}" if work.strong is not None else f"{key}_seed{work.seed}"
    classifier = work.options_free and _same_classifier(work, base, base_seed) or f"{layout.CLASSIFIER}_{own}"
    if not work.needs_seeds:  # its segmenter starts from the run's own, as all do
        classifier = layout.CLASSIFIER
    shared = work.options_free and work.system.maps == "one"
    maps = f"{layout.MAPS}_{own}"
    if shared:  # named after the classifier: another system may have the same one, and other maps
        maps = layout.MAPS if classifier == layout.CLASSIFIER else f"{layout.MAPS}_of_{classifier}"
    gradient = needed.with_gradient(work.preset.maps, work.preset.seeds).gradient
    names = Names(classifier, maps if gradient == "none" else f"{maps}_{gradient}", f"{layout.AFFINITY}_{own}",
                  f"{layout.SEEDS}_{own}", f"{layout.SEGMENTER}_{work.preset.segmenter.head}_{own}")
    return dataclasses.replace(work, names=names)


def make(work: Job, choose: Choose | None = None) -> Made:
    """Trains a system and measures what that costs; what is finished is not done again.

    Args:
      work: as `named` returns it, of a run whose own classifier is finished.
      choose: returns the `presets.SeedsConfig` of a job and what its seeds are made of, which costs it nothing; None:
        the preset's.
    """
    names, run_dir, seeds = work.names, work.run_dir, None
    erasing = work.system.maps == "erasing"  # trains its classifiers on the way to its maps
    made = [] if erasing else [names.classifier]
    if work.needs_seeds:
        if not erasing:
            costs.measured(run_dir, names.classifier, work.train_classifier)
        costs.measured(run_dir, names.maps, work.localize)
        made.append(names.maps)
        if work.preset.seeds.refine == "affinity":
            evidence = costs.measured(run_dir, names.affinity, work.evidence)
            made.append(names.affinity)
        else:
            evidence = work.evidence()
        config = choose(work, evidence) if choose else None
        seeds = costs.measured(run_dir, names.seeds, lambda: work.make_seeds(config, evidence))
        made.append(names.seeds)
    segmenter = costs.measured(run_dir, names.segmenter, work.train_segmenter)
    return Made(work, segmenter, seeds, costs.of(run_dir, [*made, names.segmenter]),
                costs.of(run_dir, [names.maps, names.seeds]) if work.needs_seeds and not erasing else None)


def _same_classifier(work: Job, base: presets.ClassifierConfig, base_seed: int) -> str | None:
    """Returns the name of a classifier of these settings that is there, or that the run's own has."""
    config = precision.settled(work.preset.classifier, work.run_dir)
    if (config, work.seed) == (precision.settled(base, work.run_dir), base_seed):
        return layout.CLASSIFIER
    return finished(work.run_dir, classifier_training.settings_of(work.weights, work.seed, work.split), config)


def finished(run_dir: pathlib.Path, settings: dict[str, Any],
             config: presets.ClassifierConfig | presets.SeedsConfig) -> str | None:
    """Returns the name of the stage with these settings that was finished first below run_dir, or None.

    The first: what is made later, as the first round of erasing, does not change what others were made of.
    """
    found = []
    for path in sorted(run_dir.glob(f"*/{layout.SETTINGS}")):
        recorded = artifacts.read_json(path)
        run = artifacts.read_run(path.parent) if recorded.get("stage") == settings["stage"] else None
        if run is None:
            continue
        if "maps" in recorded:
            maps_config = presets.MapsConfig(**recorded["maps"]["config"])  # a field added since then has its default
            recorded["maps"]["config"] = artifacts.as_json(dataclasses.asdict(maps_config))
        same = stage.same(recorded, artifacts.as_json(settings), {"config", "format"})  # these are compared otherwise
        earlier = type(config)(**recorded["config"])  # a field added since then has its default
        if same and artifacts.as_json(dataclasses.asdict(earlier)) == artifacts.as_json(dataclasses.asdict(config)):
            found.append((run.get("finished", ""), path.parent.name))
    return min(found)[1] if found else None
