"""The stages that tables and figures need, each made once: same settings, same artefact."""

import dataclasses
import logging
import pathlib

from ficklenet_tf import artifacts, classifier_training, datasets, extraction, presets
from ficklenet_tf.experiments import maps, paper


@dataclasses.dataclass(frozen=True)
class Plan:
    """What is trained and scored on what.

    Attributes:
      run_dir: everything lies below it; features of a frozen backbone in its features/.
      split: `datasets.Split` to train on.
      held_out: of evaluation.
      preset: `presets.Preset`.
      weights: of the backbone, see `backbones.load_weights`.
      seeds: how many seeds, from 0.
      map_images: how many training images, evenly spaced, the maps are scored on.
      options: of `classifier_training.train` and `segmenter_training.train` (save_every, jit_compile).
    """

    run_dir: pathlib.Path
    split: datasets.Split
    held_out: datasets.Split
    preset: presets.Preset
    weights: str = ""
    seeds: int = 3
    map_images: int = 200
    options: dict = dataclasses.field(default_factory=dict)

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
        own = self.preset.classifier
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
        logging.getLogger(__name__).info("training %s", name)
        classifier_training.train(self.run_dir / name, self.split, self.held_out, preset, weights=self.weights,
                                  seed=seed, **self.options)
        return name

    def maps(self, training, inference=None, seed=0, rate=None, rescale=None, counts=None, repeat=None, rule=True):
        """Scores the maps of a classifier, training it first if needed; see `maps.score`.

        Args:
          training: see `classifier`.
          inference: "S", "G" or "D"; None for the same as in training.
          seed: of the classifier, and of the selections unless `repeat` is given.
          rate: see `classifier`.
          rescale: see `classifier`.
          counts: numbers of selections; None for the preset's.
          repeat: seed of the selections.
          rule: whether seeds are made and scored too.
        """
        inference = inference or training
        stage = self.classifier(training, seed, rate, rescale)
        counts = (1,) if inference == "D" else tuple(counts or (self.preset.seeds.selections,))
        name = f"{stage}_by_{inference}" + ("" if inference == "D" else f"_N{'_'.join(map(str, counts))}")
        name += "" if repeat is None else f"_repeat{repeat}"
        return maps.score(self.run_dir / "maps" / name, self.scored, self.run_dir / stage, self.preset.seeds,
                          selection=paper.SELECTIONS[inference], seed=seed if repeat is None else repeat,
                          counts=counts, rule=rule)

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
        name = "_".join(["seeds", *stage.split("_")[1:], *_words(changes)])
        extraction.extract(self.run_dir, self.split, preset, stage=stage, name=name,
                           selection=paper.SELECTIONS[training], seed=seed)
        return name


def _words(changes):
    return [f"{key}-{value:g}" if isinstance(value, float) else f"{key}-{value}" for key, value in changes.items()]


def _finished(run_dir, settings, preset):
    """Returns the name of a finished stage with these settings below run_dir, or None."""
    for path in sorted(pathlib.Path(run_dir).glob("*/settings.json")):
        before = artifacts.read_json(path)
        if before.get("stage") != settings["stage"] or artifacts.read_run(path.parent) is None:
            continue
        same = all(before[key] == value for key, value in settings.items())
        if same and type(preset)(**before["preset"]) == preset:  # a field added since then has its default
            return path.parent.name
    return None
