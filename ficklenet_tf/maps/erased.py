"""Adversarial erasing: a classifier does not get to see what earlier maps have found, and looks for the rest.

AE-PSL (Wei et al., CVPR 2017): the regions of all earlier rounds are erased from the training photographs, of several
tags the union of theirs; a region is where a map is above a share of its maximum, an erased pixel gets the mean
colour. TPL (Kim et al., ICCV 2017): the same of two rounds, in the features of the second network. Both as they are
remembered: neither paper's text nor code of its authors was at hand.

Here the share is taken of the mean map of each earlier directory, at its positions: what is erased of a photograph is
whole blocks of `backbones.STRIDE` pixels. The mean colour is that of the weights' normalisation, 0 once photographs
are normalised, where AE-PSL takes the training set's.
"""

import dataclasses
import pathlib
from collections.abc import Iterable, Mapping

import numpy as np
import tensorflow as tf

from ficklenet_tf import configs
from ficklenet_tf.data import datasets, images
from ficklenet_tf.errors import UserError
from ficklenet_tf.maps import image_maps
from ficklenet_tf.maps.image_maps import ImageMaps
from ficklenet_tf.presets import ClassifierConfig
from ficklenet_tf.runs import artifacts, layout

FORMS = configs.ERASINGS  # presets.ClassifierConfig.erase


@dataclasses.dataclass(frozen=True)
class Erased:
    """What maps have found in photographs, and what of these is left.

    Attributes:
      directories: of maps, each `<image id>.npz`.
      share: see `presets.ClassifierConfig.erase_share`.
      form: one of `FORMS`.
    """

    directories: tuple[pathlib.Path, ...]
    share: float
    form: str

    def keep(self, image_id: str, side: int) -> np.ndarray:
        """Returns what is left of a photograph, `[side, side]` uint8: 0 where it is erased, else 1.

        Args:
          image_id: of the photograph.
          side: each position takes what is said of the nearest of the maps.

        Raises:
          FileNotFoundError, UserError: see `ImageMaps.read`.
        """
        keep = np.ones((side, side), np.uint8)
        for directory in self.directories:
            maps = ImageMaps.read(layout.map_file(directory, image_id)).mean
            keep &= images.nearest((maps <= self.share * maps.max((0, 1))).all(-1), keep.shape)
        return keep


def covered(x: tf.Tensor, keep: np.ndarray | tf.Tensor) -> tf.Tensor:
    """Returns `x` with 0 where it is erased.

    Args:
      x: `[b, h, w, k]`, any float, static h and w: normalised photographs or features.
      keep: `[b, side, side]`, 0 or 1, static sides; each position of `x` takes the nearest.
    """
    rows, columns = (((np.arange(new) + 0.5) * (old / new)).astype(np.int32)
                     for new, old in zip(x.shape[1:3], keep.shape[1:], strict=True))
    nearest = tf.gather(tf.gather(keep, rows, axis=1), columns, axis=2)
    return tf.where(nearest[..., None] > 0, x, tf.zeros([], x.dtype))


def opened(run_dir: str | pathlib.Path, names: Iterable[str], split: datasets.Split,
           config: ClassifierConfig) -> Erased | None:
    """Returns the `Erased` of a run's finished map directories, None of none.

    Args:
      run_dir: the run's directory.
      names: of directories of maps below it.
      split: the `datasets.Split` that they are of.
      config: of the classifier that does not get to see what they have found.

    Raises:
      FileNotFoundError, UserError: see `image_maps.finished_settings` and `check`.
    """
    directories = tuple(pathlib.Path(run_dir) / name for name in names)
    for directory in directories:
        image_maps.finished_settings(directory, split)
    if not directories:
        return None
    check(config)
    return Erased(directories, config.erase_share, config.erase)


def check(config: ClassifierConfig) -> None:
    """Raises UserError where photographs are to be erased, and frozen layers have seen them whole."""
    if config.erases_in_vain:
        raise UserError("erase: expected features where layers are frozen, whose output is computed once, from whole "
                        f"photographs, found {config.erase}; pass --erase=features, or --trainable_layers=all")


def identities(run_dir: str | pathlib.Path, names: Iterable[str]) -> dict[str, str]:
    """Returns {name: `artifacts.identity`} of map directories, for the settings of what is made of them."""
    return {name: artifacts.identity(pathlib.Path(run_dir) / name) for name in names}


def check_same(run_dir: str | pathlib.Path, made: Mapping[str, str], what: str | pathlib.Path) -> None:
    """Checks that maps are those that were erased; of those that are no longer there nobody can say.

    Args:
      run_dir: the run's directory.
      made: {name: identity} then, as of `identities`.
      what: directory of what did not get to see what they had found, for the message.

    Raises:
      UserError: they have been made again since, of another classifier or with other settings.
    """
    for name, identity in made.items():
        directory = pathlib.Path(run_dir) / name
        if (directory / layout.SETTINGS).exists() and artifacts.identity(directory) != identity:
            raise UserError(f"{what}: expected the maps of {directory} that were erased for it, found that they have "
                            f"been made again since; make {what} again too")
