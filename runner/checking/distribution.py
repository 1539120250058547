"""Compares counts with expected ones: Pearson's chi-squared test with a given significance.

Uses the standard library only, because a host need not have SciPy.  The test's approximation does
not hold for small expected counts, so such bins are pooled until each expects `MIN_EXPECTED`.  An
outcome with probability 0 is refused at once.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

MIN_EXPECTED: Final = 5.0
"""The smallest expected count of a bin, the usual rule."""

_ROUNDING: Final = 1e-9
"""By how much the sum of the given probabilities may exceed one."""

_Bin: TypeAlias = tuple[float, float]
"""Observed count, expected count."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Distribution:
    """The expected distribution of counts, and the significance level at which counts are refused.

    Either `probabilities`, where the rest up to one is shared by all outcomes that are not named,
    or `counts`, another sample of the same distribution.  `significance` is the share of correct
    samples that are refused.
    """

    significance: float
    probabilities: Mapping[str, float] | None = None
    counts: Mapping[str, int] | None = None

    @classmethod
    def from_data(cls, data: Mapping[str, Any]) -> Distribution:
        """Read the distribution of a case whose types are checked.  Raises ValueError."""
        found = cls(**data)
        whole = math.fsum((found.probabilities or {}).values())
        if whole > 1 + _ROUNDING:
            msg = f"the probabilities add up to {whole:g}"
            raise ValueError(msg)
        if found.counts is not None and not any(found.counts.values()):
            msg = "the expected counts are all zero"
            raise ValueError(msg)
        return found

    def problem(self, seen: Mapping[str, int]) -> str | None:
        """Return why these counts are refused, as text; None if they are not."""
        total = sum(seen.values())
        if total == 0:
            return "holds no counts"
        if self.counts is not None:
            size = sum(self.counts.values())
            share = total / (total + size)
            bins = [
                (seen.get(key, 0), share * (seen.get(key, 0) + self.counts.get(key, 0)))
                for key in {*seen, *self.counts}
            ]
            # In a table of two rows, the expected counts of the other row are in proportion.
            return self._refusal(
                bins, total, least=max(1.0, total / size), scale=size / (total + size)
            )
        probabilities = self.probabilities or {}
        rest = max(0.0, 1 - math.fsum(probabilities.values()))
        rest = 0.0 if rest < _ROUNDING else rest
        for key, count in seen.items():
            if count and not probabilities.get(key, rest):
                return f"has {key!r:.80} {count} times, expected never"
        bins = [(seen.get(key, 0), total * share) for key, share in probabilities.items()]
        bins.append((total - sum(observed for observed, _ in bins), total * rest))
        return self._refusal(bins, total, least=1.0, scale=1.0)

    def _refusal(
        self, bins: Iterable[_Bin], total: int, *, least: float, scale: float
    ) -> str | None:
        likely = [each for each in bins if each[1] > 0]
        pooled = _pooled(likely, MIN_EXPECTED * least)
        if len(pooled) < 2 <= len(likely):
            return f"holds {total} counts, too few for a test"
        statistic = math.fsum((seen - due) ** 2 / due for seen, due in pooled) / scale
        freedom = len(pooled) - 1
        chance = survival(statistic, freedom)
        if chance >= self.significance:
            return None
        return (
            f"is not distributed as expected: chi-squared {statistic:.4g} with {freedom} degrees "
            f"of freedom has probability {chance:.2g}, below significance {self.significance:g}"
        )


def survival(statistic: float, freedom: int) -> float:
    """Return the probability that chi-squared with so many degrees of freedom exceeds `statistic`.

    Uses the closed forms for whole numbers of degrees: a sum of positive terms, none of them larger
        than
    one, so nothing cancels or overflows.
    """
    half = statistic / 2
    if freedom <= 0 or half <= 0:
        return 1.0
    odd = freedom % 2
    first = math.erfc(math.sqrt(half)) if odd else 0.0
    powers = (index + odd / 2 for index in range((freedom - odd) // 2))
    terms = (math.exp(power * math.log(half) - half - math.lgamma(power + 1)) for power in powers)
    return min(1.0, math.fsum((first, *terms)))


def _pooled(bins: Iterable[_Bin], least: float) -> list[_Bin]:
    """Return the bins, with small ones merged until each expects `least`."""
    pooled: list[_Bin] = []
    seen = due = 0.0
    for observed, expected in sorted(bins, key=lambda each: each[1]):
        seen, due = seen + observed, due + expected
        if due >= least:
            pooled.append((seen, due))
            seen = due = 0.0
    if due and pooled:  # too little for a bin of its own
        last = pooled.pop()
        pooled.append((last[0] + seen, last[1] + due))
    elif due:
        pooled.append((seen, due))
    return pooled
