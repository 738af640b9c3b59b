"""The maps of one photograph, as they go from memory to disk and back: what seeds are made of."""

import dataclasses
import io
import pathlib
from typing import Any

import numpy as np

from ficklenet_tf.data import datasets
from ficklenet_tf.errors import UserError
from ficklenet_tf.runs import artifacts, layout

_STATISTICS = ("mean", "max", "std", "samples")


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
    """

    tag_ids: np.ndarray
    mean: np.ndarray
    max: np.ndarray
    std: np.ndarray
    samples: np.ndarray
    num_maps: int
    shape: tuple[int, int]
    gradient: np.ndarray | None = None

    def __repr__(self) -> str:
        height, width, classes = self.mean.shape
        return f"<ImageMaps {height} x {width} of {classes} classes, N = {self.num_maps}>"

    def rounded(self) -> "ImageMaps":
        """Returns the maps with the precision of a file, float16: seeds are the same by way of the disk or not."""
        names = [name for name in (*_STATISTICS, "gradient") if getattr(self, name) is not None]
        arrays: dict[str, Any] = {name: getattr(self, name).astype(np.float16).astype(np.float32) for name in names}
        return dataclasses.replace(self, **arrays)

    def write(self, path: str | pathlib.Path) -> None:
        """Writes an .npz file, float16, whole or not at all."""
        arrays: dict[str, Any] = {name: getattr(self, name).astype(np.float16) for name in _STATISTICS}
        if self.gradient is not None:
            arrays["gradient"] = self.gradient.astype(np.float16)
        buffer = io.BytesIO()
        np.savez(buffer, tag_ids=self.tag_ids, num_maps=self.num_maps, shape=self.shape, **arrays)
        artifacts.write_bytes(path, buffer.getvalue())

    @classmethod
    def read(cls, path: str | pathlib.Path) -> "ImageMaps":
        """Reads what `write` wrote.

        Raises:
          UserError: the file is damaged or holds something else; names it.
          FileNotFoundError: it does not exist.
        """
        try:
            with np.load(io.BytesIO(artifacts.read_bytes(path))) as arrays:
                statistics = {name: arrays[name].astype(np.float32) for name in _STATISTICS}
                gradient = arrays["gradient"].astype(np.float32) if "gradient" in arrays else None
                height, width = arrays["shape"].tolist()
                return cls(arrays["tag_ids"], **statistics, num_maps=int(arrays["num_maps"]), shape=(height, width),
                           gradient=gradient)
        except (FileNotFoundError, UserError):
            raise
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
