"""The lattice in a graph, saved, and run from its files in a process that knows nothing of this library."""

import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2

from ficklenet_tf import crf

SHAPES = ((1, 1, 1), (1, 41, 41), (2, 30, 50), (3, 17, 9), (1, 120, 90))
CLIENT = """
import sys
import numpy as np
import tensorflow as tf
v1 = tf.compat.v1
with v1.Session(graph=tf.Graph()) as session:
    signature = v1.saved_model.loader.load(session, ["serve"], sys.argv[1]).signature_def["serving_default"]
    requests = np.load(sys.argv[2])
    names = {key: value.name for key, value in signature.inputs.items()}
    fetch = signature.outputs["probs"].name
    answers = {}
    for i in range(len(requests.files) // 3):
        feed = {names[key]: requests[f"{key}{i}"] for key in names}
        answers[f"probs{i}"] = session.run(fetch, feed)
assert not any("ficklenet" in name for name in sys.modules)
np.savez(sys.argv[3], **answers)
"""


@pytest.fixture(scope="module")
def saved_dir(tmp_path_factory):
    module = tf.Module()
    module.refine = tf.function(
        lambda images, logits, iterations: {
            "probs": crf.mean_field(images, logits, crf.DSRG_TEST, "permutohedral", iterations)},
        input_signature=[tf.TensorSpec([None, None, None, 3], tf.uint8, "images"),
                         tf.TensorSpec([None, None, None, None], tf.float32, "logits"),
                         tf.TensorSpec([None], tf.int32, "iterations")])
    path = tmp_path_factory.mktemp("crf") / "1"
    tf.saved_model.save(module, str(path), signatures=module.refine)
    return path


def test_answers_in_a_fresh_process(saved_dir, tmp_path):
    random = np.random.default_rng(0)
    requests = {}
    for i, shape in enumerate(SHAPES):
        requests[f"images{i}"] = random.integers(0, 256, (*shape, 3), np.uint8) // (1 + i) // 8 * 8
        requests[f"logits{i}"] = random.normal(0, 2, (*shape, 2 + i)).astype(np.float32)
        requests[f"iterations{i}"] = np.arange(10, 10 - shape[0], -1, dtype=np.int32)
    np.savez(tmp_path / "requests.npz", **requests)
    subprocess.run([sys.executable, "-I", "-c", CLIENT, str(saved_dir), "requests.npz", "answers.npz"],
                   cwd=tmp_path, check=True, timeout=300)
    answers = np.load(tmp_path / "answers.npz")
    for i in range(len(SHAPES)):
        expected = crf.mean_field(requests[f"images{i}"], requests[f"logits{i}"], crf.DSRG_TEST, "permutohedral",
                                  requests[f"iterations{i}"]).numpy()
        # A graph is rewritten before it runs, so points on a simplex's rim may fall on its other side.
        np.testing.assert_allclose(answers[f"probs{i}"], expected, atol=1e-3)
        assert np.abs(answers[f"probs{i}"] - expected).mean() < 1e-5
        np.testing.assert_array_equal(answers[f"probs{i}"].argmax(-1), expected.argmax(-1))


def test_graph_has_stock_ops_only(saved_dir):
    proto = saved_model_pb2.SavedModel.FromString((saved_dir / "saved_model.pb").read_bytes())
    [meta] = proto.meta_graphs
    functions = meta.graph_def.library.function
    nodes = [*meta.graph_def.node, *(node for function in functions for node in function.node_def)]
    ops = {node.op for node in nodes} - {function.signature.name for function in functions}
    assert {"SparseTensorDenseMatMul", "Unique", "GatherV2"} <= ops
    assert not {op for op in ops if "PyFunc" in op or "Numpy" in op or op.startswith("_")}
    assert {op for op in ops if not hasattr(tf.raw_ops, op)} == set()
    assert not any("_XlaMustCompile" in function.attr and function.attr["_XlaMustCompile"].b for function in functions)
