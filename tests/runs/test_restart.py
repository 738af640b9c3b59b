"""Directories removed on request: those that were named, what is made from them, and nothing else."""

import pytest

from ficklenet_tf.errors import UserError
from ficklenet_tf.runs import artifacts, lock, restart, stage


def test_what_is_made_from_a_stage_follows_it():
    assert restart.with_followers(["segmenter"]) == ["segmenter", "segmenter_labels", "segmenter_retrained",
                                                     "predictions", "predictions_crf"]
    assert restart.with_followers(["predictions_crf", "predictions"]) == ["predictions", "predictions_crf"]
    assert restart.with_followers(["seeds_deterministic"]) == ["seeds_deterministic"]
    everything = restart.with_followers(["classifier", "classifier_deterministic", "saliency"])
    assert everything == list(restart.STAGES)
    assert not {"saliency", "classifier", "classifier_deterministic"} & set(restart.with_followers(["maps"]))
    with pytest.raises(UserError, match="restart: expected some of saliency, classifier, .*, found 'features'"):
        restart.with_followers(["features"])


def test_only_what_is_named_is_removed(tmp_path, capsys):
    for name in ("seeds", "segmenter"):
        stage.begin_stage(tmp_path / name, {"seed": 1})
        artifacts.write_bytes(tmp_path / name / "a.png", b"x")
    restart.remove(tmp_path, ["segmenter", "predictions"])
    assert [path.name for path in tmp_path.iterdir()] == ["seeds"]
    assert capsys.readouterr().err == "segmenter: removed, to be made again\n"
    stage.begin_stage(tmp_path / "segmenter", {"seed": 2})


def test_neither_a_stage_at_work_nor_a_directory_of_ones_own_is_removed(tmp_path):
    stage.begin_stage(tmp_path / "seeds", {"seed": 1})
    with lock.hold(tmp_path / "seeds" / lock.NAME, "seeds"), pytest.raises(UserError, match="is at work here"):
        restart.remove(tmp_path, ["seeds"])
    (tmp_path / "predictions").mkdir()
    (tmp_path / "predictions" / "mine.png").write_bytes(b"x")
    with pytest.raises(UserError, match="expected a stage's directory"):
        restart.remove(tmp_path, ["predictions"])
    assert (tmp_path / "seeds").exists() and (tmp_path / "predictions" / "mine.png").exists()
