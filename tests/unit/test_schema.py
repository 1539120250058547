"""Values against schemas: every problem at once, and bounded whatever both sides are."""

from __future__ import annotations

import collections
import dataclasses
import enum
import json
import time
import types

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runner.host import bounded
from runner.programs import schema
from sandbox import codec

SHOTS = {
    "type": "object",
    "properties": {
        "shots": {"type": "integer", "minimum": 1},
        "names": {"type": "array", "items": {"type": "string"}},
    },
    "required": ["shots"],
    "additionalProperties": False,
}


Point = collections.namedtuple("Point", "x y")
Level = enum.IntEnum("Level", ["LOW", "HIGH"])


@dataclasses.dataclass
class Step:
    a: object


def test_every_problem_is_reported_at_once_with_its_path():
    data = {"shots": 0, "names": ["a", 7], "colour": 1}
    found = schema.problems(SHOTS, data, name="inputs")
    assert len(found) == 3
    assert "inputs.shots: 0 is less than the minimum of 1" in found
    assert "inputs.names[1]: 7 is not of type 'string'" in found
    assert schema.problems(SHOTS, {"shots": 1}, name="inputs") == []


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        ((1, 2), "array"),
        ({1, 2}, "array"),
        (Point(1, 2), "array"),
        (np.float32(0.5), "number"),
        (np.int8(5), "integer"),
        (np.eye(2), "array"),
        (Level.HIGH, "integer"),
        (collections.Counter("aab"), "object"),
        (1j, "object"),
        (float("nan"), "number"),
        ({"a": 1}, "object"),
        ("text", "string"),
    ],
)
def test_values_count_as_what_json_would_call_them(value, kind):
    data = codec.to_data(value)
    assert schema.problems({"type": kind}, data, name="value") == []
    other = "string" if kind != "string" else "array"
    assert len(schema.problems({"type": other}, data, name="value")) == 1


def test_what_is_inside_counters_and_dataclasses_is_looked_at():
    spec = {"properties": {"a": {"type": "integer"}}, "required": ["a"]}
    for value in (collections.Counter("aab"), Step(a=1), types.SimpleNamespace(a=np.int64(3))):
        assert schema.problems(spec, codec.to_data(value), name="value") == []
    (problem,) = schema.problems(spec, codec.to_data(Step(a="x")), name="value")
    assert problem == "value.a: 'x' is not of type 'integer'"


def test_items_of_an_array_are_not_looked_at():
    data = {"__type__": "ndarray", "__value__": "eJw="}
    spec = {"type": "array", "items": {"type": "string"}, "minItems": 3}
    assert schema.problems(spec, data, name="value") == []


def test_defaults_are_filled_in_also_inside_and_given_values_stay():
    spec = {
        "properties": {
            "shots": {"default": 1024},
            "options": {"default": {}, "properties": {"level": {"default": 1}}},
        }
    }
    assert schema.with_defaults(spec, {}) == {"shots": 1024, "options": {"level": 1}}
    given_values = {"shots": 1, "options": {"level": 3}}
    assert schema.with_defaults(spec, given_values) == given_values
    assert spec["properties"]["options"]["default"] == {}


HOSTILE = {
    "a pattern that backtracks": ({"pattern": "^(a+)+$"}, "a" * 30 + "!"),
    "a name that backtracks": ({"patternProperties": {"^(a+)+$": {}}}, {"a" * 30 + "!": 1}),
    "all compared with all": (
        {"uniqueItems": True},
        [{"a": [[number]]} for number in range(60_000)],
    ),
    "a reference to itself": ({"$ref": "#"}, 1),
    "references that multiply": (
        {
            "$defs": {f"a{n}": {"allOf": [{"$ref": f"#/$defs/a{n + 1}"}] * 8} for n in range(12)}
            | {"a12": {"type": "string"}},
            "$ref": "#/$defs/a0",
        },
        1,
    ),
}


@pytest.mark.parametrize("attack", HOSTILE)
def test_a_hostile_schema_or_value_is_a_problem_within_seconds(attack):
    spec, data = HOSTILE[attack]
    started = time.monotonic()
    found = schema.problems(spec, data, name="inputs")
    assert found
    assert time.monotonic() - started < schema.WALL_S + 5


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


SLOW = {"pattern": "^(a+)+$"}
TEXT = json.dumps("a" * 30 + "!")


def test_many_slow_values_share_one_child_and_one_budget(asked):
    started = time.monotonic()
    found = schema.all_problems([(SLOW, TEXT, f"messages[{number}]") for number in range(40)])
    assert asked == ["runner.programs.schema"]
    assert time.monotonic() - started < schema.WALL_S + 5
    assert found == [
        "messages[0]: checking it against the schema takes more than 3 s or 1024 MiB: make the "
        "schema simpler or the value smaller, and 39 more values were not checked"
    ]


def test_what_was_found_within_the_bounds_is_said_also_if_they_are_reached(asked):
    questions = [({"type": "integer", "format": "x"}, '"a"', "messages[0]"), (SLOW, TEXT, "result")]
    found = schema.all_problems(questions)
    assert found[0] == "messages[0]: 'a' is not of type 'integer'"
    assert found[1].startswith("result: checking it against the schema takes more than")
    assert asked == ["runner.programs.schema"]


def test_small_harmless_checks_need_no_child_and_many_need_one(asked):
    questions = [(SHOTS, '{"shots":1}', f"messages[{number}]") for number in range(20)]
    assert schema.all_problems(questions) == []
    assert schema.flaws([SHOTS] * 3) == [None] * 3
    assert asked == []
    found = schema.all_problems([*questions * 100, (SHOTS, "7", "result")])
    assert found == ["result: 7 is not of type 'object'"]
    assert asked == ["runner.programs.schema"]


DRAFT_3 = "http://json-schema.org/draft-03/schema#"
DRAFT_7 = "http://json-schema.org/draft-07/schema#"


@pytest.mark.parametrize(
    "spec",
    [
        {"$schema": DRAFT_7, "items": [SLOW]},
        {"$schema": DRAFT_3, "type": ["integer", SLOW]},
        {"$schema": DRAFT_3, "extends": SLOW},
        {"additionalProperties": {"not": SLOW}},
        {"properties": {"a": {"$schema": DRAFT_3, "type": [SLOW]}}},
        {"allOf": [[SLOW]]},
        {"properties": [SLOW]},
        {"$defs": {"a": SLOW}},
        {"contains": {}},
        {"unevaluatedProperties": False},
    ],
)
def test_schemas_of_any_draft_are_checked_here_only_if_all_in_them_is_harmless(asked, spec):
    schema.problems(spec, [1], name="x")
    assert asked == ["runner.programs.schema"]


def entries(number):
    """Return a list that cannot be sorted, so that each is compared with each."""
    return [[index] if index % 2 else str(index) for index in range(number)]


@pytest.mark.parametrize(
    "spec",
    [
        {"required": entries(500)},
        {"$schema": DRAFT_7, "enum": entries(500)},
        {"$schema": "http://json-schema.org/draft-04/schema#", "type": entries(500)},
        {"allOf": [{"type": "integer"}] * 500},
        {"pattern": "(?i)[a-z]"},
        {"patternProperties": {"[\u0100-\uffff]": {}}},
        {"pattern": r"[\u0100-\uffff]"},
        {"description": "x" * 9000},
    ],
    ids=range(8),
)
def test_a_schema_that_could_be_slow_is_read_in_a_child(asked, spec):
    assert schema.flaws([spec, SHOTS, {"type": "nonsense"}])[1] is None
    assert asked == ["runner.programs.schema"]


def test_schemas_that_cannot_be_read_within_the_bounds_are_flawed(monkeypatch):
    bounds = dataclasses.replace(schema._BOUNDS, wall_s=0.0)
    monkeypatch.setattr(schema, "_BOUNDS", bounds)
    found = schema.flaws([{"description": "x" * 9000}, {}])
    words = "reading it takes more than 3 s or 1024 MiB: make it simpler"
    assert found == [([], words), ([], words)]


def test_the_words_for_a_problem_are_bounded():
    spec = {"additionalProperties": {"type": "string"}}
    (found,) = schema.problems(spec, {"x" * 100_000: 1}, name="inputs")
    assert len(found) < 500


def test_a_reference_is_never_fetched():
    spec = {"$ref": "http://127.0.0.1:9/schema.json"}
    (found,) = schema.problems(spec, 1, name="inputs")
    assert "refers to 'http://127.0.0.1:9/schema.json', and that is not in it" in found


def test_a_large_value_is_checked_and_its_problems_are_bounded():
    data = ["x" * 1000] * 20_000
    found = schema.problems({"items": {"type": "integer"}}, data, name="inputs")
    assert len(found) == schema.MAX_PROBLEMS
    assert all(len(each) < 300 for each in found)


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=8,
)
SPECS = st.sampled_from(
    [SHOTS, {"type": "array", "items": {"type": "integer"}}, {"enum": [1, "a", None]}, {}]
)


@settings(max_examples=10)
@given(SPECS, VALUES)
def test_the_child_finds_what_this_process_finds(spec, value):
    assert schema._problems_in_child([(spec, json.dumps(value), "x")]) == schema.problems_here(
        spec, value, "x"
    )
