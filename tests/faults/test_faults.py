"""Faults of disks, copies and people in a finished run: what comes next ends in one line, or as if nothing had been.

Each fault is done to a copy of the same tiny run; then the stage that takes the file is called. A line names the file
and what to do. The slow form takes every file of the run and random places, for an hour at most.
"""

import dataclasses
import os
import pathlib
import random
import resource
import shutil
import subprocess
import sys
import time

import h5py
import numpy as np
import pytest
import tensorflow as tf

from ficklenet_tf import presets
from ficklenet_tf.data import datasets
from ficklenet_tf.errors import UserError
from ficklenet_tf.evaluation import prediction, scoring
from ficklenet_tf.maps import extraction as map_extraction
from ficklenet_tf.runs import artifacts
from ficklenet_tf.seeds import extraction
from ficklenet_tf.training import classifier, loop, segmenter
from tools import start

TINY, LOOP = presets.TINY, loop.Options(save_every=1)
CLASSIFIER = dataclasses.replace(TINY.classifier, input_size=33, epochs=0, steps=3, batch_size=4, photometric=0.0,
                                 trainable_layers="last_block")
MAPS = dataclasses.replace(TINY.maps, sizes=(33,), num_maps=10)
SEGMENTER = dataclasses.replace(TINY.segmenter, steps=3, batch_size=4, channels=8, test_sizes=(33,),
                                trainable_layers="last_block")


@pytest.fixture(scope="module")
def splits(drawings_dir):
    return [datasets.load_split("shapes", name, cache_dir=drawings_dir, max_images=6) for name in ("train", "val")]


@pytest.fixture(scope="module")
def whole(splits, tmp_path_factory):
    """A finished run: classifier, features, maps, seeds, segmenter, predictions."""
    return _all_stages(tmp_path_factory.mktemp("whole") / "run", splits)


def _classifier(run, splits):
    return classifier.train(run / "classifier", *splits, CLASSIFIER, classifier.Options("random", training=LOOP))


def _maps(run, splits, name="maps"):
    return map_extraction.extract(run, splits[0], MAPS, name=name)


def _seeds(run, splits, name="seeds"):
    return extraction.make(run, splits[0], TINY.seeds, name=name)


def _segmenter(run, splits, name="segmenter"):
    return segmenter.train(run, splits[0], SEGMENTER, segmenter.Options(training=LOOP), name=name)


def _predict(run, splits, name="predictions"):
    prediction.predict_split(run, splits[1], name=name)
    return scoring.score_directory(run / name, splits[1])


def _all_stages(run, splits):
    for stage in (_classifier, _maps, _seeds, _segmenter, _predict):
        stage(run, splits)
    return run


def _again(stage, name):
    """Another artefact of the same stage, from the same files."""
    return lambda run, splits: stage(run, splits, f"{name}_again")


def _resume(stage, directory):
    """As if killed after the last checkpoint: the stage goes on from it."""
    def resumed(run, splits):
        for name in ("run.json", "model.weights.h5"):
            (run / directory / name).unlink()
        return stage(run, splits)
    return resumed


def _score(run, splits):
    return scoring.score_directory(run / "predictions", splits[1])


# What takes the files that fit a pattern below the run's directory.
TAKEN = [
    ("classifier/model.weights.h5", _again(_maps, "maps")), ("classifier/run.json", _again(_maps, "maps")),
    ("classifier/settings.json", _resume(_classifier, "classifier")),
    ("classifier/log.csv", _resume(_classifier, "classifier")),
    ("classifier/checkpoints/ckpt-3.index", _resume(_classifier, "classifier")),
    ("classifier/checkpoints/ckpt-3.data-00000-of-00001", _resume(_classifier, "classifier")),
    ("classifier/checkpoints/checkpoint", _resume(_classifier, "classifier")),
    ("features/*/*.npy", _again(_maps, "maps")), ("features/*/features.json", _again(_maps, "maps")),
    ("features/*/photographs.json", _again(_maps, "maps")),
    ("maps/*.npz", _again(_seeds, "seeds")), ("maps/run.json", _again(_seeds, "seeds")),
    ("maps/settings.json", _again(_seeds, "seeds")),
    ("seeds/*.png", _again(_segmenter, "segmenter")), ("seeds/run.json", _again(_segmenter, "segmenter")),
    ("seeds/settings.json", _again(_segmenter, "segmenter")),
    ("segmenter/model.weights.h5", _again(_predict, "predictions")),
    ("segmenter/run.json", _again(_predict, "predictions")),
    ("segmenter/log.csv", _resume(_segmenter, "segmenter")),
    ("segmenter/checkpoints/ckpt-3.data-00000-of-00001", _resume(_segmenter, "segmenter")),
    ("predictions/*.png", _score)]


def flip(path, chance):
    data = bytearray(path.read_bytes())
    start = chance.randrange(max(1, len(data) - 64))
    for position in range(start, min(start + 64, len(data))):
        data[position] ^= 1 + chance.randrange(255)
    path.write_bytes(data)


def cut(path, chance):
    os.truncate(path, chance.randrange(path.stat().st_size))


def delete(path, chance):
    path.unlink()


def swap(path, chance):
    """Takes another file of its kind for it, or rubbish of its length."""
    others = sorted(other for other in path.parent.glob(f"*{path.suffix}") if other.read_bytes() != path.read_bytes())
    path.write_bytes(chance.choice(others).read_bytes() if others else chance.randbytes(path.stat().st_size))


FAULTS = {function.__name__: function for function in (flip, cut, delete, swap)}


def _same(path, expected_path):
    """Whether two artefacts are the same: weights to 1e-6, maps to half precision, other files byte by byte.

    Features that are computed again come out of a batch of another size, which may round otherwise.
    """
    if path.suffix == ".npz":
        with np.load(path) as file, np.load(expected_path) as expected:
            return set(file) == set(expected) and all(
                np.allclose(file[name], expected[name], atol=2e-3) for name in expected)
    if path.suffix != ".h5":
        return path.read_bytes() == expected_path.read_bytes()
    with h5py.File(path) as file, h5py.File(expected_path) as expected:
        arrays, expected_arrays = ({} for _ in range(2))
        file.visititems(lambda name, item: arrays.update({name: item}) if isinstance(item, h5py.Dataset) else None)
        expected.visititems(
            lambda name, item: expected_arrays.update({name: item}) if isinstance(item, h5py.Dataset) else None)
        return arrays.keys() == expected_arrays.keys() and all(
            np.allclose(arrays[name][()], expected_arrays[name][()], atol=1e-6) for name in arrays)


def _try(run, splits, whole, path, fault, stage, chance):
    """Does a fault to a file and calls the stage; returns "named" or "equal"."""
    FAULTS[fault](path, chance)
    try:
        result = stage(run, splits)
    except (UserError, OSError, tf.errors.OpError) as error:
        text = start._text(error)  # as the binaries print it; None of a bug
        assert text is not None, error
        assert path.name in text and "\n" not in text and "Traceback" not in text, text
        return "named"
    if stage is _score:
        assert result == _score(whole, splits)
    pairs = (("maps_again", "maps"), ("seeds_again", "seeds"), ("segmenter_again", "segmenter"),
             ("classifier", "classifier"), ("segmenter", "segmenter"), ("predictions_again", "predictions"))
    for name, expected in pairs:
        for made in (run / name).glob("*"):
            if made.suffix in (".npz", ".png", ".h5") and made != path:
                assert _same(made, whole / expected / made.name), made
    return "equal"


ALL = [(pattern, stage, fault) for pattern, stage in TAKEN for fault in FAULTS]


# The short form takes one fault for each file, in turn; the slow one the others too.
@pytest.mark.parametrize("pattern, stage, fault", [
    pytest.param(*case, marks=[] if number % 4 == number // 4 % 4 else [pytest.mark.slow], id=f"{case[0]} {case[2]}")
    for number, case in enumerate(ALL)])
def test_a_damaged_file_is_named_or_does_no_harm(whole, splits, tmp_path, pattern, stage, fault):
    chance = random.Random(f"{pattern} {fault}")
    run = _copy(whole, tmp_path / "run")
    path = chance.choice(sorted(run.glob(pattern)))
    assert _try(run, splits, whole, path, fault, stage, chance) in ("named", "equal")


def _copy(whole, run):
    """A copy that knows its own features."""
    shutil.copytree(whole, run)
    for stage in ("classifier", "segmenter"):
        facts = artifacts.read_json(run / stage / "run.json")
        facts["features"]["directory"] = facts["features"]["directory"].replace(str(whole), str(run))
        artifacts.write_json(run / stage / "run.json", facts)
    return run


@pytest.mark.slow
@pytest.mark.timeout(7200)
def test_faults_at_random_for_long(whole, splits, tmp_path):
    """Random files, places and faults until the time is over; counts what came of them."""
    chance, counts, minutes = random.Random(1), {}, float(os.environ.get("FICKLENET_FAULT_MINUTES", "50"))
    deadline, number = time.monotonic() + 60 * minutes, 0
    while time.monotonic() < deadline:
        pattern, stage = chance.choice(TAKEN)
        fault, number = chance.choice(list(FAULTS)), number + 1
        run = _copy(whole, tmp_path / str(number))
        outcome = _try(run, splits, whole, chance.choice(sorted(run.glob(pattern))), fault, stage, chance)
        counts[fault, outcome] = counts.get((fault, outcome), 0) + 1
        shutil.rmtree(run)
    print(f"\n{number} faults: {counts}")
    assert number > 20


def test_a_full_disk_ends_in_one_line_and_is_resumed(whole, splits, tmp_path):
    """A limit on the size of a file stands for it: writing fails as on a full disk, with another number."""
    run = _copy(whole, tmp_path / "run")
    shutil.rmtree(run / "maps")
    limit = max(path.stat().st_size for path in (whole / "maps").glob("*.npz")) - 1
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
    try:
        with pytest.raises(OSError):
            _maps(run, splits)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert not (run / "maps" / "run.json").exists() and not list((run / "maps").glob("*.tmp"))
    _maps(run, splits)
    for path in (whole / "maps").glob("*.npz"):
        assert _same(run / "maps" / path.name, path)


@pytest.fixture
def disk(tmp_path):
    """(directory, mount): a small file system in memory; `mount(options)` mounts it, or changes it."""
    place, mounted = tmp_path / "disk", []
    place.mkdir()

    def mount(options):
        what = ["-o", f"remount,{options}"] if mounted else ["-t", "tmpfs", "-o", options, "tmpfs"]
        ended = subprocess.run(["mount", *what, str(place)], capture_output=True, text=True)
        if ended.returncode:
            pytest.skip(f"nobody may mount here: {ended.stderr.strip()}")
        mounted.append(options)

    yield place, mount
    if mounted:
        subprocess.run(["umount", "--lazy", str(place)], check=True)


def _size(directory):
    return sum(path.stat().st_size for path in directory.rglob("*") if path.is_file())


@pytest.mark.parametrize("stage, name", [
    pytest.param(_maps, "maps", id="maps"),
    *(pytest.param(stage, name, id=name, marks=pytest.mark.slow) for stage, name in (
        (_classifier, "classifier"), (_seeds, "seeds"), (_segmenter, "segmenter"), (_predict, "predictions")))])
def test_a_really_full_disk_ends_in_one_line_and_is_resumed(whole, splits, disk, stage, name):
    place, mount = disk
    mount("size=256m")
    run = _copy(whole, place / "run")
    shutil.rmtree(run / name)
    (place / "other").write_bytes(b"0")
    free = shutil.disk_usage(place).free
    with open(place / "other", "r+b") as file:  # leaves room for some of the stage
        os.posix_fallocate(file.fileno(), 0, free - _size(whole / name) // 3)
    with pytest.raises((UserError, OSError, tf.errors.OpError)) as error:
        stage(run, splits)
    text = start._text(error.value)
    assert text and "\n" not in text and ("space" in text or "full" in text), error.value
    assert not (run / name / "run.json").exists()
    (place / "other").unlink()
    stage(run, splits)
    for path in (whole / name).glob("*"):
        if path.suffix in (".npz", ".png", ".h5"):
            assert _same(run / name / path.name, path), path


def test_a_directory_that_cannot_be_written_is_named(whole, splits, disk):
    place, mount = disk
    if os.geteuid():
        run = _copy(whole, place / "run")
        os.chmod(run, 0o555)
    else:  # who may write everywhere but on a disk that nobody writes to
        mount("size=64m")
        run = _copy(whole, place / "run")
        mount("ro")
    with pytest.raises(OSError, match=str(run)):
        _maps(run, splits, "elsewhere")


def test_extraction_while_the_training_writes(whole, splits, tmp_path):
    """Nothing that is not finished is taken: before run.json is there, the stage is missing."""
    run = tmp_path / "run"
    shutil.copytree(whole / "classifier", run / "classifier")
    (run / "classifier" / "run.json").unlink()
    with pytest.raises(FileNotFoundError, match="expected a finished classifier"):
        _maps(run, splits)


def test_two_whole_jobs_in_one_directory(tmp_path, drawings_dir):
    """One of two ends well; the other one says who is at work, or finds everything done."""
    root = pathlib.Path(__file__).parents[2]
    command = [sys.executable, "-m", "tools.train_classifier", "--dataset=shapes", "--preset=tiny", "--max_images=8",
               "--input_size=33", "--epochs=60", "--batch_size=4", f"--output_dir={tmp_path / 'run'}",
               f"--cache_dir={drawings_dir}", "--norehearsal"]
    jobs = [subprocess.Popen(command, cwd=root, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
            for _ in range(2)]
    outputs = [job.communicate(timeout=300)[0] for job in jobs]
    codes = sorted(job.returncode for job in jobs)
    assert codes in ([0, 0], [0, 1]), outputs
    if codes == [0, 1]:
        refused = outputs[[job.returncode for job in jobs].index(1)].strip().splitlines()[-1]
        assert refused.startswith("error: ") and "is at work here" in refused
