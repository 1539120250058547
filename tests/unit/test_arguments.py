"""Arguments of the Python interface that cannot be meant: refused by name, with the value."""

from __future__ import annotations

import pytest

from runner import InputsError, RequestError, Supervisor
from runner.host.workers import Workers
from runner.programs import find
from runner.programs.values import check_inputs


class Idle:
    """An engine that is there and is never asked for anything."""


@pytest.fixture
def supervisor():
    with Supervisor(engine=Idle()) as idle:
        yield idle


@pytest.mark.parametrize(
    ("argument", "value", "said"),
    [
        ("max_jobs", 0, "at least 1"),
        ("max_jobs", -1, "at least 1"),
        ("max_jobs", "4", "a whole number"),
        ("memory_budget_bytes", 0, "at least 1"),
        ("memory_budget_bytes", 1e9, "a whole number"),
        ("retries", -1, "at least 0"),
        ("limits", {"timeout_s": 3}, "give a Limits"),
        ("policy", "strict", "give a Policy"),
        ("warm", 3, "give a Mapping or bool"),
    ],
)
def test_a_supervisor_is_not_made(argument, value, said):
    with pytest.raises(RequestError, match=rf"^{argument} is .*: .*{said}"):
        Supervisor(engine=Idle(), **{argument: value})


@pytest.mark.parametrize(
    ("argument", "value", "said"),
    [
        ("backend", 3, "give a name"),
        ("backend", ["aer_simulator"], "give a name"),
        ("callback", "print", "give a function"),
        ("on_final", 3, "give a function"),
        ("retries", "2", "a whole number"),
    ],
)
def test_a_job_is_not_submitted(supervisor, monkeypatch, argument, value, said):
    monkeypatch.setattr(Workers, "submit", lambda *_, **__: pytest.fail("it was submitted"))
    with pytest.raises(RequestError, match=rf"^{argument} is .*: .*{said}"):
        supervisor.run("hello_world", **{argument: value})
    assert supervisor.jobs() == []


@pytest.mark.parametrize("sandboxes", [0, "2", 1.5])
def test_a_session_is_not_made(supervisor, sandboxes):
    with pytest.raises(RequestError, match=r"^sandboxes is .*: .*at least 1"):
        supervisor.session("hello_world", sandboxes=sandboxes)


@pytest.mark.parametrize(
    ("argument", "value", "said"),
    [
        ("limit", -1, "limit is -1: it must be at least 0"),
        ("skip", -1, "skip is -1"),
        ("outcome", "succeeded", "outcome 'succeeded': one of completed, "),
        ("job_tags", "mine", "tags are 'mine': give a list"),
    ],
)
def test_jobs_are_not_searched_for(supervisor, argument, value, said):
    with pytest.raises(RequestError, match=said):
        supervisor.jobs(**{argument: value})


@pytest.mark.parametrize("inputs", [[1], "shots=3", {1: 2}])
def test_inputs_have_names(inputs):
    with pytest.raises(InputsError, match=r"^inputs are .*: give them by name"):
        check_inputs(find("hello_world"), inputs, limit_bytes=1000)
