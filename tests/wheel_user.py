"""What somebody does who installed the wheel. `test_wheel.py` runs this file in an environment without the checkout.

`python -I wheel_user.py RUN_DIR INPUTS.npz ANSWERS.npz`
"""

import importlib.util
import pathlib
import sys
import tempfile

import keras
import numpy as np

import ficklenet_tf
from ficklenet_tf import crf
from ficklenet_tf.models import stochastic


def layers_before_and_after():
    """Returns the answers of a model of our three layers, and those of the model that was read from its file."""
    features, seeds = keras.Input((4, 5, 3)), keras.Input((2,), dtype="int32")
    expanded = stochastic.FeatureMapExpansion(3)(features)
    kept = stochastic.CenterPreservingDropout(0.0, 3)(expanded)
    logits = stochastic.StochasticHead(2, kernel_size=3, rate=0.5)(features, rng_seeds=seeds)
    model = keras.Model([features, seeds], [kept, logits])
    rng = np.random.default_rng(0)
    inputs = [rng.normal(size=(2, 4, 5, 3)).astype(np.float32), rng.integers(0, 2**31, (2, 2)).astype(np.int32)]
    with tempfile.TemporaryDirectory() as directory:
        path = pathlib.Path(directory) / "model.keras"
        model.save(path)
        return model(inputs), keras.saving.load_model(path)(inputs)


def main(run_dir, inputs_path, answers_path):
    """Uses the library and writes what it answered."""
    with np.load(inputs_path) as arrays:
        inputs = dict(arrays)
    before, after = layers_before_and_after()
    answers = {
        "library": ficklenet_tf.__file__,
        "foreign": [name for name in ("tools", "export", "tests") if importlib.util.find_spec(name)],
        "probs": ficklenet_tf.load_segmenter(run_dir)(inputs["photograph"]),
        "expanded": before[0], "logits": before[1], "reloaded_expanded": after[0], "reloaded_logits": after[1]}
    for backend in ("exact", "permutohedral"):
        answers[backend] = crf.mean_field(inputs["images"], inputs["logits"], crf.DSRG_TEST, backend)
    np.savez(answers_path, **{name: np.asarray(value) for name, value in answers.items()})


if __name__ == "__main__":
    main(*sys.argv[1:])
