"""Directories removed on request: those that were named, what is made from them, and nothing else."""

import functools
import subprocess
import sys

import pytest

from ficklenet_tf.errors import UserError
from ficklenet_tf.runs import artifacts, lock, restart, stage


@pytest.fixture(autouse=True)
def _nothing_left():
    yield
    restart._requested.clear()
    restart._aside.clear()


def _make(run_dir, *names):
    for name in names:
        stage.begin_stage(run_dir / name, {"seed": 1})
        artifacts.write_bytes(run_dir / name / "a.png", b"x")


def test_what_is_made_from_a_stage_follows_it():
    assert restart.with_followers(["segmenter"]) == ["segmenter", "segmenter_labels", "segmenter_retrained",
                                                     "predictions", "predictions_crf"]
    assert restart.with_followers(["predictions_crf", "predictions"]) == ["predictions", "predictions_crf"]
    assert restart.with_followers(["seeds_deterministic"]) == ["seeds_deterministic"]
    assert {"seeds", "seeds_deterministic", "segmenter"} < set(restart.with_followers(["saliency"]))
    assert {"affinity_labels", "affinity"} < set(restart.with_followers(["maps"]))
    everything = restart.with_followers(["classifier", "classifier_deterministic", "saliency", "saliency_held_out"])
    assert everything == list(restart.STAGES)
    assert not {"saliency", "classifier", "classifier_deterministic"} & set(restart.with_followers(["maps"]))
    with pytest.raises(UserError, match="restart: expected some of saliency, classifier, .*, found 'features'"):
        restart.with_followers(["features"])


def test_what_is_named_goes_when_its_stage_begins_and_nothing_before(tmp_path, capsys):
    _make(tmp_path, "seeds", "segmenter", "predictions")
    artifacts.write_bytes(tmp_path / "evaluation" / "predictions.json", b"{}")
    restart.request(tmp_path, ["segmenter"], followers=True)
    assert restart.is_requested(tmp_path / "segmenter") and not restart.is_requested(tmp_path / "seeds")
    stage.begin_stage(tmp_path / "seeds", {"seed": 1})
    assert len(list(tmp_path.glob("[!.]*/a.png"))) == 3 and not capsys.readouterr().err
    stage.begin_stage(tmp_path / "segmenter", {"seed": 2})
    assert [path.parent.name for path in tmp_path.glob("[!.]*/a.png")] == ["seeds"]
    assert not list((tmp_path / "evaluation").glob("[!.]*"))
    restart.settle()
    assert not list(tmp_path.rglob(".removed-*"))
    assert capsys.readouterr().err == ("segmenter: removed, to be made again\n"
                                       "predictions: removed, to be made again\n")
    artifacts.write_bytes(tmp_path / "segmenter" / "a.png", b"x")
    stage.begin_stage(tmp_path / "segmenter", {"seed": 2})  # a request is for once
    assert (tmp_path / "segmenter" / "a.png").exists()


def test_without_followers_only_what_is_named_goes(tmp_path):
    _make(tmp_path, "segmenter", "predictions")
    restart.request(tmp_path, ["segmenter", "absent"], followers=False)
    stage.begin_stage(tmp_path / "segmenter", {"seed": 2})
    assert [path.parent.name for path in tmp_path.glob("[!.]*/a.png")] == ["predictions"]


def test_where_one_cannot_go_none_goes(tmp_path):
    """Not what is no stage's, is a link, or has a process at work."""
    _make(tmp_path, "seeds", "segmenter")
    restart.request(tmp_path, ["seeds"], followers=True)
    with lock.hold(tmp_path / "segmenter" / lock.NAME, "segmenter"), pytest.raises(UserError, match="at work here"):
        stage.begin_stage(tmp_path / "seeds", {"seed": 2})
    with lock.hold(tmp_path / "seeds" / lock.NAME, "seeds"), pytest.raises(UserError, match="is at work here"):
        restart.request(tmp_path, ["seeds"], followers=False)
    (tmp_path / "predictions").mkdir()
    (tmp_path / "predictions" / "mine.png").write_bytes(b"x")
    with pytest.raises(UserError, match="expected a stage's directory, found none of a stage"):
        restart.request(tmp_path, ["segmenter"], followers=True)
    (tmp_path / "maps").symlink_to(tmp_path / "seeds")
    with pytest.raises(UserError, match="found a link or a file"):
        restart.request(tmp_path, ["maps"], followers=False)
    assert len(list(tmp_path.glob("s*/a.png"))) == 2 and (tmp_path / "predictions" / "mine.png").exists()


def test_a_command_that_is_refused_removes_nothing(tmp_path, drawings_dir):
    """The classifier is removed when its training begins, and without weights it does not."""
    _make(tmp_path / "run", "classifier", "maps")
    common = ["--dataset=shapes", f"--output_dir={tmp_path / 'run'}", f"--cache_dir={drawings_dir}",
              "--max_images=4"]
    for flags, message in (
            (["tools.train_classifier", "--restart=classifier", "--photometric=0", "--trainable_layers=head"],
             "error: weights: expected --weights=imagenet or a file"),
            (["tools.extract_maps", "--restart=maps", "--num_shards=2"],
             "error: restart: expected a command that does a stage alone, found --num_shards"),
            (["tools.extract_maps", "--restart=seeds"], "error: restart: expected maps, which this command makes")):
        ended = subprocess.run([sys.executable, "-m", *flags, *common], capture_output=True, text=True)
        assert ended.returncode == 1 and message in ended.stderr, ended.stderr
        assert len(list((tmp_path / "run").glob("*/a.png"))) == 2


def test_rounds_and_moments_of_a_stage_go_with_it(tmp_path):
    """Those of erasing, of snapshots and of simple photographs; the baseline's are others."""
    parts = ("classifier", "classifier_round2", "classifier_at40", "maps", "maps_round1", "segmenter",
             "segmenter_simple", "segmenter_simple_labels")
    _make(tmp_path, *parts, "classifier_deterministic", "maps_deterministic")
    restart.request(tmp_path, ["classifier"], followers=True)
    stage.begin_stage(tmp_path / "classifier", {"seed": 2})
    assert sorted(path.parent.name for path in tmp_path.glob("[!.]*/a.png")) == ["classifier_deterministic",
                                                                            "maps_deterministic"]


@pytest.mark.parametrize("name, advice", [
    ("classifier_round2", "as tools.run_pipeline does with --restart=classifier"),
    ("maps_at40", "as tools.run_pipeline does with --restart=maps"),
    ("segmenter_simple_labels", "as tools.run_pipeline does with --restart=segmenter"),
    ("seeds_round2", "as the stage's own command does with --restart=seeds_round2")])
def test_the_advice_of_a_refusal_names_a_stage_that_can_be_restarted(tmp_path, name, advice):
    _make(tmp_path, name)
    with pytest.raises(UserError, match=f"{advice}$"):
        stage.begin_stage(tmp_path / name, {"seed": 2})


def test_what_a_user_has_named_stays(tmp_path):
    mine = ("classifier_attention", "maps_atlas", "maps_round2_mine", "seeds_attempt2", "seeds_round2",
            "segmenter_round2", "segmenter_simple_too", "predictions_at3")
    _make(tmp_path, "classifier", "maps", "seeds", "segmenter", "segmenter_labels", "predictions", *mine)
    (tmp_path / "segmenter_attempt").mkdir()
    (tmp_path / "segmenter_attempt" / "notes.txt").touch()  # no stage's: nothing is refused for it
    restart.request(tmp_path, ["classifier"], followers=True)
    stage.begin_stage(tmp_path / "classifier", {"seed": 2})
    assert sorted(path.parent.name for path in tmp_path.glob("[!.]*/a.png")) == sorted(mine)


def test_what_the_command_did_not_make_again_is_said(tmp_path, capsys):
    _make(tmp_path, "seeds", "segmenter", "predictions_crf")
    restart.request(tmp_path, ["seeds", "segmenter", "predictions_crf", "maps"], followers=True)
    stage.begin_stage(tmp_path / "segmenter", {"seed": 2})
    capsys.readouterr()
    restart.say_left()
    assert capsys.readouterr().err.splitlines() == [
        f"restart: {name} stays as it is, this command does not make it" for name in ("seeds",)]


@pytest.mark.parametrize("name", ["classifier", "classifier_deterministic"])
@pytest.mark.parametrize("settings", [{"seed": 1}, {"seed": 1, "saliency": "made by abc"}], ids=str)
def test_a_classifier_follows_the_saliency_that_it_has_learned(settings, name, tmp_path):
    _make(tmp_path, "saliency", "seeds")
    stage.begin_stage(tmp_path / name, settings)
    restart.request(tmp_path, ["saliency"], followers=True)
    assert restart.is_requested(tmp_path / name) == ("saliency" in settings)


def test_a_kill_in_the_middle_leaves_no_half_of_it(tmp_path, monkeypatch):
    """And what it left goes with the next one."""
    _make(tmp_path, "maps")
    restart.request(tmp_path, ["maps"], followers=False)
    restart.remove(tmp_path / "maps")
    assert not (tmp_path / "maps").exists() and len(list(tmp_path.glob(".removed-maps-*/a.png"))) == 1
    restart._aside.clear()  # as another process begins
    _make(tmp_path, "seeds", "maps")
    restart.request(tmp_path, ["seeds"], followers=False)
    restart.remove(tmp_path / "seeds")
    restart.settle()
    assert [path.name for path in tmp_path.iterdir()] == ["maps"]


def _refused():
    raise UserError("growing: expected others")


def test_what_is_refused_when_it_has_begun_is_put_back(tmp_path, capsys):
    _make(tmp_path, "seeds", "segmenter", "predictions")
    artifacts.write_bytes(tmp_path / "evaluation" / "predictions.json", b"{}")
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    restart.request(tmp_path, ["segmenter"], followers=True)
    with pytest.raises(UserError, match="growing"):
        stage.run(tmp_path / "segmenter", {"seed": 2}, _refused)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file() and path.name != lock.NAME} == {
        path: content for path, content in before.items() if path.name != lock.NAME}
    assert capsys.readouterr().err.splitlines()[-2:] == ["segmenter: is as it was", "predictions: is as it was"]


class _Two:
    image_ids = ("c", "d")

    def __len__(self):
        return 2


def test_what_has_left_a_result_is_not_put_back(tmp_path):
    """Nor what was laid aside for a stage that is made image by image, once there is one."""
    def broken():
        artifacts.write_bytes(tmp_path / "seeds" / "b.png", b"x")
        raise UserError("the disk is full")

    _make(tmp_path, "seeds", "maps")
    restart.request(tmp_path, ["seeds", "maps"], followers=False)
    with pytest.raises(UserError, match="disk"):
        stage.run(tmp_path / "seeds", {"seed": 2}, broken)
    assert [path.name for path in (tmp_path / "seeds").glob("*.png")] == ["b.png"]
    assert not list(tmp_path.glob(".removed-*"))
    split = _Two()

    def work(pending, fails_at):
        for index in pending:
            if index == fails_at:
                raise UserError("broken.jpg")
            artifacts.write_bytes(tmp_path / "maps" / f"{split.image_ids[index]}.png", b"x")
            yield index
            assert not list(tmp_path.glob(".removed-*"))

    for fails_at, left in ((0, ["a.png"]), (1, ["c.png"])):
        restart.request(tmp_path, ["maps"], followers=False)
        with pytest.raises(UserError, match="broken"):
            stage.run_per_image({tmp_path / "maps": {"seed": 2}}, split, files=lambda image_id: [
                tmp_path / "maps" / f"{image_id}.png"], work=functools.partial(work, fails_at=fails_at), facts=dict)
        assert [path.name for path in (tmp_path / "maps").glob("*.png")] == left


def test_what_had_just_begun_is_a_stages(tmp_path):
    (tmp_path / "maps" / "record").mkdir(parents=True)
    for _ in range(2):  # each leaves a lock's file
        restart.request(tmp_path, ["maps"], followers=False)
    restart.remove(tmp_path / "maps")
    assert not (tmp_path / "maps").exists()
