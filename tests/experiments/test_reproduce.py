"""Tables and figures of the paper: scoring against slow plain counting, verdicts by hand, and each one made once."""

import csv
import dataclasses
import json
import pathlib
import subprocess
import sys
import types

import numpy as np
import pytest

from ficklenet_tf import crf, presets
from ficklenet_tf.data import datasets, images
from ficklenet_tf.data.feature_cache import FeatureCache
from ficklenet_tf.errors import UserError
from ficklenet_tf.evaluation import metrics, prediction, scoring
from ficklenet_tf.experiments import (
    claims,
    drawing,
    figures,
    map_scores,
    map_tables,
    mask_tables,
    paper,
    plan,
    studies,
    table_settings,
    tables,
)
from ficklenet_tf.maps.image_maps import ImageMaps
from ficklenet_tf.runs import artifacts
from ficklenet_tf.training import loop
from tools import reproduction
from tools.benchmarks import head_table

ROOT = pathlib.Path(__file__).parents[2]
RATES = (("D", 0.0), ("S", 0.9))


def test_thresholds_in_one_pass_count_what_each_one_counts():
    rng = np.random.default_rng(0)
    mean = rng.random((5, 6, 2)).astype(np.float32) ** 2
    target = rng.choice([0, 1, 2, 3, 255], (21, 17)).astype(np.uint8)
    limits = (0.1, 0.4, 0.9, 1.5)
    matrices = map_scores.threshold_confusions(mean, np.array([2, 0]), target, 4, limits)
    resized = images.resize_maps(mean, target.shape)
    for threshold, matrix in zip(limits, matrices, strict=True):
        predicted = np.zeros_like(target)
        for (row, column), _ in np.ndenumerate(target):
            strongest = resized[row, column].argmax()
            if resized[row, column, strongest] > np.float32(threshold):
                predicted[row, column] = (3, 1)[strongest]
        np.testing.assert_array_equal(matrix, metrics.confusion(target, predicted, 4))
    assert matrices[0, :, 1].sum() and matrices[-1, :, 1:].sum() == 0


def test_the_number_that_is_chosen_has_its_name():
    named = {refine: map_tables._number(refine) for refine in ("crf", "none", "saliency", "eps")}
    assert named == {"crf": ("background score", "refine_low"), "none": ("theta", "theta"),
                     "saliency": ("saliency threshold", "saliency_threshold"),
                     "eps": ("eps background", "eps_background")}


def test_an_image_without_tags_is_background_everywhere():
    target = np.array([[0, 1, 255]], np.uint8)
    no_maps, no_tags = np.zeros((1, 1, 0), np.float32), np.array([], int)
    matrices = map_scores.threshold_confusions(no_maps, no_tags, target, 2, (0.1, 0.2))
    np.testing.assert_array_equal(matrices, [[[1, 0, 0], [1, 0, 0]]] * 2)


def test_several_draws_join_to_one():
    all_samples = np.random.default_rng(1).random((7, 3, 4, 2)).astype(np.float32)

    def maps_of(samples):
        return ImageMaps(np.array([0, 5]), samples.mean(0), samples.max(0), samples.std(0), samples[:1], len(samples),
                         (6, 8))

    joined = map_scores.aggregate([maps_of(all_samples[:1]), maps_of(all_samples[1:5]), maps_of(all_samples[5:])])
    for field in ("mean", "max", "std", "num_maps", "tag_ids"):
        np.testing.assert_allclose(getattr(joined, field), getattr(maps_of(all_samples), field), atol=1e-6)


def test_a_table_is_written_three_times(tmp_path):
    table = tables.Table("t", "Title", ({"system": "a, b", "mIoU": claims.Measured((0.5, 0.6)), "paper": 61.2},
                                       {"system": "c", "mIoU": claims.Measured((0.25,)), "paper": None}))
    text = tables.write(table, tmp_path)
    assert "| a, b | 55.0 ± 7.1 | 61.2 |\n| c | 25.0 | – |" in text and (tmp_path / "t.md").read_text() == text
    rows = list(csv.DictReader((tmp_path / "t.csv").open()))
    assert (rows[0]["system"], rows[0]["mIoU"][:4], rows[1]["mIoU deviation"]) == ("a, b", "55.0", "")
    stored = json.loads((tmp_path / "t.json").read_text())
    assert stored["rows"][0]["mIoU"]["values"] == [50.0, 60.0] and stored["rows"][1]["mIoU"]["deviation"] is None


def test_a_curve_stands_where_its_numbers_are():
    pixels = drawing.curve((1, 10, 100), (40.0, 50.0, 60.0), (0.0, 5.0, 0.0), across="N", up="mIoU")
    rows, columns = np.nonzero((pixels == (42, 120, 214)).all(-1))
    assert columns.min() < 80 and columns.max() > 690
    assert rows[columns < 72].mean() > rows[(columns > 380) & (columns < 390)].mean() > rows[columns > 698].mean()


def test_a_kernel_shows_its_centre_and_as_many_units_as_were_kept():
    pixels = drawing.kernels(7, 0.5, 3, cell=4)
    assert (pixels == (200, 60, 40)).all(-1).sum() == 3 * 9
    kept = (pixels == (42, 120, 214)).all(-1).sum() / 9
    assert kept + (pixels == (205, 222, 245)).all(-1).sum() / 9 == 3 * 48 and 45 < kept < 100


def test_maps_are_scored_at_the_threshold_of_the_highest_mean():
    """Of two seeds the first one's best is the third threshold, the other one's the last; of both it is the fifth."""
    curves = np.zeros((2, 15))
    curves[0, [2, 4]], curves[1, [4, 14]] = (0.5, 0.45), (0.45, 0.5)
    runs = [{"maps": [{"miou": list(curve), "recall": list(curve / 2), "precision": list(curve / 4)}]}
            for curve in curves]
    threshold, measures = map_tables.best(runs)
    assert threshold == map_scores.THRESHOLDS[4] and measures["miou"].values == (0.45, 0.45)
    assert measures["recall"].values == (0.225, 0.225) and measures["precision"].values == (0.1125, 0.1125)


def test_each_side_has_its_own_best_rule():
    by_crf = map_scores.rules(presets.SeedsConfig(refine="crf", refine_low=0.02, theta=0.4))
    assert [(rule.refine_low, rule.refine_high, rule.theta) for rule in by_crf] == [
        (score, score, 0.4) for score in map_scores.BACKGROUND_SCORES]
    assert [rule.theta for rule in map_scores.rules(presets.SeedsConfig())] == list(map_scores.THETAS)
    assert [rule.saliency_threshold for rule in map_scores.rules(presets.SeedsConfig(refine="saliency"))] == [
        0.02, 0.05, 0.1, 0.2, 0.3, 0.5]
    low, high = by_crf[1], by_crf[5]
    runs = [{"maps": [{key: [0.1] * 15 for key in map_scores.KEYS}], "rules": [vars(rule) for rule in by_crf],
             "seeds": {key: [float(rule == best) for rule in by_crf] for key in map_scores.KEYS}}
            for best in (low, high, low)]
    cells = map_tables.scores(runs)
    assert cells["seeds: mIoU"].values == (1, 1, 1) and cells["background score"] == "0.001, 0.02"


def test_seeds_are_made_by_the_best_rule_of_their_classifier(small_plan, monkeypatch):
    scores = small_plan.maps("S")
    assert len(scores["seeds"]["miou"]) == len(scores["rules"]) == len(map_scores.THETAS)
    assert len(set(scores["seeds"]["recall"])) > 3  # another theta, other seeds
    monkeypatch.setattr(map_scores, "best_rule", lambda run: 5)
    name = small_plan.seed_images("S", max_uncertainty=0.9)
    config = artifacts.read_json(small_plan.run_dir / name / "settings.json")["config"]
    assert (config["theta"], config["max_uncertainty"]) == (map_scores.THETAS[5], 0.9)


@pytest.fixture(scope="module")
def small_plan(tmp_path_factory, drawings_dir):
    """A plan so small that every table and figure is made in seconds; all tests share its stages."""
    root = tmp_path_factory.mktemp("reproduce")
    split, held_out = (datasets.load_split("shapes", name, cache_dir=drawings_dir, max_images=count)
                       for name, count in (("train", 8), ("val", 4)))
    tiny = presets.TINY
    replace = dataclasses.replace
    preset = replace(
        tiny, classifier=replace(tiny.classifier, input_size=33, epochs=2, batch_size=4),
        maps=replace(tiny.maps, sizes=(33,), num_maps=10), seeds=replace(tiny.seeds, refine="none"),
        segmenter=replace(tiny.segmenter, steps=2, batch_size=4, channels=8, test_sizes=(33,)))
    return plan.Plan(root / "run", split, held_out, preset, random_seeds=(0,), map_images=4,
                     strong=split.select((0, 3)), spec=None, options=loop.Options(save_every=2))


def _check(table, small_plan, rows):
    text = tables.write(table, small_plan.run_dir / "tables")
    assert len(table.rows) == rows and text.count("\n|") == rows + 2
    assert all(str(cell) in text for row in table.rows for cell in row.values() if isinstance(cell, claims.Measured))
    return table


def test_the_map_is_of_the_held_out_photographs_at_hand(small_plan):
    """Of a classifier that is there, too: Table 5 trains none then."""
    first = small_plan.average_precision("S")
    other = dataclasses.replace(small_plan, held_out=small_plan.held_out.select((0, 1)))
    assert other.average_precision("S") != first
    run = artifacts.read_run(small_plan.run_dir / small_plan.classifier("S"))
    assert run["held_out_fingerprint"] == other.held_out.fingerprint
    assert small_plan.average_precision("S") == pytest.approx(first)


def test_table_5_and_how_stages_are_shared(small_plan, monkeypatch):
    table = _check(map_tables.table5(small_plan, rates=RATES), small_plan, 2)
    assert all(0 < row[key].mean < 100 for row in table.rows for key in ("maps: mIoU", "seeds: mIoU", "tags: mAP"))
    judged = claims.judge(table.claims)
    assert len(judged) == 2 and all(each.verdict.startswith("direction") for each in judged)  # one seed
    assert sorted(p.name for p in small_plan.run_dir.glob("classifier*")) == ["classifier", "classifier_D_seed0"]
    monkeypatch.setattr(plan.classifier_training, "train", None)  # from here on nothing is trained again
    assert map_tables.table5(small_plan, rates=RATES).rows == table.rows
    beside = dataclasses.replace(small_plan, saliency_dir="of other rows")
    assert map_tables.table5(beside, rates=RATES).rows == table.rows
    (small_plan.run_dir / "classifier").rename(small_plan.run_dir / "another name")
    assert small_plan.classifier("S") == "another name"
    (small_plan.run_dir / "another name").rename(small_plan.run_dir / "classifier")
    for changes in ({"rate": 0.4}, {"seed": 1}, {"rescale": True}):
        with pytest.raises(TypeError):
            small_plan.classifier("S", **changes)


def test_maps_by_as_many_selections_as_it_takes(small_plan):
    config = dataclasses.replace(small_plan.preset.maps, num_maps="auto", auto_most=40)
    preset = dataclasses.replace(small_plan.preset, maps=config)
    scores = dataclasses.replace(small_plan, preset=preset).maps("S")
    assert scores["counts"] == ["auto"] and 0 < max(scores["maps"][0]["miou"]) < 1


def test_table_4_at_the_smallest_size(small_plan, monkeypatch):
    # In place of a process for each form: the benchmark's own tests have those.
    peaks = {"naive": 20.0, "expanded": 30.0, "contracted": 1.0}
    monkeypatch.setattr(head_table.measure, "peak_memory", lambda _, arguments: {"peak_mib": peaks[arguments["form"]]})
    table = _check(head_table.table4("tiny", rounds=2), small_plan, 3)
    assert [row["paper: s per iteration"] for row in table.rows] == [20.0, 1.3, None] and len(table.claims) == 6
    assert all(row["s per training image"].mean > 0 for row in table.rows)
    assert [each.verdict for each in claims.judge(table.claims)[-2:]] == ["direction: agrees"] * 2


def test_table_7_uses_each_classifier_in_three_ways(small_plan):
    table = _check(map_tables.table7(small_plan), small_plan, 9)
    assert [row["training"] + row["inference"] for row in table.rows if row["in the paper"] == "yes"] == [
        "GG", "GS", "GD", "SS", "SD", "DD"]
    assert len({row["maps: mIoU"].values for row in table.rows}) > 5


def test_the_deviations_of_table_6_by_hand(small_plan, monkeypatch):
    """Two numbers of maps, three repeats: mIoU 40, 42, 44 of ten, 41, 42, 43 of thirty; the paper's unit is 1/1000."""
    values = {0: (0.40, 0.42, 0.44), 1: (0.41, 0.42, 0.43)}
    monkeypatch.setattr(map_tables, "COUNTS", (10, 30))
    monkeypatch.setattr(plan.Plan, "repeated_maps", lambda self, counts, repeats: "runs")
    monkeypatch.setattr(map_tables, "best", lambda runs, position: (
        0.2, {key: claims.Measured(values[position]) for key in ("miou", "recall", "precision")}))
    table = map_tables.table6(small_plan, repeats=3)
    assert [row["mIoU, deviation x 1000"].mean for row in table.rows] == pytest.approx([20.0, 10.0])
    assert [row["mIoU"].mean for row in table.rows] == pytest.approx([42.0, 42.0])
    claim, = table.claims
    assert "greater for N = 10 than for N = 30" in claim.text and claim.spread
    assert (claim.greater.values, claim.less.values) == (values[0], values[1])


def test_the_claims_of_maps_are_of_every_column_in_their_order():
    rows = [{"maps: mIoU": claims.Measured((high,)), "threshold": 0.1, "val mIoU with CRF": claims.Measured((low,))}
            for high, low in ((0.4, 0.7), (0.3, 0.6))]
    made = map_tables._claims({"a above b": tuple(rows)})
    assert [(claim.text, claim.greater.values, claim.less.values) for claim in made] == [
        ("a above b, maps, mIoU", (0.4,), (0.3,)), ("a above b, val mIoU with CRF", (0.7,), (0.6,))]


def test_table_6_and_figure_5_share_their_maps(small_plan, monkeypatch):
    monkeypatch.setattr(map_tables, "COUNTS", (1, 10, 40))
    table = _check(map_tables.table6(small_plan, repeats=2), small_plan, 3)
    assert table.rows[1]["paper: mIoU, deviation x 1000"] == 21.0
    pixels = figures.figure5(small_plan, repeats=2)
    assert (pixels == (42, 120, 214)).all(-1).sum() > 300


def test_tables_1_2_and_3_and_figure_4(small_plan):
    table = _check(mask_tables.weak(small_plan, ("dsrg", "deterministic_theta")), small_plan, 2 + len(paper.OTHERS1))
    assert "small stands in for the paper's vgg16" in table.title and len(table.claims) == 1
    assert table.rows[0]["seeds: ms per image"].mean > 0
    seeds = artifacts.read_json(small_plan.run_dir / "seeds_dsrg_seed0" / "run.json")["metrics"]["miou"]
    assert table.rows[0]["seeds: mIoU on train"].values == (seeds,)
    assert mask_tables.seeds_of([{"seeds": None}]) == {"seeds: mIoU on train": None}  # it learns from tags alone
    aspp = dataclasses.replace(small_plan.preset.segmenter, head="aspp")
    residual = dataclasses.replace(small_plan, preset=dataclasses.replace(small_plan.preset, segmenter=aspp))
    table = _check(mask_tables.weak(residual, ("ficklenet",), "table2"), small_plan, 1 + len(paper.OTHERS2))
    assert "aspp" in table.title
    table = _check(mask_tables.supervised(small_plan, ("ficklenet",)), small_plan, 4)
    images = [(row["images with masks"], row["images with tags"]) for row in table.rows]
    assert images == [(2, 0), (0, 8), (2, 6), (8, 0)]
    run = artifacts.read_json(small_plan.run_dir / "evaluation" / "predictions_largefov_full_seed0.json")
    assert table.rows[3]["val mIoU"].values == (run["miou"],) and run["images"] == 4
    stage, name = "segmenter_largefov_full_seed0", "predictions_largefov_full_seed0"
    options, of = prediction.Options(crf.SEC_TRAIN, sizes=(33,), flip=False), {"stage_name": stage, "name": name}
    scores = scoring.evaluate(small_plan.run_dir, small_plan.held_out, options, **of)
    assert scoring.finished(small_plan.run_dir, small_plan.held_out, options, **of) == artifacts.as_json(scores)
    (small_plan.run_dir / name / "run.json").unlink()
    with pytest.raises(RuntimeError), pytest.MonkeyPatch.context() as patch:
        patch.setattr(scoring, "score_directory", lambda *_: (_ for _ in ()).throw(RuntimeError))
        scoring.evaluate(small_plan.run_dir, small_plan.held_out, options, **of)  # killed before it scores
    assert scoring.finished(small_plan.run_dir, small_plan.held_out, options, **of) is None
    assert scoring.evaluate(small_plan.run_dir, small_plan.held_out, options, **of) == scores
    for change in ({"spec": crf.DSRG_TEST}, {"sizes": (41,)}, {"flip": True}, {"backend": "pydensecrf"}):
        other = dataclasses.replace(options, **change)
        assert scoring.finished(small_plan.run_dir, small_plan.held_out, other, **of) is None
    assert figures.figure4(small_plan, rows=2).shape[1] > 5 * figures.SIDE


def test_costs_are_means_over_the_seeds_of_which_they_were_measured():
    cost = {"seconds": 6.0, "processor_seconds": 240.0, "peak_mib": 900}
    runs = [{"cost": cost, "cost of seeds": None}, {"cost": None, "cost of seeds": None},
            {"cost": {**cost, "processor_seconds": 300.0, "peak_mib": 0}, "cost of seeds": cost}]
    cells = mask_tables.costs_of(types.SimpleNamespace(split=range(20)), runs)
    assert {name: str(cell) for name, cell in cells.items()} == {
        "processor min": "4.5 ± 0.7", "MiB": "900", "seeds: ms per image": "300"}
    assert set(mask_tables.costs_of(None, runs[1:2]).values()) == {None}


def test_a_systems_seeds_are_made_by_the_number_that_suits_its_maps(small_plan, monkeypatch):
    """The scores of maps from the disk are those of maps in memory, and the best of them is taken."""
    in_memory = small_plan.maps("D", refine="crf")["seeds"]
    monkeypatch.setattr(map_scores, "best_rule", lambda run: 2)
    scored = small_plan.system("deterministic")
    names = small_plan.job("deterministic").names
    choice = artifacts.read_json(small_plan.run_dir / "map_scores" / names.seeds / "run.json")
    assert choice["seeds"] == in_memory and choice["images"] == 4
    config = artifacts.read_json(small_plan.run_dir / names.seeds / "settings.json")["config"]
    assert config["refine_low"] == config["refine_high"] == map_scores.BACKGROUND_SCORES[2]
    assert scored["seeds"]["miou"] == artifacts.read_json(small_plan.run_dir / names.seeds / "run.json")[
        "metrics"]["miou"]


def test_figures_1_3_and_6(small_plan):
    assert figures.figure1(small_plan, rows=2, single=2).shape[0] > 2 * figures.SIDE
    assert figures.figure3(small_plan).shape[0] > 200
    pixels = figures.figure6(small_plan, rows=1, rates=RATES)
    assert pixels.shape[1] == 6 + 5 * (figures.SIDE + 6)


def test_the_study_of_rescaling(small_plan):
    table = _check(map_tables.rescaling(small_plan, rates=RATES), small_plan, 2)
    assert table.rows[0]["survivors"] == "as they are" and table.rows[0]["maps: mIoU"] != table.rows[1]["maps: mIoU"]


def test_the_studies_of_convergence_and_uncertainty(small_plan, monkeypatch):
    monkeypatch.setattr(studies, "COUNTS", (10, 40))
    table = _check(studies.convergence(small_plan, count=2, large=400), small_plan, 5)
    few, many, auto, limit, normal = table.rows
    assert few["mean map, difference"].mean > many["mean map, difference"].mean > 0
    assert auto["maps"].mean > 10 and limit["maps"] is None and normal["maximum map, difference"] is None
    views = dataclasses.replace(small_plan.preset.maps, sizes=(33, 41), flip_views=True)
    many_views = dataclasses.replace(small_plan, preset=dataclasses.replace(small_plan.preset, maps=views))
    assert studies.convergence(many_views, count=2, large=400).rows == table.rows, "the closed forms are of one view"
    table = _check(studies.uncertainty(small_plan, (1.0, 0.4)), small_plan, 2)
    assert table.rows[0]["pixels with a seed"].mean > table.rows[1]["pixels with a seed"].mean


def test_settings_are_those_that_all_systems_have(small_plan, tmp_path):
    """Parts of systems with saliency and of those without are one table; parts of other photographs are not."""
    settings = table_settings.of(small_plan)
    assert table_settings.of(dataclasses.replace(small_plan, saliency_dir=tmp_path, random_seeds=(3,))) == settings
    segmenter = dataclasses.replace(small_plan.preset.segmenter, learning_rate=0.5)
    other = dataclasses.replace(small_plan, preset=dataclasses.replace(small_plan.preset, segmenter=segmenter))
    for changed in (other, dataclasses.replace(small_plan, strong=small_plan.split.select((0, 1))),
                    dataclasses.replace(small_plan, weights="other/vgg16.npz")):
        assert table_settings.of(changed) != settings
    here, there = (dataclasses.replace(small_plan, weights=f"{place}/a.npz") for place in ("here", "there"))
    assert table_settings.of(here) == table_settings.of(there)  # machines have them in other places


def test_images_without_a_mask_are_not_counted_as_strong(small_plan, monkeypatch):
    """Of three strong images two have a mask, which are all that there are: "masks of all" would be these again."""
    split = dataclasses.replace(small_plan.split, labelled=tuple(i in (0, 3) for i in range(8)))
    some = dataclasses.replace(small_plan, split=split, strong=split.select((0, 1, 3)))
    for name in ("masks", "system"):
        monkeypatch.setattr(plan.Plan, name, lambda *_, **__: {"mIoU": 0.5})
    table = mask_tables.supervised(some, ("ficklenet",))
    assert [(row["images with masks"], row["images with tags"]) for row in table.rows] == [(2, 0), (0, 8), (2, 6)]
    assert len(table.claims) == 3 and not any(claim.text.startswith("full") for claim in table.claims)


def test_a_system_that_cannot_be_scored_is_not_trained(small_plan, tmp_path):
    held_out = dataclasses.replace(small_plan.held_out, has_labels=False)
    with pytest.raises(ValueError, match="shapes val: expected masks to score segmenters against, found none"):
        dataclasses.replace(small_plan, run_dir=tmp_path, held_out=held_out).system("ficklenet")
    assert not list(tmp_path.iterdir())


def test_tags_from_cached_features_are_those_from_photographs(small_plan, tmp_path):
    from ficklenet_tf.models import classifier
    from ficklenet_tf.training import classifier as classifier_training
    config = dataclasses.replace(small_plan.preset.classifier, trainable_layers="head", epochs=1, photometric=0.0)
    run = classifier_training.train(tmp_path / "classifier", small_plan.split, small_plan.held_out, config,
                                    classifier_training.Options("random"))
    model, normalization, _, _ = classifier.load(tmp_path / "classifier")
    held_out, features = small_plan.held_out, FeatureCache.of_run(run)
    from_cache = classifier_training.predictor(model.head, normalization, 33, features=features)(held_out)
    from_photographs = classifier_training.predictor(model, normalization, 33)(held_out)
    assert from_photographs.std() > 0
    np.testing.assert_allclose(from_cache, from_photographs, atol=2e-2 * from_photographs.std())


def test_the_binary_names_what_it_can_make(tmp_path, drawings_dir):
    command = [sys.executable, "-m", "tools.reproduce", f"--output_dir={tmp_path}", "--dataset=shapes",
               f"--cache_dir={drawings_dir}", "--max_images=4"]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    rows = ["--table=1", "--systems=ficklenet,deterministic_theta"]
    flags = (["--figure=3"], ["--table=9"], [*rows, "--seed=3"], [*rows, "--seeds.refine=crf"],
             ["--figure=4", "--seeds.refine_high=0.2"], ["--table=3"], ["--study=uncertainty", "--limits=1,0.4"])
    processes = [subprocess.Popen([*command, *more], cwd=ROOT, **pipes) for more in flags]
    (output, _), *refused = (process.communicate(timeout=300) for process in processes)
    assert [process.returncode for process in processes] == [0, *[1] * 6] and "figure3.png" in output
    for (_, errors), expected in zip(refused, (
            "error: table: expected 1, 2, 3, 4, 5, 6, 7, found '9'",
            "error: seed: expected none, the tables are over --random_seeds from --first_random_seed on",
            "error: seeds.refine: expected none with a table of systems, of which deterministic_theta has none "
            "itself, found crf",
            "error: seeds.refine_high: expected none, as for ficklenet it is chosen by masks of training images, "
            "found 0.2",
            "error: supervision semi: expected images in shapes train that are not among the strong ones (train), "
            "found none",
            "expected numbers from 0 to below 1, which the first row has"), strict=True):
        assert expected in errors
    assert [path.name for path in tmp_path.iterdir()] == ["figures"]


class _Flags(types.SimpleNamespace):
    """Flags whose `given` stand on the command line."""

    def __getitem__(self, name):
        return types.SimpleNamespace(value=self.given.get(name), present=name in self.given)


@pytest.mark.parametrize("wanted, given, message", [
    (("study", "uncertainty"), {"seeds.max_uncertainty": 0.3}, "with the study of it, whose rows have --limits"),
    (("study", "uncertainty"), {"seeds.refine_low": 0.005}, "seeds.refine_low: .* as for ficklenet it is chosen"),
    (("table", "5"), {"seeds.refine_low": 0.005}, "seeds.refine_low: .* as for the preset's rule of seeds it is"),
    (("study", "rescale"), {"seeds.refine_high": 0.2}, "seeds.refine_high: .* as for the preset's rule of seeds"),
    (("table", "3"), {"table3_images": 2}, "table3_images: .* found it beside train, see --strong_split")], ids=str)
def test_a_flag_that_a_row_would_not_heed_is_refused(monkeypatch, wanted, given, message):
    monkeypatch.setattr(reproduction.cli, "systems", lambda: ["ficklenet"])
    monkeypatch.setattr(reproduction.cli, "FLAGS", _Flags(given=given, dataset="shapes", strong_split="train"))
    with pytest.raises(UserError, match=message):
        reproduction._check_flags(presets.TINY, [wanted])
    monkeypatch.setattr(reproduction.cli, "FLAGS", _Flags(given={}, dataset="shapes", strong_split=None))
    reproduction._check_flags(presets.TINY, [wanted])


def test_weights_of_a_backbone_that_the_other_tables_have_are_refused(small_plan, monkeypatch):
    monkeypatch.setattr(reproduction.cli, "FLAGS", _Flags(table2_backbone=None, table2_weights="a.npz"))
    with pytest.raises(UserError, match="table2_weights: expected none, as Table 2 .* backbone small and --weights"):
        reproduction._residual(small_plan)
    monkeypatch.setattr(reproduction.cli, "FLAGS", _Flags(table2_backbone="resnet50", table2_weights="a.npz"))
    assert reproduction._residual(small_plan).weights == "a.npz"


def test_the_gradient_cue_is_scored_too_and_a_wrong_word_is_refused_at_once(small_plan, tmp_path):
    def scores(**changes):
        seeds = presets.dataclasses.replace(small_plan.preset.seeds, **changes)
        preset = presets.dataclasses.replace(small_plan.preset, seeds=seeds)
        return presets.dataclasses.replace(small_plan, preset=preset, run_dir=tmp_path).maps("D")

    run = scores(background_cue="gradient", background_threshold=0.3, theta=0.31)
    assert run["config"]["gradient"] == "features" and 0 <= max(run["seeds"]["miou"]) <= 1


@pytest.mark.parametrize("changes", [{"refine": "affinity"}, {"refine": "crf", "refine_low": "auto"}], ids=str)
def test_seeds_that_need_more_than_one_image_are_refused(small_plan, changes):
    preset = dataclasses.replace(small_plan.preset, seeds=dataclasses.replace(small_plan.preset.seeds, **changes))
    with pytest.raises(ValueError, match="seeds: expected a refinement that depends on one image alone"):
        dataclasses.replace(small_plan, preset=preset)
