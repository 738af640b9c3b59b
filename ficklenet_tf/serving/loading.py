"""From a run's directory to what the signatures apply: segmenter and localizer, in a precision of choice."""

import dataclasses
import pathlib
from collections.abc import Iterable
from typing import Any

import numpy as np

from ficklenet_tf.data import labels
from ficklenet_tf.errors import UserError
from ficklenet_tf.models import backbones, classifier, segmenter
from ficklenet_tf.models.precision import PRECISIONS
from ficklenet_tf.runs import layout
from ficklenet_tf.serving import localization_maps, seed_maps, servable


@dataclasses.dataclass(frozen=True)
class Options:
    """How a segmenter is applied where it is served.

    Attributes:
      precision: of the network's inside, one of `PRECISIONS`; None for that of its training.
      sizes: sides of the multi-scale prediction; None for the config's.
      flip: also mirrored; None for the config's.
      max_pixels: see `servable.Segmenter`; so are max_batch, max_side and buckets.
      max_batch: as above.
      max_side: as above.
      buckets: as above, in any order.
    """

    precision: str | None = None
    sizes: tuple[int, ...] | None = None
    flip: bool | None = None
    max_pixels: int = servable.MAX_PIXELS
    max_batch: int = servable.MAX_BATCH
    max_side: int = 0
    buckets: tuple[int, ...] = ()


def load_segmenter(directory: str | pathlib.Path, options: Options = Options(),
                   ) -> tuple[servable.Segmenter, dict[str, Any], str]:
    """Loads a trained segmenter.

    Args:
      directory: its stage's.
      options: `Options`.

    Returns:
      (`servable.Segmenter`, the stage's run.json as a dict, the precision).

    Raises:
      FileNotFoundError: the stage has not finished.
      UserError: too many classes, unknown precision, or sides that are not positive.
    """
    network, normalization, run, config = segmenter.load(directory)
    num_classes = len(run["class_names"])
    if num_classes > labels.IGNORE:
        raise UserError(f"{directory}: expected at most {labels.IGNORE} classes (labels are 8-bit), found "
                        f"{num_classes}")
    precision = options.precision or config.precision
    if precision not in PRECISIONS:
        raise UserError(f"precision: expected one of {', '.join(PRECISIONS)}, found {precision!r}")
    sizes, buckets = tuple(options.sizes or config.test_sizes), tuple(sorted(set(options.buckets)))
    if min((*sizes, *buckets)) < 1 or options.max_side < 0:
        raise UserError("sizes, size_buckets, max_side: expected positive sides, "
                        f"found {sizes}, {buckets}, {options.max_side}")
    backbones.say_sides((*sizes, *buckets))
    if options.max_pixels < 64 or options.max_batch < 1:
        raise UserError(f"max_pixels, max_batch: expected at least 64 and 1, found {options.max_pixels} and "
                        f"{options.max_batch}")
    if precision != config.precision:
        config = dataclasses.replace(config, precision=precision)
        trained = network
        network, *_ = segmenter.build(config, num_classes, run["backbone"])
        network.set_weights(trained.get_weights())
    flip = config.test_flip if options.flip is None else options.flip
    model = servable.Segmenter(network, normalization, sizes, flip, num_classes, options.max_pixels,
                               options.max_batch, options.max_side, buckets)
    return model, run, precision


def load_localizer(run_dir: str | pathlib.Path, options: Options = Options(),
                   ) -> tuple[localization_maps.Localizer, dict[str, Any]]:
    """Loads the trained classifier, to be applied as it was for the run's seeds, see `seed_maps.drawing`.

    Args:
      run_dir: the run's directory; its classifier is finished.
      options: `Options`, for the limits of a request.

    Returns:
      (`localization_maps.Localizer`, the stage's run.json as a dict).
    """
    run_dir = pathlib.Path(run_dir)
    model, normalization, run, config = classifier.load(run_dir / layout.CLASSIFIER)
    num_tags = len(run["class_names"]) - 1
    return localization_maps.Localizer(model, normalization, seed_maps.drawing(run_dir, run, config), num_tags,
                                       options.max_pixels, options.max_batch), run


def agreement(model: servable.Segmenter, reference: servable.Segmenter, photographs: Iterable[np.ndarray]) -> float:
    """Returns the share of pixels, 0..1, on which two segmenters give one label.

    Args:
      model: a `servable.Segmenter`.
      reference: another.
      photographs: iterable of `[h, w, 3]` uint8.
    """
    same = total = 0
    for image in photographs:
        label, expected = (m.probs(m.shrunk(image[None])).numpy().argmax(-1) for m in (model, reference))
        same, total = same + (label == expected).sum(), total + label.size
    return float(same / total)
