"""Hostile programs inside sessions; all of them by `python -m tests.security.in_sessions`."""

from __future__ import annotations

import pytest

from runner import Supervisor
from runner.checking.cases import cases
from runner.programs import read_directory
from tests.security.in_sessions import CORPUS, problems

pytestmark = [pytest.mark.engine, pytest.mark.security]

SOME = {
    "leave-traces": "",
    "attack-pid-1": "blocked",
    "life-survivors": "",
    "life-kills-everything": "",
    "forged-frames": "its_own_result",
    "output-holds-forged-results": "",
}
"""Programs and, where they have several, the case."""


@pytest.fixture(scope="module")
def supervisor():
    with Supervisor(cells=False) as running:
        yield running


@pytest.mark.parametrize("name", SOME)
def test_a_hostile_program_ends_as_it_must_in_a_session(supervisor, name):
    program = read_directory(CORPUS / name)
    case = next(each for each in cases(program) if each.name == (SOME[name] or each.name))
    assert problems(supervisor, program, case) == []
