"""The maps of one photograph, as they go from memory to disk and back: what seeds are made of."""

import dataclasses
import io
import pathlib
import threading
from typing import Any

import numpy as np

from ficklenet_tf.data import datasets
from ficklenet_tf.errors import UserError
from ficklenet_tf.runs import artifacts, layout

_STATISTICS, _OPTIONAL = ("mean", "max", "std", "samples"), ("gradient", "probs")
# Python 3.11's parser, by which NumPy reads an array's header, fails now and then where several threads use it.
_ONE_PARSER = threading.Lock()


@dataclasses.dataclass(frozen=True, repr=False)
class ImageMaps:
    """N maps of each class in one photograph, aggregated.

    Attributes:
      tag_ids: `[c]` int32, the classes in the photograph, 0 the first foreground class.
      mean: `[h, w, c]` float32 over the N maps, each 0..1.
      max: as `mean`, the greatest.
      std: as `mean`, the spread.
      samples: `[n, h, w, c]` float32, the first maps.
      num_maps: N, with several views the greatest.
      shape: (height, width) of the photograph in pixels; the maps are smaller, an eighth of what the network saw.
      gradient: `[h', w']` float32, 0..1, the scores' absolute gradient by features or pixels, the greatest over the
        channels; or None.
      probs: `[h, w, c + 1]` float32, 0..1, of a head with a background: its softmax maps of the classes and, last, the
        background; or None.
    """

    tag_ids: np.ndarray
    mean: np.ndarray
    max: np.ndarray
    std: np.ndarray
    samples: np.ndarray
    num_maps: int
    shape: tuple[int, int]
    gradient: np.ndarray | None = None
    probs: np.ndarray | None = None

    def __repr__(self) -> str:
        height, width, classes = self.mean.shape
        return f"<ImageMaps {height} x {width} of {classes} classes, N = {self.num_maps}>"

    def rounded(self) -> "ImageMaps":
        """Returns the maps with the precision of a file, float16: seeds are the same by way of the disk or not."""
        return dataclasses.replace(self, **{name: array.astype(np.float32) for name, array in self._halves().items()})

    def _halves(self) -> dict[str, Any]:
        names = [name for name in (*_STATISTICS, *_OPTIONAL) if getattr(self, name) is not None]
        return {name: getattr(self, name).astype(np.float16) for name in names}

    def write(self, path: str | pathlib.Path) -> None:
        """Writes an .npz file, float16, whole or not at all."""
        buffer = io.BytesIO()
        np.savez(buffer, tag_ids=self.tag_ids, num_maps=self.num_maps, shape=self.shape, **self._halves())
        artifacts.write_bytes(path, buffer.getvalue())

    @classmethod
    def read(cls, path: str | pathlib.Path) -> "ImageMaps":
        """Reads what `write` wrote.

        Raises:
          UserError: the file is damaged or holds something else; names it.
          FileNotFoundError: it does not exist.
        """
        content = artifacts.read_bytes(path)
        try:
            with _ONE_PARSER, np.load(io.BytesIO(content)) as arrays:
                names = (*_STATISTICS, *(name for name in _OPTIONAL if name in arrays))
                values: dict[str, Any] = {name: arrays[name].astype(np.float32) for name in names}
                height, width = arrays["shape"].tolist()
                return cls(arrays["tag_ids"], num_maps=int(arrays["num_maps"]), shape=(height, width), **values)
        except Exception as error:  # zip, zlib and NumPy each raise their own kind
            raise UserError(f"{path}: expected maps of tools.extract_maps, found {error!r}") from error


def finished_settings(directory: pathlib.Path, split: datasets.Split) -> dict[str, Any]:
    """Returns the settings of a split's maps.

    Raises:
      FileNotFoundError: they are not finished.
      UserError: they are of other images.
    """
    artifacts.finished_run(directory, "set of maps", "tools.extract_maps")
    settings: dict[str, Any] = artifacts.read_json(directory / layout.SETTINGS)
    if settings["fingerprint"] != split.fingerprint:
        raise UserError(f"{directory}: expected maps of {split.dataset} {split.name}, found those of other images "
                        f"({settings['dataset']} {settings['split']})")
    return settings
