"""Counts against what they should be: Pearson's chi-squared test of a stated significance.

Standard library only, because a host need not have SciPy.  Where few are expected the test's
approximation does not hold, so such bins are pooled until each expects `MIN_EXPECTED`; an outcome
that should never come refutes at once.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

MIN_EXPECTED: Final = 5.0
"""The smallest expected count of a bin: the textbooks' rule."""

_ROUNDING: Final = 1e-9
"""By how much the sum of probabilities that were written down may miss one."""

_Bin: TypeAlias = tuple[float, float]
"""How many were observed, how many expected."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Distribution:
    """What counts should look like, and how unlikely they must be to be refused.

    Either `probabilities`, where what is missing to one stands for all outcomes that are not
    named, or `counts`, another sample of the same distribution.  `significance` is the share of
    right samples that are refused.
    """

    significance: float
    probabilities: Mapping[str, float] | None = None
    counts: Mapping[str, int] | None = None

    @classmethod
    def from_data(cls, data: Mapping[str, Any]) -> Distribution:
        """Read what a case says, its types already checked.  Raises ValueError in words."""
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
        """Return in words why these counts are refused, None if they are not."""
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
            # Of a table of two rows the expected counts of the other are in proportion.
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
    """Return the probability that chi-squared of so many degrees of freedom exceeds `statistic`.

    The closed forms for whole numbers of degrees: a sum of positive terms, none of which is larger
    than one, so nothing cancels or overflows.
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
    """Return the bins, small ones together until each expects `least`."""
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
