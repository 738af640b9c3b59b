"""The page of several systems: what it recommends, how sure it says it is, and that it shows what is there."""

import numpy as np
import pytest

from ficklenet_tf.data import labels
from ficklenet_tf.evaluation import agreement
from ficklenet_tf.report import comparison
from tests.report import pages

KEYS = ("sec", "dsrg", "em <adapt>")


def _verdict(leading, names=KEYS, values=(0.61, 0.7342, 0.5), low=0.01, photographs=40, voters=None):
    best = max(values)
    return agreement.Verdict(names, values, tuple((value - 0.1, value + 0.1) for value in values),
                             tuple((best - value, low if value < best else 0.0, best - value + 0.2)
                                   for value in values), leading, photographs, voters or len(names))


@pytest.fixture
def run_dir(tmp_path):
    """Masks of four held-out images by three systems, seeds of five training images by two."""
    rng, run = np.random.default_rng(0), tmp_path / "run"
    for place in range(3):
        for i in range(4):
            labels.write_label(run / f"predictions_{place}" / f"val_{i}.png", rng.integers(0, 3, (20, 30)))
        for i in range(5 if place < 2 else 0):
            labels.write_label(run / f"seeds_{place}" / f"train_{i}.png", rng.integers(0, 3, (20, 30)))
    return run


def _entries(mious=(0.4, 0.5, 0.3)):
    return [comparison.Entry(key, f"what {key} is", "tags", f"predictions_{i}", f"seeds_{i}" if i < 2 else None,
                             "maps" if i < 2 else None,
                             f"python -m tools.run_pipeline --system={i}", 130.0 if i < 2 else None,
                             12.4 if i < 2 else None, mious[i]) for i, key in enumerate(KEYS)]


def _page(run_dir, verdict, entries, labelled=True):
    path = comparison.write_page(run_dir, entries, verdict, train_split=pages.split("train", 5),
                                 val_split=pages.split("val", 4, labelled=labelled), title="Mine & <others>", rows=3,
                                 crf="dsrg")
    assert path == run_dir / "comparison.html"
    text = path.read_text()
    return text, pages.Page(text)


def test_a_decision_names_the_best_and_how_far_the_next_is():
    assert comparison.recommendation(_verdict(("dsrg",))) == (
        "Take dsrg, as far as agreement tells: on 40 held-out photographs its masks agree best with what the other "
        "systems say, 73.4 %; sec, the next, is 12.4 behind (interval 1.0 to 32.4, 95 % for all pairs "
        "together).")


def test_without_a_decision_all_that_may_be_best_are_named():
    said = comparison.recommendation(_verdict(("dsrg", "sec"), low=-0.01), "drawing")
    assert said.startswith("Undecided between dsrg and sec: on 40 held-out drawings ") and "adapt" not in said
    many = tuple("abcdefghi")
    said = comparison.recommendation(_verdict(many, many, tuple(np.linspace(0.9, 0.1, 9)), -0.1))
    assert said.startswith("Undecided between a, b, c, d, e, f and 3 more: ")


def test_two_systems_are_not_decided():
    said = comparison.recommendation(_verdict(("a", "b"), ("a", "b"), (0.9, 0.1)))
    assert said.startswith("Undecided between a and b: ") and "name a third with --systems" in said
    assert comparison.recommendation(_verdict(KEYS, voters=2)).endswith("name a third with --systems.")


def test_a_few_photographs_do_not_decide():
    assert comparison.recommendation(_verdict(KEYS, photographs=9)) == (
        "Undecided between sec, dsrg and em <adapt>: 9 held-out photographs are too few to tell; hold out 10 or more.")


def test_the_page_has_all_systems_the_best_first(run_dir):
    text, page = _page(run_dir, _verdict(("dsrg",)), _entries())
    assert page.ids == ["headline", "systems", "masks", "seeds", "commands"]
    assert "Take dsrg, as far as agreement tells: on 40 held-out drawings" in page.text
    systems = pages.section(text, "systems")
    assert systems.index("what dsrg") < systems.index("what sec") < systems.index("what em &lt;adapt&gt;")
    for shown in ("73.4", "63.4 to 83.4", "12.4", "1.0 to 32.4", "50.0", "2 min"):
        assert shown in systems
    assert "The seeds of dsrg and sec are made of the same maps: they do not vote on each other." in page.text
    assert "rank correlation of 1.00" in page.text  # 61, 73, 50 % and 40, 50, 30 %
    assert pages.commands(text) == [f"python -m tools.run_pipeline --system={i}" for i in (1, 0, 2)]
    assert not [each for each in page.references if not each.startswith(("data:", "#"))]


def test_rows_show_each_systems_masks_and_seeds_side_by_side(run_dir):
    text, page = _page(run_dir, _verdict(("dsrg",)), _entries())
    masks, seeds = pages.section(text, "masks"), pages.section(text, "seeds")
    assert masks.count("<img") == 3 * 5 and seeds.count("<img") == 3 * 4  # with photograph and ground truth
    names = ("drawing", "dsrg", "sec", "em &lt;adapt&gt;", "ground truth")
    heads = [masks.index(f"<th>{name}</th>") for name in names]
    assert heads == sorted(heads) and "em &lt;adapt&gt;</th>" not in seeds
    assert "Without seeds: em <adapt>." in page.text
    assert "val_2" in masks and "train_3" in seeds and "--crf=dsrg" in page.text


def test_without_masks_there_is_no_miou(run_dir):
    text, page = _page(run_dir, _verdict(("dsrg",)), _entries((None, None, None)), labelled=False)
    assert "mIoU %" not in page.text and "rank correlation" not in page.text
    assert "ground truth" not in pages.section(text, "masks")
