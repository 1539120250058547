"""Reading cases and judging jobs: within one set of bounds, whatever case and program say."""

from __future__ import annotations

import base64
import json
import threading
import time
import zlib
from types import SimpleNamespace

import pytest

from runner.checking import judging
from runner.checking.cases import Case
from runner.errors import ManifestError
from runner.host import bounded
from runner.host.bounded import AbandonedError, Bounds
from runner.job.record import MessageEvent, Outcome

JUDGE = "runner.checking.judging"
BACKTRACKING = {"pattern": "^(a+)+$"}
TEXT = "a" * 30 + "!"


@pytest.fixture
def read(tmp_path):
    def read(**content):
        path = tmp_path / "one.json"
        path.write_text(json.dumps(content))
        return Case.from_file(path)

    return read


@pytest.fixture
def asked(monkeypatch):
    """Return the modules that were run as bounded children."""
    modules = []
    ask = bounded.ask

    def counting(module, *arguments):
        modules.append(module)
        return ask(module, *arguments)

    monkeypatch.setattr(bounded, "ask", counting)
    return modules


def ended(result=None, messages=()):
    """Return a job that has ended so, as far as a case looks at one."""
    record = SimpleNamespace(
        outcome=Outcome.COMPLETED,
        isolation=None,
        exceptions=(),
        result=None if result is None else json.dumps(result),
        usage=SimpleNamespace(messages=len(messages)),
    )
    events = [MessageEvent(seq=0, time=0.0, body=json.dumps(each)) for each in messages]
    return SimpleNamespace(wait=lambda: record, events=lambda: events)


def check_of(spec, at="/result"):
    return {"at": at, "schema": spec}


def test_small_cases_need_no_child(read, asked):
    checks = [check_of({"type": "integer"}), {"at": "/messages/0", "equals": 1}]
    case = read(expect={"checks": checks, "tolerance": {"absolute": 1}, "result": 2})
    assert case.problems(ended(1, [1])) == []
    assert case.problems(ended("x", [2])) == [
        'result is "x", expected 2',
        "/result: 'x' is not of type 'integer'",
        "/messages/0 is 2, expected 1",
    ]
    assert asked == []


def test_a_large_case_is_read_and_judged_as_a_small_one(read, asked):
    large = {"description": "x" * 40_000}
    case = read(expect={"result": list(range(9000))}, **large)
    assert case.problems(ended(list(range(9000)))) == []
    (found,) = case.problems(ended([0]))
    assert found.startswith("result is [0], expected [0, 1, 2")
    assert asked == [JUDGE, JUDGE, JUDGE]
    with pytest.raises(ManifestError, match=r"one.json: expect: unknown key 'results'; known are"):
        read(expect={"results": 1}, **large)
    with pytest.raises(ManifestError, match=r"checks.1: not a JSON Schema: 'x' is not valid"):
        read(expect={"checks": [check_of({}), check_of({"type": "x"})]}, **large)


def test_many_slow_checks_of_a_case_share_one_child_and_one_budget(read, asked, monkeypatch):
    monkeypatch.setattr(judging, "JUDGING", Bounds(cpu_s=1, wall_s=15.0, memory_bytes=1 << 30))
    case = read(expect={"checks": [check_of(BACKTRACKING)] * 25, "result": TEXT})
    started = time.monotonic()
    assert case.problems(ended(TEXT)) == [
        "comparing result and messages with the expectation takes more than 1 s or 1024 MiB: "
        "expect less, or publish and return less"
    ]
    assert time.monotonic() - started < 20
    assert asked == [JUDGE]


def test_a_check_that_is_over_ends_judging_at_once(read):
    case = read(expect={"checks": [check_of(BACKTRACKING)] * 25})
    abandoned = threading.Event()
    threading.Timer(0.5, abandoned.set).start()
    started = time.monotonic()
    with pytest.raises(AbandonedError):
        case.problems(ended(TEXT), abandoned)
    assert time.monotonic() - started < 8


def numbers(count):
    """Return an array as programs send it, whose text is a thousandth of its numbers."""
    header = f"{{'descr': '|u1', 'fortran_order': False, 'shape': ({count},), }}".ljust(117) + "\n"
    content = b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header.encode()
    packed = zlib.compress(content + bytes(count), 9)
    return {"__type__": "ndarray", "__value__": base64.b64encode(packed).decode()}


def test_arrays_that_are_many_numbers_in_little_text_are_compared_in_the_child(read, asked):
    checks = [{"at": "/result", "equals": 1, "tolerance": {"absolute": 1}}] * 20
    case = read(expect={"checks": checks})
    assert len(case.problems(ended(numbers(100_000)))) == 20
    assert asked == [JUDGE]
    case = read(expect={"checks": checks[:1]})
    assert case.problems(ended(numbers(3)))[0].startswith("/result is [0, 0, 0], expected 1")
    assert asked == [JUDGE]


def test_many_small_values_are_one_question(read, asked):
    case = read(expect={"message_count": 3000, "checks": [check_of({"minItems": 1}, "/messages")]})
    assert case.problems(ended(None, [{"a": [index]} for index in range(3000)])) == []
    assert asked == [JUDGE]


@pytest.mark.parametrize(
    "expect",
    [
        {"checks": [check_of({"$schema": "http://json-schema.org/draft-04/schema#", "enum": [1]})]},
        {"checks": [check_of({"enum": [[index] for index in range(450)]})] * 3},
    ],
    ids=["an old draft", "long lists"],
)
def test_schemas_of_a_case_are_read_here_if_small_else_together_in_a_child(read, asked, expect):
    case = read(expect=expect)
    assert case.problems(ended("no"))
    assert asked == ([] if len(expect["checks"]) == 1 else ["runner.programs.schema"])


def test_a_case_that_takes_too_long_to_read_is_refused(read, monkeypatch):
    monkeypatch.setattr(judging, "READING", Bounds(cpu_s=1, wall_s=0.0, memory_bytes=1 << 30))
    with pytest.raises(
        ManifestError, match=r"one.json: reading it takes more than 1 s or 1024 MiB"
    ):
        read(description="x" * 40_000)
