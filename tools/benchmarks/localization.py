"""N maps of an image: the closed form against the tape, a whole extraction against one deterministic pass."""

import dataclasses
import functools
import os
import pathlib
import statistics
import tempfile
from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from ficklenet_tf import presets
from ficklenet_tf.maps import aggregation, extraction, grad_cam
from ficklenet_tf.maps.image_maps import ImageMaps
from ficklenet_tf.maps.localizer import Localizer
from ficklenet_tf.models import classifier, hidden_units, stochastic
from ficklenet_tf.seeds import extraction as seed_extraction
from tools.benchmarks import inputs, measure
from tools.benchmarks.tables import Goal, Plot, Table

TAPED = 2  # selections for which the tape is timed; its time is proportional to their number
IMAGES = 3  # of a timed extraction, with 1, 2 and 3 tags
COUNTS = (10, 200, 1000)
MANY = {"full": 500, "tiny": 4}  # images of the extraction whose overlap is measured
CHUNK = 25  # of them at a time, in turn with the network alone


def run(options: measure.Options) -> list[Table]:
    """Returns the section's tables."""
    localizers = _Localizers(options)
    return [given_features(options), whole_extraction(options, localizers), many_images(options, localizers)]


def head_of(size: measure.Size, form: str = "contracted") -> stochastic.StochasticHead:
    """Returns a built `stochastic.StochasticHead` of a `measure.Size`, random weights."""
    head = stochastic.StochasticHead(size.classes, size.kernel_size, size.rate, form=form, seed=0)
    head.build((None, size.grid, size.grid, size.channels))
    return head


def maps_work(method: str, count: int, scale: str = "full", **changes: Any) -> measure.Work:
    """Makes the work "count maps of an image from given features".

    Args:
      method: "closed_form" or "tape" (of the expanded form, as the paper has it).
      count: number of selections; with "tape" each is a forward and a backward pass.
      scale: a key of `measure.SIZES`.
      **changes: fields of that `measure.Size`.
    """
    size = dataclasses.replace(measure.SIZES[scale], **changes)
    arguments = inputs.features(size)[0], tf.range(size.tags), tf.constant([1, 2])
    head = head_of(size, "contracted" if method == "closed_form" else "expanded")

    @tf.function
    def maps(x: tf.Tensor, tag_ids: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
        if method == "closed_form":
            return aggregation.localize(head, x, tag_ids, seed, aggregation.Options(num_maps=count))["mean"]
        bits = hidden_units.keep_bits(seed, (size.grid**2, count, size.kernel_size**2), size.rate)
        return grad_cam.tape(head, x, tag_ids, "stochastic")(bits)

    return lambda: maps(*arguments).numpy()


def given_features(options: measure.Options) -> Table:
    """N maps from given features; the paper's form is timed for a few selections and multiplied."""
    n, scale = options.size.num_maps, options.scale
    variants = {"closed form": ("closed_form", n), "expansion + GradientTape": ("tape", TAPED)}
    times = measure.compare({key: maps_work(method, count, scale) for key, (method, count) in variants.items()},
                            min(options.rounds, 3))
    memory = {key: measure.peak_memory(f"{__name__}:maps_work",
                                       {"method": method, "count": count, "scale": scale})["peak_mib"]
              for key, (method, count) in variants.items()}
    ours, theirs = (times[key] for key in variants)
    factor = theirs.over(ours) * n / TAPED
    seconds = {"closed form": ours.median, "expansion + GradientTape": theirs.median * n / TAPED}
    rows = [[key, n, 1000 * seconds[key], 1000 * seconds[key] / n, memory[key]] for key in variants]
    share = memory["closed form"] / memory["expansion + GradientTape"]
    return Table(
        "Maps of one image from given features", ("form", "N", "ms", "ms per map", "peak MiB"), rows,
        f"{inputs.described(options)} Made-up features, {options.size.tags} tags. The tape was timed for {TAPED} "
        f"selections, one forward and one backward pass each, and its time multiplied by {n / TAPED:g}; its memory "
        "does not grow with N either. Peak memory is above the loaded process.",
        (Goal("maps, closed form: times faster", "expansion + GradientTape", 500, factor, at_least=True),
         Goal("maps, closed form: memory", "expansion + GradientTape", 1 / 20, share)))


def examples(options: measure.Options, count: int, num_tags: int) -> list[dict[str, Any]]:
    """Returns `count` examples, as a `datasets.Split` gives them, with 1 to 3 of `num_tags` tags in turn."""
    result = []
    for index, image in enumerate(inputs.jpegs(options.photo_dir, count)):
        tags = np.zeros(num_tags, np.float32)
        tags[[(index + 5 * k) % num_tags for k in range(1 + index % 3)]] = 1
        result.append({"image_id": f"{index:05d}", "image": image, "tags": tags})
    return result


def random_numbers(size: measure.Size, count: int) -> measure.Work:
    """Returns the work "the random numbers of one image's `count` selections"."""
    shape = (size.grid**2, aggregation.BLOCK, size.kernel_size**2)

    @tf.function
    def drawn(seed: tf.Tensor) -> tf.Tensor:
        kept = tf.constant(0, tf.int32)
        for block in tf.range(-(-count // aggregation.BLOCK)):
            bits = hidden_units.keep_bits(tf.random.fold_in(seed, block), shape, size.rate)
            kept += tf.cast(bits[0, 0, 0], tf.int32)
        return kept

    return lambda: drawn(tf.constant([1, 2])).numpy()


def whole_extraction(options: measure.Options, localizers: "_Localizers") -> Table:
    """From encoded photographs to seed PNGs: one deterministic pass against N maps, by two rules."""
    size, photographs = options.size, examples(options, IMAGES, options.size.classes)
    network = localizers.network_alone(photographs)
    numbers = random_numbers(size, 200)
    with tempfile.TemporaryDirectory() as directory:
        def work(count: int, refine: str = "none") -> measure.Work:
            localizer, config = localizers.make(count, refine)
            return lambda: _extract(localizer, config, photographs, directory)

        functions = {"one Grad-CAM": work(0), **{f"N = {count}": work(count) for count in COUNTS},
                     "one Grad-CAM, refined by the CRF": work(0, "crf"),
                     "N = 200, refined by the CRF": work(200, "crf"), "the network's pass alone": network,
                     "random numbers of N = 200": lambda: [numbers() for _ in range(IMAGES)]}
        times = measure.compare(functions, 2 * options.rounds - 1)
    grad_cam_alone, grad_cam_refined = times["one Grad-CAM"], times["one Grad-CAM, refined by the CRF"]
    rows = []
    for key, timing in times.items():
        ratios = timing.ratios(grad_cam_refined if "refined" in key else grad_cam_alone)
        rows.append([key, 1000 * timing.median / IMAGES, statistics.median(ratios), ratios[0], ratios[-1]])
    ours = times["N = 200"]
    return Table(
        "From the encoded photograph to the seed PNG",
        ("what", "ms per image", "times one Grad-CAM", "least", "greatest"), rows,
        f"{inputs.described(options)} {IMAGES} photographs per call with 1, 2 and 3 tags, one after another; decoding "
        "the next and writing the last overlap the network. By the paper's rule (theta and a background cue), and "
        "refined by the dense CRF, each against one Grad-CAM with the same rule. Milliseconds are medians; a ratio is "
        f"the median of {len(ours.seconds)} rounds' ratios, between their least and greatest.",
        (Goal("extraction, N = 200", "one deterministic pass, decode to PNG", 1.10, ours.over(grad_cam_alone)),
         Goal("extraction, N = 200, CRF", "one deterministic pass, CRF, decode to PNG", 1.10,
              times["N = 200, refined by the CRF"].over(grad_cam_refined)),
         Goal("extraction, N = 1,000", "N = 10", 1.5, times["N = 1000"].over(times["N = 10"])),
         Goal("random numbers, N = 200", "extraction", 0.05, times["random numbers of N = 200"].over(ours))))


def many_images(options: measure.Options, localizers: "_Localizers") -> Table:
    """Extraction of hundreds of images, as a run of `tools.extract_seeds` goes, against the network's passes alone."""
    size, count = options.size, MANY[options.scale]
    localizer, config = localizers.make(size.num_maps)
    photographs = examples(options, count, size.classes)
    rounds: list[dict[str, measure.Timing]] = []
    with tempfile.TemporaryDirectory() as directory:
        for start in range(0, count, CHUNK):
            chunk = photographs[start:start + CHUNK]
            functions: dict[str, measure.Work] = {
                "extraction": functools.partial(_extract, localizer, config, chunk, directory),
                "network": localizers.network_alone(chunk)}
            rounds.append(measure.compare(functions, 1, warm=0 if rounds else 1))  # the first chunk also traces
    ours, network = (sum(times[name].median for times in rounds) for name in ("extraction", "network"))
    return Table(
        f"Extraction of {count} images", ("what", "s", "ms per image", "times the network"),
        [[name, value, 1000 * value / count, value / network] for name, value in
         ((f"extraction, N = {size.num_maps}, JPEG to seed PNG", ours), ("the network's passes alone", network))],
        f"{inputs.described(options)} The paper's rule; {CHUNK} images at a time, in turn. Reading the next image and "
        "writing the last go on while the network and the maps are computed.",
        (Goal(f"extraction of {count} images, wall time", "the network's own compute time", 1.10, ours / network),))


class _Localizers:
    """One classifier's localizers."""

    def __init__(self, options: measure.Options) -> None:
        size = options.size
        self.side = size.side
        config = presets.ClassifierConfig(input_size=size.side, backbone=size.backbone, kernel_size=size.kernel_size,
                                          rate=size.rate)
        self.model, self.normalization = classifier.build(config, size.classes, options.weights)
        self.forward = tf.function(lambda x: tf.cast(self.model.backbone(x, training=False), tf.float32))

    def make(self, count: int, refine: str = "none") -> tuple[Localizer, presets.SeedsConfig]:
        """Returns a `Localizer` of N = count maps (0: one Grad-CAM) and a `presets.SeedsConfig`."""
        config = presets.MapsConfig(num_maps=max(count, 1), sizes=(self.side,))
        mode = "stochastic" if count else "deterministic"
        return Localizer(self.model, self.normalization, config, mode), presets.SeedsConfig(refine=refine)

    def network_alone(self, photographs: Sequence[dict[str, Any]]) -> measure.Work:
        """Returns the work "the backbone's pass over each photograph", decoded beforehand."""
        prepare = self.make(0)[0].prepare
        views = [prepare(example)["views"][0] for example in photographs]
        return lambda: [self.forward(view).numpy() for view in views]


def _extract(localizer: Localizer, config: presets.SeedsConfig, photographs: Sequence[dict[str, Any]],
             directory: str) -> list[str]:
    def write(example: dict[str, Any], maps: ImageMaps) -> None:
        seed_extraction.write(pathlib.Path(directory), example["image_id"], example["image"].numpy(), maps, config,
                              seed_extraction.Options())

    return list(extraction.stream(localizer, photographs, range(len(photographs)), 0, write))


def growth(options: measure.Options) -> list[Table]:
    """Time and memory of the closed form against N, the image's side, s, the classes localized and the cores.

    Each point is a fresh process: its second call is timed, its peak is above the loaded process.
    """
    size = options.size
    sides = (161, 321, 481, 641, 961) if options.scale == "full" else (33, 65)
    axes: dict[str, list[tuple[str, int]]] = {
        "N": [("count", n) for n in (1, 10, 100, 200, 500, 1000, 2000)],
        "side of the image": [("grid", -(-side // 8)) for side in sides],
        "kernel size s": [("kernel_size", s) for s in (3, 5, 9, 15)],
        "classes localized": [("tags", c) for c in (1, 3, 20, 200)],
        "cores": [("cores", n) for n in range(1, 1 + len(os.sched_getaffinity(0)))]}
    tables = []
    for axis, points in axes.items():
        rows = []
        for position, (field, value) in enumerate(points):
            changes: dict[str, Any] = {"count": size.num_maps, "classes": max(size.classes, value * (field == "tags")),
                                       field: value}
            cores = changes.pop("cores", None)
            case = measure.peak_memory(f"{__name__}:maps_work",
                                       {"method": "closed_form", "scale": options.scale, **changes}, cores=cores)
            shown = sides[position] if field == "grid" else value
            rows.append([shown, 1000 * case["seconds"][-1], case["peak_mib"]])
        tables.append(Table(f"Maps from given features against {axis}", (axis, "ms", "peak MiB"), rows,
                            inputs.described(options), plot=Plot(axis, ("ms", "peak MiB"))))
    return tables
