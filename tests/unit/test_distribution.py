"""The test of counts: against SciPy's numbers, and as often wrong as it says."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import chi2, chi2_contingency, chisquare

from runner.checking.distribution import Distribution, survival
from runner.encoded.counts import MAX_COUNT


@pytest.mark.parametrize("freedom", [1, 2, 3, 7, 8, 63, 100, 1023, 65535])
def test_the_survival_function_is_scipys(freedom):
    for statistic in np.linspace(1e-3, 3 * freedom + 80, 50):
        expected = chi2.sf(statistic, freedom)
        assert survival(float(statistic), freedom) == pytest.approx(expected, rel=1e-9, abs=1e-300)
    assert survival(5.0, 0) == survival(0.0, freedom) == 1


def as_counts(numbers):
    return {str(key): int(number) for key, number in enumerate(numbers)}


def test_it_refuses_where_scipy_does():
    seen, shares = [480, 250, 270], [0.5, 0.25, 0.25]
    p = chisquare(seen, np.array(shares) * 1000).pvalue
    probabilities = {str(key): share for key, share in enumerate(shares)}
    for significance, refused in ((p * 1.01, True), (p * 0.99, False)):
        one = Distribution(significance=significance, probabilities=probabilities)
        assert (one.problem(as_counts(seen)) is not None) == refused
    other = [900, 600, 500]
    p = chi2_contingency([seen, other]).pvalue
    for significance, refused in ((p * 1.01, True), (p * 0.99, False)):
        one = Distribution(significance=significance, counts=as_counts(other))
        assert (one.problem(as_counts(seen)) is not None) == refused


@pytest.mark.parametrize("kind", ["probabilities", "counts"])
def test_right_counts_are_refused_as_often_as_stated(kind):
    draw = np.random.default_rng(7)
    shares = draw.dirichlet(np.ones(64))  # many of them expect fewer than five
    refused = 0
    for _ in range(2000):
        expected = as_counts(draw.multinomial(3000, shares)) if kind == "counts" else None
        named = dict(zip(map(str, range(64)), shares, strict=True)) if expected is None else None
        one = Distribution(significance=0.01, probabilities=named, counts=expected)
        refused += one.problem(as_counts(draw.multinomial(1024, shares))) is not None
    assert 5 <= refused <= 40  # 20 expected


def test_what_is_missing_to_one_stands_for_everything_else():
    one = Distribution(significance=1e-6, probabilities={"00": 0.5})
    assert one.problem({"00": 500, "01": 200, "10": 160, "11": 140}) is None
    assert "chi-squared" in one.problem({"00": 900, "01": 100})


def test_what_should_never_come_refutes_at_once():
    one = Distribution(significance=1e-6, probabilities={"0": 1.0, "1": 0.0})
    assert one.problem({"0": 100_000}) is None
    assert one.problem({"0": 100_000, "1": 1}) == "has '1' 1 times, expected never"
    assert one.problem({"0": 9, "2": 3}) == "has '2' 3 times, expected never"


def test_too_few_counts_are_no_test():
    one = Distribution(significance=1e-6, probabilities={"0": 0.5, "1": 0.5})
    assert one.problem({}) == "holds no counts"
    assert one.problem({"0": 4}) == "holds 4 counts, too few for a test"


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        ({"probabilities": {"0": 0.7, "1": 0.4}}, "add up to 1.1"),
        ({"counts": {"0": 0}}, "all zero"),
    ],
)
def test_what_contradicts_itself_is_refused(data, problem):
    with pytest.raises(ValueError, match=problem):
        Distribution.from_data({"significance": 0.01, **data})


def test_ever_so_many_counts_are_compared():
    one = Distribution(significance=1e-6, counts={"0": 1, "1": 1})
    assert one.problem({str(each): MAX_COUNT for each in range(200)})
