"""Commands on the page: they carry the run's flags, their binaries take them, and they run as they stand."""

import dataclasses
import json
import os
import pathlib
import shutil
import subprocess
import sys

import pytest

from ficklenet_tf import presets
from ficklenet_tf.data import datasets
from ficklenet_tf.report import commands, stages
from ficklenet_tf.runs import artifacts, layout, stage
from tests import tiny_run
from tests.report import pages

ROOT = pathlib.Path(__file__).parents[2]
_ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT), "TF_CPP_MIN_LOG_LEVEL": "3"}


def test_a_pipelines_command_has_all_its_flags(run_dir, train, val, tmp_path):
    given = {"weights": "a b.npz", "baseline": False, "crf": "auto", "dataset": "shapes", "data_dir": "elsewhere",
             "cache_dir": "old", "output_dir": "before/it/moved", "max_images": 7, "maps.sizes": ["65", "97"],
             "seeds.refine": "saliency", "rehearsal": False}
    artifacts.write_json(run_dir / layout.RESULT, {"preset": "cpu", "flags": given})
    pages.unfinished(run_dir, "segmenter")
    shutil.rmtree(run_dir / "saved_model")
    lines = pages.shown(run_dir, train, val, cache_dir="new", rows=3)
    assert len(lines) == 1  # several things are missing, one command makes them
    binary, flags = pages.flags(lines[0])
    assert binary == "tools.run_pipeline" and flags == {
        "preset": "cpu", "weights": "a b.npz", "crf": "auto", "dataset": "shapes", "data_dir": "elsewhere",
        "cache_dir": "new", "output_dir": str(run_dir), "max_images": "7", "maps.sizes": "65,97",
        "seeds.refine": "saliency", "norehearsal": True, "nobaseline": True}


def test_what_nobaseline_left_out_is_offered_and_not_missing(run_dir, train, val):
    flags = {"baseline": False, "weights": "w.npz"}
    artifacts.write_json(run_dir / layout.RESULT, {"preset": "cpu", "flags": flags})
    for name in ("classifier_deterministic", "seeds_deterministic"):
        shutil.rmtree(run_dir / name)
    text, shown = pages.page(run_dir, train, val)
    assert "missing" not in shown.ids and "not compared with plain Grad-CAM" in shown.text
    binary, flags = pages.flags(pages.commands(pages.section(text, "seed-scores"))[0])
    assert binary == "tools.run_pipeline" and flags["weights"] == "w.npz" and "nobaseline" not in flags
    artifacts.write_json(run_dir / "classifier_deterministic" / layout.SETTINGS, {"seed": 7})  # that was begun
    lines = pages.shown(run_dir, train, val)
    assert lines and not any("nobaseline" in pages.flags(line)[1] for line in lines)
    shutil.rmtree(run_dir / "classifier_deterministic")
    pages.by_stages(run_dir)
    lines = pages.commands(pages.section(pages.page(run_dir, train, val)[0], "seed-scores"))
    assert [pages.flags(line)[1]["name"] for line in lines] == ["classifier_deterministic", "seeds_deterministic"]


def test_every_command_imports_what_the_run_imports(run_dir, train, val):
    recorded = {"preset": "cpu", "flags": {"dataset": "folder", "import": ["my_module", "other"]}}
    artifacts.write_json(run_dir / layout.RESULT, recorded)
    (run_dir / "images").mkdir()
    (run_dir / "images" / "val_0.png").touch()
    folder = pages.split("val", 4, dataset="folder")

    def made(caller):
        run = stages.read(run_dir, "folder", {**caller, "data_dir": str(run_dir)})
        unfinished = {name: dataclasses.replace(each, run={}) for name, each in run.stages.items()}
        lacking = commands.missing(dataclasses.replace(run, stages=unfinished, exported=()), True)
        return [*(line for _, line in lacking), commands.prediction(run, folder)]

    lines = made({})
    assert len(lines) == 2
    pages.by_stages(run_dir)
    lines += made({"import": ["my_module", "other"]})
    assert len(lines) == 10 and {pages.flags(line)[1]["import"] for line in lines} == {"my_module,other"}


def test_an_empty_run_is_begun_by_the_whole_job(tmp_path, train, val):
    (tmp_path / "a  b").mkdir()
    lines = pages.shown(tmp_path / "a  b", train, val, preset="cpu", cache_dir="c")
    assert [pages.flags(line) for line in lines] == [("tools.run_pipeline", {
        "dataset": "shapes", "cache_dir": "c", "preset": "cpu", "weights": "imagenet",
        "output_dir": str(tmp_path / "a  b")})]


def test_without_masks_no_prediction_is_missing(run_dir, train):
    for name in ("predictions", "predictions_crf"):
        shutil.rmtree(run_dir / name)
    shutil.rmtree(run_dir / "evaluation")
    text, shown = pages.page(run_dir, train, pages.split("val", 4, labelled=False))
    assert "missing" not in shown.ids and not pages.commands(text) and "val has no masks" in shown.text


def test_without_crf_no_refined_prediction_is_missing(run_dir, train, val):
    shutil.rmtree(run_dir / "predictions_crf")
    (run_dir / "evaluation" / "predictions_crf.json").unlink()
    assert not pages.shown(run_dir, train, val)


def test_maps_that_were_not_kept_have_a_command(run_dir, train, val):
    pages.by_stages(run_dir)
    shutil.rmtree(run_dir / "maps")
    config = dataclasses.replace(presets.CPU.maps, num_maps=50)
    artifacts.write_json(run_dir / "seeds" / layout.SETTINGS, {"maps": {"config": dataclasses.asdict(config)}})
    (binary, flags), = map(pages.flags, pages.shown(run_dir, train, val))
    assert binary == "tools.extract_maps" and flags["num_maps"] == "50"


@pytest.fixture(scope="module")
def lines(tmp_path_factory, photographs_dir):
    """Every kind of command, of a run whose settings differ from its preset's in all ways."""
    run = tmp_path_factory.mktemp("run")
    (run / "saliency").mkdir()
    preset, made = presets.EVENING, {}
    made[layout.CLASSIFIER] = {"config": dataclasses.replace(preset.classifier, epochs=2, steps=0, flips=True)}
    made[layout.MAPS] = {"config": dataclasses.replace(preset.maps, num_maps="auto", flip_views=False)}
    made[layout.SEEDS] = {"config": dataclasses.replace(preset.seeds, refine="saliency"), "saliency": str(run)}
    made[layout.SEGMENTER] = {"config": dataclasses.replace(preset.segmenter, retrain_steps=3, test_sizes=(65,),
                                                            growing="dsrg", losses=("seed",))}
    made[layout.PREDICTIONS] = {"config": None, "sizes": [97, 129], "flip": True}
    made[layout.PLAIN_CLASSIFIER] = {}
    for name, settings in made.items():
        (run / name).mkdir()
        config = {"config": dataclasses.asdict(settings["config"])} if settings.get("config") else {}
        artifacts.write_json(run / name / layout.SETTINGS, {**settings, **config, "seed": 3})
    caller = {"data_dir": str(photographs_dir), "cache_dir": str(run), "on_error": "skip", "split": "all",
              "import": ["json"]}
    by_stages = stages.read(run, "folder", caller)
    artifacts.write_json(run / layout.RESULT, {"preset": "cpu", "flags": {
        **caller, "dataset": "folder", "baseline": False, "seeds.refine_low": 0.1, "cache_flips": True,
        "maps.flip_views": False, "maps.sizes": ["65", "97"], "saliency_model": str(photographs_dir / "tags.csv")}})
    piped = stages.read(run, "folder", {})
    finished = dataclasses.replace(by_stages, stages={
        name: dataclasses.replace(each, run={"finished": "now"}) for name, each in by_stages.stages.items()})
    split = datasets.load_split("folder", "val", data_dir=photographs_dir, cache_dir=run)
    every = [line for each in (by_stages, piped) for _, line in commands.missing(each, True)]
    return dict.fromkeys([*every, *commands.comparison(by_stages), *commands.comparison(piped),
                          commands.prediction(finished, split)])


@pytest.fixture(scope="module")
def complaints(lines):
    """What the binaries say against the flags of each command, and of one that is wrong: line -> "" or a text."""
    wrong = next(line for line in lines if "tools.evaluate" in line) + " --retrain_steps=1"
    ended = subprocess.run([sys.executable, "tests/report/read_commands.py"], cwd=ROOT, env=_ENVIRONMENT, check=True,
                           input="\n".join([*lines, wrong]), capture_output=True, text=True)
    return dict(json.loads(line) for line in ended.stdout.splitlines())


def test_every_binary_takes_its_flags(complaints):
    taken = {line.split()[2] for line, text in complaints.items() if not text}
    assert taken >= {"tools.run_pipeline", "tools.train_classifier", "tools.extract_seeds", "tools.train_segmenter",
                     "tools.evaluate", "tools.predict"}
    refused = {line: text for line, text in complaints.items() if text and "export_saved_model" not in line}
    assert len(refused) == 1 and "retrain_steps" in refused.popitem()[1], refused


def test_the_export_takes_its_flags(complaints):
    assert [text for line, text in complaints.items() if "export_saved_model" in line] == [""]


def test_commands_of_stages_run_as_they_stand(tmp_path, photographs_dir):
    """A classifier that was interrupted at once: the first command finishes it, the next makes the seeds."""
    run, opened = tmp_path / "my run", {"data_dir": str(photographs_dir), "cache_dir": str(tmp_path / "data")}
    train, val = (datasets.load_split("folder", name, **opened, max_images=6) for name in ("train", "val"))
    config = dataclasses.replace(presets.TINY.classifier, input_size=33, epochs=1, batch_size=3)
    stage.begin_stage(run / "classifier", {
        "stage": "classifier", "config": dataclasses.asdict(config), "weights": "", "seed": 0, "dataset": "folder",
        "split": "train", "fingerprint": train.fingerprint})
    for made in ("classifier", "seeds"):
        line = pages.shown(run, train, val, **opened, max_images=6)[0]
        ended = subprocess.run(line, shell=True, cwd=ROOT, env=_ENVIRONMENT, capture_output=True, text=True)
        assert ended.returncode == 0 and (run / made / layout.RUN).exists(), (line, ended.stderr[-2000:])
    assert len(list((run / "maps").glob("*.npz"))) == 6


def test_the_command_that_predicts_runs_as_it_stands(tmp_path, photographs_dir):
    run = tiny_run.make(tmp_path / "run", (65,), False)
    opened = {"data_dir": str(photographs_dir), "cache_dir": str(tmp_path / "data")}
    val = datasets.load_split("folder", "val", **opened)
    line = commands.prediction(stages.read(run, "folder", opened), val)
    subprocess.run(line, shell=True, cwd=ROOT, env=_ENVIRONMENT, check=True, capture_output=True)
    assert {path.name for path in (run / "masks").glob("*.png")} == {f"{image_id}.png" for image_id in val.image_ids}
