"""A finished run as one object: it localizes and segments photographs, by the names of their classes."""

import dataclasses
import functools
import os
import pathlib
from collections.abc import Sequence

import numpy as np

from ficklenet_tf.crf import SPECS, refine
from ficklenet_tf.data import images
from ficklenet_tf.data import labels as label_images
from ficklenet_tf.errors import UserError
from ficklenet_tf.evaluation import prediction
from ficklenet_tf.maps import localizer
from ficklenet_tf.maps.image_maps import ImageMaps
from ficklenet_tf.models import classifier
from ficklenet_tf.runs import artifacts, layout
from ficklenet_tf.seeds import crf_choice

Photograph = str | os.PathLike[str] | np.ndarray  # a file, or [h, w, 3] uint8 RGB


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Prediction:
    """What a segmenter found in a photograph.

    Attributes:
      photograph: `[h, w, 3]` uint8 RGB.
      probs: `[h, w, classes]` float32, 1 in sum over the classes.
      class_names: of the classes, the background first.
    """

    photograph: np.ndarray
    probs: np.ndarray
    class_names: tuple[str, ...]

    @functools.cached_property
    def labels(self) -> np.ndarray:
        """`[h, w]` uint8, the most probable class of each pixel; 0 is the background."""
        return self.probs.argmax(-1).astype(np.uint8)

    @functools.cached_property
    def shares(self) -> dict[str, float]:
        """{class name: its share of the pixels, 0..1} of the classes found, the largest first; not the background."""
        return label_images.shares(self.labels, self.class_names)

    @property
    def names(self) -> list[str]:
        """The names of the classes found, the largest first; not the background."""
        return list(self.shares)

    def overlay(self, opacity: float = 0.5) -> np.ndarray:
        """Returns `[h, w, 3]` uint8, the photograph with the colours of its labels laid over it; `opacity` 0..1."""
        return images.overlay(self.photograph, self.labels, opacity)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes the labels as a palette PNG, as `tools.predict` does.

        Raises:
          UserError: the path does not end in .png.
        """
        if pathlib.Path(path).suffix != ".png":
            raise UserError(f"{path}: expected a path that ends in .png, for labels")
        label_images.write_label(pathlib.Path(path), self.labels)

    def __repr__(self) -> str:
        height, width = self.labels.shape
        return f"<Prediction {height} x {width}: {label_images.in_words(self.shares)}>"


class LoadedRun:
    """A finished run. Its networks are loaded when they are first asked, and kept.

    Args:
      run_dir: the run's directory, the --output_dir of the tools.

    Attributes:
      directory: the same.
      class_names: list, the background first.

    Raises:
      FileNotFoundError: neither a classifier nor a segmenter has finished there.
    """

    def __init__(self, run_dir: str | os.PathLike[str]) -> None:
        self.directory = pathlib.Path(run_dir)
        stages = [self.directory / layout.CLASSIFIER, prediction.last_stage(self.directory)]
        self._runs = {stage.name: run for stage in stages if (run := artifacts.read_run(stage)) is not None}
        if not self._runs:
            found = "no stage that has finished" if self.directory.is_dir() else "no such directory"
            raise FileNotFoundError(f"{self.directory}: expected a run's directory, with {layout.CLASSIFIER}/"
                                    f"{layout.RUN} or {layout.SEGMENTER}/{layout.RUN}, found {found}")
        self.class_names: list[str] = list(next(iter(self._runs.values()))["class_names"])
        self._localizers: dict[tuple[int | str | None, ...], localizer.Localizer] = {}

    @functools.cached_property
    def classifier(self) -> classifier.Trained:
        """The trained classifier; FileNotFoundError where none has finished."""
        return classifier.load_classifier(self.directory)

    @functools.cached_property
    def segmenter(self) -> prediction.Predictor:
        """The segmenter of the last finished round; FileNotFoundError where none has finished."""
        return prediction.load_segmenter(self.directory)

    def localize(self, photograph: Photograph, tags: Sequence[str], *, num_maps: int = 200, mode: str | None = None,
                 seed: int = 0, size: int | None = None) -> ImageMaps:
        """Localizes what a photograph is tagged with; as `ficklenet_tf.localize`, whose graphs it keeps.

        Args:
          photograph: a file, or `[h, w, 3]` uint8 RGB.
          tags: class names, without the background.
          num_maps: N.
          mode: "stochastic", "general" or "deterministic" (one plain Grad-CAM); None: the classifier's own, by which
            it predicts tags.
          seed: of the selections, with the photograph's pixels: others have selections of their own.
          size: side to which the photograph is warped, within `configs.SIDES`; None: the classifier's own.

        Returns:
          `ImageMaps`, its last axis in the order of the classes, not of `tags`.

        Raises:
          FileNotFoundError: no classifier has finished, or there is no such photograph.
          UserError: the classifier does not know a tag; something else than a photograph; a number that cannot be.

        Example:
          >>> maps = ficklenet_tf.load("runs/mine").localize("a.jpg", tags=["disc"], num_maps=20, seed=1)
          >>> maps.mean.shape  # (height, width, classes) of the map, 0..1
          (8, 8, 1)
        """
        example = localizer.tagged(_pixels(photograph), tags, self.classifier.run["class_names"])
        key = num_maps, mode, size
        if key not in self._localizers:
            self._localizers[key] = localizer.of_classifier(self.classifier, num_maps, mode, size)
        return self._localizers[key](example, seed)

    def predict(self, photograph: Photograph, crf: str = "dsrg") -> Prediction:
        """Segments a photograph.

        Args:
          photograph: a file, or `[h, w, 3]` uint8 RGB.
          crf: the dense CRF's parameters, a key of `crf.SPECS`; "none": without; "auto": what `tools.evaluate
            --crf=auto` has chosen.

        Returns:
          A `Prediction`.

        Raises:
          FileNotFoundError: no segmenter has finished, or there is no such photograph.
          UserError: unknown `crf`, or "auto" where nothing was chosen; something else than a photograph.

        Example:
          >>> mask = ficklenet_tf.load("runs/mine").predict("a.jpg", crf="none")
          >>> mask.labels.shape == mask.photograph.shape[:2]
          True
          >>> sorted(mask.names)
          ['disc', 'square', 'star']
          >>> mask.save("a.png")
        """
        if crf not in (*SPECS, crf_choice.AUTO):
            raise UserError(f"crf: expected one of {', '.join([*SPECS, crf_choice.AUTO])}, found {crf!r}")
        image, key = _pixels(photograph), crf_choice.chosen(self.directory, crf)
        return Prediction(image, refine(image, self.segmenter(image), key), tuple(self.segmenter.class_names))

    def __repr__(self) -> str:
        return (f"<LoadedRun {self.directory}: {' and '.join(self._runs)}; "
                f"{len(self.class_names) - 1} classes: {', '.join(self.class_names[1:])}>")


def load(run_dir: str | os.PathLike[str]) -> LoadedRun:
    """Opens a finished run, to localize and segment photographs; see `LoadedRun`.

    Raises:
      FileNotFoundError: neither a classifier nor a segmenter has finished there.

    Example:
      >>> run = ficklenet_tf.load("runs/mine")
      >>> run
      <LoadedRun runs/mine: classifier and segmenter; 3 classes: disc, square, star>
      >>> run.class_names
      ['background', 'disc', 'square', 'star']
    """
    return LoadedRun(run_dir)


def _pixels(photograph: Photograph) -> np.ndarray:
    """Returns `[h, w, 3]` uint8 RGB; see `images.read_image` for files."""
    if isinstance(photograph, str | os.PathLike):
        return images.read_image(pathlib.Path(photograph))
    return images.photograph(photograph)
