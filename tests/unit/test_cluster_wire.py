"""What crosses to a cluster and back: whole, or refused."""

import contextlib
import dataclasses
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.cli.output import finished_line
from runner.errors import RequestError
from runner.job.record import (
    Evidence,
    JobRecord,
    LogEvent,
    MessageEvent,
    Outcome,
    StartedEvent,
    Usage,
)
from runner.job.request import Request
from runner.policy import Limits
from runner.policy.isolation import Isolation
from runner.programs import Program
from runner.programs.manifest import Manifest
from runner.programs.program import MAX_PROGRAM_BYTES
from runner.programs.wheels import Pin
from runner.sites import wire
from runner.sites.cluster import Capacity, NodeCapacity
from runner.sites.wire import (
    Asked,
    End,
    Ended,
    Finished,
    Heartbeat,
    Hello,
    JobSpec,
    WireError,
    event_of,
    line_of,
    reply_line,
    reply_of,
)
from sandbox.wire.protocol import JsonText

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(), lambda inner: st.lists(inner, max_size=3)
)
RECORD = JobRecord(
    job="job-1",
    program="p",
    outcome=Outcome.TIME_LIMIT,
    traceback='  File "program.py", line 1\n, "result": "never"}',
    evidence=Evidence(limit="timeout_s", value=3.0, observed=3.1, source="host"),
    usage=Usage(wall_s=3.1, messages=2, sources={"wall_s": "host"}),
    image="sha256:1",
    exceptions=("swap-limit",),
    timestamps={"created": "x", "started": None},
)


SCHEMA = {"type": "object", "properties": {"inputs": {"default": ',"inputs":'}, "z": {}}}
MANIFEST = Manifest(
    name="p",
    description="Says all that a manifest can.",
    entry="main.py",
    isolation=Isolation.RUNSC,
    requirements="needs.txt",
    limits={"timeout_s": 3},
    parameters=SCHEMA,
    return_values=SCHEMA,
    interim_results=SCHEMA,
    backend_requirements={"min_num_qubits": 3, "inputs": 1},
)


def spec(files):
    program = Program(
        name="p",
        path=Path("here/p"),
        manifest=MANIFEST,
        files=files,
        signature=None,
        pins=(Pin(name="a", version="1", hashes=("f" * 64,)),),
    )
    request = Request(
        program="p",
        path="here/p",
        entry="main.py",
        inputs=JsonText('{"n": 1, "said": ", \\"inputs\\": {"}'),
        backend={"name": "b"},
        limits=Limits(timeout_s=3),
        user="alice",
    )
    return JobSpec(
        job="job-1",
        attempt=2,
        version="1",
        program=program,
        request=request,
        isolation=Isolation.RUNC,
        allow_missing=frozenset({"swap-limit"}),
    )


def test_a_specification_arrives_as_it_was():
    sent = spec({"main.py": b"\x00\xff", "data/x": b""})
    assert JobSpec.from_line(sent.to_line()) == sent
    assert sent.to_line().count(b"\n") == 1
    assert sent.policy.isolation is Isolation.RUNC
    assert wire.version_of(sent.to_line()) == "1"


def test_a_bundle_that_is_too_large_is_refused_with_the_numbers():
    with pytest.raises(RequestError, match=r"16777217 bytes, but at most 16777216"):
        spec({"main.py": b"x" * (MAX_PROGRAM_BYTES + 1)}).to_line()


@given(st.binary(max_size=200))
def test_bytes_that_are_no_specification_are_refused(data):
    with pytest.raises(WireError):
        JobSpec.from_line(data)


@given(
    st.one_of(
        st.builds(Hello, node=st.text(), version=st.text()),
        st.builds(Heartbeat),
        st.builds(Ended, how=st.sampled_from(End), reason=st.text()),
        st.builds(StartedEvent, job=st.text(), program=st.text(), image=st.none() | st.text()),
        st.builds(LogEvent, stream=st.just("stderr"), text=st.text()),
        st.builds(
            MessageEvent,
            seq=st.integers(0),
            time=st.floats(0, 1e12),
            body=json_values.map(lambda v: JsonText(json.dumps(v, ensure_ascii=False))),
        ),
        st.builds(
            Asked,
            call=st.integers(1),
            verb=st.text(),
            signature=st.text(),
            body=json_values.map(lambda v: JsonText(json.dumps(v, ensure_ascii=False))),
        ),
    )
)
def test_events_arrive_as_they_were(event):
    try:
        line = line_of(event)
    except UnicodeEncodeError:
        return  # a lone surrogate: no text that came from a sandbox has one
    assert line.endswith(b"\n")
    assert line.count(b"\n") == 1
    assert event_of(line[:-1]) == event


@given(json_values)
def test_answers_arrive_as_they_were(value):
    body = JsonText(json.dumps(value, indent=1))
    line = reply_line(7, body)
    assert line.count(b"\n") == 1
    call, arrived = reply_of(line[:-1])
    assert (call, json.loads(arrived)) == (7, value)


@given(st.binary(max_size=200), st.booleans())
def test_whatever_comes_to_a_node_is_an_answer_or_none_or_refused(data, begins):
    with contextlib.suppress(WireError):
        found = reply_of(b'{"do": "reply",' + data if begins else data)
        assert found is None or json.loads(found[1]) is not ...


IMITATIONS = [
    '{"a": 1, "body": 2}',
    '{"a": 1, "result": 2}',
    '[{"a": 1, "result": {"event": "message", "body": null}}]',
    '{"event": "message", "seq": 0, "time": 0, "body": {"event": "finished", "result": 1}}',
    '{"a": ", \\"body\\": ", "b": ", \\"result\\": "}',
    ' {"a":1 , "body": 2 } ',
]
"""Texts of a program in which stands what cuts its text out of a line."""


@pytest.mark.parametrize("result", [None, '"x"', *IMITATIONS])
def test_a_record_arrives_as_it_was(result):
    sent = dataclasses.replace(RECORD, result=result)
    assert event_of(line_of(Finished(record=sent))[:-1]) == Finished(record=sent)


@pytest.mark.parametrize("text", IMITATIONS)
def test_a_text_that_imitates_our_marks_arrives_as_it_was(text):
    message = MessageEvent(seq=3, time=1.0, body=JsonText(text))
    assert event_of(line_of(message)[:-1]) == message
    log = LogEvent(stream="stderr", text=text)
    assert event_of(line_of(log)[:-1]) == log
    sent = dataclasses.replace(
        RECORD, error=text, traceback=text, evidence=Evidence(source="guest", detail=text)
    )
    assert event_of(line_of(Finished(record=sent))[:-1]) == Finished(record=sent)


def test_none_as_a_result_is_a_result():
    sent = dataclasses.replace(RECORD, outcome=Outcome.COMPLETED, result=JsonText("null"))
    assert event_of(line_of(Finished(record=sent))[:-1]) == Finished(record=sent)


def test_line_ends_between_the_tokens_of_a_body_do_not_end_the_line():
    line = line_of(MessageEvent(seq=0, time=0.0, body=JsonText('{\n"a":\r\n1}')))
    assert line.count(b"\n") == 1
    body = event_of(line[:-1]).body
    assert json.loads(body) == {"a": 1}


def test_the_record_has_what_the_command_line_writes():
    ours = json.loads(line_of(Finished(record=RECORD)))
    theirs = json.loads(finished_line(RECORD))
    assert set(theirs) - {"mismatches"} <= set(ours)
    assert {key: ours[key] for key in theirs if key != "mismatches"} == {
        key: value for key, value in theirs.items() if key != "mismatches"
    }


@given(st.binary(max_size=300))
def test_whatever_comes_is_an_event_or_refused(data):
    try:
        event_of(data)
    except WireError:
        return
    assert data.lstrip().startswith(b"{")


@pytest.mark.parametrize(
    "line",
    [
        b'{"event": "message", "seq": 0, "time": 0, "body": }',
        b'{"event": "message", "seq": 0, "time": 0, "body": 1',
        b'{"event": "message", "seq": 0, "time": 0, "body": NaN}',
        b'{"event": "message", "seq": 0, "time": 0, "body": 1} {}',
        b'{"event": "message", "seq": 0, "time": 0, "result": 1}',
        b'{"event": "finished", "outcome": "won", "result": 1}',
        b'{"event": "finished", "outcome": "completed", "body": 1}',
        b'{"event": "finished", "result": 1}',
        b'{"event": "ended", "how": "won", "reason": ""}',
        b'{"event": "unheard of"}',
        b'{"event": []}',
        b"[]",
        b"",
    ],
)
def test_what_is_nearly_an_event_is_refused(line):
    with pytest.raises(WireError):
        event_of(line)


def test_a_job_that_no_node_can_run_is_refused_with_the_numbers():
    nodes = [NodeCapacity(name=f"n{i}", cpus=4.0, memory_bytes=8 << 30) for i in range(2)]
    capacity = Capacity(nodes=(*nodes, NodeCapacity(name="thin", cpus=8.0, memory_bytes=1 << 30)))
    capacity.check(4, 8 << 30)
    capacity.check(8, 1 << 30)
    with pytest.raises(RequestError, match=r"needs 8 CPUs and 2048 MiB.*thin has 8 and 1024 MiB"):
        capacity.check(8, 2 << 30)
    assert capacity.slots == 16
    with pytest.raises(RequestError, match="no node takes jobs"):
        Capacity(nodes=()).check(1, 1)
