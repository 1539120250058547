"""What hostile programs send is decoded on the host, unasked, as `messages()` and `result()` do.

The corpus says how a job ends; here its values are looked at, and used.
"""

from __future__ import annotations

import copy
import json
from pathlib import Path

import pytest

from runner import Supervisor
from runner.job.record import MessageEvent
from runner.programs import read_directory
from runner.programs.values import Value

pytestmark = [pytest.mark.engine, pytest.mark.security]

CORPUS = Path(__file__).parent / "corpus"
PLAIN = {type(None), bool, int, float, str, list, dict, Value}


@pytest.fixture(scope="module")
def supervisor():
    with Supervisor() as running:
        yield running


def sent_by(supervisor, name):
    """Return what a program of the corpus sent, encoded, and the same decoded."""
    job = supervisor.run(read_directory(CORPUS / name), backend="none")
    decoded = [*job.messages(), job.result(60)]
    events = [each for each in job.events() if isinstance(each, MessageEvent)]
    return [json.loads(each.body) for each in events], decoded


def types_in(value):
    yield type(value)
    for each in value if isinstance(value, list) else ():
        yield from types_in(each)
    for each in value.values() if isinstance(value, dict) else ():
        yield from types_in(each)


def test_nothing_is_built_of_what_names_types(supervisor):
    sent, decoded = sent_by(supervisor, "channel-typed-payload")
    assert set(types_in(decoded)) <= PLAIN
    tagged = [value for raw, value in zip(sent, decoded, strict=False) if "__type__" in raw]
    assert len(tagged) == 16
    assert all(type(value) is Value for value in tagged)
    assert [value.raw for value in tagged] == [raw for raw in sent if "__type__" in raw]


def test_what_would_hurt_stays_as_it_came(supervisor):
    sent, decoded = sent_by(supervisor, "result-decoded-by-the-host")
    assert decoded.pop() == len(decoded) > 30
    built = [raw for raw, value in zip(sent, decoded, strict=True) if type(value) is not Value]
    assert not built
    for raw, value in zip(sent, decoded, strict=True):
        assert value.raw == raw
        assert copy.deepcopy(value) == value
        assert repr(value).startswith("Value(")
