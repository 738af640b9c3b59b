"""One system on one data set: classifier, maps, seeds, segmenter, each a stage that is made once."""

import dataclasses
import pathlib
from collections.abc import Iterable
from typing import Any

from ficklenet_tf import presets
from ficklenet_tf.data import datasets
from ficklenet_tf.experiments.systems import System
from ficklenet_tf.maps import extraction as map_extraction
from ficklenet_tf.runs import layout
from ficklenet_tf.seeds import extraction, needed, saliency
from ficklenet_tf.training import accumulation, classifier_losses, erasing, loop, objective, rounds
from ficklenet_tf.training import affinity as affinity_training
from ficklenet_tf.training import classifier as classifier_training
from ficklenet_tf.training import segmenter as segmenter_training


@dataclasses.dataclass(frozen=True)
class Names:
    """Directories below the run's, of the stages of these names.

    Attributes:
      classifier: the (first) classifier's.
      maps: of the maps that the seeds are made of.
      affinity: of the affinity network, where the seeds need one.
      seeds: what the segmenter learns.
      segmenter: of its first round.
    """

    classifier: str = layout.CLASSIFIER
    maps: str = layout.MAPS
    affinity: str = layout.AFFINITY
    seeds: str = layout.SEEDS
    segmenter: str = layout.SEGMENTER


@dataclasses.dataclass(frozen=True)
class Job:
    """What is trained on what, by which system.

    Attributes:
      run_dir: everything lies below it.
      split: `datasets.Split` to train on.
      held_out: `datasets.Split` for the mAP of the tags.
      preset: `presets.Preset` with the system's changes, see `System.applied`.
      system: `System`.
      weights: of the backbone, see `pretrained.load_weights`.
      seed: of everything random.
      cache_flips: see `classifier_training.Options`.
      strong: `datasets.Split` of training images whose masks are learned too, or None.
      saliency_dir: saliency maps, where `needs_saliency`; None: the run's own.
      training: `loop.Options` of all trainings.
      names: `Names`.
    """

    run_dir: pathlib.Path
    split: datasets.Split
    held_out: datasets.Split
    preset: presets.Preset
    system: System
    weights: str = ""
    seed: int = 0
    cache_flips: bool = False
    strong: datasets.Split | None = None
    saliency_dir: pathlib.Path | None = None
    training: loop.Options = loop.Options()
    names: Names = Names()

    @property
    def needs_saliency(self) -> bool:
        """Whether it learns from saliency maps too: more supervision than tags."""
        return needs_saliency(self.preset)

    @property
    def needs_seeds(self) -> bool:
        """Whether its segmenter learns from seeds, and not from tags alone."""
        return objective.needs_seeds(self.preset.segmenter.losses)

    @property
    def saliency(self) -> pathlib.Path | None:
        """Where its saliency maps are or will be; None where it needs none."""
        return (self.saliency_dir or self.run_dir / layout.SALIENCY) if self.needs_saliency else None

    @property
    def classifier_options(self) -> classifier_training.Options:
        """How its classifiers are trained."""
        learned = self.preset.classifier.objectives
        return classifier_training.Options(
            self.weights, self.seed, self.cache_flips, self.training,
            saliency_dir=self.saliency if _some(learned, classifier_losses.NEED_SALIENCY) else None,
            strong=self.strong if _some(learned, classifier_losses.NEED_MASKS) else None)

    @property
    def options_free(self) -> bool:
        """Whether the classifier is a function of its config, weights, seed and photographs alone."""
        options = self.classifier_options
        return self.system.maps != "erasing" and options.saliency_dir is None and options.strong is None

    @property
    def map_options(self) -> map_extraction.Options:
        """How its maps are drawn: as its classifier predicts."""
        return map_extraction.Options(self.names.classifier, self.preset.classifier.inference_mode, self.seed)

    @property
    def segmenter_options(self) -> segmenter_training.Options:
        """What its segmenter learns from."""
        in_segmenter = _some(self.preset.segmenter.losses, objective.NEED_SALIENCY)
        return segmenter_training.Options(
            self.names.seeds, supervision="weak" if self.strong is None else "semi", strong=self.strong,
            seed=self.seed, training=self.training, saliency_dir=self.saliency if in_segmenter else None)

    def localize(self) -> None:
        """Trains the classifier, or classifiers, and makes the maps of all photographs."""
        maps_config = needed.with_gradient(self.preset.maps, self.preset.seeds)
        config, options, name = self.preset.classifier, self.classifier_options, self.names.maps
        if self.system.maps == "erasing":
            erasing.train_rounds(self.run_dir, self.split, self.held_out, config, maps_config, options,
                                 self.map_options, self.system.rounds, maps=name)
            return
        self.train_classifier()
        if not self.needs_seeds:
            return
        if self.system.maps == "snapshots":
            accumulation.maps_of_snapshots(self.run_dir, self.split, maps_config, self.map_options, maps=name)
        else:
            map_extraction.extract(self.run_dir, self.split, maps_config, self.map_options, name=name)

    def train_classifier(self) -> dict[str, Any]:
        """Trains the (first) classifier alone; returns its run.json."""
        return classifier_training.train(self.run_dir / self.names.classifier, self.split, self.held_out,
                                         self.preset.classifier, self.classifier_options)

    def look_closer(self, model: str | pathlib.Path) -> "Job":
        """Makes saliency maps that look again where the maps point; returns the job with these.

        Args:
          model: of the saliency network, see `saliency.make`.
        """
        directory = self.run_dir / layout.closer_of(self.names.maps)
        saliency.make_closer(self.run_dir, self.split, model, maps=self.names.maps, name=directory.name)
        return dataclasses.replace(self, saliency_dir=directory)

    def evidence(self) -> extraction.Options:
        """Returns what the seeds are made of beside the maps; trains the affinity network where they need one."""
        walker = None
        if self.preset.seeds.refine == "affinity":
            walker = affinity_training.walker_of(self.run_dir, self.split, self.preset, self.map_options,
                                                 self.names.maps, self.training, name=self.names.affinity)
        return extraction.Options(self.saliency, walker=walker)

    def make_seeds(self, config: presets.SeedsConfig | None = None,
                   evidence: extraction.Options | None = None) -> dict[str, Any]:
        """Makes the seeds of the maps; returns the stage's run.json.

        Args:
          config: `presets.SeedsConfig`; None: the preset's.
          evidence: what `evidence` returned; None: it is made.
        """
        return extraction.make(self.run_dir, self.split, config or self.preset.seeds, evidence or self.evidence(),
                               maps=self.names.maps, name=self.names.seeds)

    def train_segmenter(self) -> str:
        """Trains the segmenter; returns the name of its last round's directory."""
        return rounds.train_rounds(self.run_dir, self.split, self.preset.segmenter, self.segmenter_options,
                                   name=self.names.segmenter)


def needs_saliency(preset: presets.Preset) -> bool:
    """Whether a preset's stages learn from saliency maps, in whichever of them."""
    return (needed.saliency(preset.seeds) and objective.needs_seeds(preset.segmenter.losses)
            or _some(preset.classifier.objectives, classifier_losses.NEED_SALIENCY)
            or _some(preset.segmenter.losses, objective.NEED_SALIENCY))


def _some(words: Iterable[str], of: Iterable[str]) -> bool:
    return not set(words).isdisjoint(of)
