"""What seeds need beside maps: each setting by hand."""

import types

import pytest

from ficklenet_tf.errors import UserError
from ficklenet_tf.presets import MapsConfig, SeedsConfig
from ficklenet_tf.runs import artifacts, stage
from ficklenet_tf.seeds import needed
from tests import tiny_run


@pytest.mark.parametrize(("settings", "saliency", "gradient"), [
    ({"refine": "none", "background_cue": "activation"}, False, None),
    ({"refine": "none", "background_cue": "saliency"}, True, None),
    ({"refine": "none", "background_cue": "gradient"}, False, "features"),
    ({"refine": "srg", "background_cue": "gradient_pixels"}, False, "pixels"),
    ({"refine": "crf", "background_cue": "saliency"}, False, None),  # it decides without a cue
    ({"refine": "crf", "background_cue": "gradient"}, False, None),
    ({"refine": "saliency", "background_cue": "activation"}, True, None),
    ({"refine": "harmonic", "background_cue": "activation"}, True, None),
    ({"refine": "affinity", "background_cue": "activation"}, False, None)])
def test_a_setting_needs_saliency_or_a_gradient_or_neither(tmp_path, settings, saliency, gradient):
    config, finished = SeedsConfig(**settings), tmp_path / "saliency"
    assert needed.saliency(config) == saliency
    found = needed.saliency_settings(config, "there", tiny_run.Photographs())
    assert ("saliency_digest" in found) == saliency and found.get("saliency") == ("there" if saliency else None)
    assert needed.saliency_settings(config, None, tiny_run.Photographs()) == {}
    assert needed.with_gradient(MapsConfig(), config).gradient == (gradient or MapsConfig().gradient)
    needed.check(config, "there", gradient)
    needed.check(config, "there")
    if saliency:
        with pytest.raises(UserError, match="expected a map for each image"):
            needed.check(config, None)
    else:
        needed.check(config, None)
    if gradient:
        with pytest.raises(UserError, match=f"expected maps with the gradient by {gradient}, found none"):
            needed.check(config, None, "none")

    assert needed.saliency_of(tmp_path, config, "there") == "there"
    assert needed.saliency_of(tmp_path, config, None) is None  # not made
    finished.mkdir()
    assert needed.saliency_of(tmp_path, config, None) is None  # not finished
    artifacts.write_run(finished, model="u2netp")
    assert needed.saliency_of(tmp_path, config, None) == (finished if saliency else None)


def test_every_photograph_has_its_saliency_map(tmp_path):
    (tmp_path / "a.png").touch()
    with pytest.raises(UserError, match="each of 3 images, 2 are missing, the first b.png"):
        needed.check_saliency(tmp_path, tiny_run.Photographs())
    for name in "bc":
        (tmp_path / f"{name}.png").touch()
    needed.check_saliency(tmp_path, tiny_run.Photographs())


def test_what_is_no_saliency_is_refused(tmp_path):
    for name in "abc":
        (tmp_path / f"{name}.png").touch()
    artifacts.write_run(tmp_path, stage="seeds")
    with pytest.raises(UserError, match="expected saliency maps, found what the stage seeds has made"):
        needed.check_saliency(tmp_path, tiny_run.Photographs())
    artifacts.write_json(tmp_path / "run.json", {"from": "my own system"})
    needed.check_saliency(tmp_path, tiny_run.Photographs())
    assert needed.saliency_identity(tmp_path) == str(tmp_path)


def test_own_saliency_maps_are_told_from_others_in_the_same_place(tmp_path):
    split = tiny_run.Photographs()
    for name in "abcd":
        (tmp_path / f"{name}.png").write_bytes(b"first")
    before = needed.saliency_of_split(tmp_path, split)
    (tmp_path / "d.png").write_bytes(b"of no photograph here")
    assert needed.saliency_of_split(tmp_path, split) == before
    (tmp_path / "b.png").write_bytes(b"other")
    after = needed.saliency_of_split(tmp_path, split)
    assert after["saliency"] == before["saliency"] == str(tmp_path) and not stage.same(before, after)
    assert stage.same({"saliency": str(tmp_path)}, after), "an earlier version's settings go on"
    artifacts.write_run(tmp_path, stage="saliency", model="0123")
    assert needed.saliency_of_split(tmp_path, split) == {"saliency": "made by 0123"}


def test_saliency_maps_are_told_apart_by_what_made_them(tmp_path):
    assert needed.saliency_identity(tmp_path) == str(tmp_path)
    artifacts.write_run(tmp_path, model="0123")
    assert needed.saliency_identity(tmp_path) == "made by 0123"
    artifacts.write_run(tmp_path, model="0123", maps="then")
    assert needed.saliency_identity(tmp_path) == "made by 0123, closer by maps of then"


def test_affinities_stand_on_the_classifier_of_the_maps(tmp_path, monkeypatch):
    walker = types.SimpleNamespace(run={"classifier": "then"})
    monkeypatch.setattr(needed.affinity, "Walker", lambda run_dir, name: walker)
    assert needed.open_walker(tmp_path, "affinity", "then") is walker
    with pytest.raises(UserError, match="affinity: expected affinities on the classifier of the maps"):
        needed.open_walker(tmp_path, "affinity", "later")
