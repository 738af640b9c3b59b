"""From photographs and tags to a served answer, and what a kill in each stage changes: nothing."""

import collections
import json
import os
import pathlib
import random
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from PIL import Image

from ficklenet_tf.data import datasets, images, labels
from ficklenet_tf.errors import UserError
from ficklenet_tf.maps import extraction as map_extraction
from ficklenet_tf.presets import MapsConfig, SeedsConfig
from ficklenet_tf.runs import artifacts, restart, stage
from ficklenet_tf.seeds import crf_choice, extraction, needed
from tests.seeds import agreement_by_hand, test_saliency
from tools import cli, pipeline

ROOT = pathlib.Path(__file__).parents[1]
SETTINGS = ["--dataset=shapes", "--preset=tiny", "--max_images=24", "--save_every=2", "--classifier.epochs=4",
            "--classifier.batch_size=8", "--classifier.input_size=65", "--maps.sizes=65", "--maps.num_maps=20",
            "--segmenter.steps=8", "--segmenter.batch_size=8", "--segmenter.channels=16", "--segmenter.test_sizes=65",
            "--segmenter.retrain_steps=4", "--nobaseline"]


def _start(cache_dir, run_dir, *flags):
    command = [sys.executable, "-m", "tools.run_pipeline", *SETTINGS, f"--cache_dir={cache_dir}",
               f"--output_dir={run_dir}", *flags]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                            env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"})


def _finish(process):
    output, _ = process.communicate(timeout=900)
    assert process.returncode == 0, output[-3000:]
    return output


@pytest.fixture(scope="module")
def whole(tmp_path_factory, drawings_dir):
    """(cache directory, run directory, output) of an uninterrupted run."""
    run = tmp_path_factory.mktemp("pipeline") / "run"
    return drawings_dir, run, _finish(_start(drawings_dir, run))


@pytest.mark.trains
def test_one_run_from_photographs_to_a_served_answer(whole):
    _, run, output = whole
    result = json.loads((run / "result.json").read_text())
    assert result["served_agreement"] == 1.0
    assert 0 < result["map"] <= 1 and 0 <= result["predictions_crf"]["miou"] <= 1
    assert len(list((run / "seeds").glob("*.png"))) == 24 and len(list((run / "predictions").glob("*.png"))) == 24
    assert (run / "report.html").stat().st_size > 10_000
    assert "rehearsal passed (" in output and not list(run.glob(".rehearsal*"))
    assert "report.html" in output and "tools.predict --output_dir=" in output and "--dataset=folder" in output
    rows = (run / "classifier" / "log.csv").read_text().splitlines()
    assert rows[0].startswith("step,learning_rate,loss") and rows[-1].startswith("12,")


def test_of_a_stage_that_was_interrupted_the_time_is_unknown(tmp_path, monkeypatch):
    """And of one that is done it is not that of finding it done."""
    monkeypatch.setattr(cli, "run_dir", lambda: tmp_path)
    seconds = {}
    for name in ("classifier", "seeds", "segmenter"):
        stage.begin_stage(tmp_path / name, {})
    for name in ("classifier", "segmenter"):
        artifacts.write_json(tmp_path / name / "run.json", {})
    monkeypatch.setattr(restart, "is_requested", lambda directory: directory.name == "segmenter")
    for name in ("classifier", "maps", "seeds", "segmenter", "export"):
        assert pipeline._timed(seconds, name, int, "7") == 7
    assert seconds == {"maps": 0.0, "seeds": None, "segmenter": 0.0, "export": 0.0}


SIGNS = ("classifier/checkpoints/ckpt-4.index", "seeds/*.png", "segmenter/checkpoints/ckpt-4.index",
         "segmenter_labels/*.png", "segmenter_retrained/checkpoints/ckpt-2.index", "predictions/*.png", "saved_model")


@pytest.mark.slow
@pytest.mark.parametrize("signs", [SIGNS[1:5:3], SIGNS], ids=len)
def test_killed_in_stages_the_end_is_the_same(signs, whole, tmp_path):
    cache_dir, run, _ = whole
    again = tmp_path / "run"
    for sign in signs:
        process = _start(cache_dir, again, "--norehearsal")
        while not list(again.glob(sign)):
            assert process.poll() is None, process.communicate()[0][-3000:]
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
        process.wait()
    begun, ended = (artifacts.read_json(each / "result.json") for each in (again, run))
    assert begun["flags"] == {**ended["flags"], "output_dir": str(again), "rehearsal": False} and "crf" not in begun
    _finish(_start(cache_dir, again, "--norehearsal"))
    _ended_equal(run, again)


@pytest.mark.slow
def test_another_number_is_refused_and_a_restart_makes_what_follows_again(whole, tmp_path):
    cache_dir, run, _ = whole
    again, other = tmp_path / "run", ["--norehearsal", "--segmenter.retrain_steps=0"]
    shutil.copytree(run, again)
    kept = {path: path.stat().st_mtime_ns for name in ("classifier", "maps", "seeds")
            for path in (again / name).glob("*")}
    refused = _start(cache_dir, again, *other)
    output, _ = refused.communicate(timeout=900)
    assert refused.returncode == 1
    assert "segmenter: was begun with other settings (config.retrain_steps: 4 -> 0); give another" in output
    assert "own command does with --restart=segmenter" in output
    output = _finish(_start(cache_dir, again, *other, "--restart=segmenter"))
    assert "segmenter: removed, to be made again" in output and "seeds: removed" not in output
    assert not (again / "segmenter_retrained").exists()
    assert sorted(path.name for path in (again / "saved_model").glob("[0-9]*")) == ["1", "2"]
    assert {path: path.stat().st_mtime_ns for path in kept} == kept
    assert "restart" not in json.loads((again / "result.json").read_text())["flags"]
    _finish(_start(cache_dir, again, *other))  # a second time there is nothing to do, and no third version
    assert len(list((again / "saved_model").glob("[0-9]*"))) == 2


@pytest.mark.slow
@pytest.mark.timeout(7200)
def test_killed_at_random_moments_the_end_is_the_same(whole, tmp_path):
    """For FICKLENET_KILL_MINUTES; says how many runs were killed how often, in which stage."""
    cache_dir, run, _ = whole
    chance, killed, runs = random.Random(time.time_ns()), collections.Counter(), 0
    deadline = time.monotonic() + 60 * float(os.environ.get("FICKLENET_KILL_MINUTES", "20"))
    while time.monotonic() < deadline:
        again = tmp_path / str(runs)
        for _ in range(chance.randint(2, 6)):
            process = _start(cache_dir, again)
            try:
                process.communicate(timeout=chance.uniform(4, 40))
                break  # it was faster
            except subprocess.TimeoutExpired:
                process.kill()
                process.communicate()
                killed[max(again.iterdir(), key=lambda path: path.stat().st_mtime).name if again.exists()
                       else "start"] += 1
        _finish(_start(cache_dir, again))
        _ended_equal(run, again)
        left = [str(path) for path in again.rglob("*") if ".tmp" in path.name or path.name.startswith(".rehearsal")]
        assert not left, left
        shutil.rmtree(again)
        runs += 1
    print(f"\n{runs} runs, killed {sum(killed.values())} times, last written: {dict(killed)}")
    assert runs


def _ended_equal(run, again):
    for name in ("seeds", "segmenter_labels", "predictions", "predictions_crf"):
        files = sorted(p.name for p in (run / name).glob("*.png"))
        assert files == sorted(p.name for p in (again / name).glob("*.png")) and len(files) == 24
        differ = np.mean([np.mean(labels.read_label(run / name / f) != labels.read_label(again / name / f))
                          for f in files])
        assert differ < 1e-3, name
    for name in ("classifier", "segmenter", "segmenter_retrained"):
        _same_weights(run / name / "model.weights.h5", again / name / "model.weights.h5")


def _same_weights(expected_path, path):
    import h5py
    with h5py.File(expected_path) as expected, h5py.File(path) as weights:
        names = []
        expected.visititems(lambda name, item: names.append(name) if isinstance(item, h5py.Dataset) else None)
        assert len(names) > 4
        for name in names:
            np.testing.assert_allclose(weights[name][()], expected[name][()], rtol=1e-3, atol=1e-4, err_msg=name)


@pytest.mark.slow
def test_the_crf_is_chosen_by_seeds_of_held_out_photographs(whole, monkeypatch):
    cache_dir, run, _ = whole
    with pytest.raises(UserError, match="segmenter_retrained has one chosen, found none; first run tools.evaluate"):
        crf_choice.chosen(run, "auto")
    held_out = datasets.load_split("shapes", "val", cache_dir=cache_dir, max_images=24)
    best = crf_choice.choose(run, held_out)
    choice = json.loads((run / "segmenter_retrained" / "crf.json").read_text())
    assert choice["crf"] == best == crf_choice.chosen(run, "auto") and choice["images"] == 24
    with pytest.raises(UserError, match="has not learned from, found some of"):
        crf_choice.choose(run, datasets.load_split("shapes", "train", cache_dir=cache_dir, max_images=24))
    settings = artifacts.read_json(run / "seeds" / "settings.json")
    maps = MapsConfig(**{**settings["maps"]["config"], "sizes": (65,)})
    extraction.extract(run, held_out, maps, SeedsConfig(**settings["config"]), map_extraction.Options(),
                       name="seeds_held_out")
    expected = agreement_by_hand.of_candidates(run, "seeds_held_out", held_out)
    assert choice["agreement"] == pytest.approx(expected, abs=1e-12) and list(expected) == list(crf_choice.CANDIDATES)
    evaluated = subprocess.run(
        [sys.executable, "-m", "tools.evaluate", "--dataset=shapes", "--preset=tiny", "--max_images=24", "--crf=auto",
         f"--cache_dir={cache_dir}", f"--output_dir={run}"], cwd=ROOT, capture_output=True, text=True, check=True)
    assert f"crf: {best} agrees best" in evaluated.stdout + evaluated.stderr
    assert len(list((run / "predictions_auto").glob("*.png"))) == 24
    assert (run / "predictions_auto_crf").exists() == (best != "none")
    artifacts.write_json(run / "segmenter_retrained" / "crf.json", {**choice, "crf": "kept"})
    assert crf_choice.choose(run, held_out) == "kept"  # it is not chosen again
    with monkeypatch.context() as patch:
        agreement = dict(zip(crf_choice.CANDIDATES, (0.2, 0.5, 0.3), strict=True))
        patch.setattr(crf_choice, "_agreement", lambda *_: agreement)
        assert crf_choice.choose(run, held_out, flip=True) == "dsrg_relative"  # another prediction, another choice
    choice["settings"]["segmenter"] = "another"
    artifacts.write_json(run / "segmenter_retrained" / "crf.json", choice)
    with pytest.raises(UserError, match="expected that .* has one chosen"):
        crf_choice.chosen(run, "auto")
    assert crf_choice.chosen(run, "deeplab") == "deeplab"


@pytest.mark.parametrize(("changed", "error"), [
    ({"seeds": None}, "learned none"), ({"seeds": "brought"}, "brought are others"),
    ({"seeds": "segmenter_labels"}, "segmenter_labels are others")])
def test_without_seeds_of_its_own_no_crf_is_chosen(whole, tmp_path, changed, error):
    cache_dir, run, _ = whole
    (tmp_path / "other").mkdir()
    for name in ("run.json", "settings.json", "model.weights.h5"):
        (tmp_path / "other" / name).write_bytes((run / "segmenter" / name).read_bytes())
    settings = {**artifacts.read_json(run / "segmenter" / "settings.json"), **changed}
    artifacts.write_json(tmp_path / "other" / "settings.json", settings)
    held_out = datasets.load_split("shapes", "val", cache_dir=cache_dir, max_images=24)
    with pytest.raises(UserError, match=error):
        crf_choice.choose(tmp_path, held_out, "other")


def test_predict_takes_any_photograph_and_names_a_broken_one(whole, tmp_path):
    _, run, _ = whole
    rng = np.random.default_rng(0)
    good = tmp_path / "grey.png"
    Image.fromarray(rng.integers(0, 255, (20, 31), dtype=np.uint8)).save(good)
    thin = tmp_path / "thin.jpg"
    Image.fromarray(rng.integers(0, 255, (1, 300, 3), dtype=np.uint8)).save(thin)
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(thin.read_bytes()[:200])
    processes = [subprocess.Popen([sys.executable, "-m", "tools.predict", f"--output_dir={run}",
                                   f"--to={tmp_path / to}", *map(str, paths)], cwd=ROOT, stdout=subprocess.PIPE,
                                  stderr=subprocess.PIPE, text=True) for to, paths in
                 (("a", [good, thin]), ("b", [broken, thin]))]
    errors = [p.communicate(timeout=120)[1] for p in processes]
    assert [p.returncode for p in processes] == [0, 1], errors
    assert labels.read_label(tmp_path / "a" / "grey.png", 7).shape == (20, 31)
    assert labels.read_label(tmp_path / "a" / "thin.png", 7).shape == (1, 300)
    assert (tmp_path / "a" / "thin_overlay.jpg").exists()
    assert "error: " in errors[1] and "broken.jpg" in errors[1] and "thin" not in errors[1]
    assert sorted(path.name for path in (tmp_path / "b").iterdir()) == ["thin.png", "thin_overlay.jpg"]


@pytest.mark.parametrize("system, found", [("em_adapt", "this system has none"), ("tpl", "this system's are of")])
def test_a_crf_that_could_not_be_chosen_is_refused_before_the_work(drawings_dir, tmp_path, system, found):
    process = _start(drawings_dir, tmp_path / "run", f"--system={system}", "--crf=auto")
    errors = process.communicate()[0]
    assert process.returncode == 1 and "error: crf: expected a CRF by name" in errors and found in errors
    assert not (tmp_path / "run").exists()


def test_what_a_later_stage_would_lack_is_told_before_the_first(photographs_dir, drawings_dir, tmp_path):
    """Saliency maps of some photographs alone; and --crf=auto, which needs tags, where no held-out one has any."""
    untagged, some = tmp_path / "untagged", tmp_path / "some"
    shutil.copytree(photographs_dir, untagged)
    table = (untagged / "tags.csv").read_text().splitlines()
    (untagged / "tags.csv").write_text("\n".join([*table[:10], *(f"p{number}.png," for number in (9, 10, 11))]))
    images.write_grey(some / "train_00000.png", np.zeros((2, 2), np.float32))
    processes = {
        f"error: {some}: expected a saliency map for each of 24 images, 23 are missing, the first train_00001.png":
            _start(drawings_dir, tmp_path / "run", "--seeds.refine=saliency", f"--saliency_dir={some}"),
        "error: crf: expected photographs with tags, to choose by them; those of folder val have none":
            _start(tmp_path, tmp_path / "run", "--dataset=folder", f"--data_dir={untagged}", "--crf=auto")}
    for error, process in processes.items():
        output = process.communicate(timeout=900)[0]
        assert process.returncode == 1 and output.splitlines()[-1] == error
    assert not (tmp_path / "run").exists()


def test_saliency_and_the_chosen_crf_go_through_the_whole_job(whole, tmp_path):
    cache_dir, run, _ = whole
    model = tmp_path / "network.onnx"
    model.write_bytes(test_saliency.ONNX)
    shutil.copytree(run / "classifier", tmp_path / "run" / "classifier")
    flags = ["--seeds.refine=saliency", f"--saliency_model={model}", "--crf=auto", "--norehearsal",
             "--segmenter.steps=2", "--segmenter.retrain_steps=0"]
    output = _finish(_start(cache_dir, tmp_path / "run", *flags))
    run = tmp_path / "run"
    closer, seeds = (artifacts.read_run(run / name) for name in ("saliency_closer", "seeds"))
    assert closer["maps"] == artifacts.read_run(run / "maps")["finished"]
    assert seeds["saliency"] == needed.saliency_identity(run / "saliency_closer")  # not the first look's
    chosen = artifacts.read_json(run / "segmenter" / "crf.json")
    assert len(list((run / "saliency_held_out").glob("*.png"))) == chosen["images"] == 24
    assert f"crf: {chosen['crf']} agrees best" in output
    result = artifacts.read_json(run / "result.json")
    assert result["crf"] == chosen["crf"]
    card = artifacts.read_json(run / "saved_model" / "1" / "assets.extra" / "model_card.json")
    assert card["settings"]["crf"] == chosen["crf"]
