"""The one form of a job: each field of a request and of a record makes all three trips."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import types
import typing
from collections.abc import Mapping
from enum import Enum
from pathlib import Path

import pytest

from runner.cli.output import finished_line
from runner.host import forms
from runner.job import form
from runner.job.record import Evidence, JobRecord, LogEvent, MessageEvent, Outcome, StartedEvent
from runner.job.request import Origin, Request, frame
from runner.policy import Limits
from runner.policy.isolation import Isolation
from runner.programs import Program, bundle
from runner.programs.manifest import Manifest
from runner.programs.signature import Signature
from runner.sites.wire import Finished, JobSpec, event_of, line_of
from runner.store import Store
from runner.store.recorder import Recorder
from sandbox.wire import protocol
from sandbox.wire.protocol import JsonText
from tests.unit.store.keeping import make_job

ODD = '\N{GREEK SMALL LETTER ALPHA} \u2028\n"quoted", "result": \ud800'


def sample(kind, **given):
    """Return a value of a dataclass in which no field has its default."""
    hints = typing.get_type_hints(kind)
    fields = {each.name: _sample(hints[each.name], each.name) for each in dataclasses.fields(kind)}
    return kind(**{**fields, **given})


def _sample(hint, name):
    origin, inside = typing.get_origin(hint), typing.get_args(hint)
    if origin in {types.UnionType, typing.Union}:
        (hint,) = (each for each in inside if each is not types.NoneType)
        return _sample(hint, name)
    if dataclasses.is_dataclass(hint):
        return sample(hint)
    if origin is tuple:
        return (f"{name} 1", f"{name} 2")
    if origin in {dict, Mapping}:
        return {f"{name} of": f"{name} {ODD}"}
    if hint is JsonText:
        return JsonText(json.dumps({name: [1.5, ODD, None]}))
    if issubclass(hint, Enum):
        return list(hint)[-1]
    number = len(name) + 7
    whole = number << 23 if name.endswith("_bytes") else number  # within the bounds of limits
    return {str: f"{name} {ODD}", int: whole, float: number + 0.25, bool: True}[hint]


ORIGIN = Origin(program_id="p-1", version=2, session="s", key="k", image="i:1")
REQUEST = sample(
    Request, program="p", user="alice", tags=("a", "b"), replay_of="job-1", origin=ORIGIN
)
RECORD = sample(JobRecord, outcome=Outcome.COMPLETED, user="alice")


@pytest.mark.parametrize("value", [REQUEST, RECORD], ids=["request", "record"])
def test_the_samples_leave_no_field_at_its_default(value):
    for each in dataclasses.fields(value):
        default = each.default
        if each.default_factory is not dataclasses.MISSING:
            default = each.default_factory()
        assert getattr(value, each.name) != default, each.name


def test_every_field_is_kept_in_the_store(tmp_path):
    with contextlib.closing(Store(tmp_path / "s")) as store:
        job = make_job(Recorder(store, keep_open=True), **_fields(REQUEST))
        job.finish(dataclasses.replace(RECORD, job=job.id))
        found = store.load(job.id)
    assert found.request == dataclasses.replace(REQUEST, program="sampler", path="sampler.py")
    assert found.record == dataclasses.replace(RECORD, job=job.id, stored=True)


def _fields(request):
    fields = {each.name: getattr(request, each.name) for each in dataclasses.fields(request)}
    return {name: value for name, value in fields.items() if name not in {"program", "path"}}


def test_every_field_arrives_on_a_cluster_and_comes_back():
    program = Program(
        name="p",
        path=Path("here/p"),
        manifest=Manifest(name="p"),
        files={"program.py": b""},
        signature=None,
    )
    spec = JobSpec(
        job="j",
        attempt=1,
        version="1",
        program=program,
        request=REQUEST,
        isolation=Isolation.RUNC,
    )
    assert JobSpec.from_line(spec.to_line()).request == REQUEST
    assert event_of(line_of(Finished(record=RECORD))[:-1]) == Finished(record=RECORD)


def test_every_field_is_in_what_the_command_line_writes():
    line = finished_line(RECORD, ["a mismatch"], index=3)
    assert line.isascii()
    assert line.isprintable()
    written = json.loads(line)
    assert set(written) == {"event", "index", "mismatches"} | {
        each.name for each in dataclasses.fields(JobRecord)
    }
    assert form.finished_of(written, JsonText(json.dumps(written["result"]))) == RECORD


def test_a_field_that_is_new_needs_nothing_but_itself():
    def wider(kind):
        field = ("colour", "str | None", None)
        return dataclasses.make_dataclass(
            "Wider", [field], bases=(kind,), frozen=True, kw_only=True
        )

    for value in (REQUEST, RECORD):
        kind = wider(type(value))
        fields = {each.name: getattr(value, each.name) for each in dataclasses.fields(value)}
        red = kind(**fields, colour="red")
        data = json.loads(json.dumps(forms.data_of(red)))
        assert data["colour"] == "red"
        assert forms.value_of(kind, data) == red
        assert forms.value_of(type(value), data) == value  # by a version that does not know it
        assert forms.value_of(kind, forms.data_of(value)).colour is None  # of an older version


def test_what_is_absent_is_null_in_every_form():
    record = JobRecord(job="", program="p", outcome=Outcome.SANDBOX_ERROR)
    data = form.record_data(record)
    assert data["job"] is data["user"] is data["evidence"] is data["image"] is None
    assert set(data["usage"]) >= {"wall_s", "cpu_s", "memory_peak_bytes", "oom_kills", "messages"}
    assert form.record_of(data, None) == record
    met = dataclasses.replace(record, evidence=Evidence(limit="messages", value=1, source="host"))
    assert form.record_data(met)["evidence"] == {
        "limit": "messages",
        "value": 1,
        "observed": None,
        "source": "host",
    }
    assert form.record_of(form.record_data(met), None) == met


@pytest.mark.parametrize("outcome", Outcome)
@pytest.mark.parametrize("result", [None, "null", "1"])
def test_no_result_is_not_the_result_none(outcome, result):
    record = JobRecord(job="j", program="p", outcome=outcome, result=result)
    found = event_of(line_of(Finished(record=record))[:-1]).record
    if result == "null" and outcome is not Outcome.COMPLETED:
        assert found.result is None  # both are null in the event
    elif result is None and outcome is Outcome.COMPLETED:
        assert found.result == "null"
    else:
        assert found == record


EVENTS = [
    (
        StartedEvent(job="j", program="p", image="sha256:1"),
        {"event": "started", "job": "j", "program": "p", "image": "sha256:1"},
    ),
    (
        StartedEvent(job="j", program="p", image=None, node="n1", attempt=2),
        {
            "event": "started",
            "job": "j",
            "program": "p",
            "image": None,
            "node": "n1",
            "attempt": 2,
        },
    ),
    (
        MessageEvent(seq=3, time=1.5, body=JsonText('{"a":\n[1]}')),
        {"event": "message", "seq": 3, "time": 1.5, "body": {"a": [1]}},
    ),
    (LogEvent(stream="stderr", text=ODD), {"event": "log", "stream": "stderr", "text": ODD}),
]


@pytest.mark.parametrize(("event", "written"), EVENTS)
def test_events_have_the_keys_that_are_documented(event, written):
    line = form.event_text(event)
    assert "\n" not in line
    assert json.loads(line) == written
    assert list(json.loads(line)) == list(written)


MANIFEST = sample(
    Manifest, name="p", entry="main.py", isolation=Isolation.RUNSC, limits={"timeout_s": 3}
)


def test_a_program_is_kept_and_sent_with_all_that_its_manifest_says():
    source = b"def main(backend, user_messenger, n): pass\n"
    program = Program(
        name="p",
        path=Path("here/p"),
        manifest=MANIFEST,
        files={"main.py": source, "program.yaml": b"name: p\n", "data/x": b"\x00\xff"},
        signature=Signature.of_source(source),
    )
    assert bundle.program_of(json.loads(json.dumps(bundle.data_of(program)))) == program


def test_the_inputs_are_one_text_from_the_check_to_the_guest():
    inputs = JsonText('{"large":{"__type__":"float","__value__":"inf"},"n":1}')
    request = Request(program="p", entry="main.py", inputs=inputs, backend={"name": "none"})
    line = frame(request, 7, log_end="mark")
    assert inputs.encode() in line
    assert line.count(b"\n") == 1
    run = protocol.decode_run(line)
    assert run == protocol.Run(
        job=7,
        entry="main.py",
        inputs=json.loads(inputs),
        backend={"name": "none"},
        limits=Limits().for_guest(),
        log_end="mark",
    )


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"outcome": "won"}, "'won' is not a valid Outcome"),
        ({"outcome": None}, "None is not a valid Outcome"),
        ({"program": 1}, "JobRecord.program: 1 is of the type int, not str"),
        ({"usage": []}, r"JobRecord.usage: \[\] is of the type list, not Usage"),
        (
            {"usage": {"wall_s": "1"}},
            "JobRecord.usage: Usage.wall_s: '1' is of the type str, not int",
        ),
        ({"usage": {"messages": True}}, "Usage.messages: True is of the type bool, not number"),
        ({"exceptions": "swap"}, "exceptions: 'swap' is of the type str, not list or tuple"),
        ({"exceptions": [1]}, "JobRecord.exceptions: 1 is of the type int, not str"),
        ({"versions": [1]}, r"JobRecord.versions: \[1\] is of the type list, not Mapping"),
        ({"stored": 1}, "JobRecord.stored: 1 is of the type int, not bool"),
    ],
)
def test_data_that_is_no_record_is_refused_by_its_member(changed, words):
    data = form.record_data(JobRecord(job="j", program="p", outcome=Outcome.COMPLETED))
    with pytest.raises(ValueError, match=words):
        form.record_of({**data, **changed}, None)


def test_a_record_without_what_it_must_have_is_refused():
    with pytest.raises(ValueError, match="JobRecord is not whole: .*outcome"):
        form.record_of({"job": "j", "program": "p"}, None)
