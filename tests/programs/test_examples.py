"""Every case of every example program holds: adding an example adds its tests."""

from __future__ import annotations

from pathlib import Path

import pytest

from runner import Supervisor
from runner.checking.check import check
from runner.programs import CASES_DIRECTORY

PROGRAMS = sorted((Path(__file__).parents[2] / "images/programs").glob("*/program.yaml"))


@pytest.fixture(scope="module")
def supervisor():
    with Supervisor() as running:
        yield running


@pytest.mark.engine
@pytest.mark.parametrize("manifest", PROGRAMS, ids=lambda path: path.parent.name)
def test_the_cases_of_an_example_hold(supervisor, manifest):
    cases = list((manifest.parent / CASES_DIRECTORY).glob("*.json"))
    reports = check(supervisor, [str(manifest.parent)])
    assert len(reports) == len(cases) > 0
    assert {each.case: each.problems for each in reports if each.problems} == {}


@pytest.mark.engine
def test_equal_seeds_give_equal_circuits_and_counts(supervisor):
    inputs = {"iterations": 2, "seed": 7}
    first, second = (supervisor.run("random_circuits", inputs) for _ in range(2))
    other = supervisor.run("random_circuits", {**inputs, "seed": 9})
    assert list(first.messages()) == list(second.messages()) != list(other.messages())


@pytest.mark.engine
def test_a_kernel_of_points_with_themselves_is_symmetric_and_measures_each_pair_once(supervisor):
    points = [[0.1, 0.2], [0.5, 1.0], [2.0, 0.3]]
    job = supervisor.run("quantum_kernel", {"points": points, "shots": 200})
    kernel = job.result()
    assert (kernel == kernel.T).all()
    assert [each["overlaps"] for each in job.messages()][2] == kernel[2].tolist()
