"""What the repository says of itself, compared with what it is."""

import ast
import itertools
import json
import re
import subprocess
import sys
import tomllib
from importlib import metadata
from pathlib import Path

import click
import jsonschema
import pytest
import yaml

import runner
from runner.checking.cases import Case
from runner.cli import cli
from runner.job.record import Outcome

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
README = (ROOT / "README.md").read_text()
MAKEFILE = (ROOT / "Makefile").read_text()
PROGRAMS = sorted((ROOT / "images" / "programs").glob("*/program.yaml"))
CASES = sorted((ROOT / "images" / "programs").glob("*/cases/*.json"))
DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])


def short(path):
    return str(path.relative_to(ROOT))


def targets():
    return set(re.findall(r"^([a-z][a-z-]*):(?!=)", MAKEFILE, flags=re.MULTILINE))


def locked(level):
    """Return the versions that a lock file pins, for the oldest Python where they differ.

    Fails on a line without a hash.
    """
    text = (ROOT / "requirements" / f"{level}.lock").read_text().replace("\\\n", " ")
    pins = {}
    for line in text.splitlines():
        if match := re.match(r"([A-Za-z0-9._-]+)==(\S+)", line):
            assert "--hash=sha256:" in line, f"{match[1]} has no hash"
            pins.setdefault(normal(match[1]), match[2])
    return pins


def normal(name):
    return re.sub(r"[-_.]+", "-", re.match(r"[A-Za-z0-9._-]+", name)[0]).lower()


def test_the_readme_is_short_and_starts_with_what_it_is():
    lines = README.splitlines()
    assert len(lines) <= 120
    assert lines[0] == "# qiskit-program-runner"
    assert re.search(r"^make run PROGRAM=random_circuits$", README, flags=re.MULTILINE)


@pytest.mark.parametrize("document", DOCUMENTS, ids=short)
def test_every_make_target_that_is_named_exists(document):
    named = re.findall(
        r"^(?:make|\$ make) ([a-z][a-z-]*)|`make ([a-z][a-z-]*)", document.read_text(), re.MULTILINE
    )
    assert {first or second for first, second in named} <= targets()


def test_every_make_target_has_a_help_text():
    public = set(re.findall(r"^([a-z][a-z-]*):.*## \S", MAKEFILE, flags=re.MULTILINE))
    assert targets() - public == {"venv", "venv-dev", "engine"}
    phony = re.search(r"^\.PHONY: (.*)$", MAKEFILE, flags=re.MULTILINE)[1].split()
    assert set(phony) == targets()


def test_every_file_that_the_documents_name_exists():
    made = {"build", "dist", ".venv"}
    tops = "|".join(
        each.name for each in ROOT.iterdir() if each.is_dir() and each.name not in made
    ).replace(".", r"\.")
    for document in DOCUMENTS:
        for path in re.findall(rf"`((?:{tops})/[\w./-]+)`", document.read_text()):
            assert (ROOT / path).exists(), f"{short(document)} names {path}"


def test_every_command_has_a_help_text_and_is_documented():
    context = click.Context(cli)
    documents = "\n".join(document.read_text() for document in DOCUMENTS)
    for name in cli.list_commands(context):
        command = cli.get_command(context, name)
        if command.hidden:
            continue
        assert command.help, name
        assert re.search(rf"qrunner (?:[a-z]+ \| )*{name}\b", documents), name


def test_every_command_that_is_documented_exists():
    for document in DOCUMENTS:
        for named in re.findall(
            r"(?:^|`)qrunner ([a-z]+(?: \| [a-z]+)*)", document.read_text(), flags=re.MULTILINE
        ):
            for name in named.split(" | "):
                if name != "jq":
                    assert name in cli.commands, f"{short(document)} names qrunner {name}"


def test_every_option_that_is_documented_exists():
    for document in DOCUMENTS:
        for name, rest in re.findall(
            r"(?:^|`)qrunner ([a-z]+) ([^`\n]*)", document.read_text(), flags=re.MULTILINE
        ):
            known = {opt for each in cli.commands[name].params for opt in each.opts} | {"--help"}
            said = re.findall(r"(?<!\S)--[a-z-]+", re.split(r" [|#] ", rest)[0])
            assert set(said) <= known, f"{short(document)}: qrunner {name} {rest}"


def test_every_outcome_is_in_the_readme_beside_its_exit_code():
    table = dict(re.findall(r"^\| (\d+) \| (.*) \|$", README, flags=re.MULTILINE))
    for outcome in Outcome:
        assert f"`{outcome}`" in table[str(outcome.exit_code)], outcome


def test_the_version_stands_in_one_place():
    assert "version" in PROJECT["project"]["dynamic"]
    assert metadata.version("qiskit-program-runner") == runner.__version__


def test_the_supported_pythons_are_said_alike():
    low, high = re.fullmatch(
        r">=3\.(\d+),<3\.(\d+)", PROJECT["project"]["requires-python"]
    ).groups()
    classified = re.findall(r"Python :: 3\.(\d+)", "\n".join(PROJECT["project"]["classifiers"]))
    assert [int(minor) for minor in classified] == list(range(int(low), int(high)))
    assert (
        f"(3, {low}) <= sys.version_info < (3, {high})" in (ROOT / "tools/setup-venv").read_text()
    )
    assert f"Python 3.{low} to 3.{int(high) - 1}" in README


def test_the_locks_hold_what_the_project_asks_for():
    run, dev = locked("run"), locked("dev")
    build = {normal(each) for each in PROJECT["dependency-groups"]["build"]}
    needed = {normal(each) for each in PROJECT["project"]["dependencies"]} | build
    assert {normal(each) for each in PROJECT["build-system"]["requires"]} <= build
    assert needed <= run.keys()
    assert {normal(e) for e in PROJECT["project"]["optional-dependencies"]["dev"]} <= dev.keys()
    assert run.items() <= dev.items(), "a package has two versions: make lock"


def test_no_lock_names_an_index():
    for lock in itertools.chain(
        (ROOT / "requirements").glob("*.lock"), (ROOT / "images").rglob("*.lock")
    ):
        assert not re.search(r"index-url|find-links|trusted-host", lock.read_text()), lock


def test_the_host_needs_no_qiskit():
    stack = {"qiskit", "qiskit-aer", "numpy", "scipy"}
    assert not stack & locked("run").keys()


def test_developers_test_with_the_stack_of_the_sandbox():
    lock = (ROOT / "images" / "base" / "requirements.lock").read_text()
    sandbox = dict(re.findall(r"^([a-z0-9-]+)==(\S+)", lock, re.MULTILINE))
    dev = locked("dev")
    for name in ("qiskit", "qiskit-aer", "numpy", "scipy"):
        assert dev[name] == sandbox[name], "make lock"


def test_what_both_sides_share_needs_the_standard_library_only():
    script = (
        f"import sys; sys.path.insert(0, {str(ROOT)!r}); "
        "import sandbox.wire.protocol, sandbox.codec\n"
        "tops = {name.partition('.')[0] for name in sys.modules}\n"
        "own = {'sandbox', '__main__', '__mp_main__'}\n"
        "print(*sorted(tops - set(sys.stdlib_module_names) - own))"
    )
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == ""


def test_the_protocol_imports_nothing_but_the_standard_library():
    tree = ast.parse((ROOT / "sandbox" / "wire" / "protocol.py").read_text())
    for node in ast.walk(tree):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        names += [node.module or "."] if isinstance(node, ast.ImportFrom) else []
        tops = {name.partition(".")[0] for name in names} - {"sandbox"}  # itself tested above
        assert tops <= sys.stdlib_module_names


@pytest.mark.parametrize("path", PROGRAMS, ids=short)
def test_every_example_has_a_schema_for_all_that_it_says(path):
    manifest = yaml.safe_load(path.read_text())
    assert manifest["name"] == path.parent.name
    assert {"description", "max_execution_time"} <= manifest.keys()
    assert set(manifest["spec"]) == {"parameters", "interim_results", "return_values"}
    for schema in manifest["spec"].values():
        jsonschema.Draft202012Validator.check_schema(schema)


@pytest.mark.parametrize("path", PROGRAMS, ids=short)
def test_the_defaults_that_an_example_declares_are_those_of_its_main(path):
    properties = yaml.safe_load(path.read_text())["spec"]["parameters"]["properties"]
    declared = {
        name: schema["default"] for name, schema in properties.items() if "default" in schema
    }
    tree = ast.parse((path.parent / "program.py").read_text())
    arguments = next(
        n for n in tree.body if isinstance(n, ast.FunctionDef) and n.name == "main"
    ).args
    named = [each.arg for each in arguments.args][-len(arguments.defaults) :]
    given = {
        name: ast.literal_eval(value) for name, value in zip(named, arguments.defaults, strict=True)
    }
    assert [each.arg for each in arguments.args[:2]] == ["backend", "user_messenger"]
    assert declared == given


@pytest.mark.parametrize("path", CASES, ids=short)
def test_every_case_is_well_formed(path):
    Case.from_file(path)
    case = json.loads(path.read_text())
    assert case["description"]
    parameters = yaml.safe_load((path.parents[1] / "program.yaml").read_text())["spec"][
        "parameters"
    ]
    fits = jsonschema.Draft202012Validator(parameters).is_valid(case["inputs"])
    assert fits == (case["expect"]["outcome"] != "invalid_inputs")


def test_every_example_has_a_case_that_completes():
    completing = {
        path.parents[1]
        for path in CASES
        if json.loads(path.read_text())["expect"]["outcome"] == "completed"
    }
    assert completing == {path.parent for path in PROGRAMS}


def test_the_license_is_the_whole_one_that_is_declared():
    text = (ROOT / "LICENSE").read_text()
    assert PROJECT["project"]["license"] == "Apache-2.0"
    assert "Apache License\n                           Version 2.0, January 2004" in text
    assert "END OF TERMS AND CONDITIONS" in text


@pytest.mark.parametrize(
    "path", sorted([*(ROOT / "tools").iterdir(), ROOT / ".ci" / "run"]), ids=short
)
def test_every_script_is_strict_and_executable(path):
    assert path.stat().st_mode & 0o111
    assert path.read_text().startswith("#!/usr/bin/env bash\n")
    assert "\nset -euo pipefail\n" in path.read_text()
