"""How many images of each split a run really used: its stages say, the split as it is opened now may have others."""

import dataclasses

from ficklenet_tf.data import datasets
from ficklenet_tf.report import picture_rows
from ficklenet_tf.report.stages import Run
from ficklenet_tf.runs import layout


@dataclasses.dataclass(frozen=True)
class Used:
    """What a run used of a split.

    Attributes:
      split: the split as it is opened now.
      images: how many the run used.
      with_mask: how many of these have a mask that was compared with; None where nothing says so.
      fingerprint: of what was used, see `datasets.Split`.
    """

    split: datasets.Split
    images: int
    with_mask: int | None
    fingerprint: str

    @property
    def text(self) -> str:
        """The number in words, as "24 of the 120 drawings of val"."""
        whole = len(self.split)
        share = str(self.images) if self.images >= whole else f"{self.images} of the {whole}"
        return f"{share} {picture_rows.noun(self.split.dataset)}s of {self.split.name}"


def of_training(run: Run, split: datasets.Split) -> Used:
    """Returns what the stages of seeds used of the training split."""
    return _used(run, split, (layout.SEEDS, layout.MAPS, layout.PLAIN_SEEDS, layout.CLASSIFIER))


def of_held_out(run: Run, split: datasets.Split) -> Used:
    """Returns what the predictions used of the held-out split."""
    return _used(run, split, (layout.PREDICTIONS, layout.REFINED_PREDICTIONS))


def _used(run: Run, split: datasets.Split, names: tuple[str, ...]) -> Used:
    """Asks the stages one after the other; where none knows, --max_images does."""
    settings = [run.stages[name].settings for name in names]
    fingerprint = next((each["fingerprint"] for each in settings if "fingerprint" in each), split.fingerprint)
    counts = [run.stages[name].run.get("images") for name in names]
    most = run.flags.get("max_images")
    images = next((count for count in counts if count), len(split) if most is None else min(most, len(split)))
    scored = [run.scores[name]["images"] for name in names if name in run.scores]
    same = images == len(split) and fingerprint == split.fingerprint
    return Used(split, images, scored[0] if scored else sum(split.labelled) if same else None, fingerprint)
