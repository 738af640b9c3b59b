"""Rounds of adversarial erasing (AE-PSL, Wei et al., CVPR 2017; TPL, Kim et al., ICCV 2017), see maps/erased.py.

Each round trains a classifier anew, from the same weights and seed, on photographs from which all that earlier rounds
have found is erased, and looks for the rest in them. The answer is the union of all rounds' maps. AE-PSL takes three
rounds, by the photographs; TPL two, by the features. AE-PSL stops when a classifier no longer learns; here the number
of rounds is given.
"""

import dataclasses
import pathlib

from ficklenet_tf import distribution, presets
from ficklenet_tf.data import datasets
from ficklenet_tf.errors import UserError
from ficklenet_tf.maps import erased, extraction, merging
from ficklenet_tf.runs import layout
from ficklenet_tf.training import classifier as classifier_training


def train_rounds(run_dir: str | pathlib.Path, split: datasets.Split, held_out: datasets.Split,
                 config: presets.ClassifierConfig, maps_config: presets.MapsConfig,
                 options: classifier_training.Options = classifier_training.Options(),
                 map_options: extraction.Options = extraction.Options(), rounds: int = 3, *,
                 maps: str = layout.MAPS) -> str:
    """Trains the classifiers, extracts the maps of each and merges them; every stage goes on where it stopped.

    Args:
      run_dir: the run's directory.
      split: `datasets.Split` to train on and to localize.
      held_out: `datasets.Split` for the mAP of each round, measured on whole photographs.
      config: `presets.ClassifierConfig`; `erase` and `erase_share` say how.
      maps_config: `presets.MapsConfig`.
      options: `classifier.Options`; `erased` is each round's own.
      map_options: `extraction.Options`; `classifier` is the first round's, `layout.in_round` names the others;
        `erased` is each round's own.
      rounds: how many, from 1.
      maps: directory below run_dir of the merged maps; `layout.in_round` names those of each round.

    Returns:
      `maps`.

    Raises:
      UserError: photographs are to be erased that frozen layers have seen whole; an earlier round has been trained
        again since.
    """
    if rounds < 1:
        raise UserError(f"rounds: expected a number from 1, found {rounds}")
    if rounds > 1:
        erased.check(config)
    run_dir = pathlib.Path(run_dir)
    before: tuple[str, ...] = ()
    for number in range(1, rounds + 1):
        trained = map_options.classifier if number == 1 else layout.in_round(map_options.classifier, number)
        found = layout.in_round(maps, number)
        classifier_training.train(run_dir / trained, split, held_out, config,
                                  dataclasses.replace(options, erased=before))
        distribution.on_chief(extraction.extract, run_dir, split, maps_config,
                              dataclasses.replace(map_options, classifier=trained, erased=before), name=found)
        before = (*before, found)
    distribution.on_chief(merging.merge, run_dir, split, before, "max", name=maps)
    return maps
