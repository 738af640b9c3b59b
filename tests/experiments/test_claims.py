"""Claims: the paired test worked out by hand, Holm's correction, and how often nothing is taken for something."""

import math

import numpy as np
import pytest

from ficklenet_tf.experiments.claims import Claim, Measured, judge

LOW = Measured((0.50, 0.54, 0.58, 0.52, 0.56))


def _above(*differences):
    return Claim("a", Measured(tuple(np.add(LOW.values, differences))), LOW)


def test_a_number_is_written_with_its_deviation():
    low = Measured((0.50, 0.54, 0.58))
    assert (low.mean, round(low.deviation, 6), str(low)) == (54.0, 4.0, "54.0 ± 4.0")
    assert str(Measured((0.5,))) == "50.0" and str(Measured((1.23456, 1.23456), 1, 3)) == "1.235 ± 0.000"


def test_five_pairs_by_hand():
    """Differences 1 2 3 4 5: mean 3, deviation 1.5811, t = 3 / 0.7071 = 4.243; of 4 degrees t(0.975) = 2.7764."""
    claim = _above(0.01, 0.02, 0.03, 0.04, 0.05)
    assert claim.difference == pytest.approx(3) and claim.interval == pytest.approx((1.0368, 4.9632), abs=1e-4)
    assert claim.p_value == pytest.approx(0.01324, abs=1e-5)  # 2 P(T > 4.243), T of 4 degrees: from a table
    (judged,) = judge([claim])
    assert judged.verdict == "agrees"
    assert str(judged) == "**agrees**: a (difference +3.0, 95 % interval +1.0 to +5.0, p = 0.013)"
    assert judge([Claim("b", claim.less, claim.greater)])[0].verdict == "disagrees"
    assert judge([_above(-0.03, 0.02, 0.03, 0.04, 0.05)])[0].verdict == "undecided"
    assert judge([_above(0.01, 0.01, 0.01, 0.01, 0.01)])[0].verdict == "agrees"
    assert judge([_above(0, 0, 0, 0, 0)])[0].p_value == 1


def test_few_pairs_are_a_direction_and_not_part_of_the_correction():
    few = Claim("few", Measured((0.6, 0.7, 0.8, 0.9)), Measured((0.1, 0.1, 0.1, 0.1)))
    single = Claim("single", Measured((0.1,)), Measured((0.3,)))
    same, five = Claim("same", single.greater, single.greater), _above(0.01, 0.02, 0.03, 0.04, 0.05)
    judged = judge([few, single, five, same])
    assert [each.verdict for each in judged] == ["direction: agrees", "direction: disagrees", "agrees",
                                                 "direction: none"]
    assert judged[2].p_value == five.p_value and few.interval is not None and single.interval is None
    assert "4 pairs" in str(judged[0]) and "interval" not in str(judged[1])
    assert judge([Claim("spread of one", single.greater, single.less, spread=True)])[0].verdict == "direction: none"


def test_holms_correction_by_hand():
    """p = .0132 .0424 .5: times 3, 2 and 1, never falling; the second alone would have been decided."""
    claims = [_above(-0.01, 0.02, 0.04, 0.05, 0.05), _above(0.01, 0.02, 0.03, 0.04, 0.05),
              _above(-0.02, 0.03, -0.01, 0.02, 0.01)]
    p = [claim.p_value for claim in claims]
    assert p[1] < p[0] < 0.07 < p[2]
    judged = judge(claims)
    assert [each.p_value for each in judged] == pytest.approx([2 * p[0], 3 * p[1], p[2]])
    assert [each.claim for each in judged] == claims
    again = judge([_above(0.01, 0.02, 0.03, 0.04, 0.05)] * 4)
    assert [each.p_value for each in again] == pytest.approx([4 * p[1]] * 4)  # not falling: 4, 3, 2, 1 times
    assert {each.verdict for each in again} == {"undecided"}
    assert judge([_above(-0.02, 0.03, -0.01, 0.02, 0.01)] * 9)[0].p_value == 1


def test_spreads_are_compared_pair_by_pair():
    """Pitman and Morgan: with x = a + b and y = a - b the correlation tells whether a spreads more than b."""
    rng = np.random.default_rng(0)
    shared = rng.normal(size=10)
    wide, narrow = (Measured(tuple(0.4 + scale * (shared + 0.3 * rng.normal(size=10)))) for scale in (0.01, 0.001))
    claim = Claim("wide", wide, narrow, spread=True)
    a, b = np.array(wide.values), np.array(narrow.values)
    r = np.corrcoef(a + b, a - b)[0, 1]
    t = r * math.sqrt(8 / (1 - r * r))
    assert claim.difference == pytest.approx(100 * (a.std(ddof=1) - b.std(ddof=1))) and claim.interval is None
    assert t > 3.355 and claim.p_value < 0.01  # t(0.995) of 8 degrees
    assert judge([claim])[0].verdict == "agrees"
    assert Claim("c", wide, Measured(tuple(rng.permutation(a))), spread=True).p_value > 0.05


@pytest.mark.parametrize("spread", [False, True])
def test_with_nothing_to_find_one_table_in_twenty_decides_something(spread):
    """1,000 tables of six claims, five seeds, nothing to find. Decided by "above its deviation" it would be 0.94."""
    rng = np.random.default_rng(1)
    decided = 0
    for _ in range(1000):
        rows = rng.normal(size=(7, 5))
        judged = judge([Claim("x", Measured(tuple(rows[i])), Measured(tuple(rows[i + 1])), spread) for i in range(6)])
        decided += any(each.verdict != "undecided" for each in judged)
    assert 10 <= decided <= 65
