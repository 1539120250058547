"""Manifests and what is read from a program's source: accepted, or refused by name."""

from __future__ import annotations

import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.errors import ManifestError
from runner.programs import find
from runner.programs.manifest import Manifest
from runner.programs.signature import Signature
from runner.programs.source import MAX_BYTES


def read(text: str) -> Manifest:
    return Manifest.from_text(text, source="program.yaml")


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda each: (
        st.lists(each, max_size=3)
        | st.dictionaries(
            st.sampled_from(["type", "properties", "items", "required", "parameters", "a"]), each
        )
    ),
    max_leaves=12,
)


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
        ("name: ' ends'", "name: "),
        ('name: "a\\tb"', "expected: letters, digits, spaces and common punctuation in one line"),
        ("name: " + "x" * 101, "at most 100 characters"),
        ("name: a\nentry: src/../program.py", "entry"),
        ("name: a\nentry: /program.py", "entry"),
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


def test_names_are_kept_as_they_are_written():
    for name in ("PATH-Solver", "My first program", "qka.v2", "Größe"):
        assert read(f"name: {name}").name == name


def read_metadata(**content) -> Manifest:
    text = json.dumps({"max_execution_time": 600, **content})
    return Manifest.from_text(text, source="x.json", named="x")


@pytest.mark.parametrize(
    ("words", "meant"),
    [
        ("int", "integer"),
        ("Float", "number"),
        ("list of floats", "array"),
        ("List[int]", "array"),
        ("a dictionary of counts", "object"),
        ("int or None", ["integer", "null"]),
        ("str | list", ["string", "array"]),
        ("QuantumCircuit", None),
        ("list or QuantumCircuit", None),
        ("object of class NoiseModel", None),
    ],
)
def test_types_in_words_mean_what_they_can(words: str, meant: object):
    schema = {"properties": {"x": {"type": words, "description": "What."}}}
    (listed,) = (
        read_metadata(parameters=[{"name": "x", "type": words}]).parameters["properties"].values()
    )
    said = read_metadata(spec={"parameters": schema}).parameters["properties"]["x"]
    assert (listed.get("type"), said.get("type")) == (meant, meant)
    if meant is None:
        assert said["description"] == f"What. ({words})"


def test_types_that_a_manifest_of_ours_misspells_are_refused():
    with pytest.raises(ManifestError, match="not a JSON Schema"):
        read("name: a\nspec: {parameters: {properties: {x: {type: intger}}}}")


def test_metadata_say_what_users_wrote_into_them():
    read = read_metadata(
        author="somebody",
        is_public=None,
        spec={
            "parameters": {
                "properties": {
                    "shots": {"type": "int", "required": True},
                    "seed": {"type": "int", "required": False},
                    "rows": {"type": "list", "items": {"type": "float"}},
                    "note": "a text for the log",
                }
            },
            "return_values": "the counts",
            "creator": "somebody",
            "interim_results": None,
        },
    )
    assert read.name == "x"
    assert read.parameters == {
        "properties": {
            "shots": {"type": "integer"},
            "seed": {"type": "integer"},
            "rows": {"type": "array", "items": {"type": "number"}},
            "note": {"description": "a text for the log"},
        },
        "required": ["shots"],
    }
    assert read.return_values == {"description": "the counts"}
    assert read.interim_results is None
    with pytest.raises(ManifestError, match="did you mean 'description'"):
        read_metadata(descripton="a slip")


@given(st.dictionaries(st.sampled_from(["name", "spec", "parameters", "x"]), json_values))
def test_any_metadata_are_read_or_refused(content: dict):
    try:
        Manifest.from_text(json.dumps(content), source="x.json", named="x")
    except ManifestError:
        return


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
    ("source", "said"),
    [
        ("def main(): ...", "line 1: main() takes no parameter by position"),
        ("\ndef main(circuit, *, shots=1): ...", "line 2: main(circuit, *, shots=1) takes one"),
        ("def main(**kwargs): ...", "main(**kwargs) takes no parameter"),
        ("def main(*, backend, user_messenger): ...", "takes no parameter"),
        ("def main(user_messenger, backend): ...", "has 'backend' elsewhere than first"),
        ("def main(n, backend, user_messenger): ...", "has 'backend' elsewhere than first"),
        ("def main(backend, n, user_messenger): ...", "has 'user_messenger' elsewhere than second"),
        ("def main(*args, backend): ...", "has 'backend' elsewhere than first"),
        ("async def main(backend, user_messenger): ...", "main is `async`"),
    ],
)
def test_a_main_that_cannot_take_backend_and_messenger_is_refused(tmp_path, source, said):
    (tmp_path / "mine.py").write_text(source)
    with pytest.raises(ManifestError, match=f"mine.py, .*{re.escape(said)}"):
        find(tmp_path / "mine.py")


@pytest.mark.parametrize(
    "source",
    [
        "def main(b, m): ...",
        "def main(*args): ...",
        "def main(backend, *rest, **more): ...",
        "def main(first, second=None, /): ...",
        "def main(): ...\nmain = wrap(main)",
        "@wrap\ndef main(): ...",
        "main = lambda b, m: 1",
        "class main: ...",
    ],
)
def test_a_main_that_may_take_them_is_let_through(tmp_path, source):
    (tmp_path / "mine.py").write_text(source)
    assert find(tmp_path / "mine.py").files


def test_an_input_that_is_called_as_backend_or_messenger_are_is_named():
    signature = Signature.of_source(b"def main(circuit, shots, **more): ...")
    assert signature.problems({"shots", "x"}) == [
        "input 'shots' is not to be given: main gets its messenger, its second parameter, "
        "by that name"
    ]
    free = Signature.of_source(b"def main(circuit, shots, /, **more): ...")
    assert free.problems({"shots", "x"}) == []


@pytest.mark.parametrize(
    "source",
    [
        "",
        "main = 1",
        "def main(: pass",
        "@wrap\ndef main(b, m): ...",
        "def main(b, m): ...\ndef main(b, m, x): ...",
        "def main(b, m): ...\nmain: object = wrap(main)",
        "def main(b, m): ...\nif True:\n    main = wrap(main)",
        "def main(b, m): ...\ntry:\n    from wrapped import main\nexcept ImportError: ...",
        "def main(b, m): ...\nmain, other = wrap(main), 1",
        "def main(b, m): ...\nfor main in [wrap(main)]: ...",
        "if True:\n    def main(b, m): ...",
        "def main(*args): ...",
        "(" * 10_000,
        "\0",
        "def main(b, m): ...\n" + "#" * MAX_BYTES,
    ],
)
def test_a_source_that_does_not_tell_gives_no_signature(source: str):
    assert Signature.of_source(source.encode()) is None


def test_another_scopes_main_is_not_the_programs():
    source = b"""
def main(b, m, n=1):
    for main in (): ...

class Other:
    main = None

def other(main):
    main = 2

if __name__ == "__main__":
    print(main)
"""
    signature = Signature.of_source(source)
    assert signature is not None
    assert signature.optional == ("n",)
