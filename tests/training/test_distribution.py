"""Several devices and several workers give one device's answer; who writes; what a killed cluster leaves."""

import csv
import json
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import sys
import time

import h5py
import numpy as np
import pytest
import tensorflow as tf

from ficklenet_tf import distribution
from ficklenet_tf.data import datasets, labels
from ficklenet_tf.runs import artifacts

ROOT = pathlib.Path(__file__).parents[2]
SETTINGS = ["--dataset=folder", "--preset=tiny", "--input_size=33", "--batch_size=4", "--epochs=0", "--steps=8",
            "--save_every=2", "--norehearsal"]


def _start(data, run_dir, *further, cluster=None, index=0, binary="tools.train_classifier", settings=SETTINGS):
    command = ["-m", binary]
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": ""}
    if cluster:
        environment["TF_CONFIG"] = json.dumps({"cluster": {"worker": cluster},
                                               "task": {"type": "worker", "index": index}})
    return subprocess.Popen([sys.executable, *command, *settings, f"--data_dir={data[0]}", f"--cache_dir={data[1]}",
                             f"--output_dir={run_dir}", *further], cwd=ROOT, env=environment, text=True,
                            stdout=subprocess.PIPE, stderr=subprocess.STDOUT)


def _cluster(data, run_dir, **options):
    """Two workers on this machine."""
    sockets = [socket.socket() for _ in range(2)]
    for free_socket in sockets:
        free_socket.bind(("localhost", 0))
    addresses = [f"localhost:{free_socket.getsockname()[1]}" for free_socket in sockets]
    for free_socket in sockets:
        free_socket.close()
    return [_start(data, run_dir, "--distribute=multi_worker", cluster=addresses, index=i, **options)
            for i in range(2)]


def _finish(*processes):
    outputs = [process.communicate(timeout=500)[0] for process in processes]
    assert [process.returncode for process in processes] == [0] * len(processes), "\n".join(o[-3000:] for o in outputs)
    return outputs


def _weights(path):
    weights = {}
    with h5py.File(path) as file:
        file.visititems(
            lambda name, item: weights.update({name: item[()]}) if isinstance(item, h5py.Dataset) else None)
    return weights


@pytest.fixture(scope="module")
def single(tmp_path_factory, photographs_dir):
    """((photographs, prepared photographs), run directory) of a training on one device."""
    root = tmp_path_factory.mktemp("distribution")
    _finish(_start((photographs_dir, root / "data"), root / "one"))
    return (photographs_dir, root / "data"), root / "one"


def _same(expected_stage, stage, steps):
    """Losses and weights after some Adam steps, batch norm included: equal but for the order of additions."""
    rows = [list(csv.DictReader(open(directory / "log.csv"))) for directory in (expected_stage, stage)]
    assert [row["step"] for row in rows[0]] == [row["step"] for row in rows[1]] == steps
    assert [float(row["loss"]) for row in rows[1]] == pytest.approx([float(row["loss"]) for row in rows[0]], rel=1e-4)
    expected, weights = (_weights(directory / "model.weights.h5") for directory in (expected_stage, stage))
    assert expected.keys() == weights.keys() and len(expected) > 20
    for name in expected:
        np.testing.assert_allclose(weights[name], expected[name], rtol=1e-3, atol=1e-4, err_msg=name)


def test_two_devices_end_as_one(single, tmp_path):
    data, run_dir = single
    mirrored = _start(data, tmp_path / "mirrored", "--distribute=mirrored", binary="tests.training.distribution_runs")
    assert "segmenter: the same" in _finish(mirrored)[0]
    _same(run_dir / "classifier", tmp_path / "mirrored" / "classifier", ["1", "8"])


@pytest.mark.slow
def test_a_killed_cluster_of_two_workers_ends_as_one_device(single, tmp_path):
    data, run_dir = single
    fresh = data[0], tmp_path / "data"  # the workers must prepare it themselves, after they have met
    workers = _cluster(fresh, tmp_path / "cluster")
    while not list((tmp_path / "cluster").glob("classifier/checkpoints/ckpt-2.index")):
        assert all(worker.poll() is None for worker in workers), workers[0].communicate()[0][-3000:]
        time.sleep(0.01)
    for worker in workers:
        worker.send_signal(signal.SIGKILL)
        worker.communicate()
    assert not (tmp_path / "cluster" / "classifier" / "run.json").exists()
    _finish(*_cluster(fresh, tmp_path / "cluster"))
    _same(run_dir / "classifier", tmp_path / "cluster" / "classifier", ["1", "8"])
    events = list((tmp_path / "cluster" / "classifier" / "tensorboard").glob("events*"))
    assert 1 <= len(events) <= 2  # one of each run of the chief


SEGMENTER = ["--dataset=folder", "--preset=tiny", "--batch_size=4", "--steps=4", "--retrain_steps=2", "--channels=8",
             "--dropout=0", "--supervision=semi", "--strong_images=4", "--save_every=2"]


@pytest.mark.slow
def test_two_workers_train_the_segmenter_of_one_process(single, tmp_path):
    """Seeds and masks in every batch, and a second round on labels that the chief predicts."""
    (photographs, _), classifier_run = single
    masked = tmp_path / "photographs"
    shutil.copytree(photographs, masked)
    mask = np.zeros((40, 48), np.uint8)
    mask[4:20, 6:24], mask[24:36, 26:44] = 2, 1
    (masked / "classes.txt").write_text("disc\nsquare\n")
    for path in (masked / "images").iterdir():
        labels.write_label(masked / "labels" / f"{path.stem}.png", mask)
    for name in ("one", "cluster"):
        shutil.copytree(classifier_run / "classifier", tmp_path / name / "classifier")
        for path in (masked / "images").iterdir():
            labels.write_label(tmp_path / name / "seeds" / f"{path.stem}.png", mask)
        artifacts.write_json(tmp_path / name / "seeds" / "run.json", {"finished": "at some time"})
    options = {"binary": "tools.train_segmenter", "settings": SEGMENTER}
    datasets.load_split("folder", "train", data_dir=str(masked), cache_dir=str(tmp_path / "data"))
    outputs = _finish(_start((masked, tmp_path / "data"), tmp_path / "one", **options),
                      *_cluster((masked, tmp_path / "data"), tmp_path / "cluster", **options))
    assert ["rehearsal passed" in output for output in outputs] == [True, True, False]  # the chief's to say
    for stage, last_step in (("segmenter", "4"), ("segmenter_retrained", "2")):
        _same(tmp_path / "one" / stage, tmp_path / "cluster" / stage, ["1", last_step])
    names = [{path.name for path in (tmp_path / name / "segmenter_labels").glob("*.png")}
             for name in ("one", "cluster")]
    assert names[0] == names[1] and len(names[0]) == 9  # every training image, once


def test_a_batch_is_cut_into_each_process_share_and_each_replica_part():
    contexts = [tf.distribute.InputContext(num_input_pipelines=2, input_pipeline_id=i, num_replicas_in_sync=4)
                for i in range(2)]
    assert distribution.replica_batch(8, contexts[0]) == 2
    assert [[distribution.first_own(step, 8, context) for step in range(3)] for context in contexts] == [
        [0, 8, 16], [4, 12, 20]]
    with pytest.raises(ValueError, match="multiple of the 4 replicas, found 10"):
        distribution.replica_batch(10, contexts[0])


def test_a_cluster_without_a_description_is_an_error(monkeypatch):
    monkeypatch.delenv("TF_CONFIG", raising=False)
    with pytest.raises(ValueError, match="TF_CONFIG"):
        distribution.strategy("multi_worker")
    with pytest.raises(ValueError, match="none, mirrored, multi_worker"):
        distribution.strategy("many")
    assert distribution.strategy("none").num_replicas_in_sync == 1 and distribution.is_chief()
