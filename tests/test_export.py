"""The exported SavedModel: answers as the live predictor does, in a fresh process without our code."""

import export_runs
import numpy as np
import pytest

from export import saved_model, verify
from ficklenet_tf import prediction


@pytest.fixture(scope="session")
def exported(tmp_path_factory):
    """(run directory, version directory) of a tiny run."""
    run_dir = export_runs.make(tmp_path_factory.mktemp("run"))
    return run_dir, saved_model.export(run_dir, 1)


@pytest.fixture(scope="session")
def live(exported):
    """Photographs and the live predictor's probabilities."""
    predictor = prediction.Predictor(exported[0] / "segmenter")
    photographs = [export_runs.photograph(70, 93, 1), export_runs.photograph(33, 21, 2)]
    return photographs, [predictor(image) for image in photographs]


def test_a_fresh_process_answers_as_the_live_predictor(exported, live):
    photographs, probs = live
    expected = [p.argmax(-1) for p in probs]
    assert len(np.unique(expected[0])) > 2
    assert verify.verify(exported[1], photographs, expected) == 1
    wrong = [expected[0], (expected[1] + 1) % 4]
    share = 70 * 93 / (70 * 93 + 33 * 21)
    assert verify.verify(exported[1], photographs, wrong) == pytest.approx(share)
