"""Manifests and what is read from a program's source: accepted, or refused by name."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.errors import ManifestError
from runner.programs.manifest import Manifest
from runner.programs.signature import Signature
from runner.programs.source import MAX_BYTES


def read(text: str) -> Manifest:
    return Manifest.from_text(text, source="program.yaml")


def test_a_manifest_needs_a_name_only():
    manifest = read("name: mine")
    assert (manifest.name, manifest.entry, manifest.limits) == ("mine", "program.py", {})


def test_json_is_accepted_and_max_execution_time_lowers_the_time_limit():
    manifest = read('{"name": "mine", "max_execution_time": 60, "limits": {"timeout_s": 90}}')
    assert manifest.limits == {"timeout_s": 60}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "mapping"),
        ("- a", "mapping"),
        ("name: [", "not a readable manifest"),
        ("description: x", "'name' is a required property"),
        ("name: Upper Case", "name: "),
        ("name: a\nmax_execution_time: fast", "line 2: max_execution_time: 'fast' is not"),
        ("name: a\n\nmax_execution_time: -1", "line 3: max_execution_time: -1"),
        ("name: a\nmax_execution_time: soon", "expected: a number of seconds above 0"),
        ("name: a\nmax_execution_tim: 3", "did you mean 'max_execution_time'?"),
        ("name: a\nspec:\n  return_value: {}", "line 3: spec.return_value: unknown key"),
        ('{\n\t"name": "a",\n\t"isolation": "vm"}', "line 3: isolation: 'vm'"),
        ("name: a\nparameters: [{type: int}]", "line 2: parameters.0: 'name' is a required"),
        ("name: a\nmax_execution_time: .nan", "not a readable manifest"),
        ("name: a\nnonsense: 1", "nonsense"),
        ("name: a\nname: b", "stands twice"),
        ("name: a\nentry: ../../etc/passwd", "entry"),
        ("name: a\nlimits:\n  colour: 1", "line 3: limits.colour: unknown key; known are cpus"),
        ("name: a\nlimits: {processes: 1.5}", "expected: a whole number above 0"),
        ("name: a\nlimits: {cpus: 1.0e-10}", "expected: a number of at least 0.01"),
        ('{"name": "a\\n"}', "name: "),
        (
            "name: a\nspec: {parameters: {type: 7}}",
            "line 2: spec.parameters.type: not a JSON Schema",
        ),
        ("a: &x [1]\nname: *x", "aliases"),
        ("name: a\ndescription: 2020-01-01", "not a readable manifest"),
        ("name: !!python/object/apply:os.system [id]", "not a readable manifest"),
        ("name: " + "x" * 300_000, "longer than"),
        ("[" * 5000, "not a readable manifest"),
    ],
)
def test_a_mistake_is_named(text: str, said: str):
    with pytest.raises(ManifestError) as caught:
        read(text)
    assert str(caught.value).startswith("program.yaml")
    assert said in str(caught.value)


def test_the_metadata_of_a_runtime_program_is_read_as_it_was_uploaded():
    manifest = read(
        json.dumps(
            {
                "name": "sampling",
                "description": "Samples.",
                "max_execution_time": 400,
                "is_public": False,
                "spec": {
                    "backend_requirements": {"min_num_qubits": 5, "input_allowed": "runtime"},
                    "parameters": {
                        "$schema": "https://json-schema.org/draft/2019-09/schema",
                        "type": "object",
                        "properties": {"shots": {"type": "integer", "default": 4000}},
                        "required": ["shots"],
                    },
                    "return_values": {"type": "string"},
                    "interim_results": {"type": "object"},
                },
            },
            indent="\t",
        )
    )
    assert manifest.limits == {"timeout_s": 400}
    assert manifest.backend_requirements["min_num_qubits"] == 5
    assert manifest.parameters["required"] == ["shots"]


def test_the_older_lists_become_schemas():
    manifest = read(
        json.dumps(
            {
                "name": "older",
                "cost": 600,
                "version": "1.0",
                "backend_requirements": {"min_num_qubits": 3},
                "parameters": [
                    {"name": "iterations", "description": "d", "type": "int", "required": "true"},
                    {"name": "noise", "type": "NoiseModel", "required": False},
                ],
                "return_values": [{"name": "-", "description": "text", "type": "string"}],
            }
        )
    )
    assert manifest.limits == {"timeout_s": 600}
    assert manifest.backend_requirements == {"min_num_qubits": 3}
    assert manifest.parameters == {
        "type": "object",
        "properties": {"iterations": {"description": "d", "type": "integer"}, "noise": {}},
        "required": ["iterations"],
    }
    assert manifest.return_values["properties"]["-"]["type"] == "string"


@given(st.text(max_size=200))
def test_any_text_is_a_manifest_or_a_manifest_error(text: str):
    try:
        read(text)
    except ManifestError:
        return


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("def main(backend, user_messenger, **kwargs): ...", ((), (), True)),
        ("def main(b, m, x, y=1, *, z, w=2): ...", (("x", "z"), ("y", "w"), False)),
        ("def main(b, m, /, x): ...", (("x",), (), False)),
        ("def main(b, m): ...", ((), (), False)),
    ],
)
def test_the_inputs_of_main_are_read_from_its_source(source: str, expected: tuple):
    signature = Signature.of_source(source.encode())
    assert signature is not None
    assert (signature.required, signature.optional, signature.accepts_any) == expected


@pytest.mark.parametrize(
    "source",
    [
        "",
        "main = 1",
        "def main(: pass",
        "@wrap\ndef main(b, m): ...",
        "def main(b, m): ...\ndef main(b, m, x): ...",
        "def main(*args): ...",
        "(" * 10_000,
        "\0",
        "def main(b, m): ...\n" + "#" * MAX_BYTES,
    ],
)
def test_a_source_that_does_not_tell_gives_no_signature(source: str):
    assert Signature.of_source(source.encode()) is None
