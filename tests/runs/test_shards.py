"""A fleet's shards: one machine's answer to every byte, also after one was killed; what the manifest says."""

import dataclasses
import os
import pathlib
import signal
import subprocess
import sys
import time

import keras
import numpy as np
import pytest

from ficklenet_tf import presets
from ficklenet_tf.data import datasets
from ficklenet_tf.evaluation import prediction
from ficklenet_tf.maps import extraction as map_extraction
from ficklenet_tf.maps.image_maps import ImageMaps
from ficklenet_tf.models import classifier, segmenter
from ficklenet_tf.runs import artifacts, shards
from ficklenet_tf.seeds import extraction

ROOT = pathlib.Path(__file__).parents[2]
FLAGS = ["--dataset=folder", "--preset=tiny", "--sizes=33", "--num_maps=12", "--refine=none"]
MAPS = dataclasses.replace(presets.TINY.maps, sizes=(33,), num_maps=12)
SEEDS = dataclasses.replace(presets.TINY.seeds, refine="none")


@pytest.fixture(scope="module")
def run(tmp_path_factory, photographs_dir):
    """(directory of data, a run with an untrained classifier and segmenter, its split, seeds made without shards)."""
    root = tmp_path_factory.mktemp("shards")
    split = datasets.load_split("folder", "train", data_dir=photographs_dir, cache_dir=root / "data")
    keras.utils.set_random_seed(1)
    classifier_config = dataclasses.replace(presets.TINY.classifier, input_size=33)
    model, normalization = classifier.build(classifier_config, len(split.class_names) - 1)
    facts = {"class_names": list(split.class_names), "normalization": dataclasses.asdict(normalization)}
    (root / "run" / "classifier").mkdir(parents=True)
    model.save_weights(root / "run" / "classifier" / "model.weights.h5")
    artifacts.write_run(root / "run" / "classifier", config=dataclasses.asdict(classifier_config), features=None,
                        **facts)
    segmenter_config = dataclasses.replace(presets.TINY.segmenter, channels=8, test_sizes=(33,))
    network, *_ = segmenter.build(segmenter_config, len(split.class_names), "small")
    (root / "run" / "segmenter").mkdir()
    network.save_weights(root / "run" / "segmenter" / "model.weights.h5")
    artifacts.write_run(root / "run" / "segmenter", config=dataclasses.asdict(segmenter_config), backbone="small",
                        **facts)
    _extract(root / "run", split, name="whole")
    return root / "data", root / "run", split


def _extract(run_dir, split, map_options=map_extraction.Options(), **changes):
    return extraction.extract(run_dir, split, MAPS, SEEDS, map_options, extraction.Options(keep_maps=True), **changes)


def _files(*directories):
    return [{path.name: path.read_bytes() for path in directory.glob("*.*") if path.suffix in (".png", ".npz")}
            for directory in directories]


def _process(data_dir, cache_dir, run_dir, name, index):
    return subprocess.Popen(
        [sys.executable, "-m", "tools.extract_seeds", *FLAGS, f"--data_dir={data_dir}", f"--cache_dir={cache_dir}",
         f"--output_dir={run_dir}", f"--name={name}", "--keep_maps", "--num_shards=3", f"--shard_index={index}"],
        cwd=ROOT, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"})


def test_a_killed_shard_run_again_gives_the_same_files(run, photographs_dir):
    cache_dir, run_dir, split = run
    killed = _process(photographs_dir, cache_dir, run_dir, "fleet", 1)
    while not list((run_dir / "fleet").glob("*.png")):
        assert killed.poll() is None, killed.communicate()[0][-3000:]
        time.sleep(0.001)
    killed.send_signal(signal.SIGKILL)
    killed.communicate()
    for index in (0, 2):
        _extract(run_dir, split, name="fleet", shard=(index, 3))
    done = {path.name for path in (run_dir / "fleet" / "manifest").glob("*.json")}
    if not (run_dir / "fleet" / "manifest" / "1-of-3.json").exists():  # it was killed before its end
        assert done == {"0-of-3.json", "2-of-3.json"}
        with pytest.raises(ValueError, match="shards 1 of 3 have not finished"):
            _extract(run_dir, split, name="fleet")
    again = _process(photographs_dir, cache_dir, run_dir, "fleet", 1)
    output = again.communicate(timeout=300)[0]
    assert again.returncode == 0, output[-3000:]
    finished = _extract(run_dir, split, name="fleet")
    assert finished["images"] == 9 and artifacts.read_run(run_dir / "fleet") == finished
    for suffix in ("", "_maps"):
        whole, fleet = _files(run_dir / f"whole{suffix}", run_dir / f"fleet{suffix}")
        assert len(whole) == 9 and whole == fleet


def test_seven_shards_predict_what_one_call_does(run):
    _, run_dir, split = run
    prediction.predict_split(run_dir, split, stage_name="segmenter", name="one")
    for index in range(7):
        prediction.predict_split(run_dir, split, stage_name="segmenter", name="seven", shard=(index, 7))
    assert artifacts.read_run(run_dir / "seven") is None
    prediction.predict_split(run_dir, split, stage_name="segmenter", name="seven")
    whole, sharded = _files(run_dir / "one", run_dir / "seven")
    assert len(whole) == 9 and whole == sharded and artifacts.read_run(run_dir / "seven")["images"] == 9
    manifests = [artifacts.read_json(path) for path in (run_dir / "seven" / "manifest").glob("*.json")]
    assert sorted(image for manifest in manifests for image in manifest["images"]) == sorted(split.image_ids)
    assert sum(manifest["made"] for manifest in manifests) == 9 and all(m["seconds"] > 0 for m in manifests)


def test_shards_part_the_images_and_an_absent_shard_is_an_error():
    parts = [list(shards.indices_of((i, 7), 23)) for i in range(7)]
    assert sorted(sum(parts, [])) == list(range(23)) and max(map(len, parts)) - min(map(len, parts)) == 1
    with pytest.raises(ValueError, match="expected 0 to 6 of 7 shards, found 7"):
        shards.indices_of((7, 7), 23)


def test_compiled_extraction_agrees(run):
    """XLA, one graph per number of tags: maps to 1e-3 (float16 in the file), seeds in all but a few pixels."""
    _, run_dir, split = run
    _extract(run_dir, split, map_extraction.Options(jit_compile=True), name="compiled", shard=(0, 4))
    image_ids = [split.image_ids[i] for i in shards.indices_of((0, 4), len(split))]
    assert len({int(split[i]["tags"].sum()) for i in shards.indices_of((0, 4), len(split))}) >= 1
    for image_id in image_ids:
        plain, compiled = (ImageMaps.read(run_dir / f"{name}_maps" / f"{image_id}.npz")
                           for name in ("whole", "compiled"))
        for field in ("mean", "max", "std", "samples"):
            np.testing.assert_allclose(getattr(compiled, field), getattr(plain, field), atol=1e-3, err_msg=field)


def test_beam_hands_out_the_shards(run, photographs_dir):
    pytest.importorskip("apache_beam", reason="apache-beam is not installed, see docs/fleet.md")
    cache_dir, run_dir, _ = run
    finished = subprocess.run(
        [sys.executable, "-m", "tools.extract_with_beam", *FLAGS, f"--data_dir={photographs_dir}", "--name=beam",
         f"--cache_dir={cache_dir}", f"--output_dir={run_dir}", "--num_shards=4"], cwd=ROOT, capture_output=True,
        text=True, timeout=300, check=False)
    assert finished.returncode == 0, finished.stderr[-3000:]
    whole, beam = _files(run_dir / "whole", run_dir / "beam")
    assert len(whole) == 9 and whole == beam and len(list((run_dir / "beam" / "manifest").iterdir())) == 4
