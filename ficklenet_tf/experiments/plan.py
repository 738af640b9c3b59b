"""The stages that tables and figures need, each made once: same settings, same artefact."""

import dataclasses
import pathlib
from collections.abc import Sequence
from typing import Any

from ficklenet_tf import crf, presets
from ficklenet_tf.data import datasets
from ficklenet_tf.errors import UserError
from ficklenet_tf.evaluation import prediction, scoring
from ficklenet_tf.experiments import costs, map_scores, paper, seed_choice, shared, systems
from ficklenet_tf.experiments.job import Job
from ficklenet_tf.maps import extraction as map_extraction
from ficklenet_tf.models import precision
from ficklenet_tf.runs import artifacts, layout
from ficklenet_tf.seeds import background_score, extraction, needed
from ficklenet_tf.training import classifier as classifier_training
from ficklenet_tf.training import loop, rounds
from ficklenet_tf.training import segmenter as segmenter_training


@dataclasses.dataclass(frozen=True)
class Plan:
    """What is trained and scored on what.

    Attributes:
      run_dir: everything lies below it; features of a frozen backbone in its features/.
      split: `datasets.Split` to train on.
      held_out: `datasets.Split` to evaluate on.
      preset: `presets.Preset`.
      weights: of the backbone, see `pretrained.load_weights`.
      random_seeds: with which everything is made once each.
      map_images: how many training images, evenly spaced, the maps are scored on.
      strong: the training images whose masks semi-supervision may use (Table 3), or None.
      spec: `crf.CRFSpec` of the evaluation, or None.
      saliency_dir: of seeds that need saliency, or None.
      options: `loop.Options` of all trainings.

    Raises:
      UserError: the preset's seeds need a training or a choice of their own.
    """

    run_dir: pathlib.Path
    split: datasets.Split
    held_out: datasets.Split
    preset: presets.Preset
    weights: str = ""
    random_seeds: tuple[int, ...] = (0, 1, 2)
    map_images: int = 200
    strong: datasets.Split | None = None
    spec: crf.CRFSpec | None = crf.DSRG_TEST
    saliency_dir: str | pathlib.Path | None = None
    options: loop.Options = loop.Options()

    def __post_init__(self) -> None:
        seeds = self.preset.seeds
        if seeds.refine == "affinity" or seeds.refine_low == background_score.AUTO:
            raise UserError("seeds: expected a refinement that depends on one image alone, as all rows share it; "
                            f"found refine {seeds.refine}, refine_low {seeds.refine_low}")

    @property
    def scored(self) -> datasets.Split:
        """The part of the training split whose masks the maps are compared with."""
        check_masks(self.split, "maps")
        return self.split.with_masks(self.map_images)

    @property
    def maps_config(self) -> presets.MapsConfig:
        """The preset's maps, with the gradient where the preset's background cue wants it."""
        return needed.with_gradient(self.preset.maps, self.preset.seeds)

    def classifier(self, training: str, seed: int = 0, rate: float | None = None,
                   rescale: bool | None = None) -> str:
        """Trains a classifier unless a finished one with the same settings lies below run_dir.

        Args:
          training: "S", "G" or "D" (Table 7).
          seed: of weights, order, augmentation and selections.
          rate: dropout rate, None for the preset's. It means nothing to "D", which keeps the preset's.
          rescale: None for the preset's.

        Returns:
          Its directory's name.
        """
        preset_config = dataclasses.replace(precision.settled(self.preset.classifier, self.run_dir),
                                            inference_mode=self.preset.classifier.training_mode)
        rate = preset_config.rate if rate is None or training == "D" else rate
        rescale = preset_config.rescale if rescale is None else rescale
        mode = paper.MODES[training]
        config = dataclasses.replace(preset_config, rate=float(rate), rescale=rescale, training_mode=mode,
                                     inference_mode=mode)
        finished = shared.finished(
            self.run_dir, classifier_training.settings_of(self.weights, seed, self.split), config)
        if finished:
            return finished
        name = f"{layout.CLASSIFIER}_{training}" + ("" if training == "D" else f"_p{rate:g}") + (
            "_rescaled" if rescale else "") + f"_seed{seed}"
        if seed == 0 and config == preset_config:
            name = layout.CLASSIFIER  # the one that the other binaries make and segmenters take their backbone from
        options = classifier_training.Options(self.weights, seed, training=self.options)
        classifier_training.train(self.run_dir / name, self.split, self.held_out, config, options)
        return name

    def average_precision(self, training: str, seed: int = 0, rate: float | None = None) -> float:
        """Returns the mAP of a classifier's tags on the held-out split, 0..1; see `classifier`."""
        run = classifier_training.measured(self.run_dir / self.classifier(training, seed, rate), self.held_out)
        if run["held_out"] != self.held_out.name:  # as of an earlier version
            raise UserError(f"held_out: expected {run['held_out']}, on which the mAP of the classifiers in "
                            f"{self.run_dir} was measured, found {self.held_out.name}; give another --output_dir")
        found = run["metrics"]["map"]
        return float("nan") if found is None else found

    def maps(self, training: str, inference: str | None = None, seed: int = 0, rate: float | None = None,
             rescale: bool | None = None, refine: str | None = None) -> dict[str, Any]:
        """Scores maps and seeds of a classifier, training it first if needed; see `map_scores.score`.

        Args:
          training: see `classifier`.
          inference: "S", "G" or "D"; None for the same as in training.
          seed: of the classifier and of the selections.
          rate: see `classifier`.
          rescale: see `classifier`.
          refine: of the seeds, None for the preset's.
        """
        inference = inference or training
        classifier = self.classifier(training, seed, rate, rescale)
        num_maps: int | str = 1 if inference == "D" else self.maps_config.num_maps
        config = dataclasses.replace(self.preset.seeds, refine=refine or self.preset.seeds.refine)
        name = f"{classifier}_by_{inference}" + ("" if inference == "D" else f"_N{num_maps}") + (
            "" if config == self.preset.seeds else f"_{refine}")
        options = map_scores.Options(map_extraction.Options(classifier, paper.MODES[inference], seed),
                                     self.saliency_dir)
        return map_scores.score(self.run_dir / layout.MAP_SCORES / name, self.scored, self.run_dir / classifier,
                                (needed.with_gradient(self.preset.maps, config), config), options,
                                counts=(num_maps,))

    def repeated_maps(self, counts: Sequence[int], repeats: int) -> list[dict[str, Any]]:
        """Scores the maps of the stochastic classifier with seed 0 several times, each time on other selections.

        Args:
          counts: rising numbers of maps.
          repeats: how often.

        Returns:
          What `map_scores.score` returns, without seeds, once per repeat.
        """
        classifier, mode, draws = self.classifier("S"), paper.MODES["S"], None
        scores = []
        for repeat in range(repeats):
            directory = self.run_dir / layout.MAP_SCORES / f"{classifier}_by_S_N{counts[-1]}_repeat{repeat}"
            if draws is None and artifacts.read_run(directory) is None:
                draws = map_scores.Draws(self.run_dir / classifier, self.preset.maps, mode, counts)
            options = map_scores.Options(map_extraction.Options(classifier, mode, repeat))
            scores.append(map_scores.score(directory, self.scored, self.run_dir / classifier, (self.preset.maps, None),
                                           options, counts=counts, draws=draws))
        return scores

    def rule(self, training: str, seed: int = 0, rate: float | None = None,
             refine: str | None = None) -> presets.SeedsConfig:
        """Returns the rule for seeds at the number that suits this classifier best on the images of `scored`.

        Args:
          training: see `classifier`; the inference draws in the same way.
          seed: of classifier and selections.
          rate: see `classifier`.
          refine: of the seeds, None for the preset's.
        """
        choices = map_scores.rules(dataclasses.replace(self.preset.seeds, refine=refine or self.preset.seeds.refine))
        return choices[map_scores.best_rule(self.maps(training, seed=seed, rate=rate, refine=refine))]

    def seed_images(self, training: str, seed: int = 0, rate: float | None = None, **changes: Any) -> str:
        """Extracts the seeds of every training image by the classifier's best `rule`; returns their directory's name.

        Args:
          training: see `classifier`; the inference draws in the same way.
          seed: of classifier and selections.
          rate: see `classifier`.
          **changes: fields of `presets.SeedsConfig` that differ from the preset's.
        """
        classifier = self.classifier(training, seed, rate)
        config = dataclasses.replace(self.rule(training, seed, rate, changes.get("refine")), **changes)
        changes = {key: value for key, value in changes.items() if getattr(self.preset.seeds, key) != value}
        map_options = map_extraction.Options(classifier, paper.MODES[training], seed)
        options = extraction.Options(self.saliency_dir)
        maps_config = needed.with_gradient(self.preset.maps, config)
        map_settings = map_extraction.settings_of(_run(self.run_dir / classifier), self.split, maps_config,
                                                  map_options)
        settings = extraction.settings_of(self.split, config, options, map_settings)
        del settings["config"]  # compared by its fields
        finished = shared.finished(self.run_dir, settings, config)
        if finished:
            return finished
        name = "_".join([layout.SEEDS, training, *([] if rate is None else [f"p{rate:g}"]), *_words(changes),
                         f"seed{seed}"])
        extraction.extract(self.run_dir, self.split, maps_config, config, map_options, options, name=name)
        return name

    def job(self, key: str, seed: int = 0, semi: bool = False) -> Job:
        """Returns what a system does with this plan's data; equal classifiers and maps have one name.

        Args:
          key: of `systems.SYSTEMS`.
          seed: of everything random.
          semi: whether the masks of `strong` are learned too.
        """
        system, strong = systems.SYSTEMS[key], self.strong if semi else None
        preset = system.applied(self.preset, semi)
        work = Job(self.run_dir, self.split, self.held_out, preset, system, self.weights, seed, strong=strong,
                   saliency_dir=None if self.saliency_dir is None else pathlib.Path(self.saliency_dir),
                   training=self.options)
        return shared.named(work, key, self.preset.classifier)

    def system(self, key: str, seed: int = 0, semi: bool = False) -> dict[str, Any]:
        """Trains and scores a system; each side's seeds are made by the number that suits its maps best.

        Args:
          key: see `job`.
          seed: see there.
          semi: see there.

        Returns:
          As `masks`, with "seeds", the scores of its seeds, or None; "cost" of all its trainings, see `costs.of`, and
          "cost of seeds", of its maps and seeds.
        """
        check_masks(self.held_out, "segmenters")
        self.base()
        work = self.job(key, seed, semi)
        made = shared.make(work, self._choose)
        return {**self.score(made.segmenter, work.preset.segmenter), "seeds": made.seeds and made.seeds["metrics"],
                "cost": made.cost, "cost of seeds": made.cost_of_seeds}

    def _choose(self, work: Job, evidence: extraction.Options) -> presets.SeedsConfig:
        name = f"{layout.MAP_SCORES}/{work.names.seeds}"
        return seed_choice.choose(self.run_dir, self.scored, work.preset.seeds, evidence, maps=work.names.maps,
                                  name=name)

    def masks(self, name: str, seeds: str | None = None, seed: int = 0, split: datasets.Split | None = None,
              config: presets.SegmenterConfig | None = None, **options: Any) -> dict[str, Any]:
        """Trains a segmenter, predicts the held-out split and scores it.

        Every segmenter starts from the backbone of the preset's own classifier with seed 0, so that they differ
        in what they learn and not in where they begin.

        Args:
          name: what the segmenter is, for its directory.
          seeds: directory of the seeds, or None where masks are all that is learned.
          seed: of weights, order, augmentation and dropout.
          split: to train on; None for the plan's.
          config: `presets.SegmenterConfig`, None for the plan's.
          **options: of `segmenter_training.Options`.

        Returns:
          dict: "stage" (of the segmenter) and "predictions" (directory), "mIoU" and, with a `spec`, "mIoU with CRF".
        """
        check_masks(self.held_out, "segmenters")
        self.base()
        split, config = self.split if split is None else split, config or self.preset.segmenter
        if seeds is not None:
            options["seeds"] = seeds
        training_options = segmenter_training.Options(seed=seed, training=self.options, **options)
        segmenter = rounds.train_rounds(self.run_dir, split, config, training_options,
                                        name=f"{layout.SEGMENTER}_{config.head}_{name}_seed{seed}")
        return self.score(segmenter, config)

    def score(self, segmenter: str, config: presets.SegmenterConfig) -> dict[str, Any]:
        """Predicts the held-out split by a trained segmenter and scores it; see `masks` for what it returns."""
        predictions = segmenter.replace(layout.SEGMENTER, layout.PREDICTIONS, 1)
        options = prediction.Options(self.spec, sizes=config.test_sizes, flip=config.test_flip, keep_features=True)
        of = {"stage_name": segmenter, "name": predictions}
        scores = scoring.finished(self.run_dir, self.held_out, options, **of) or scoring.evaluate(
            self.run_dir, self.held_out, options, **of)
        scored = {"stage": segmenter, "predictions": predictions, "mIoU": scores[predictions]["miou"]}
        return scored if self.spec is None else {
            **scored, "mIoU with CRF": scores[layout.refined(predictions)]["miou"]}

    def base(self) -> None:
        """Trains the preset's own classifier with seed 0, whose backbone all segmenters start from."""
        letters = {mode: letter for letter, mode in paper.MODES.items()}
        name = costs.measured(self.run_dir, layout.CLASSIFIER,
                              lambda: self.classifier(letters[self.preset.classifier.training_mode]))
        if name != layout.CLASSIFIER:
            raise UserError(f"{self.run_dir / name}: expected the preset's own classifier in "
                            f"{self.run_dir / layout.CLASSIFIER}, found it here; rename the directory")


def check_masks(split: datasets.Split, what: str) -> None:
    """Raises UserError where a split has no mask to score `what` against."""
    if not split.has_labels:
        raise UserError(f"{split.dataset} {split.name}: expected masks to score {what} against, found none")


def _run(stage_dir: pathlib.Path) -> dict[str, Any]:
    """Returns the run.json of a stage that has finished."""
    return artifacts.finished_run(stage_dir, "stage", "tools.reproduce")


def _words(changes: dict[str, Any]) -> list[str]:
    return [f"{key}-{value:g}" if isinstance(value, float) else f"{key}-{value}" for key, value in changes.items()]
