"""The choice of the dense CRF, worked out by hand and in a tiny run; in a whole one: tests/test_pipeline.py."""

import dataclasses

import numpy as np
import pytest

from ficklenet_tf import crf, presets
from ficklenet_tf.errors import UserError
from ficklenet_tf.runs import artifacts
from ficklenet_tf.seeds import crf_choice, extraction
from tests import tiny_run
from tests.seeds import agreement_by_hand


class _Predictor:
    """Says class 1 in the left half and background in the right one, everywhere unsure."""

    class_names = ("background", "x")

    def __call__(self, image):
        probs = np.full((*image.shape[:2], 2), 0.6, np.float32)
        probs[:, :2, 0] = probs[:, 2:, 1] = 0.4
        return probs


def test_agreement_is_the_miou_with_the_seeds_that_are_known():
    """Four columns, one of them 255: background 1 of 2 and x 1 of 2 agree, or IoU 1/2 each. A flat photograph."""
    seed = np.tile(np.array([1, 0, 0, 255], np.uint8), (3, 1))
    image = np.full((3, 4, 3), 128, np.uint8)
    agreement = crf_choice._agreement(_Predictor(), iter([(image, seed)] * 2), 2)
    assert list(agreement) == list(crf_choice.CANDIDATES)
    assert agreement["none"] == pytest.approx(1 / 2)
    flipped = crf_choice._agreement(_Predictor(), iter([(image, np.where(seed == 255, 0, seed).astype(np.uint8))]), 1)
    assert flipped["none"] == pytest.approx((2 / 3 + 1 / 2) / 2)


def test_a_crf_that_agrees_better_has_the_greater_number():
    """The bright column is x to its seeds and to its colour, but not to the network alone."""
    class Unsure(_Predictor):
        def __call__(self, image):
            probs = np.full((*image.shape[:2], 2), 0.45, np.float32)
            probs[..., 0] = 0.55
            probs[image[..., 0] > 128] = (0.1, 0.9)
            probs[:2, image[0, :, 0] > 128] = (0.55, 0.45)  # its upper end is lost
            return probs

    image = np.zeros((24, 24, 3), np.uint8)
    image[:, 8:12] = 255
    seed = (image[..., 0] > 128).astype(np.uint8)
    agreement = crf_choice._agreement(Unsure(), iter([(image, seed)]), 1)
    for key in ("dsrg_relative", "deeplab_relative"):
        assert crf.SPECS[key].relative and agreement[key] > agreement["none"]


class _HeldOut(tiny_run.Photographs):
    """Four photographs, the last of them without a tag."""

    name, fingerprint, image_ids = "val", "held out", ("d", "e", "f", "g")
    class_names = tuple(tiny_run.CLASS_NAMES)

    def __len__(self):
        return 4

    def __getitem__(self, index):
        example = super().__getitem__(min(index, 2))
        return {**example, "image_id": self.image_ids[index], "tags": example["tags"] * (index < 3)}

    def select(self, indices):
        assert indices == [0, 1, 2, 3]
        return self


class _Learned(tiny_run.Photographs):
    class_names = tuple(tiny_run.CLASS_NAMES)

    def select(self, indices):
        return self


MAPS = presets.MapsConfig(num_maps=20, sizes=(64,))
SEEDS = presets.SeedsConfig(refine="crf", refine_low=0.2, refine_high=0.2, refine_scale=1.0)


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory):
    """A run of random networks with seeds of its own and a segmenter that says it has learned them."""
    run = tiny_run.make(tmp_path_factory.mktemp("run") / "tiny", (33,), False)
    extraction.extract(run, _Learned(), MAPS, SEEDS, name="learned")
    artifacts.write_json(run / "segmenter" / "settings.json", {
        "seeds": "learned", "initial": "classifier", "seeds_made": artifacts.identity(run / "learned")})
    return run


def test_the_candidate_that_agrees_best_with_seeds_of_the_tagged_photographs(run_dir, monkeypatch, capsys):
    with pytest.raises(UserError, match="has one chosen, found none"):
        crf_choice.chosen(run_dir, "auto")
    best = crf_choice.choose(run_dir, _HeldOut())
    assert best == crf_choice.chosen(run_dir, "auto") and crf_choice.chosen(run_dir, "deeplab") == "deeplab"
    choice = artifacts.read_json(run_dir / "segmenter" / "crf.json")

    tagged = type("Tagged", (_HeldOut,), {"__len__": lambda self: 3, "image_ids": ("d", "e", "f")})()
    extraction.extract(run_dir, tagged, MAPS, SEEDS, name="seeds_by_hand")
    expected = agreement_by_hand.of_candidates(run_dir, "seeds_by_hand", tagged)
    assert choice["agreement"] == pytest.approx(expected, abs=1e-12)
    assert list(expected) == list(crf_choice.CANDIDATES) and all(0 < value < 1 for value in expected.values())
    assert choice["agreement"][best] == max(choice["agreement"].values()) and choice["images"] == 3

    said = []
    monkeypatch.setattr(crf_choice.progress, "say", said.append)
    monkeypatch.setattr(crf_choice, "_agreement", None)
    assert crf_choice.choose(run_dir, _HeldOut()) == best  # it is not chosen again
    assert f"none {100 * choice['agreement']['none']:.1f}" in said[0] and "3 held-out" in said[0]
    agreement = dict(zip(crf_choice.CANDIDATES, (0.2, 0.5, 0.3), strict=True))
    monkeypatch.setattr(crf_choice, "_agreement", lambda *_: agreement)
    assert crf_choice.choose(run_dir, _HeldOut(), flip=True) == "dsrg_relative"  # another prediction, another choice


def test_photographs_that_were_learned_or_have_no_tags_tell_nothing(run_dir):
    with pytest.raises(UserError, match="has not learned from, found some of"):
        crf_choice.choose(run_dir, _Learned())
    untagged = type("Untagged", (_HeldOut,), {"__getitem__": lambda self, index: _HeldOut.__getitem__(self, 3)})()
    with pytest.raises(UserError, match="expected photographs with tags"):
        crf_choice.choose(run_dir, untagged, sizes=(49,))


@pytest.mark.parametrize(("refine", "asked"), [("saliency", True), ("crf", False)])
def test_the_runs_own_saliency_maps_are_taken_where_the_seeds_need_them(run_dir, monkeypatch, refine, asked):
    """Seeds by saliency take saliency_held_out/, those by the CRF nothing; a named directory goes first."""
    learned = artifacts.read_json(run_dir / "learned" / "settings.json")
    learned["config"] = dataclasses.asdict(dataclasses.replace(SEEDS, refine=refine))
    monkeypatch.setattr(crf_choice, "_learned_seeds", lambda *_: (run_dir / "learned", learned))
    monkeypatch.setattr(crf_choice.needed, "saliency_of_split", lambda directory, _: {"saliency": str(directory)})
    taken = []
    monkeypatch.setattr(crf_choice, "_with_seeds", lambda *arguments: taken.append(arguments[-1]))
    monkeypatch.setattr(crf_choice, "_agreement", lambda *_: dict.fromkeys(crf_choice.CANDIDATES, 0.5))
    crf_choice.choose(run_dir, _HeldOut(), sizes=(41,))
    (run_dir / "saliency_held_out").mkdir(exist_ok=True)
    crf_choice.choose(run_dir, _HeldOut(), sizes=(57,))
    crf_choice.choose(run_dir, _HeldOut(), saliency_dir="named", sizes=(73,))
    assert taken == [None, run_dir / "saliency_held_out" if asked else None, "named"]


@pytest.mark.parametrize(("changed", "error"), [
    ({"classifier": "another"}, "was trained again since"), ({}, "saliency maps of the held-out photographs")])
def test_seeds_are_made_only_as_the_learned_ones_were(run_dir, changed, error):
    learned = artifacts.read_json(run_dir / "learned" / "settings.json")
    learned["maps"] |= changed
    learned["config"] = dataclasses.asdict(dataclasses.replace(SEEDS, refine="saliency"))
    with pytest.raises(UserError, match=error):
        next(crf_choice._with_seeds(run_dir, _HeldOut(), learned, None))


def test_sixty_photographs_evenly_spaced_or_all():
    class Split:
        def __init__(self, count):
            self.count = count

        def __len__(self):
            return self.count

        def select(self, indices):
            return indices

    assert crf_choice.photographs(Split(4)) == [0, 1, 2, 3]
    many = crf_choice.photographs(Split(1449))
    assert len(many) == 60 and many[:2] == [0, 24] and many[-1] == 1448
