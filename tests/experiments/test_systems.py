"""Every compared system goes with every preset, differs from its pair in one thing, and runs from photographs on."""

import dataclasses
import itertools
import pathlib
import re
import types

import numpy as np
import pytest

from ficklenet_tf import presets
from ficklenet_tf.data import datasets, images, labels
from ficklenet_tf.experiments import job, rehearsed, shared, systems
from ficklenet_tf.runs import artifacts, layout
from ficklenet_tf.training import classifier as classifier_training
from ficklenet_tf.training import loop, settings
from tools import cli

SYSTEMS = systems.SYSTEMS
# What may differ between the two of a claim: the fields of one of these.
ONE_THING = (
    {"classifier.training_mode", "classifier.inference_mode"}, {"classifier.suppression"},
    {"classifier.objectives"}, {"classifier.snapshots", "maps"}, {"classifier.erase", "maps"},
    {"seeds.refine"}, {"affinity.kind"}, {"segmenter.growing"}, {"segmenter.losses"})
QUICK = ("tpl",)  # what others have is run by the tests of its own room


@pytest.mark.parametrize("name", SYSTEMS)
@pytest.mark.parametrize("preset", presets.PRESETS)
def test_a_system_goes_with_a_preset(preset, name):
    for semi in (False, True):
        settings.check(SYSTEMS[name].applied(presets.PRESETS[preset], semi), "imagenet")


def _flat(name, preset=presets.TINY):
    preset = SYSTEMS[name].applied(preset)
    steps = classifier_training.steps_of(preset.classifier, 916)
    preset = dataclasses.asdict(dataclasses.replace(preset, classifier=dataclasses.replace(
        preset.classifier, epochs=0, steps=steps)))
    fields = {f"{stage}.{field}": value for stage, fields in preset.items() if stage != "name"
              for field, value in fields.items()}
    return {**fields, "maps": (SYSTEMS[name].maps, SYSTEMS[name].rounds)}


@pytest.mark.parametrize("pair", systems.CLAIMS, ids="-".join)
@pytest.mark.parametrize("preset", presets.PRESETS)
def test_the_two_of_a_claim_differ_in_one_thing(preset, pair):
    high, low = (_flat(name, presets.PRESETS[preset]) for name in pair)
    changed = {name for name in high if high[name] != low[name]}
    changed -= {"affinity.kind"} if "seeds.refine" in changed else set()  # means nothing to the other refinement
    assert changed and any(changed <= fields for fields in ONE_THING), changed


# What makes each row its paper's system; sources: docs/systems.md, and the docstrings of what the settings name.
OF_THE_PAPER = {
    "ficklenet": {"classifier.training_mode": "stochastic", "classifier.inference_mode": "stochastic",
                  "seeds.refine": "crf", "segmenter.losses": ("seed", "boundary")},
    "ficklenet_theta": {"seeds.refine": "none", "seeds.theta": 0.35},
    "mil_fcn": {"segmenter.losses": ("mil_max",), "segmenter.image_prior": False},
    "mil_seg": {"segmenter.losses": ("mil_lse",), "segmenter.image_prior": True, "segmenter.mil_sharpness": 5.0},
    "em_fixed": {"segmenter.losses": ("em_fixed",)},
    "em_adapt": {"segmenter.losses": ("em_adapt",)},
    "sec": {"classifier.head": "hidden", "classifier.hidden_layers": 2, "classifier.hidden_dropout": 0.5,
            "seeds.refine": "none", "seeds.theta": 0.2, "seeds.background_cue": "gradient",
            "seeds.background_threshold": 0.1, "segmenter.losses": ("sec_seed", "expand", "boundary")},
    "srg": {"seeds.refine": "srg"},
    "tpl": {"classifier.erase": "features", "classifier.erase_share": 0.2, "maps": ("erasing", 2)},
    "ae_psl": {"classifier.erase": "pixels", "classifier.erase_share": 0.2, "maps": ("erasing", 3)},
    "gain": {"classifier.objectives": ("tags", "mining"), "classifier.mining_weight": 1.0},
    "dsrg": {"seeds.refine": "none", "segmenter.growing": "dsrg", "segmenter.growing_foreground": 0.85,
             "segmenter.growing_background": 0.99, "segmenter.losses": ("seed", "boundary")},
    "affinitynet": {"seeds.refine": "affinity", "affinity.kind": "embedding"},
    "irn": {"seeds.refine": "affinity", "affinity.kind": "boundary"},
    "stc": {"segmenter.losses": ("stc",), "segmenter.simple_first": True},
    "dcsp": {"seeds.refine": "harmonic", "seeds.harmonic_threshold": 0.4},
    "mdc": {"classifier.head": "mdc", "classifier.dilations": (1, 3, 6, 9), "seeds.refine": "saliency"},
    "oaa": {"classifier.head": "hidden", "classifier.hidden_layers": 3, "classifier.snapshots": 5,
            "maps": ("snapshots", 1)},
    "eps": {"classifier.head": "eps", "classifier.objectives": ("tags", "saliency"), "classifier.eps_tau": 0.4,
            "classifier.eps_lambda": 0.5, "seeds.refine": "eps"},
    "drs": {"classifier.head": "hidden", "classifier.hidden_layers": 3, "classifier.suppression": 0.55}}


@pytest.mark.parametrize("name", OF_THE_PAPER)
def test_a_row_is_its_papers_system(name):
    row = _flat(name)
    assert {key: row[key] for key in OF_THE_PAPER[name]} == OF_THE_PAPER[name]


def test_masks_of_some_images_teach_what_they_can():
    assert SYSTEMS["gain"].applied(presets.TINY, semi=True).classifier.objectives == ("tags", "mining", "mining_masks")
    assert {key for key in SYSTEMS if SYSTEMS[key].semi} == {"gain"}


def test_the_document_has_every_system_and_the_figures_of_the_table():
    """docs/systems.md: what a row learns from, its published figure where there is one, its files, when to take it."""
    root = pathlib.Path(__file__).parents[2]
    text = (root / "docs" / "systems.md").read_text()
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines()
            if line.startswith("| `") and "--system" not in line]
    named = [key for row in rows for key in re.findall(r"`([a-z_]+)`", row[0])]
    assert sorted(named) == sorted(SYSTEMS)
    for names, learned_from, _, published, files in rows:
        row = [SYSTEMS[key] for key in re.findall(r"`([a-z_]+)`", names)]
        assert {job.needs_saliency(each.applied(presets.TINY)) for each in row} == {learned_from == "saliency"}, names
        figures = [f"{each.published:.1f}{' *' * each.remembered}" for each in row if each.published is not None]
        other_network = "ResNet" in published  # the table's figures are VGG-16's
        assert ([] if other_network else re.findall(r"\d+\.\d(?: \*)?", published)) == figures, names
        for path in re.findall(r"`([a-z_/.]+)`", files):
            assert (root / "ficklenet_tf" / path).exists(), path
    paragraphs = text[text.index("## What each is"):text.index("**Not run.**")].split("\n\n")
    without = [each.split("**")[1] for each in paragraphs if each.startswith("**") and "Take" not in each.split()]
    assert not without, f"these do not say when to take them: {without}"


def test_what_a_preset_cannot_run_is_refused():
    refused = {preset: [name for name in SYSTEMS if SYSTEMS[name].refusal(presets.PRESETS[preset])]
               for preset in presets.PRESETS}
    assert refused == {"paper": [], "cpu": ["ae_psl"], "evening": ["ae_psl"], "tiny": []}
    assert [name for name in SYSTEMS if SYSTEMS[name].refusal(presets.TINY, semi=True)] == ["stc"]
    watched = dataclasses.replace(presets.TINY, classifier=dataclasses.replace(presets.TINY.classifier,
                                                                               early_stopping=10))
    for name in ("tpl", "ae_psl", "gain"):
        assert ("early_stopping looks at whole" in SYSTEMS[name].refusal(watched)) == (name != "gain")
    assert SYSTEMS["oaa"].refusal(watched).startswith("early_stopping: expected 0 beside 5 snapshots")
    again = dataclasses.replace(presets.TINY, segmenter=dataclasses.replace(presets.TINY.segmenter, retrain_steps=9))
    assert [name for name in SYSTEMS if SYSTEMS[name].refusal(again)] == ["stc"]


def test_what_is_refused_depends_on_the_flags_too(monkeypatch):
    frozen = dataclasses.replace(presets.TINY, classifier=dataclasses.replace(presets.TINY.classifier,
                                                                              trainable_layers="head"))
    monkeypatch.setattr(cli, "FLAGS", types.SimpleNamespace(systems=["ae_psl", "ficklenet"]))
    monkeypatch.setattr(cli, "preset", lambda trains: presets.TINY)
    assert cli.systems.__wrapped__() == ["ae_psl", "ficklenet"]
    monkeypatch.setattr(cli, "preset", lambda trains: frozen)
    with pytest.raises(ValueError, match="systems: ae_psl: it erases pixels"):
        cli.systems.__wrapped__()


def test_a_published_figure_that_was_not_read_again_has_a_star():
    assert [SYSTEMS[key].figure() for key in ("ficklenet", "mdc", "drs")] == [61.2, "60.4 *", None]
    assert [SYSTEMS[key].figure(semi=True) for key in ("ficklenet", "em_fixed", "em_adapt")] == [65.8, "64.6 *", None]


def test_all_systems_differ():
    for one, other in itertools.combinations(SYSTEMS, 2):
        assert _flat(one) != _flat(other), (one, other)


@pytest.fixture(scope="module")
def photographs(tmp_path_factory, drawings_dir):
    """(split, held-out split, saliency maps: the truth), of a few drawings."""
    root = tmp_path_factory.mktemp("systems")
    split, held_out = (datasets.load_split("shapes", name, cache_dir=drawings_dir, max_images=count)
                       for name, count in (("train", 16), ("val", 3)))
    for example in (split[i] for i in range(len(split))):
        truth = labels.decode_label(example["label"])
        images.write_grey(root / "saliency" / f"{example['image_id']}.png",
                          ((truth > 0) & (truth != labels.IGNORE)).astype(np.float32))
    return split, held_out, root / "saliency"


def _job(run_dir, photographs, name, semi=False):
    split, held_out, saliency_dir = photographs
    system, tiny, change = SYSTEMS[name], presets.TINY, dataclasses.replace
    preset = system.applied(change(
        tiny, classifier=change(tiny.classifier, input_size=33, hidden=8, batch_size=4, epochs=0, steps=6),
        maps=change(tiny.maps, sizes=(33,), num_maps=5), affinity=change(tiny.affinity, batch_size=4, steps=3),
        segmenter=change(tiny.segmenter, steps=4, batch_size=4, channels=8, test_sizes=(33,))), semi)
    return job.Job(run_dir, split, held_out, preset, system, strong=split.select(range(6)) if semi else None,
                   saliency_dir=saliency_dir, training=loop.Options(save_every=2))


@pytest.mark.trains
@pytest.mark.parametrize("name", [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow)
                                  for name in SYSTEMS])
def test_a_system_from_photographs_to_masks(name, photographs, tmp_path):
    work = _job(tmp_path, photographs, name)
    rehearsed.rehearse(work)
    assert not list(tmp_path.glob(".rehearsal*")) and not (tmp_path / "classifier").exists()
    work.localize()
    if work.needs_seeds:
        assert work.make_seeds()["images"] == 16
    else:
        assert not (tmp_path / "maps").exists()
    stage = work.train_segmenter()
    run = artifacts.read_json(tmp_path / stage / layout.RUN)
    assert np.isfinite(run["metrics"]["loss"]) and (tmp_path / stage / layout.WEIGHTS).exists()
    if work.needs_seeds:
        seen = {int(label) for path in (tmp_path / work.names.seeds).glob("*.png")
                for label in np.unique(labels.read_label(path, len(photographs[0].class_names)))}
        assert len(seen - {labels.IGNORE}) > 2, seen  # seeds of several classes, not background alone


@pytest.mark.trains
@pytest.mark.parametrize("name", [pytest.param("em_fixed", marks=pytest.mark.slow), "gain"])
def test_a_system_with_some_masks(name, photographs, tmp_path):
    work = _job(tmp_path, photographs, name, semi=True)
    work.localize()
    if work.needs_seeds:
        work.make_seeds()
    run = artifacts.read_json(tmp_path / work.train_segmenter() / layout.RUN)
    assert run["metrics"]["strong_loss"] > 0 and run["strong"]["images"] == 6
    if name == "gain":  # GAIN_ext: the classifier's maps learn the masks, too
        trained = artifacts.read_json(tmp_path / work.names.classifier / layout.RUN)
        assert "mining_masks" in trained["config"]["objectives"] and trained["strong"]["images"] == 6


def test_what_systems_share_is_of_equal_settings(photographs, tmp_path):
    """Seeds by theta take the classifier and maps of those by the CRF; the maps of other rounds are nobody else's.

    What is made later changes no names: the first classifier of "ae_psl" has the settings of "deterministic"'s.
    """
    names = {}
    for key in ("tpl", "oaa", "deterministic", "deterministic_theta", "em_adapt", "ae_psl"):
        work = shared.named(_job(tmp_path, photographs, key), key, presets.TINY.classifier)
        if work.needs_seeds:
            work.localize()
        names[key] = work.names
    plain = names["deterministic"]
    assert names["deterministic_theta"].classifier == plain.classifier and plain.maps == f"maps_of_{plain.classifier}"
    assert names["deterministic_theta"].maps == plain.maps and names["em_adapt"].classifier == layout.CLASSIFIER
    assert len({each.maps for each in names.values()}) == 5 and len({each.seeds for each in names.values()}) == 6
    again = {key: shared.named(_job(tmp_path, photographs, key), key, presets.TINY.classifier).names for key in names}
    assert again == names


def test_seeds_that_are_there_are_not_taken_for_those_of_other_settings(photographs, tmp_path):
    work = dataclasses.replace(_job(tmp_path, photographs, "deterministic_theta"), names=job.Names())
    shared.make(work)
    assert shared.make(work).seeds["config"]["theta"] == work.preset.seeds.theta  # finished: nothing is refused
    with pytest.raises(ValueError, match=r"begun with other settings \(config.theta: 0.35 -> 0.2\)"):
        shared.make(work, lambda *_: dataclasses.replace(work.preset.seeds, theta=0.2))
