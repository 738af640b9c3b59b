"""How served maps are drawn, by what a run has recorded of its seeds."""

import dataclasses
import re

import pytest

from ficklenet_tf import presets
from ficklenet_tf.runs import artifacts
from ficklenet_tf.serving import seed_maps

CLASSIFIER = dataclasses.replace(presets.TINY.classifier, input_size=97, inference_mode="deterministic")
CLASSIFIER_RUN = {"finished": "today"}


def _drawing(run_dir, maps=None, refine="crf", mode="stochastic", **config):
    """The drawing of a run whose seeds were made of such maps."""
    artifacts.write_run(
        run_dir / "seeds", stage="seeds", config=dataclasses.asdict(presets.SeedsConfig(refine=refine)),
        maps={"config": dataclasses.asdict(presets.MapsConfig(**{"sizes": (48,), **config})), "mode": mode,
              "classifier_name": "classifier", "classifier": "today", **(maps or {})})
    return seed_maps.drawing(run_dir, CLASSIFIER_RUN, CLASSIFIER)


@pytest.mark.parametrize("mode, cam", [("stochastic", "gradcam"), ("general", "gradcam"), ("deterministic", "cam")])
def test_maps_are_drawn_as_those_of_the_seeds(tmp_path, mode, cam):
    assert _drawing(tmp_path, mode=mode, cam=cam) == seed_maps.Drawing(48, mode, cam)


@pytest.mark.parametrize("recorded", [None, {"stage": "seeds"}], ids=["no seeds", "seeds of no maps"])
def test_without_maps_they_are_drawn_as_the_classifier_predicts(tmp_path, recorded):
    if recorded:
        artifacts.write_run(tmp_path / "seeds", **recorded)
    assert seed_maps.drawing(tmp_path, CLASSIFIER_RUN, CLASSIFIER) == seed_maps.Drawing(97, "deterministic")


@pytest.mark.parametrize("maps", [{"classifier_name": "classifier_plain"}, {"classifier": "yesterday"}],
                         ids=["another", "earlier"])
def test_seeds_of_another_classifier_do_not_say_how_this_one_is_applied(tmp_path, maps):
    drawing = _drawing(tmp_path, maps)
    assert (drawing.size, drawing.mode) == (97, "deterministic") and len(drawing.other_than_seeds) == 1
    assert "classifier_plain" in drawing.other_than_seeds[0] or "an earlier one" in drawing.other_than_seeds[0]


@pytest.mark.parametrize("changes, text", [
    ({"sizes": (48, 64)}, "merged of the sizes 48, 64$"),
    ({"flip_views": True}, "merged of the sizes 48 and their mirror images"),
    ({"maps": {"merged": {"rule": "max", "parts": {"a": {}, "b": {}, "c": {}}}}}, "merged of 3"),
    ({"maps": {"erased": {"maps_round1": "today"}}}, "of erased ones"),
    ({"refine": "eps"}, "softmax maps"),
    ({"num_maps": "auto"}, "as each photograph took")], ids=["sizes", "mirror", "merged", "erased", "eps", "auto"])
def test_what_a_server_leaves_out_is_said(tmp_path, changes, text):
    [difference] = _drawing(tmp_path, **changes).other_than_seeds
    assert "those of the seeds" in difference and re.search(text, difference), difference


def test_of_one_part_or_one_deterministic_map_nothing_is_left_out(tmp_path):
    assert not _drawing(tmp_path, {"merged": {"parts": {"a": {}}}}).other_than_seeds
    assert not _drawing(tmp_path, mode="deterministic", num_maps="auto").other_than_seeds
