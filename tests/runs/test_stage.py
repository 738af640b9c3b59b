"""A stage's directory: settings, whole files, and what another version left."""


import shutil
import subprocess
import sys
import time

import pytest

from ficklenet_tf.errors import UserError
from ficklenet_tf.runs import artifacts, lock, restart, stage
from tests import tiny_run


@pytest.mark.parametrize("result", ["a.png", "run.json", "model.weights.h5", "checkpoints/ckpt-1.index",
                                    "manifest/0-of-2.json"])
def test_other_settings_are_refused_where_there_are_results(tmp_path, result):
    stage.begin_stage(tmp_path, {"rate": 0.9, "sizes": (1, 2)})
    stage.begin_stage(tmp_path, {"rate": 0.9, "sizes": (1, 2)})
    artifacts.write_bytes(tmp_path / result, b"x")
    with pytest.raises(UserError, match=rf"other settings \(rate: 0.9 -> 0.5\); give another --output_dir, or "
                                        rf"remove this directory, as .* with --restart={tmp_path.name}"):
        stage.begin_stage(tmp_path, {"rate": 0.5, "sizes": (1, 2)})
    assert artifacts.read_json(tmp_path / "settings.json")["rate"] == 0.9 and (tmp_path / result).read_bytes() == b"x"


def test_what_one_of_two_settings_does_not_know_is_not_compared(tmp_path):
    """An earlier version noted no digests; of a file that was removed there is none."""
    path = tmp_path / "stage" / "model.weights.h5"
    for before, now in (({}, {"weights_digest": "a"}), ({"weights_digest": "a"}, {})):
        stage.begin_stage(path.parent, {"seed": 0, **before})
        artifacts.write_bytes(path, b"x")
        stage.begin_stage(path.parent, {"seed": 0, **now})
        with pytest.raises(UserError, match=r"settings \(seed: 0 -> 1\); give"):
            stage.begin_stage(path.parent, {"seed": 1, **now})
        shutil.rmtree(path.parent)
    stage.begin_stage(path.parent, {"seed": 0, "weights_digest": "a"})
    artifacts.write_bytes(path, b"x")
    with pytest.raises(UserError, match=r"settings \(weights_digest: a -> b\); give"):
        stage.begin_stage(path.parent, {"seed": 0, "weights_digest": "b"})


def test_what_differs_is_named(tmp_path):
    stage.begin_stage(tmp_path / "stage", {"seed": 0, "preset": {"rate": 0.9, "epochs": 1}})
    artifacts.write_bytes(tmp_path / "stage" / "a.png", b"x")
    with pytest.raises(ValueError, match=r"\(preset.epochs: 1 -> 2, preset.form: None -> expanded, seed: 0 -> 1\)"):
        stage.begin_stage(tmp_path / "stage", {"seed": 1, "preset": {"rate": 0.9, "epochs": 2, "form": "expanded"}})


def test_photographs_that_differ_are_said_in_words(tmp_path):
    stage.begin_stage(tmp_path / "stage", {"fingerprint": "a", "full": {"strong": {"fingerprint": "b"}}})
    artifacts.write_bytes(tmp_path / "stage" / "a.png", b"x")
    other = "other photographs, tags or masks"
    with pytest.raises(UserError, match=rf"\({other}, full: strong: {other}\); give"):
        stage.begin_stage(tmp_path / "stage", {"fingerprint": "c", "full": {"strong": {"fingerprint": "d"}}})


def test_nothing_half_written_is_left(tmp_path):
    class Broken:
        def __len__(self):
            raise RuntimeError
    with pytest.raises(TypeError):
        artifacts.write_bytes(tmp_path / "x", Broken())
    assert not list(tmp_path.iterdir())


def test_a_stage_is_done_once(tmp_path):
    calls = []

    def work():
        calls.append("work")
        return lambda: calls.append("facts") or {"answer": 42}

    finished = stage.run(tmp_path / "a", {"seed": 1}, work)
    assert finished["answer"] == 42 and finished["seed"] == 1 and calls == ["work", "facts"]
    assert stage.run(tmp_path / "a", {"seed": 1}, work) == finished and calls == ["work", "facts"]
    with pytest.raises(UserError, match="seed: 1 -> 2"):
        stage.run(tmp_path / "a", {"seed": 2}, work)


def test_weights_that_were_removed_are_made_again_and_the_stage_is_known_as_before(tmp_path):
    """Other stages know it by when it was finished: what was made from the damaged ones is the same."""
    def work():
        return lambda: artifacts.write_bytes(tmp_path / "a" / "model.weights.h5", b"x") or {"answer": 42}

    stage.run(tmp_path / "a", {"seed": 1}, work)
    run = artifacts.read_json(tmp_path / "a" / "run.json")
    artifacts.write_json(tmp_path / "a" / "run.json", {**run, "finished": "2020-01-01T00:00:00Z"})
    (tmp_path / "a" / "model.weights.h5").unlink()
    assert stage.run(tmp_path / "a", {"seed": 1}, work)["finished"] == "2020-01-01T00:00:00Z"
    assert (tmp_path / "a" / "model.weights.h5").exists()


def test_images_that_are_there_are_not_done_again(tmp_path):
    split, done = tiny_run.Photographs(), []

    def work(pending):
        for index in pending:
            done.append(index)
            artifacts.write_bytes(tmp_path / f"{split.image_ids[index]}.txt", b"x")
            yield index

    def run():
        return stage.run_per_image({tmp_path: {"seed": 1}}, split, work=work, facts=lambda _: {"made": len(done)},
                                   files=lambda image_id: [tmp_path / f"{image_id}.txt"])

    stage.begin_stage(tmp_path, {"seed": 1})
    artifacts.write_bytes(tmp_path / "b.txt", b"x")
    assert run()["made"] == 2 and done == [0, 2]
    artifacts.write_json(tmp_path / "run.json", {**run(), "finished": "2020-01-01T00:00:00Z"})
    assert run()["made"] == 2
    (tmp_path / "c.txt").unlink()
    assert run()["made"] == 3 and done == [0, 2, 2] and run()["finished"] == "2020-01-01T00:00:00Z"
    (tmp_path / "a.txt").write_bytes(b"")  # cut
    assert run()["made"] == 4 and done[-1] == 0 and (tmp_path / "a.txt").read_bytes() == b"x"


def test_a_run_of_another_format_is_refused(tmp_path):
    artifacts.write_run(tmp_path, images=3)
    assert artifacts.read_run(tmp_path)["images"] == 3
    artifacts.write_json(tmp_path / "run.json", {"images": 3, "versions": {}})
    with pytest.raises(UserError, match="expected format 2, found 1: another version"):
        artifacts.read_run(tmp_path)


def test_directories_that_are_finished_together(tmp_path):
    """The second directory may be added afterwards, shards before the whole: in the end each has its run.json."""
    split, directories = tiny_run.Photographs(), {tmp_path / name: {"seed": 1} for name in ("a", "b")}

    def run(names, shard=(0, 1)):
        def work(pending):
            for index in pending:
                for directory in names:
                    artifacts.write_bytes(directory / f"{split.image_ids[index]}.txt", b"x")
                yield index

        return stage.run_per_image({name: directories[name] for name in names}, split, work=work, shard=shard,
                                   facts=lambda directory: {"name": directory.name},
                                   files=lambda image_id: [name / f"{image_id}.txt" for name in names])

    first, second = directories
    run([first])
    for shard in ((0, 2), (1, 2)):
        run([first, second], shard)
    assert artifacts.read_run(second) is None
    run([first, second])
    assert artifacts.read_run(first)["name"] == "a" and artifacts.read_run(second)["name"] == "b"


def test_nothing_is_marked_where_one_directory_is_refused(tmp_path):
    split = tiny_run.Photographs()
    stage.begin_stage(tmp_path / "b", {"seed": 1})
    artifacts.write_bytes(tmp_path / "b" / "b.png", b"x")
    with pytest.raises(UserError, match="seed: 1 -> 2"):
        stage.run_per_image({tmp_path / "a": {"seed": 2}, tmp_path / "b": {"seed": 2}}, split, work=None, facts=None,
                            files=None)
    assert not (tmp_path / "a").exists()


def test_scores_of_other_maps_are_told_by_what_makes_them(tmp_path):
    """No command has --restart for one of these directories."""
    directory = tmp_path / "map_scores" / "classifier_by_S"
    stage.begin_stage(directory, {"map_images": 200})
    (directory / "a.json").write_text("{}")
    with pytest.raises(UserError, match="200 -> 100.*; give the --map_images and .* or remove .*map_scores$"):
        stage.begin_stage(directory, {"map_images": 100})


def test_nothing_is_removed_where_one_directory_is_refused(tmp_path):
    seeds, beside = tmp_path / "seeds", tmp_path / "seeds_uncertainty"
    for directory in (seeds, beside):
        stage.begin_stage(directory, {"theta": 0.3})
        (directory / "a.png").touch()
    restart.request(tmp_path, ["seeds"], followers=False)
    with pytest.raises(ValueError, match="seeds_uncertainty: was begun with other settings .*--restart=seeds"):
        stage._begin({seeds: {"theta": 0.7}, beside: {"theta": 0.7}})
    assert (seeds / "a.png").exists()
    restart.request(tmp_path, ["seeds", "seeds_uncertainty"], followers=False)
    stage._begin({seeds: {"theta": 0.7}, beside: {"theta": 0.7}})
    restart.settle()
    assert not (seeds / "a.png").exists() and not (beside / "a.png").exists()


def test_what_failed_before_its_first_result_is_begun_anew(tmp_path, capsys):
    """As after a download of weights that failed: the corrected command simply works."""
    def fails():
        artifacts.write_bytes(tmp_path / "a" / "log.csv", b"step,loss\n")
        artifacts.write_bytes(tmp_path / "a" / "tensorboard" / "events", b"x")
        raise OSError("no network")

    with pytest.raises(OSError):
        stage.run(tmp_path / "a", {"weights": "imagenet", "seed": 1}, fails)
    run = stage.run(tmp_path / "a", {"weights": "vgg16.npz", "seed": 1}, lambda: lambda: {"answer": 42})
    assert run["answer"] == 42 and run["weights"] == "vgg16.npz"
    assert not list((tmp_path / "a").glob("log.csv")) and not (tmp_path / "a" / "tensorboard").exists()
    assert capsys.readouterr().err == ("a: begun anew (weights: imagenet -> vgg16.npz); the earlier try has left no "
                                       "result\n")
    with pytest.raises(UserError, match="weights: vgg16.npz -> imagenet"):
        stage.run(tmp_path / "a", {"weights": "imagenet", "seed": 1}, fails)


def test_nothing_is_begun_anew_where_somebody_is_at_work(tmp_path, monkeypatch):
    """Not while another process draws its first image, which would then lie among those of other settings."""
    split = tiny_run.Photographs()

    def work(pending):
        monkeypatch.setattr(stage, "_PATIENCE", 0.2)
        with pytest.raises(UserError, match="is at work here"):
            stage.begin_stage(tmp_path, {"seed": 2})
        for index in pending:
            artifacts.write_bytes(tmp_path / f"{split.image_ids[index]}.txt", b"x")
            yield index

    stage.run_per_image({tmp_path: {"seed": 1}}, split, work=work, facts=lambda _: {},
                        files=lambda image_id: [tmp_path / f"{image_id}.txt"])
    assert artifacts.read_run(tmp_path)["seed"] == 1


def test_who_was_overtaken_before_the_work_began_stops(tmp_path, monkeypatch):
    """Between the beginning and the lock another process may have begun the directory anew."""
    split, hold = tiny_run.Photographs(), lock.hold

    def overtaken(path, *args, **kwargs):
        artifacts.write_json(tmp_path / "settings.json", {"seed": 2, "format": artifacts.FORMAT})
        return hold(path, *args, **kwargs)

    monkeypatch.setattr(stage.lock, "hold", overtaken)
    for run in (lambda: stage.run(tmp_path, {"seed": 1}, None),
                lambda: stage.run_per_image({tmp_path: {"seed": 1}}, split, work=lambda _: [], facts=None,
                                            files=lambda image_id: [tmp_path / image_id])):
        (tmp_path / "settings.json").unlink(missing_ok=True)
        with pytest.raises(UserError, match="seed: 2 -> 1"):
            run()


_SHARD = """
import pathlib, sys, time
from ficklenet_tf.runs import artifacts, stage
from tests import tiny_run
directory, shard, start = pathlib.Path(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])

def work(pending):
    for index in pending:
        time.sleep(0.2)
        artifacts.write_bytes(directory / f"{tiny_run.Photographs.image_ids[index]}.txt", b"x")
        yield index

time.sleep(max(0, start - time.time()))
stage.run_per_image({directory: {"seed": 2}}, tiny_run.Photographs(), work=work, facts=lambda _: {}, shard=(shard, 3),
                    files=lambda image_id: [directory / f"{image_id}.txt"])
"""


def test_shards_that_begin_anew_together_all_do_their_part(tmp_path):
    directory = tmp_path / "stage"
    stage.begin_stage(directory, {"seed": 1})
    started = time.time() + 4  # when all have been loaded
    shards = [subprocess.Popen([sys.executable, "-c", _SHARD, str(directory), str(shard), str(started)],
                               stderr=subprocess.PIPE, text=True) for shard in range(3)]
    said = [shard.communicate(timeout=100)[1] for shard in shards]
    assert [shard.returncode for shard in shards] == [0, 0, 0], said
    assert sum(text.count("begun anew") for text in said) == 1
    assert artifacts.read_json(directory / "settings.json")["seed"] == 2
    assert len(list(directory.glob("*.txt"))) == 3
