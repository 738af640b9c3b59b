"""The background score without masks: the choice by hand, what is measured, and that seeds take it once for all."""

import dataclasses
import types

import numpy as np
import pytest

from ficklenet_tf import presets
from ficklenet_tf.maps import extraction as map_extraction
from ficklenet_tf.runs import artifacts
from ficklenet_tf.seeds import background_score, extraction, refinement
from tests import tiny_run

PHOTOGRAPHS = tiny_run.Photographs()
MAPS = presets.MapsConfig(num_maps=20, sizes=(33,))
AUTO = presets.SeedsConfig(refine="crf", refine_low="auto", refine_scale=1.0)


def test_the_score_of_the_greatest_product_is_chosen():
    assert background_score.SCORES == (0.005, 0.01, 0.02, 0.03, 0.05, 0.08, 0.12, 0.18, 0.25)
    lost, left = [3.0, 3.0, 2.9, 2.8, 2.6, 2.2, 1.8, 1.4, 0.8], [0.4, 0.5, 0.6, 0.65, 0.7, 0.8, 0.85, 0.9, 0.95]
    assert background_score.choose(lost, left) == 0.03  # 2.8 x 0.65 and 2.6 x 0.7 are 1.82 both: the lower one
    assert background_score.choose([*lost[:4], 2.61, *lost[5:]], left) == 0.05


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory):
    return tiny_run.make_classifier(tmp_path_factory.mktemp("run"))


def test_what_is_lost_is_what_the_covered_part_gave(run_dir, monkeypatch):
    """Everything foreground, and the two left columns of five; then more of them the lower the score is."""
    localizer, _ = map_extraction.open_localizer(run_dir, PHOTOGRAPHS, MAPS, map_extraction.Options())
    head, scores = localizer.model.head, background_score.SCORES

    for columns in (5, 2):
        monkeypatch.setattr(background_score, "crf_refine", lambda image, *args, columns=columns, **kwargs: np.repeat(
            (np.arange(5) < columns)[None], 5, 0).astype(np.uint8))
        expected = []
        for index in range(3):
            x = localizer.features(localizer.prepare(PHOTOGRAPHS[index]))[0].numpy()
            rest = x * (np.arange(5) >= columns)[None, :, None]
            whole, covered = head.expected_logits(np.stack([x, rest])).numpy()
            expected.extend((whole - covered)[PHOTOGRAPHS[index]["tags"] > 0])
        lost, left = background_score.measure(localizer, PHOTOGRAPHS, 1.0, 0)
        np.testing.assert_allclose(lost, [np.mean(expected)] * len(background_score.SCORES), atol=1e-5)
        np.testing.assert_allclose(left, 1 - columns / 5, atol=1e-6)

    def by_score(image, mean, tag_ids, low, high, scale):
        assert low == high and scale == 0.5 and mean.shape[-1] == len(tag_ids) > 0
        return np.repeat((np.arange(10) < 9 - scores.index(low))[None], 5, 0).astype(np.uint8)

    monkeypatch.setattr(background_score, "crf_refine", by_score)
    np.testing.assert_allclose(background_score.measure(localizer, PHOTOGRAPHS, 0.5, 0)[1],
                               [(1 + k) / 10 for k in range(len(scores))], atol=1e-6)


def test_of_many_photographs_evenly_spaced_ones_are_looked_at(run_dir, monkeypatch):
    localizer, _ = map_extraction.open_localizer(run_dir, PHOTOGRAPHS, MAPS, map_extraction.Options())
    seen, count = [], background_score._LOOKED_AT
    many = type("Many", (tiny_run.Photographs,), {
        "__len__": lambda self: 3 * count,
        "__getitem__": lambda self, index: seen.append(index) or PHOTOGRAPHS[index % 3]})
    monkeypatch.setattr(background_score, "crf_refine", lambda image, *args, **kwargs: np.zeros((5, 5), np.uint8))
    monkeypatch.setattr(localizer, "localize", lambda *args: types.SimpleNamespace(mean=None))
    background_score.measure(localizer, many(), 1.0, 0)
    assert seen == list(range(0, 3 * count, 3))


def test_another_scale_is_measured_anew(run_dir, tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(background_score, "measure", lambda localizer, split, scale, seed: asked.append(scale) or (
        [1] * 9, [1] * 9))
    for scale in (1.0, 0.5, 1.0):
        background_score.settled(tmp_path, PHOTOGRAPHS, dataclasses.replace(AUTO, refine_scale=scale), None, {}, 0)
    assert asked == [1.0, 0.5]


def test_seeds_take_the_score_in_one_go_and_from_disk(run_dir, monkeypatch):
    measured = [1, 1, 1, 1, 1, 1, 0, 0, 0], [1, 1, 1, 1, 1, 2, 1, 1, 1]
    monkeypatch.setattr(background_score, "measure", lambda *args: measured)
    run = extraction.extract(run_dir, PHOTOGRAPHS, MAPS, AUTO, options=extraction.Options(keep_maps=True))
    assert run["config"]["refine_low"] == run["config"]["refine_high"] == 0.08
    monkeypatch.setattr(background_score, "measure", None)  # it was measured once
    again = extraction.make(run_dir, PHOTOGRAPHS, AUTO, name="again")
    fixed = extraction.make(run_dir, PHOTOGRAPHS, dataclasses.replace(AUTO, refine_low=0.08, refine_high=0.08),
                            name="fixed")
    assert again["config"] == fixed["config"] == run["config"]
    for image_id in "abc":
        assert len({(run_dir / name / f"{image_id}.png").read_bytes() for name in ("seeds", "again", "fixed")}) == 1
    assert len(artifacts.read_json(run_dir / "background_scores.json")) == 1


def test_other_refinements_do_not_ask(run_dir, monkeypatch):
    monkeypatch.setattr(background_score, "measure", None)
    config = dataclasses.replace(AUTO, refine="none")
    assert extraction.extract(run_dir, PHOTOGRAPHS, MAPS, config, name="plain")["config"]["refine_low"] == "auto"
    assert "crf" in refinement.REFINEMENTS
