"""Maps accumulated over a training (OAA, Jiang et al., ICCV 2019): what the classifier has found at any moment of it.

OAA keeps, for each photograph and tag, the maximum of the class maps, each divided by its own maximum, that the
network gives whenever it is trained on that photograph. Here they are the maps of weights that the training kept at
evenly spaced steps (`presets.ClassifierConfig.snapshots`), merged by the maximum. So what is accumulated is a function
of the settings, and can go on after a kill. What differs from OAA's code (PengtaoJiang/OAA-PyTorch, models/vgg.py):

- each photograph is looked at `snapshots` times, all of them by the same weights, and whole, as maps are extracted:
  not once per epoch, by the weights of that step;
- there, the maps of the first epoch are left out; here, the first snapshot comes after steps / snapshots steps;
- there, a map counts only where its tag is among the k highest scores of the photograph, which has k tags, and a
  photograph of which no map ever counted takes that of the last epoch; here, every map counts;
- there, maps are rounded to 8 bits.
"""

import dataclasses
import pathlib

from ficklenet_tf import distribution, presets
from ficklenet_tf.data import datasets
from ficklenet_tf.errors import UserError
from ficklenet_tf.maps import extraction, merging
from ficklenet_tf.runs import artifacts, layout


def maps_of_snapshots(run_dir: str | pathlib.Path, split: datasets.Split, config: presets.MapsConfig,
                      options: extraction.Options = extraction.Options(), *, maps: str = layout.MAPS) -> str:
    """Extracts the maps of each snapshot of a classifier and merges them; every stage goes on where it stopped.

    Args:
      run_dir: the run's directory.
      split: `datasets.Split`.
      config: `presets.MapsConfig`.
      options: `extraction.Options`; `classifier` is the trained one, whose snapshots are taken.
      maps: directory below run_dir of the merged maps; `layout.at_step` names those of each snapshot. What stands on
        one classifier takes the last snapshot, which is the trained one.

    Returns:
      `maps`.

    Raises:
      FileNotFoundError: the classifier has not been trained, or a snapshot is gone.
      UserError: it kept no snapshots.
    """
    directory = pathlib.Path(run_dir) / options.classifier
    steps = artifacts.finished_run(directory, "classifier", "tools.train_classifier").get("snapshots", {})
    if not steps:
        raise UserError(f"{directory}: expected a classifier trained with --snapshots, found one that kept none")
    parts = []
    for name, step in reversed(steps.items()):
        parts.append(layout.at_step(maps, step))
        each = dataclasses.replace(options, classifier=name)
        distribution.on_chief(extraction.extract, run_dir, split, config, each, name=parts[-1])
    distribution.on_chief(merging.merge, run_dir, split, parts, "max", name=maps)
    return maps
