"""Systems measured by each other: votes and counts by hand, mIoU by plain loops, what drawing photographs decides."""

import dataclasses

import numpy as np
import pytest

from ficklenet_tf.data import labels
from ficklenet_tf.errors import UserError
from ficklenet_tf.evaluation import agreement
from tests.report import pages


def _masks(*rows):
    return np.array(rows, np.uint8)[:, None]  # [systems, 1, w]


def test_the_others_vote_and_the_tags_say_which_votes_count():
    # Tagged with class 1 alone. Pixels: all agree; one differs; 2 is not allowed; two against each other; nobody.
    masks = _masks([0, 1, 2, 0, 2], [0, 1, 1, 1, 2], [0, 0, 1, 0, 2])
    np.testing.assert_array_equal(agreement.votes(masks, np.array([1, 0]))[:, 0], [
        [0, 255, 1, 255, 255],  # of systems 2 and 3: 1 and 0 are level, 1 and 0 again
        [0, 255, 1, 0, 255],    # of 1 and 3: the 2 does not count, so that 3's vote decides
        [0, 1, 1, 255, 255]])   # of 1 and 2
    # With class 2 allowed it counts: level with 3's vote at pixel 2 for system 2, and agreed on at the last one.
    np.testing.assert_array_equal(agreement.votes(masks, np.array([1, 1]))[1, 0], [0, 255, 255, 0, 2])


def test_no_answer_is_no_vote():
    np.testing.assert_array_equal(
        agreement.votes(_masks([255, 1], [1, 1], [255, 0]), np.array([1]))[:, 0], [[1, 255], [255, 255], [1, 1]])


def test_of_a_photograph_without_tags_only_the_background_is_voted_for():
    np.testing.assert_array_equal(agreement.votes(_masks([1], [1], [0]), np.array([0]))[:, 0], [[0], [0], [255]])


def test_systems_of_the_same_maps_do_not_vote_on_each_other():
    """Two that share an error, and a third: among each other, two would outvote it."""
    masks, tags = _masks([1, 1], [1, 1], [0, 1]), np.array([1])
    np.testing.assert_array_equal(agreement.votes(masks, tags)[:, 0], [[255, 1], [255, 1], [1, 1]])
    np.testing.assert_array_equal(agreement.votes(masks, tags, [0, 0, 2])[:, 0], [[0, 1], [0, 1], [1, 1]])
    assert agreement.counts(masks, tags, [0, 0, 2])[0].tolist() == [[0, 1], [1, 1], [0, 2]]


def test_pixels_are_counted_where_there_is_a_vote():
    masks = _masks([0, 1, 2, 0, 2], [0, 1, 1, 1, 2], [0, 0, 1, 0, 2])
    both, vote, answer = agreement.counts(masks, np.array([1, 0]))[0]
    # Of system 1 pixels 0 (vote 0, says 0) and 2 (vote 1, says 2) count.
    assert (both.tolist(), vote.tolist(), answer.tolist()) == ([1, 0, 0], [1, 1, 0], [1, 0, 1])


def _counted(rng, systems=3, photographs=12):
    masks = rng.integers(0, 3, (photographs, systems, 6, 5)).astype(np.uint8)
    tags = np.stack([rng.permutation([True, False]) for _ in range(photographs)])
    return masks, tags, np.stack([agreement.counts(*pair) for pair in zip(masks, tags, strict=True)], 1)


def test_agreement_is_the_miou_over_all_photographs_together():
    masks, tags, counted = _counted(np.random.default_rng(0))
    verdict = agreement.judge(("a", "b", "c"), counted, tags)
    for system in range(3):
        ious = []
        for c in range(3):
            both = union = 0
            for each, tag in zip(masks, tags, strict=True):
                vote = agreement.votes(each, tag)[system]
                mine = (each[system] == c) & (vote != 255)
                both += (mine & (vote == c)).sum()
                union += (mine | (vote == c)).sum()
            ious.append(both / union)
        assert verdict.agreement[system] == pytest.approx(np.mean(ious))


def _made_up(hits, tags=1):
    """Counts of systems that hit so many of 100 pixels of each photograph's class, and miss none of the background."""
    counted = np.zeros((len(hits), len(hits[0]), 3, 2), np.int64)
    counted[..., 0] = 100
    for system, of_system in enumerate(hits):
        counted[system, :, :, 1] = np.stack([of_system, np.full(len(of_system), 100), of_system], 1)
    return counted, np.full((len(hits[0]), 1), tags, bool)


def test_a_difference_in_every_photograph_decides():
    rng = np.random.default_rng(0)
    hard = rng.integers(20, 80, 40)  # how hard the photographs are is alike for all: what counts is the difference
    verdict = agreement.judge(("a", "b", "c"), *_made_up([hard, hard + 5, hard - 5]))
    assert verdict.leading == ("b",) and verdict.order == ["b", "a", "c"]
    less, low, high = verdict.behind[0]
    assert less == pytest.approx(0.025) and low == pytest.approx(0.025) and high == pytest.approx(0.025)
    (low, high), value = verdict.intervals[1], verdict.agreement[1]
    assert low < value < high and high - low > 0.02  # alone each is uncertain


def test_a_difference_by_a_few_photographs_does_not():
    even = np.full(40, 50)
    few = even.copy()
    few[:2] += 40
    verdict = agreement.judge(("a", "b", "c"), *_made_up([even, few, even - 20]))
    assert verdict.leading == ("b", "a") and verdict.behind[0][1] <= 0 < verdict.behind[0][2]


def test_two_systems_never_decide():
    verdict = agreement.judge(("a", "b"), *_made_up([np.full(40, 90), np.full(40, 10)]))
    assert verdict.leading == ("a", "b") and verdict.behind[1][1] > 0


def test_three_systems_of_two_maps_never_decide():
    counted, tags = _made_up([np.full(40, 90), np.full(40, 50), np.full(40, 10)])
    verdict = agreement.judge(("a", "b", "c"), counted, tags, 2)
    assert verdict.leading == ("a", "b", "c") and verdict.voters == 2
    assert agreement.judge(("a", "b", "c"), counted, tags).leading == ("a",)


@pytest.mark.parametrize("number, leading", [(9, ("a", "b", "c")), (10, ("a",))])
def test_a_few_photographs_never_decide(number, leading):
    verdict = agreement.judge(("a", "b", "c"), *_made_up([np.full(number, 90), np.full(number, 50),
                                                          np.full(number, 10)]))
    assert verdict.leading == leading


def test_equal_systems_are_rarely_excluded_however_many_there_are():
    """Against the best alone, corrected for 11, three draws of photographs in ten find one of 12 equal ones worse."""
    rng, excluded = np.random.default_rng(0), []
    for _ in range(40):
        verdict = agreement.judge(tuple("abcdefghijkl"), *_made_up(list(rng.integers(20, 80, (12, 60)))))
        excluded.append(len(verdict.leading) < 12)
    assert np.mean(excluded) <= 0.1


def test_a_class_nobody_is_tagged_with_does_not_count_and_a_tag_nobody_finds_counts_0():
    counted, tags = _made_up([np.full(9, 100)] * 3)
    assert agreement.judge("abc", counted, tags & False).agreement == (1, 1, 1)
    counted[..., 1] = 0
    assert agreement.judge("abc", counted, tags & False).agreement == (1, 1, 1)
    assert agreement.judge("abc", counted, tags).agreement == (0.5, 0.5, 0.5)


def test_the_same_photographs_give_the_same_verdict():
    _, tags, counted = _counted(np.random.default_rng(1))
    assert agreement.judge("abc", counted, tags) == agreement.judge("abc", counted, tags)


def test_masks_are_read_from_disk_and_the_truth_is_not_looked_at(tmp_path):
    split, rng = pages.split("val", 4, labelled=False), np.random.default_rng(0)
    masks = rng.integers(0, 3, (4, 3, 20, 30)).astype(np.uint8)
    for each, image_id in zip(masks, split.image_ids, strict=True):
        for name, mask in zip("abc", each, strict=True):
            labels.write_label(tmp_path / name / f"{image_id}.png", mask)
    tags = np.stack([split[i]["tags"] for i in range(4)]) > 0
    expected = agreement.judge("abc", np.stack([agreement.counts(*pair) for pair in zip(masks, tags, strict=True)], 1),
                               tags)
    directories = {name: tmp_path / name for name in "abc"}
    assert agreement.measure(directories, split) == expected and expected.photographs == 4
    kin = np.stack([agreement.counts(*pair, [0, 0, 2]) for pair in zip(masks, tags, strict=True)], 1)
    assert agreement.measure(directories, split, {"a": "maps", "b": "maps"}) == agreement.judge("abc", kin, tags, 2)
    alone = agreement.measure(directories, split, dict.fromkeys("abc", "maps"))  # they must vote on each other
    assert alone == dataclasses.replace(expected, voters=1, leading=tuple(expected.order))
    with pytest.raises(UserError, match="two or more to compare, found a"):
        agreement.measure({"a": tmp_path / "a"}, split)
    labels.write_label(tmp_path / "b" / f"{split.image_ids[2]}.png", masks[2, 1, :, :20])
    with pytest.raises(UserError, match=r"b/val_2.png: expected \(20, 30\) pixels"):
        agreement.measure(directories, split)


def test_photographs_that_are_learned_from_or_have_no_tags_are_refused():
    train, val = pages.split("train", 3), pages.split("val", 3)
    agreement.check(train, val)
    with pytest.raises(UserError, match="found 3 of train in train, as train_0"):
        agreement.check(train, train)
    untagged = dataclasses.replace(val, records=[{**record, "tags": []} for record in val.records])
    with pytest.raises(UserError, match="expected photographs with tags"):
        agreement.check(train, untagged)


def test_rank_correlation():
    assert agreement.rank_correlation([0.1, 0.2, 0.3, 0.4], [1, 2, 3, 4]) == pytest.approx(1)
    assert agreement.rank_correlation([0.1, 0.2, 0.3, 0.4], [2, 1, 3, 4]) == pytest.approx(1 - 6 * 2 / 60)
    assert agreement.rank_correlation([0.1, 0.2], [1, 2]) is agreement.rank_correlation([1, 1, 1], [1, 2, 3]) is None
