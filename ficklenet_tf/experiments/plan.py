"""The stages that tables and figures need, each made once: same settings, same artefact."""

import dataclasses
import pathlib

from ficklenet_tf import crf, presets
from ficklenet_tf.data import datasets
from ficklenet_tf.evaluation import prediction, scoring
from ficklenet_tf.experiments import maps, paper
from ficklenet_tf.models import precision
from ficklenet_tf.runs import artifacts
from ficklenet_tf.seeds import extraction
from ficklenet_tf.training import classifier as classifier_training
from ficklenet_tf.training import rounds


@dataclasses.dataclass(frozen=True)
class Plan:
    """What is trained and scored on what.

    Attributes:
      run_dir: everything lies below it; features of a frozen backbone in its features/.
      split: `datasets.Split` to train on.
      held_out: of evaluation.
      preset: `presets.Preset`.
      weights: of the backbone, see `pretrained.load_weights`.
      seeds: how many seeds, from 0.
      map_images: how many training images, evenly spaced, the maps are scored on.
      strong: of the training images, those whose masks semi-supervision may use (Table 3), or None.
      spec: `crf.CRFSpec` of the evaluation, or None.
      saliency_dir: for the background cue "saliency", see `seeds.saliency_cue`.
      options: of `classifier_training.train` and `segmenter_training.train` (save_every, jit_compile).
    """

    run_dir: pathlib.Path
    split: datasets.Split
    held_out: datasets.Split
    preset: presets.Preset
    weights: str = ""
    seeds: int = 3
    map_images: int = 200
    strong: datasets.Split | None = None
    spec: crf.CRFSpec | None = crf.DSRG_TEST
    saliency_dir: str | None = None
    options: dict = dataclasses.field(default_factory=dict)

    @property
    def repeats(self):
        """How often a figure was measured, for the notes below a table."""
        return "one seed" if self.seeds == 1 else f"{self.seeds} seeds (mean ± deviation)"

    @property
    def scored(self):
        """The part of the training split whose masks the maps are compared with."""
        with_mask = [i for i, there in enumerate(self.split.labelled) if there]
        if not with_mask:
            raise ValueError(f"{self.split.dataset} {self.split.name}: expected masks to score maps against, found "
                             "none")
        count = min(self.map_images, len(with_mask))
        return self.split.select(with_mask[i * len(with_mask) // count] for i in range(count))

    def classifier(self, training, seed=0, rate=None, rescale=None):
        """Trains a classifier unless a finished one with the same settings lies below run_dir.

        Args:
          training: "S", "G" or "D" (Table 7).
          seed: of weights, order, augmentation and selections.
          rate: dropout rate, None for the preset's. It means nothing to "D", which keeps the preset's.
          rescale: None for the preset's.

        Returns:
          Its directory's name.
        """
        own = dataclasses.replace(precision.settled(self.preset.classifier, self.run_dir),
                                  inference_selection=self.preset.classifier.training_selection)
        rate = own.rate if rate is None or training == "D" else rate
        rescale = own.rescale if rescale is None else rescale
        selection = paper.SELECTIONS[training]
        preset = dataclasses.replace(own, rate=float(rate), rescale=rescale, training_selection=selection,
                                     inference_selection=selection)
        settings = {"stage": "classifier", "weights": str(self.weights), "seed": seed, "dataset": self.split.dataset,
                    "split": self.split.name, "fingerprint": self.split.fingerprint}
        there = _finished(self.run_dir, settings, preset)
        if there:
            return there
        name = f"classifier_{training}" + ("" if training == "D" else f"_p{rate:g}") + (
            "_rescaled" if rescale else "") + f"_seed{seed}"
        if seed == 0 and preset == own:
            name = "classifier"  # the one that the other binaries make and segmenters take their backbone from
        classifier_training.train(self.run_dir / name, self.split, self.held_out, preset, weights=self.weights,
                                  seed=seed, **self.options)
        return name

    def average_precision(self, training, seed=0, rate=None):
        """Returns the mAP of a classifier's tags on the held-out split, 0..1; see `classifier`."""
        run = artifacts.read_run(self.run_dir / self.classifier(training, seed, rate))
        if run["held_out"] != self.held_out.name:
            raise ValueError(f"held_out: expected {run['held_out']}, on which the mAP of the classifiers in "
                             f"{self.run_dir} was measured, found {self.held_out.name}; give another --output_dir")
        return run["metrics"]["map"]

    def maps(self, training, inference=None, seed=0, rate=None, rescale=None):
        """Scores maps and seeds of a classifier, training it first if needed; see `maps.score`.

        Args:
          training: see `classifier`.
          inference: "S", "G" or "D"; None for the same as in training.
          seed: of the classifier and of the selections.
          rate: see `classifier`.
          rescale: see `classifier`.
        """
        inference = inference or training
        stage = self.classifier(training, seed, rate, rescale)
        counts = (1,) if inference == "D" else (self.preset.seeds.selections,)
        name = f"{stage}_by_{inference}" + ("" if inference == "D" else f"_N{counts[0]}")
        return maps.score(self.run_dir / "maps" / name, self.scored, self.run_dir / stage, self.preset.seeds,
                          selection=paper.SELECTIONS[inference], seed=seed, counts=counts,
                          saliency_dir=self.saliency_dir)

    def repeated_maps(self, counts, repeats):
        """Scores the maps of the stochastic classifier with seed 0 again and again, on other selections each time.

        Args:
          counts: rising numbers of selections.
          repeats: how often.

        Returns:
          A list of what `maps.score` returns, without seeds.
        """
        stage, selection, result, draws = self.classifier("S"), paper.SELECTIONS["S"], [], None
        for repeat in range(repeats):
            directory = self.run_dir / "maps" / f"{stage}_by_S_N{counts[-1]}_repeat{repeat}"
            if draws is None and artifacts.read_run(directory) is None:
                draws = maps.Draws(self.run_dir / stage, self.preset.seeds, selection, counts)
            result.append(maps.score(directory, self.scored, self.run_dir / stage, self.preset.seeds,
                                     selection=selection, seed=repeat, counts=counts, rule=False, draws=draws))
        return result

    def seed_images(self, training, seed=0, rate=None, **changes):
        """Extracts the seeds of every training image; returns their directory's name.

        Args:
          training: see `classifier`; the inference draws in the same way.
          seed: of classifier and selections.
          rate: see `classifier`.
          **changes: of the preset's seeds.
        """
        stage = self.classifier(training, seed, rate)
        preset = dataclasses.replace(self.preset.seeds, **changes)
        changes = {key: value for key, value in changes.items() if getattr(self.preset.seeds, key) != value}
        settings = {"stage": "seeds", "selection": paper.SELECTIONS[training], "seed": seed,
                    "fingerprint": self.split.fingerprint,
                    "classifier": artifacts.read_run(self.run_dir / stage)["finished"],
                    **extraction.cue_settings(preset, self.saliency_dir)}
        there = _finished(self.run_dir, settings, preset)
        if there:
            return there
        name = "_".join(["seeds", training, *([] if rate is None else [f"p{rate:g}"]), *_words(changes),
                         f"seed{seed}"])
        extraction.extract(self.run_dir, self.split, preset, stage=stage, name=name,
                           selection=paper.SELECTIONS[training], seed=seed, saliency_dir=self.saliency_dir)
        return name

    def masks(self, name, seeds=None, seed=0, split=None, preset=None, **options):
        """Trains a segmenter, predicts the held-out split and scores it.

        Every segmenter starts from the backbone of the preset's own classifier with seed 0, so that they differ
        in what they learn and not in where they begin.

        Args:
          name: what the segmenter is, for its directory.
          seeds: directory of the seeds, or None where masks are all that is learned.
          seed: of weights, order, augmentation and dropout.
          split: to train on; None for the plan's.
          preset: `presets.Segmenter`, None for the plan's.
          **options: of `retraining.train_rounds`.

        Returns:
          dict: "stage" (of the segmenter) and "predictions" (directory), "mIoU" and, with a `spec`, "mIoU with CRF".
        """
        if not self.held_out.has_labels:
            raise ValueError(f"{self.held_out.dataset} {self.held_out.name}: expected masks to score segmenters "
                             "against, found none")
        self.base()
        split, preset = split or self.split, preset or self.preset.segmenter
        stage = rounds.train_rounds(self.run_dir, split, preset, seed=seed,
                                    name=f"segmenter_{preset.head}_{name}_seed{seed}",
                                    **({} if seeds is None else {"seeds": seeds}), **options, **self.options)
        predictions = stage.replace("segmenter", "predictions", 1)
        found = self._evaluation(stage, predictions, preset) or scoring.evaluate(
            self.run_dir, self.held_out, stage=stage, name=predictions, spec=self.spec, sizes=preset.test_sizes,
            flip=preset.test_flip)
        scored = {"stage": stage, "predictions": predictions, "mIoU": found[predictions]["miou"]}
        return scored if self.spec is None else {**scored, "mIoU with CRF": found[f"{predictions}_crf"]["miou"]}

    def base(self):
        """Trains the preset's own classifier with seed 0, whose backbone all segmenters start from."""
        own = self.preset.classifier
        name = {selection: letter for letter, selection in paper.SELECTIONS.items()}[own.training_selection]
        stage = self.classifier(name)
        if stage != "classifier":
            raise ValueError(f"{self.run_dir / stage}: expected the preset's own classifier in "
                             f"{self.run_dir / 'classifier'}, found it here; rename the directory")

    def _evaluation(self, stage, predictions, preset):
        """Returns the scores of predictions made by this segmenter and scored before, or None."""
        found, made = {}, artifacts.read_run(self.run_dir / stage)
        for name, spec in prediction.outputs(predictions, self.spec).items():
            spec = None if spec is None else artifacts.as_json(dataclasses.asdict(spec))
            before, scored = artifacts.read_run(self.run_dir / name), self.run_dir / "evaluation" / f"{name}.json"
            wanted = {"segmenter": made["finished"], "fingerprint": self.held_out.fingerprint,
                      "sizes": list(preset.test_sizes), "flip": preset.test_flip, "crf": spec}
            if before is None or not scored.exists() or any(before.get(key) != wanted[key] for key in wanted):
                return None
            found[name] = artifacts.read_json(scored)
        return found


def _words(changes):
    return [f"{key}-{value:g}" if isinstance(value, float) else f"{key}-{value}" for key, value in changes.items()]


def _finished(run_dir, settings, preset):
    """Returns the name of a finished stage with these settings below run_dir, or None."""
    for path in sorted(pathlib.Path(run_dir).glob("*/settings.json")):
        before = artifacts.read_json(path)
        if before.get("stage") != settings["stage"] or artifacts.read_run(path.parent) is None:
            continue
        same = all(before[key] == value for key, value in settings.items())
        earlier = type(preset)(**before["preset"])  # a field added since then has its default
        if same and artifacts.as_json(dataclasses.asdict(earlier)) == artifacts.as_json(dataclasses.asdict(preset)):
            return path.parent.name
    return None
