"""What is served against the bare network: latency, throughput, size, time to load; labels by precision and format."""

import dataclasses
import pathlib
import tempfile
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from ficklenet_tf import presets
from ficklenet_tf.data import images
from ficklenet_tf.errors import UserError
from ficklenet_tf.evaluation import prediction
from ficklenet_tf.models import classifier, segmenter
from ficklenet_tf.models.precision import PRECISIONS
from ficklenet_tf.runs import artifacts, layout
from ficklenet_tf.serving import formats, loading, model_card, saved_model
from tools.benchmarks import exported, inputs, measure
from tools.benchmarks.tables import Cell, Goal, Table


def run(options: measure.Options) -> list[Table]:
    """Returns the section's tables."""
    full = options.scale == "full"
    photographs = [images.decode_image_op(data).numpy() for data in inputs.jpegs(options.photo_dir, 3 if full else 2)]
    with tempfile.TemporaryDirectory() as directory:
        run_dir = pathlib.Path(directory)
        if options.run_dir is None:
            random_run(run_dir, options.size, options.weights)
        else:
            borrowed_run(run_dir, options.run_dir)
        return [latency(options, run_dir, photographs[:2]), agreement(run_dir, photographs, full)]


def random_run(run_dir: pathlib.Path, size: measure.Size, weights: str) -> None:
    """Writes a finished run of a `measure.Size`'s networks, their heads of random weights."""
    keras.utils.set_random_seed(0)
    classifier_config = presets.ClassifierConfig(input_size=size.side, backbone=size.backbone,
                                                 kernel_size=size.kernel_size)
    segmenter_config = presets.SegmenterConfig()
    if size.side != 321:
        segmenter_config = dataclasses.replace(segmenter_config, channels=32, test_sizes=(size.side,))
    model, normalization = classifier.build(classifier_config, size.classes, weights)
    network, *_ = segmenter.build(segmenter_config, size.classes + 1, size.backbone, weights)
    names = ["background", *(f"class{index:02d}" for index in range(size.classes))]
    stages: tuple[tuple[str, keras.Model, presets.ClassifierConfig | presets.SegmenterConfig], ...] = (
        (layout.CLASSIFIER, model, classifier_config), (layout.SEGMENTER, network, segmenter_config))
    for stage, net, config in stages:
        (run_dir / stage).mkdir()
        net.save_weights(run_dir / stage / layout.WEIGHTS)
        artifacts.write_run(run_dir / stage, stage=stage, config=dataclasses.asdict(config), class_names=names,
                            backbone=size.backbone, input_size=size.side, dataset="none", split="none", weights="",
                            seed=0, fingerprint="none", metrics={}, normalization=dataclasses.asdict(normalization))


def borrowed_run(directory: pathlib.Path, run_dir: str | pathlib.Path) -> None:
    """Makes a run whose stages are links into another one, so that nothing is written there."""
    for stage in pathlib.Path(run_dir).resolve().iterdir():
        if artifacts.read_run(stage) is not None:
            (directory / stage.name).symlink_to(stage)


def latency(options: measure.Options, run_dir: pathlib.Path, photographs: Sequence[np.ndarray]) -> Table:
    """Each signature beside the bare network."""
    measured = exported.measure_version(run_dir, saved_model.export(run_dir, 1), photographs,
                                                count=options.rounds, iterations=10, num_maps=options.size.num_maps)
    bare = measured.seconds["bare network"]
    rows: list[list[Any]] = [
        [name, *(1000 * float(np.percentile(values, q)) for q in (50, 99)), float(1 / values.mean()),
         float(np.median(values / bare))] for name, values in measured.seconds.items()]
    described = "The run given" if options.run_dir else inputs.described(options)
    return Table(
        "Served signatures beside the bare network", ("what", "p50 ms", "p99 ms", "photographs/s", "times bare"), rows,
        f"{described}; segmenter sizes {', '.join(map(str, measured.sizes))}; {len(photographs)} photographs of "
        f"{' and '.join(f'{image.shape[1]} x {image.shape[0]}' for image in photographs)} pixels, one per call. Bare "
        f"network: the Keras call on photographs already warped. The export has {measured.mebibytes:.0f} MiB and was "
        f"loaded in {measured.load_seconds:.1f} s.",
        (Goal("serving_default, without CRF", "the bare network", 1.05, rows[1][-1]),))


def agreement(run_dir: pathlib.Path, photographs: Sequence[np.ndarray], full: bool) -> Table:
    """The labels of each precision and format against float32 in TensorFlow; a row names what is not installed."""
    stage = prediction.last_stage(run_dir, None)
    reference, *_ = loading.load_segmenter(stage, loading.Options("float32"))
    rows: list[list[Cell]] = []
    for precision in PRECISIONS[1:]:
        model, *_ = loading.load_segmenter(stage, loading.Options(precision))
        rows.append([precision, 100 * loading.agreement(model, reference, photographs), ""])
    for target in formats.FILES if full else ("litert",):
        try:
            directory = formats.export(run_dir, 1, target, loading.Options("float32"), photographs=photographs[:1])
            card = artifacts.read_json(directory / model_card.DIRECTORY / "model_card.json")
            rows.append([target, 100 * card["agreement_with_tensorflow"]["same_labels"], ""])
        except UserError as error:
            rows.append([target, None, str(error).replace("|", "/")])
    return Table("Labels that agree with float32 in TensorFlow", ("precision or format", "%", "reason if none"), rows,
                 f"{len(photographs)} photographs for precisions, one for formats.")
