"""Parts of a service's pages that need no service: forms, charts, excerpts, failed sign-ins."""

from __future__ import annotations

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.errors import RequestError
from runner.job.record import LogEvent, MessageEvent, StartedEvent
from runner.job.request import Origin
from runner.pictures.page import MAX_BARS
from runner.programs import of_files
from runner.programs.manifest import Manifest
from runner.service import attempts
from runner.service.attempts import Attempts
from runner.service.examination import Examination
from runner.service.jobs import _end, _said
from runner.service.link import Link
from runner.service.pages import assets, charts, rendering
from runner.service.pages.cases import order_of, read_cases
from runner.service.pages.excerpts import excerpt_at
from runner.service.pages.fields import (
    Field,
    Kind,
    fields_of,
    inputs_of,
    typed_into,
    with_problems,
)
from runner.service.pages.values import MAX_READ, circuits_of, laid_out
from sandbox import codec
from sandbox.wire.protocol import JsonText

KINDS = st.sampled_from(["float", "ndarray", "BitArray", "QuantumCircuit", "tuple", "numpy"])


def program(properties=None, main="**inputs", required=()):
    """Return a program whose inputs have these schemas."""
    manifest = {"name": "p"}
    if properties is not None:
        schema = {"type": "object", "properties": properties, "required": list(required)}
        manifest["spec"] = {"parameters": schema}
    source = f"def main(backend, user_messenger, {main}):\n    pass\n".encode()
    files = {"program.json": json.dumps(manifest).encode(), "program.py": source}
    from pathlib import Path

    return of_files(Path("p"), files)


def field(schema, **more):
    return fields_of(program({"x": schema}, "x", **more))[0]


def typed(schema, text, **more):
    """Return the inputs, or the mistakes, of a form in whose one field this was typed."""
    fields = typed_into(fields_of(program({"x": schema}, "x=0", **more)), {"input.x": text})
    mistakes = [mistake for each in fields for mistake in each.mistakes]
    return mistakes or inputs_of(fields)


# --- forms ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("schema", "kind", "text"),
    [
        ({"type": "number", "default": 0.5}, Kind.NUMBER, "0.5"),
        ({"type": "integer"}, Kind.NUMBER, ""),
        ({"type": "string", "default": "a\nb"}, Kind.TEXT, "a\nb"),
        ({"type": "boolean", "default": True}, Kind.FLAG, "true"),
        ({"enum": [1, "a", None], "default": "a"}, Kind.CHOICE, '"a"'),
        ({"type": "array", "default": [1]}, Kind.JSON, "[1]"),
        ({"type": ["number", "null"]}, Kind.JSON, ""),
        ({"type": "number", "default": "a text"}, Kind.JSON, '"a text"'),
        ({"enum": [1], "default": 2}, Kind.JSON, "2"),
        ({"enum": []}, Kind.JSON, ""),
        ({"anyOf": [{"type": "number"}]}, Kind.JSON, ""),
        ({}, Kind.JSON, ""),
    ],
)
def test_a_field_takes_what_the_schema_says_and_holds_its_default(schema, kind, text):
    found = field(schema)
    assert (found.kind, found.typed) == (kind, text)


def test_a_field_has_range_step_title_and_help():
    found = field({"type": "integer", "minimum": 1, "exclusiveMaximum": 9, "title": "T"})
    assert (found.least, found.most, found.step, found.title) == ("1", "9", "1", "T")
    found = field({"type": "number", "description": "H"})
    assert (found.least, found.step, found.title, found.help) == ("", "any", "x", "H")


def test_yes_or_no_has_a_third_choice_where_saying_nothing_means_something():
    assert fields_of(program({"x": {"type": "boolean"}}, "x=True"))[0].choices == ("true", "false")
    assert fields_of(program({"x": {"type": "boolean"}}, "x"))[0].kind is Kind.FLAG


def test_what_no_schema_describes_is_typed_as_json():
    found = fields_of(program(None, "a, b=1"))
    assert [(each.name, each.kind, each.is_required) for each in found] == [
        ("a", Kind.JSON, True),
        ("b", Kind.JSON, False),
    ]
    (others,) = fields_of(program(None, "**rest"))
    assert (others.name, others.key) == ("", "inputs")
    fields = typed_into([others], {"inputs": '{"a": [1], "b": "x"}'})
    assert inputs_of(fields) == {"a": [1], "b": "x"}
    assert typed_into([others], {"inputs": "[1]"})[0].mistakes == ("this is no JSON object",)


def test_an_input_may_be_called_as_the_field_for_all_others():
    fields = fields_of(program({"inputs": {"type": "string"}}, "**rest"))
    assert [each.key for each in fields] == ["input.inputs", "inputs"]


@pytest.mark.parametrize(
    ("schema", "text", "expected"),
    [
        ({"type": "number"}, " 1.5 ", {"x": 1.5}),
        ({"type": "integer"}, "1e3", {"x": 1000}),
        ({"type": "number"}, "", {}),
        ({"type": "number"}, "1,5", ["'1,5' is no number"]),
        ({"type": "number"}, "1e999", ["'1e999' is no number"]),
        ({"type": "string"}, "", {}),
        ({"type": "string", "default": "a"}, "", {"x": ""}),
        ({"type": "string"}, "a\r\nb", {"x": "a\nb"}),
        ({"type": "boolean", "default": True}, "", {"x": False}),
        ({"type": "boolean", "default": False}, "true", {"x": True}),
        ({"enum": [1, "1"]}, '"1"', {"x": "1"}),
        ({"type": "array"}, "[1, {}]", {"x": [1, {}]}),
        ({"type": "array"}, "[1", ["this is no JSON: Expecting ',' delimiter: line 1 column 3"]),
        ({}, "[" * 100_000, ["this is no JSON: "]),
    ],
)
def test_what_was_typed_is_read_as_the_schema_says(schema, text, expected):
    found = typed(schema, text)
    if isinstance(expected, list):
        (mistake,), (begin,) = found, expected
        assert mistake.startswith(begin)
        assert len(mistake) < 300
    else:
        assert found == expected
        assert [type(each) for each in found.values()] == [type(v) for v in expected.values()]


def test_a_required_field_must_be_given_and_an_empty_text_is_one():
    assert typed({"type": "number"}, "", required=["x"]) == ["it must be given"]
    assert typed({"type": "string"}, "", required=["x"]) == {"x": ""}


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers(-9, 9) | st.floats(allow_nan=False) | st.text(),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
        max_leaves=6,
    )
)
def test_the_inputs_of_a_job_come_back_as_they_were_if_nothing_is_typed(value):
    schemas = ({"type": "number"}, {"type": "string"}, {"type": "boolean"}, {"enum": ["a", 1]}, {})
    properties = {f"x{n}": {**schema, "default": None} for n, schema in enumerate(schemas)}
    inputs = {**dict.fromkeys(properties, value), "another": value}
    fields = fields_of(program(properties, "**rest"), json.loads(json.dumps(inputs)))
    form = {each.key: each.typed for each in fields}
    form |= {each.key: "" for each in fields if each.kind is Kind.FLAG and each.typed == "false"}
    fields = typed_into(fields, form)
    found = inputs_of(fields)
    expected = {name: _as_sent(each) for name, each in inputs.items()}
    if value == "":
        found = {name: found.get(name, "") for name in expected}
    assert {name: _as_sent(each) for name, each in found.items()} == expected


def _as_sent(value):
    """Return what JSON makes of a value, with infinities tagged and line breaks as forms send."""
    if isinstance(value, float) and math.isinf(value):
        return {"__type__": "float", "__value__": "inf" if value > 0 else "-inf"}
    if isinstance(value, str):
        return value.replace("\r\n", "\n")
    if isinstance(value, list):
        return [_as_sent(each) for each in value]
    if isinstance(value, dict):
        return {key: _as_sent(each) for key, each in value.items()}
    return value


def test_problems_stand_at_their_fields_and_the_others_apart():
    fields = [Field(name=name, kind=Kind.JSON) for name in ("a", "ab", "c d", "")]
    problems = ["inputs.a: x", "inputs.ab[0]: y", "inputs.c d.e: z", "inputs: w"]
    problems += ["missing input 'a' (main takes a)", "unknown input 'q' (main takes a)"]
    found, others = with_problems(fields, problems)
    assert [each.mistakes for each in found] == [
        ("inputs.a: x", "missing input 'a' (main takes a)"),
        ("inputs.ab[0]: y",),
        ("inputs.c d.e: z",),
        (),
    ]
    assert others == ["inputs: w", "unknown input 'q' (main takes a)"]


def test_a_form_is_bounded_whatever_a_schema_says():
    fields = fields_of(program({f"x{n}": {} for n in range(300)}))
    assert len(fields) == 201
    assert field({"enum": list(range(1000))}).kind is Kind.JSON
    odd = program({"x": {"type": "string", "title": "t" * 9000, "description": "h" * 9000}}, "x")
    assert len(fields_of(odd)[0].help) == len(fields_of(odd)[0].title) == 1000


def test_a_manifest_may_describe_its_inputs_in_ways_that_mean_nothing():
    for schema in ({"properties": []}, {"properties": {"x": True}}, {"required": "x"}, {}):
        given_ = program(None, "x=1")
        import dataclasses

        odd = dataclasses.replace(given_, manifest=Manifest(name="p", parameters=schema))
        assert [each.name for each in fields_of(odd)] == ["x"]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(["__type__", "__value__", "counts", "x", "00", "options"]), inner
        )
        | st.builds(lambda kind, value: {"__type__": kind, "__value__": value}, KINDS, inner)
    ),
    max_leaves=12,
)


# --- values and charts ----------------------------------------------------------------------------


def test_a_value_on_a_page_is_bounded_and_escaped():
    assert laid_out(None) == ""
    assert "too long for this page" in laid_out(JsonText(f'"{"x" * MAX_READ}"'))
    assert len(laid_out(JsonText(json.dumps([["\u202e" * 300] * 12] * 12)))) < 21_000
    assert "\u202e" not in laid_out(JsonText('"\u202e"'))
    assert laid_out(JsonText("1" * 5000)).startswith("1111")


def test_circuits_are_drawn_in_their_places():
    qiskit = pytest.importorskip("qiskit")
    text = codec.encode({"a": qiskit.QuantumCircuit(2), "b": [qiskit.QuantumCircuit(1)]})
    assert len(circuits_of(text)) == 2
    shown = laid_out(text, ["first\npicture", "second"])
    assert shown.index("picture") < shown.index("second")
    assert "picture" not in laid_out(text, ["only one"])
    assert circuits_of(None) == circuits_of(JsonText('{"QuantumCircuit"')) == []


def messages(*bodies):
    return [MessageEvent(seq=n, time=0.0, body=JsonText(body)) for n, body in enumerate(bodies)]


def test_lines_are_placed_within_the_picture():
    bodies = [json.dumps({"step": n, "y": math.sin(n / 50) * 1e6}) for n in range(900)]
    found = charts.charts("job", messages(*bodies), None)
    (line,) = found.lines
    points = [tuple(map(float, each.split(","))) for each in line.points.split()]
    assert len(points) <= 200
    assert all(0 <= x <= charts.WIDTH and 0 <= y <= charts.HEIGHT for x, y in points)
    assert [x for x, _ in points] == sorted(x for x, _ in points)
    assert "900 values" in line.notes
    assert (line.by, line.first, line.last) == ("step", "step 0", "step 899")
    assert len(json.loads(found.series)[0]["points"]) == len(points)


def test_a_line_without_a_height_or_with_what_cannot_be_drawn_has_its_place():
    found = charts.charts("job", messages("[1.5]", "[1.5]", '[{"__type__": "float"}]'), None)
    (line,) = found.lines
    assert (line.least, line.greatest) == ("", "1.5")
    assert charts.charts("job", [], None) == charts.Charts(lines=[], counts=[], series="[]")


@given(st.lists(JSON, max_size=4), JSON)
def test_whatever_a_program_says_there_are_charts_or_none(bodies, result):
    said = messages(*(json.dumps(each) for each in bodies))
    found = charts.charts("job", said, JsonText(json.dumps(result)))
    assert isinstance(json.loads(found.series), list)


@given(st.dictionaries(st.sampled_from(["inputs", "seed", "backend", "expect", "x"]), JSON))
def test_whatever_a_case_says_it_is_shown_and_refused_in_words(content):
    (case,) = read_cases({"a.json": json.dumps(content).encode(), "b.txt": b""}, [])
    assert case.name == "a"
    assert all(isinstance(each, str) for each in case.expected)
    if not case.obstacle:
        order_of(case, Origin())


def test_a_list_in_the_result_is_a_line_that_no_message_goes_on_with():
    found = charts.charts("job", [], JsonText('{"energies": [3, 2, 1.5]}'))
    assert [each.name for each in found.lines] == ["energies"]
    assert found.series == "[]"


def test_counts_are_bars_of_which_only_the_longest_are_drawn():
    counts = {format(n, "06b"): n + 1 for n in range(64)}
    ((_, rows),) = charts.charts("job", [], JsonText(json.dumps({"counts": counts}))).counts
    assert len(rows) == MAX_BARS + 1
    assert (rows[0].key, rows[0].drawn) == ("111111", "█" * 30)
    assert (rows[-1].key, rows[-1].drawn) == (f"{64 - MAX_BARS} more", "")


def test_what_is_read_for_charts_is_bounded():
    found = charts.recent(messages(*["1"] * (charts.MAX_MESSAGES + 10)))
    assert (len(found), found[0].seq) == (charts.MAX_MESSAGES, 10)
    large = "1" * (charts.MAX_CHARS // 3)
    assert [each.seq for each in charts.recent(messages(*[large] * 5))] == [2, 3, 4]


def test_what_a_job_has_said_so_far_is_of_its_last_attempt_and_of_one_moment():
    def started(attempt):
        return StartedEvent(job="j", program="p", image=None, attempt=attempt)

    old = [started(1), *messages("1", "2"), LogEvent(stream="stderr", text="old\n")]
    events = [*old, started(2), *messages("3", "4", "5"), LogEvent(stream="stderr", text="a\nbc\n")]
    said = _said(events, None, 2, 100)
    assert ([each.body for each in said.messages], said.log) == (["4", "5"], "a\nbc\n")
    assert said.last == len(events) - 1
    assert [each.body for each in _said(events, 0, 2, 100).messages] == ["3", "4"]
    assert [each.body for each in _said(events, 2, 2, 100).messages] == ["5"]
    assert _said(events, None, 2, 4).log == "bc\n"
    assert _said([], None, 2, 4).last == -1
    assert _end("x" * 10, 3) == "xxx"


# --- the rest -------------------------------------------------------------------------------------


def test_an_excerpt_is_around_the_line_that_an_error_names():
    files = {"program.yaml": b"\n".join(b"line %d" % n for n in range(1, 21)), "b.py": b"x\n<y>"}
    found = excerpt_at("program/program.yaml, line 10: limits: no", files)
    assert (found.file, found.line) == ("program.yaml", 10)
    assert [number for number, _ in found.lines] == list(range(7, 14))
    assert dict(found.lines)[10] == "line 10"
    assert excerpt_at("line 2: main is async", files).lines == [(1, "x"), (2, "<y>")]
    for error in ("program.yaml, line 99: x", "other.yaml, line 1: x", "no line", "line 0: x"):
        assert excerpt_at(error, files) is None
    assert excerpt_at("line 1: x", {"a.py": b"a", "b.py": b"b"}) is None
    assert excerpt_at("a.py, line 1: x", {"a.py": b"\xff" * 1000}).lines[0][1] == "\ufffd" * 200


def test_failures_count_for_an_address_or_the_network_of_one(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(attempts.time, "monotonic", lambda: now[0])
    counted = Attempts()
    for n in range(attempts.MOST):
        counted.check("2001:db8::1")
        counted.failed(f"2001:db8::{n}")
    for each in ("2001:db8::ffff", "2001:db8:0:0:1::"):
        with pytest.raises(RequestError, match="wait 5 minutes"):
            counted.check(each)
    for each in ("2001:db8:0:1::1", "192.0.2.1", "this machine"):
        counted.check(each)
    now[0] += attempts.WAIT_S + 1
    counted.check("2001:db8::1")


def test_addresses_of_version_4_are_told_apart_on_a_socket_for_both_versions():
    counted = Attempts()
    for _ in range(attempts.MOST):
        counted.failed("::ffff:192.0.2.1")
    counted.check("::ffff:192.0.2.2")
    for each in ("::ffff:192.0.2.1", "192.0.2.1"):
        with pytest.raises(RequestError, match="wait 5 minutes"):
            counted.check(each)


def test_only_so_many_addresses_are_remembered(monkeypatch):
    monkeypatch.setattr(attempts, "_ADDRESSES", 3)
    counted = Attempts()
    for n in range(9):
        counted.failed(f"192.0.2.{n}")
    assert list(counted._failed) == ["192.0.2.6", "192.0.2.7", "192.0.2.8"]


def test_a_link_works_once_and_then_there_is_another():
    said = []
    link = Link()
    assert not link.take("")
    link.announce_to(said.append)
    first = said[-1]
    assert not link.take(first[:-1])
    assert not link.take("")
    assert link.take(first)
    assert not link.take(first)
    assert len(set(said)) == 2
    assert link.take(said[-1])


def test_one_examination_runs_at_a_time_and_its_findings_stay():
    def examine():
        with pytest.raises(RequestError, match="is running already"):
            examination.run()
        yield {"what": "engine"}

    examination = Examination(examine)
    assert examination.last.time is None
    examination.run()
    assert examination.last.found == ({"what": "engine"},)
    assert not examination.is_running


def test_a_failed_examination_lets_the_next_one_begin():
    def examine():
        raise OSError
        yield

    examination = Examination(examine)
    for _ in range(2):
        with pytest.raises(OSError):  # noqa: PT011  it is the one above
            examination.run()


@pytest.fixture
def files(tmp_path, monkeypatch):
    monkeypatch.setattr(assets, "_DIRECTORY", tmp_path)
    for each in (assets._files, assets.edition):
        each.cache_clear()
    yield tmp_path
    for each in (assets._files, assets.edition):
        each.cache_clear()


def test_the_address_of_a_file_changes_with_any_of_them(files):
    (files / "a.js").write_text("1")
    before = assets.address("a.js")
    assert before.startswith("/static/")
    for each in (assets._files, assets.edition):
        each.cache_clear()
    (files / "b.js").write_text("")
    assert assets.address("a.js") != before


def test_times_ages_and_words_are_for_people():
    assert rendering.when(0) == "1970-01-01 00:00:00"
    assert rendering.when(None) == "-"
    ages = {-1: "0 s", 59: "59 s", 60: "1 min", 7200: "2 h", 3 * 86400: "3 d"}
    assert {seconds: rendering.age(seconds) for seconds in ages} == ages
    assert rendering.in_words("TIME_limit") == "time limit"
