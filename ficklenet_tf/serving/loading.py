"""From a run's directory to what the signatures apply: segmenter and localizer, in a precision of choice."""

import dataclasses
import pathlib

from ficklenet_tf.data import labels
from ficklenet_tf.models import classifier, segmenter
from ficklenet_tf.models.precision import PRECISIONS
from ficklenet_tf.runs import artifacts
from ficklenet_tf.serving import localization_maps, servable


def load_segmenter(directory, *, precision=None, sizes=None, flip=None, max_pixels=servable.MAX_PIXELS,
                   max_batch=servable.MAX_BATCH, max_side=0, buckets=()):
    """Loads a trained segmenter.

    Args:
      directory: its stage's.
      precision: of the network's inside, one of `PRECISIONS`; None for that of its training.
      sizes: sides of the multi-scale prediction; None for the preset's.
      flip: also mirrored; None for the preset's.
      max_pixels: see `applied.Segmenter`; so are max_batch, max_side and buckets.
      max_batch: as above.
      max_side: as above.
      buckets: as above, in any order.

    Returns:
      (`applied.Segmenter`, the stage's run.json as a dict, the precision).

    Raises:
      FileNotFoundError: the stage has not finished.
      ValueError: too many classes, unknown precision, or sides that are not positive.
    """
    network, normalization, run, preset = segmenter.load(directory)
    classes = len(run["class_names"])
    if classes > labels.IGNORE:
        raise ValueError(f"{directory}: expected at most {labels.IGNORE} classes (labels are 8-bit), found {classes}")
    precision = precision or preset.precision
    if precision not in PRECISIONS:
        raise ValueError(f"precision: expected one of {', '.join(PRECISIONS)}, found {precision!r}")
    sizes, buckets = tuple(sizes or preset.test_sizes), tuple(sorted(set(buckets)))
    if min((*sizes, *buckets)) < 1 or max_side < 0:
        raise ValueError("sizes, size_buckets, max_side: expected positive sides, "
                         f"found {sizes}, {buckets}, {max_side}")
    if max_pixels < 64 or max_batch < 1:
        raise ValueError(f"max_pixels, max_batch: expected at least 64 and 1, found {max_pixels} and {max_batch}")
    if precision != preset.precision:
        preset = dataclasses.replace(preset, precision=precision)
        other, *_ = segmenter.build(preset, classes, run["backbone"])
        other.set_weights(network.get_weights())
        network = other
    model = servable.Segmenter(network, normalization, sizes, preset.test_flip if flip is None else flip, classes,
                               max_pixels, max_batch, max_side, buckets)
    return model, run, precision


def load_localizer(run_dir, *, max_pixels, max_batch):
    """Loads the trained classifier, to be applied at the size at which the run's seeds were extracted.

    Args:
      run_dir: the run's directory; its classifier is finished.
      max_pixels: see `maps.Localizer`.
      max_batch: as above.

    Returns:
      (`maps.Localizer`, the stage's run.json as a dict).
    """
    run_dir = pathlib.Path(run_dir)
    model, normalization, run, preset = classifier.load(run_dir / "classifier")
    seeds = artifacts.read_run(run_dir / "seeds")
    size = preset.input_size if seeds is None else seeds["preset"]["sizes"][0]
    num_tags = len(run["class_names"]) - 1
    return localization_maps.Localizer(model, normalization, size, num_tags, max_pixels, max_batch), run


def agreement(model, reference, photographs):
    """Returns the share of pixels, 0..1, on which two segmenters give one label.

    Args:
      model: an `applied.Segmenter`.
      reference: another.
      photographs: iterable of `[h, w, 3]` uint8.
    """
    same = total = 0
    for image in photographs:
        one, other = (m.probs(m.shrunk(image[None])).numpy().argmax(-1) for m in (model, reference))
        same, total = same + (one == other).sum(), total + one.size
    return float(same / total)
