"""Numbers measured once per seed, and what they say of a claim: a paired t test, corrected for many claims.

Two settings are compared seed by seed, so that what a seed does to both does not count. A claim is decided from five
pairs on, where the test rejects at 5 % after Holm's correction over the table's claims (Holm 1979): with nothing to
find, at most one table in twenty decides anything. Fewer pairs give a direction, and are called so.
"""

import dataclasses
import math
import warnings
from collections.abc import Sequence

import numpy as np
from scipy import stats

LEVEL = 0.05  # chance of deciding anything in a table with nothing to find
FEWEST = 5  # pairs from which on a claim is decided


@dataclasses.dataclass(frozen=True)
class Measured:
    """A number measured once per seed.

    Attributes:
      values: one per seed.
      unit: factor by which it is multiplied where it is written: 100 for per cent.
      digits: after the point.
    """

    values: tuple[float, ...]
    unit: float = 100.0
    digits: int = 1

    @property
    def mean(self) -> float:
        """Mean over the seeds, as it is written."""
        return float(np.mean(self.values)) * self.unit

    @property
    def deviation(self) -> float:
        """Sample standard deviation over the seeds, as it is written; NaN for a single one."""
        return float(np.std(self.values, ddof=1)) * self.unit if len(self.values) > 1 else math.nan

    def __str__(self) -> str:
        """Mean ± deviation."""
        text = f"{self.mean:.{self.digits}f}"
        return text if math.isnan(self.deviation) else f"{text} ± {self.deviation:.{self.digits}f}"


@dataclasses.dataclass(frozen=True)
class Claim:
    """That one number is greater than another, as the paper says.

    Attributes:
      text: the claim in words.
      greater: `Measured`, said to be the greater one.
      less: `Measured`, of the same seeds.
      spread: the claim is about the deviations over the seeds, not about the means.
    """

    text: str
    greater: Measured
    less: Measured
    spread: bool = False

    @property
    def pairs(self) -> int:
        """How many seeds both were measured with."""
        return len(self.greater.values)

    @property
    def difference(self) -> float:
        """How much greater it is, as it is written."""
        if self.spread:
            return self.greater.deviation - self.less.deviation
        return self.greater.mean - self.less.mean

    @property
    def interval(self) -> tuple[float, float] | None:
        """95 % t interval of the mean difference, seed by seed, as it is written; None for a spread or one seed."""
        if self.spread or self.pairs < 2:
            return None
        differences = np.subtract(self.greater.values, self.less.values) * self.greater.unit
        half = float(stats.t.ppf(1 - LEVEL / 2, self.pairs - 1) * stats.sem(differences))
        return self.difference - half, self.difference + half

    @property
    def p_value(self) -> float | None:
        """Two-sided, before any correction; None for less than `FEWEST` pairs.

        Of means the paired t test; of spreads Pitman's and Morgan's (1939), also for paired values: two variances
        are equal where sum and difference do not correlate.
        """
        if self.pairs < FEWEST:
            return None
        greater, less = np.asarray(self.greater.values), np.asarray(self.less.values)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about differences that are all the same: p is then 0, or 1 if they are 0
            test = stats.pearsonr(greater + less, greater - less) if self.spread else stats.ttest_rel(greater, less)
        return 1.0 if math.isnan(test.pvalue) else float(test.pvalue)


@dataclasses.dataclass(frozen=True)
class Judgement:
    """What a table's numbers say of one of its claims.

    Attributes:
      claim: the `Claim`.
      p_value: after Holm's correction over the table's claims, or None.
    """

    claim: Claim
    p_value: float | None

    @property
    def verdict(self) -> str:
        """"agrees", "disagrees" or "undecided"; of few pairs "direction: agrees", "... disagrees", "... none"."""
        sign = "agrees" if self.claim.difference > 0 else "disagrees" if self.claim.difference < 0 else "none"
        if self.p_value is None:
            return f"direction: {sign}"
        return sign if self.p_value <= LEVEL else "undecided"

    def __str__(self) -> str:
        """The verdict, the claim, the difference and how sure it is."""
        digits = self.claim.greater.digits
        facts = [f"difference {self.claim.difference:+.{digits}f}"]
        if self.claim.interval:
            facts.append("95 % interval {:+.{d}f} to {:+.{d}f}".format(*self.claim.interval, d=digits))
        facts.append(f"{self.claim.pairs} pairs" if self.p_value is None else f"p = {self.p_value:.2g}")
        return f"**{self.verdict}**: {self.claim.text} ({', '.join(facts)})"


def judge(claims: Sequence[Claim]) -> list[Judgement]:
    """Judges the claims of one table together."""
    known = sorted((p, i) for i, p in enumerate(claim.p_value for claim in claims) if p is not None)
    corrected: dict[int, float] = {}
    highest = 0.0
    for rank, (p, i) in enumerate(known):
        highest = max(highest, min(1.0, p * (len(known) - rank)))
        corrected[i] = highest
    return [Judgement(claim, corrected.get(i)) for i, claim in enumerate(claims)]
