"""The documents, read: links that lead somewhere, well-formed blocks, tables that are true.

tests/engine/test_documents.py does what they say.
"""

from __future__ import annotations

import ast
import dataclasses
import json
import re
import shlex
import subprocess
import tomllib
from pathlib import Path

import click
import pytest
import yaml

import runner
from runner import Limits, Outcome, errors
from runner.backends import describe
from runner.checking.cases import Case
from runner.cli import cli
from runner.job.names import RuntimeJobNames
from runner.policy.settings import load
from runner.programs.manifest import Manifest
from tests.documents import DOCUMENTS, PAGES, ROOT, anchors, blocks, links, short

BLOCKS = [block for document in DOCUMENTS for block in blocks(document)]
LANGUAGES = {"python", "sh", "json", "yaml", "toml", "text", "{eval-rst}"}
README = ROOT / "README.md"
CONTENTS = yaml.safe_load((ROOT / "docs" / "_toc.yml").read_text())
UNITS = {"KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}


def rows(page: str, heading: str) -> list[list[str]]:
    """Return the rows of the table under a heading, each as the texts of its cells."""
    section = (ROOT / "docs" / page).read_text().partition(f"{heading}\n")[2]
    table = re.search(r"^\|[ -:|]+\|\n((?:\|.*\n)+)", section, re.MULTILINE)[1]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()]


def size(text: str) -> float:
    number, _, unit = text.partition(" ")
    return float(number) * UNITS.get(unit, 1)


def calls(script: str):
    """Yield the words of each call of qrunner in a script, its own name left out."""
    for line in script.replace("\\\n", " ").splitlines():
        call = None
        for word in [*shlex.shlex(line, posix=True, punctuation_chars=True), ";"]:
            if set(word) <= set("();<>|&"):
                if call:
                    yield call
                call = None
            elif call is not None:
                call.append(word)
            elif word == "qrunner":
                call = []


@pytest.mark.parametrize("document", DOCUMENTS, ids=short)
def test_every_link_leads_to_a_file_and_a_heading_of_it(document):
    for link in links(document):
        file, _, heading = link.partition("#")
        target = document.parent / file if file else document
        assert target.exists(), link
        if heading:
            assert heading in anchors(target), link


def test_every_page_has_its_place_in_the_contents_and_in_the_index():
    files = {path.stem for path in (ROOT / "docs").iterdir() if path.suffix in {".md", ".ipynb"}}
    listed = [entry["file"] for part in CONTENTS["subtrees"] for entry in part["entries"]]
    assert sorted([CONTENTS["root"], *listed]) == sorted(files)
    index = [Path(link).stem for link in links(ROOT / "docs" / "index.md")]
    assert list(dict.fromkeys(index)) == listed, "docs/index.md and docs/_toc.yml differ"


@pytest.mark.parametrize("block", BLOCKS, ids=str)
def test_every_block_says_what_it_is_and_is_well_formed(block):
    assert block.language in LANGUAGES or block.page == README, "if it has no language: ```text"
    if block.language == "python":
        ast.parse(block.text)
    elif block.language == "json":
        json.loads(block.text)
    elif block.language == "yaml":
        yaml.safe_load(block.text)
    elif block.language == "toml":
        tomllib.loads(block.text)
    elif block.language == "sh":
        subprocess.run(["bash", "-n", "-c", block.text], check=True)


@pytest.mark.parametrize("block", [each for each in BLOCKS if each.language == "sh"], ids=str)
def test_every_command_line_that_is_shown_is_one_that_qrunner_takes(block):
    for name, *arguments in calls(block.text):
        command = cli.commands[name]
        command.make_parser(click.Context(command)).parse_args(arguments)


@pytest.mark.parametrize("block", [each for each in BLOCKS if each.language == "toml"], ids=str)
def test_every_configuration_that_is_shown_is_taken(block, tmp_path):
    (tmp_path / "qrunner.toml").write_text(block.text)
    assert load(tmp_path / "qrunner.toml").source


@pytest.mark.parametrize("block", [each for each in BLOCKS if "yaml" in each.language], ids=str)
def test_every_manifest_that_is_shown_is_taken(block):
    if "max_execution_time" in block.text or str(block.file).endswith("program.yaml"):
        named = block.text if "name:" in block.text else f"name: shown\n{block.text}"
        assert Manifest.from_text(named, source=str(block)).name


@pytest.mark.parametrize("block", [each for each in BLOCKS if each.language == "json"], ids=str)
def test_every_backend_and_every_case_that_is_shown_is_taken(block, tmp_path):
    if block.page.name == "backends.md":
        assert describe(json.loads(block.text))["name"]
    elif "expect" in block.text:
        (tmp_path / "shown.json").write_text(block.text)
        assert Case.from_file(tmp_path / "shown.json").name == "shown"


def test_the_table_of_limits_has_every_limit_and_its_default():
    table = rows("limits.md", "## Which there are")
    said = {name.strip("`"): size(default) for name, default, *_ in table}
    assert said == dataclasses.asdict(Limits())


def test_the_table_of_outcomes_has_every_outcome_and_its_exit_code():
    table = rows("outcomes.md", "# Outcomes")
    said = {name.strip("`"): int(code) for name, code, _ in table}
    assert said == {str(outcome): outcome.exit_code for outcome in Outcome}


def test_every_public_name_is_in_the_python_reference():
    text = (ROOT / "docs" / "python.md").read_text()
    shown = set(re.findall(r"auto(?:class|function):: runner\.(\w+)", text)) | set(vars(errors))
    assert set(runner.__all__) <= shown
    assert ".. automodule:: runner.errors" in text


def test_the_names_of_qiskit_users_are_in_the_page_for_them():
    table = rows("from-qiskit-runtime.md", "## Names of a job that are there for old code")
    listed = {name for names, _ in table for name in re.findall(r"`(\w+)", names)}
    assert listed == {name for name in vars(RuntimeJobNames) if not name.startswith("_")}


def test_what_is_not_run_says_why():
    for document in PAGES:
        marks = re.findall(r"<!-- not run:? ?(.*?) ?-->", document.read_text())
        assert all(len(reason) > 10 for reason in marks), document
        assert len(marks) == sum(block.not_run is not None for block in blocks(document)), document
