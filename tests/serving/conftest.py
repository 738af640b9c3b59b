"""Fixtures of the tests of serving/ and export/: one tiny run, exported and loaded once per session."""

import pytest

from ficklenet_tf.evaluation import prediction
from ficklenet_tf.serving import saved_model
from tests import tiny_run
from tests.serving import servers


@pytest.fixture(scope="session")
def exported(tmp_path_factory):
    """(run directory, version directory) of a tiny run."""
    run_dir = tiny_run.make(tmp_path_factory.mktemp("run"), sizes=(48,), flip=True)
    return run_dir, saved_model.export(run_dir, 1)


@pytest.fixture(scope="session")
def live(exported):
    """Photographs of two sizes and the live predictor's probabilities."""
    predictor = prediction.Predictor(exported[0] / "segmenter")
    photographs = [tiny_run.photograph(70, 93, 1), tiny_run.photograph(33, 21, 2)]
    return photographs, [predictor(image) for image in photographs]


@pytest.fixture(scope="session")
def served(exported):
    """The export as a server holds it."""
    return servers.Model(exported[1])
