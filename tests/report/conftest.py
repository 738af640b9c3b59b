"""A finished run with random content, and its splits."""

import numpy as np
import pytest

from ficklenet_tf import presets
from ficklenet_tf.data import labels
from ficklenet_tf.maps.image_maps import ImageMaps
from ficklenet_tf.runs import artifacts, layout, stage
from tests.report import pages


@pytest.fixture
def train():
    """Five training images."""
    return pages.split("train", 5)


@pytest.fixture
def val():
    """Four held-out images."""
    return pages.split("val", 4)


@pytest.fixture
def run_dir(tmp_path, train, val):
    """Writes the files that all stages of a run leave, with random content."""
    rng, run = np.random.default_rng(1), tmp_path / "my run"
    for name in ("classifier", "classifier_deterministic"):
        pages.write_training(run / name, presets.CPU.classifier, ["loss"], held_out="val",
                             metrics={"map": 0.54321, "ap_per_class": [0.9, None], "loss": 0.1})
    pages.write_training(run / "segmenter", presets.CPU.segmenter, ["loss", "seed_loss", "boundary_loss"], metrics={})
    for name in ("seeds", "seeds_deterministic"):
        stage.begin_stage(run / name, {"stage": "seeds"})
        artifacts.write_run(run / name, metrics=pages.scores(rng, train.image_ids))
        for i, image_id in enumerate(train.image_ids):
            labels.write_label(run / name / f"{image_id}.png", rng.choice([0, i % 2 + 1, labels.IGNORE], (20, 30)))
            maps = ImageMaps(np.array([i % 2]), *(rng.random((5, 5, 1)) for _ in range(3)),
                             samples=rng.random((3, 5, 5, 1)), num_maps=3, shape=(20, 30))
            maps.write(run / layout.maps_of(name) / f"{image_id}.npz")
    for name in ("predictions", "predictions_crf"):
        for image_id in val.image_ids:
            labels.write_label(run / name / f"{image_id}.png", rng.integers(0, 3, (20, 30)))
        artifacts.write_run(run / name, stage="predictions", images=4)
        artifacts.write_json(run / "evaluation" / f"{name}.json", pages.scores(rng, val.image_ids))
    (run / "saved_model" / "1").mkdir(parents=True)
    artifacts.write_json(run / "result.json", {
        "preset": "cpu", "flags": {"weights": "<none>"}, "served_agreement": 0.99987,
        "seconds": {"classifier": 4000.0, "seeds": 75.0, "verify": 3.5}})
    return run
