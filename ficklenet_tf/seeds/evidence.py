"""What is known of one photograph when its seeds are made."""

import dataclasses
import functools
import pathlib
from collections.abc import Callable

import numpy as np

from ficklenet_tf.errors import UserError
from ficklenet_tf.maps.image_maps import ImageMaps
from ficklenet_tf.presets import SeedsConfig
from ficklenet_tf.seeds import saliency


@dataclasses.dataclass(frozen=True)
class Evidence:
    """One photograph, what the classifier says of it, and how seeds are to be made.

    Attributes:
      image_id: of the photograph.
      image: `[h, w, 3]` uint8.
      maps: its `ImageMaps`.
      config: `presets.SeedsConfig`.
      saliency_dir: directory with `<image id>.png`, or None.
      walker: `affinity.Walker` of the run, for the refinement "affinity", or None.
    """

    image_id: str
    image: np.ndarray
    maps: ImageMaps
    config: SeedsConfig
    saliency_dir: str | pathlib.Path | None = None
    walker: Callable[[str, np.ndarray, np.ndarray], np.ndarray] | None = None

    @property
    def shape(self) -> tuple[int, int]:
        """(height, width) of the photograph."""
        height, width = self.image.shape[:2]
        return height, width

    @functools.cached_property
    def saliency(self) -> np.ndarray:
        """`[h, w]` float32, 0..1; see `saliency.read` for what it raises."""
        return saliency.read(self.saliency_dir, self.image_id, self.shape)

    @functools.cached_property
    def walked(self) -> np.ndarray:
        """`[h', w', c]` float32, the mean maps after a random walk over affinities, see `affinity.Walker`.

        Raises:
          UserError: there is no walker.
        """
        if self.walker is None:
            raise UserError(f"{self.image_id}: expected an affinity network (tools.train_affinity), found none")
        return self.walker(self.image_id, self.image, self.maps.mean)
