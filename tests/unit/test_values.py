"""Inputs: refused with every reason, before anything is started."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from runner.errors import InputsError
from runner.programs import Program, given, values
from runner.programs.manifest import Manifest
from runner.programs.signature import Signature
from sandbox import codec
from sandbox.wire.protocol import JsonText


def make(source: str = "def main(b, m, **kwargs): ...", **spec: object) -> Program:
    manifest = Manifest.from_text(json.dumps({"name": "p", "spec": spec}), source="program.json")
    signature = Signature.of_source(source.encode())
    return Program(name="p", path=Path("p"), manifest=manifest, files={}, signature=signature)


def test_defaults_of_the_schema_are_filled_in_before_the_program_sees_them():
    program = make(parameters={"properties": {"shots": {"type": "integer", "default": 7}}})
    assert values.check_inputs(program, {}, limit_bytes=1000) == '{"shots":7}'
    assert values.check_inputs(program, {"shots": 1}, limit_bytes=1000) == '{"shots":1}'


@pytest.mark.parametrize(
    "inputs",
    [
        {"options": {"level": 3}},
        given.inputs_from_json('{"options": {"level": 3}}'),
        values.as_sent({"options": {"level": 3}}),
    ],
)
def test_defaults_inside_an_object_are_filled_in_however_it_was_given(inputs):
    inside = {"properties": {"level": {}, "shots": {"default": 7}}}
    program = make(parameters={"properties": {"options": {"type": "object", **inside}}})
    found = values.check_inputs(program, inputs, limit_bytes=1000)
    assert json.loads(found) == {"options": {"level": 3, "shots": 7}}


def test_a_tagged_value_is_no_object_that_could_lack_a_default():
    program = make(parameters={"properties": {"z": {"properties": {"shots": {"default": 7}}}}})
    tagged = given.inputs_from_json('{"z": {"__type__": "complex", "__value__": [1.0, 2.0]}}')
    found = values.check_inputs(program, tagged, limit_bytes=1000)
    assert json.loads(found)["z"] == {"__type__": "complex", "__value__": [1.0, 2.0]}


def test_names_and_values_are_complained_about_together():
    program = make(
        "def main(b, m, n, shots=1): ...",
        parameters={"properties": {"shots": {"type": "integer"}}},
    )
    with pytest.raises(InputsError) as caught:
        values.check_inputs(program, {"shots": "x", "z": 1}, limit_bytes=1000)
    for part in ("unknown input 'z'", "missing input 'n'", "inputs.shots: 'x' is not"):
        assert part in str(caught.value)


def test_inputs_that_cannot_be_sent_are_named_by_their_path():
    with pytest.raises(InputsError, match=r"inputs\['a'\]\[1\]"):
        values.check_inputs(make(), {"a": [1, object()]}, limit_bytes=1000)


def test_inputs_over_their_limit_are_refused_with_both_numbers():
    with pytest.raises(InputsError, match=r"1008 bytes, the limit is 1000"):
        values.check_inputs(make(), {"a": "x" * 1000}, limit_bytes=1000)


def test_messages_and_results_that_differ_from_the_manifest_are_named():
    manifest = make(
        interim_results={"type": "object", "required": ["iteration"]},
        return_values={"type": "string"},
    ).manifest
    messages = [JsonText('{"iteration":0}'), JsonText('{"step":1}')]
    found = values.mismatches(manifest, messages, JsonText("7"))
    assert found == [
        "messages[1]: 'iteration' is a required property",
        "result: 7 is not of type 'string'",
    ]
    assert values.mismatches(manifest, messages[:1], JsonText('"x"')) == []


def test_what_is_malformed_or_needs_qiskit_stays_an_opaque_value():
    for text in (
        '{"__type__":"QuantumCircuit","__value__":"eJw="}',
        '{"__type__":"nonsense","__value__":1}',
        '{"__type__":"complex","__value__":"x"}',
    ):
        value = values.decode(JsonText(text))
        assert isinstance(value, codec.Value)
        assert value.raw == json.loads(text)
