"""The published schemas say of every file what the code says of it."""

from __future__ import annotations

import copy
import json
import tomllib
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner
from hypothesis import example, given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from runner.checking.cases import Case
from runner.cli import cli, formats
from runner.errors import ManifestError, RequestError
from runner.policy import Limits, settings
from runner.programs.manifest import MANIFEST_NAMES, Manifest
from tests.documents import DOCUMENTS, blocks

ROOT = Path(__file__).parents[2]
TREES = [ROOT / "images" / "programs", ROOT / "tests", ROOT / "benchmarks"]

MANIFESTS = sorted(path for top in TREES for name in MANIFEST_NAMES for path in top.rglob(name))
CASES = sorted(path for top in TREES for path in top.rglob("cases/*.json"))

VALIDATORS = {name: Draft202012Validator(formats.document(name)) for name in formats.NAMES}


def is_published(name: str, content: object) -> bool:
    """Return whether the published schema allows it; what cannot be looked at is not allowed."""
    try:
        return VALIDATORS[name].is_valid(content)
    except (RecursionError, ArithmeticError, AttributeError, TypeError, ValueError):
        return False


def names_another_draft(content: dict) -> bool:
    """Return whether one of its schemas does: what these say is for the code alone to know."""
    spec = content.get("spec")
    schemas = spec.values() if isinstance(spec, dict) else ()
    return any("$schema" in each for each in schemas if isinstance(each, dict))


def is_accepted(content: object) -> bool:
    """Return whether the code takes it as a manifest."""
    try:
        Manifest.from_text(json.dumps(content), source="program.json")
    except ManifestError:
        return False
    return True


@pytest.mark.parametrize("name", formats.NAMES)
def test_each_is_a_schema_and_printed(name):
    document = formats.document(name)
    Draft202012Validator.check_schema(document)
    assert {"$schema", "title", "description"} <= document.keys()
    done = CliRunner().invoke(cli, ["schema", name], standalone_mode=False)
    assert json.loads(done.output) == document


def test_the_command_knows_the_same_names():
    (argument,) = cli.commands["schema"].params
    assert tuple(argument.type.choices) == formats.NAMES


def test_every_manifest_of_the_repository_fits():
    assert len(MANIFESTS) > 40
    for path in MANIFESTS:
        content = yaml.safe_load(path.read_text())
        assert is_published("manifest", content) == is_accepted(content), path


def test_every_manifest_of_the_documents_fits():
    shown = [(each, each.text) for page in DOCUMENTS for each in blocks(page)]
    loaded = [(each, yaml.safe_load(text)) for each, text in shown if each.language == "yaml"]
    manifests = [
        (each, content)
        for each, content in loaded
        if "name" in content and "jobs" not in content  # that is a workflow of GitHub
    ]
    assert manifests
    for block, content in manifests:
        assert is_published("manifest", content), block
        assert is_accepted(content), block


def test_every_case_of_the_repository_fits():
    assert len(CASES) > 100
    for path in CASES:
        Case.from_file(path)
        assert is_published("case", json.loads(path.read_text())), path


FULL = {
    "$schema": "manifest.schema.json",
    "name": "full",
    "description": "All there is.",
    "entry": "main.py",
    "max_execution_time": 30,
    "isolation": "runsc",
    "limits": {
        name: field["default"] for name, field in Limits.json_schema()["properties"].items()
    },
    "requirements": "requirements.txt",
    "spec": {
        "backend_requirements": {"min_num_qubits": 5, "simulator": True, "input_allowed": ["job"]},
        "parameters": {
            "type": "object",
            "properties": {"shots": {"type": "integer", "minimum": 1}},
            "required": ["shots"],
        },
        "return_values": [{"name": "-", "description": "text", "type": "string"}],
        "interim_results": {"type": "object", "additionalProperties": {"$ref": "#"}},
    },
    "version": "1.0",
    "is_public": False,
    "cost": 600,
}

VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-2, 1 << 40)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=8)
    | st.sampled_from(["a\n", "program.py\n", "runc", "object", "x.txt", "#", "true", 1e-9, 0.01]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["name", "type", "items", "$schema", "$ref", "properties", "limits"])
            | st.text(max_size=4),
            inner,
            max_size=3,
        )
    ),
    max_leaves=6,
)


def paths(value: object, here: tuple = ()) -> list[tuple]:
    """Return the path of everything inside of a value."""
    items = value.items() if isinstance(value, dict) else ()
    items = enumerate(value) if isinstance(value, list) else items
    return [each for key, inner in items for each in [(*here, key), *paths(inner, (*here, key))]]


PATHS = paths(FULL)


@given(st.sampled_from(PATHS), VALUES, st.sampled_from(["replace", "add", "remove"]))
@example(("name",), "a\n", "replace")
@example(("limits", "cpus"), 1e-10, "replace")
@example(("limits", "processes"), 2.0, "replace")
@example(("spec", "parameters", "type"), "nothing", "replace")
@example(("spec", "return_values", 0, "name"), None, "remove")
@example(("spec", "parameters"), {"$ref": "nowhere"}, "replace")
def test_schema_and_code_agree_on_any_change_of_a_manifest(path, value, kind):
    content = copy.deepcopy(FULL)
    holder = content
    for step in path[:-1]:
        holder = holder[step]
    if kind == "remove":
        del holder[path[-1]]
    elif kind == "add" and isinstance(holder, dict):
        holder[f"{path[-1]}_"] = value
    else:
        holder[path[-1]] = value
    content = yaml.safe_load(json.dumps(content))  # which takes 1e-09 for a text
    is_right = is_accepted(content)
    assert is_published("manifest", content) == is_right or names_another_draft(content)


@pytest.mark.parametrize(
    ("text", "is_right"),
    [
        ('isolation = "runsc"\njobs = 3\n[limits]\nmemory_bytes = "1g"\ncpus = 0.5', True),
        ("check_deadline_s = 600\n[limits]\nmemory_bytes = 1073741824", True),
        ('allow_missing = ["swap-limit"]', True),
        ('allow_missing = ["everything"]', False),
        ("jobs = 0", False),
        ("job = 1", False),
        ("[limits]\ncolour = 1", False),
        ("[limits]\ncpus = '2g'", False),
        ("[limits]\nmemory_bytes = 'lots'", False),
        ("[limits]\nprocesses = 1.5", False),
        ("[limits]\ntimeout_s = 0", False),
    ],
)
def test_schema_and_code_agree_on_settings(tmp_path, text, is_right):
    path = tmp_path / "qrunner.toml"
    path.write_text(text)
    try:
        settings.load(path)
    except RequestError:
        assert not is_right
    else:
        assert is_right
    assert is_published("config", tomllib.loads(text)) == is_right
