"""The threat model names tests that exist and can fail, and programs that are there."""

from __future__ import annotations

import ast
import json
import os
import re
import runpy
from pathlib import Path

import pytest

from runner.job.life import Life
from runner.policy import REQUIREMENTS, Limits, Policy
from runner.running.relay import Relay
from sandbox.wire.protocol import ProtocolError
from tests.security.mutate import Mutation, MutationError, mutations

ROOT = Path(__file__).parents[2]
DOCUMENT = (ROOT / "docs" / "threat-model.md").read_text()
CORPUS = ROOT / "tests" / "security" / "corpus"
NAMED = sorted(set(re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", DOCUMENT)))
ROWS = re.findall(r"^\| (P\d+) \| (.+?) \| (.+?) \| (.+?) \|$", DOCUMENT, flags=re.MULTILINE)


@pytest.mark.parametrize(("path", "test"), NAMED, ids=[test for _, test in NAMED])
def test_the_test_that_holds_a_promise_exists(path, test):
    tree = ast.parse((ROOT / path).read_text())
    assert test in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}


def test_every_promise_has_a_number_and_a_test():
    assert [number for number, *_ in ROWS] == [f"P{number}" for number in range(1, len(ROWS) + 1)]
    assert all("::test_" in held for *_, held in ROWS)


def test_every_test_that_holds_a_promise_is_tried_by_a_mutation_that_breaks_it():
    cited = {
        (promise, test)
        for promise, _, _, held in ROWS
        for test in re.findall(r"`(tests/[\w/]+\.py::\w+)`", held)
    }
    tried = {(each.promise, test.partition("[")[0]) for each in mutations() for test in each.tests}
    assert tried == cited


def written(tmp_path, mutation):
    """Put the file that a mutation changes, and no other, into a tree of its own."""
    path = tmp_path / mutation.file
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes((ROOT / mutation.file).read_bytes())
    return path


@pytest.mark.parametrize("mutation", mutations(), ids=lambda each: f"{each.promise}, {each.breaks}")
def test_every_mutation_can_still_be_made_and_leaves_code_that_can_be_read(tmp_path, mutation):
    path = written(tmp_path, mutation)
    before = path.read_text()
    mutation.apply(tmp_path)
    assert path.read_text() != before
    match path.suffix:
        case ".py":
            ast.parse(path.read_text())
        case ".json":
            json.loads(path.read_text())


@pytest.mark.parametrize("old", ["no such text", "e"])
def test_a_mutation_of_what_does_not_stand_there_once_is_an_error(tmp_path, old):
    mutation = Mutation(promise="P1", breaks="", file="Makefile", old=old, new="", tests=())
    written(tmp_path, mutation)
    with pytest.raises(MutationError, match=f"'{old}' stands .* times in Makefile, not once"):
        mutation.apply(tmp_path)


def test_every_program_of_the_corpus_attacks_a_promise_and_is_there():
    there = {path.parent.name for path in CORPUS.glob("*/program.yaml")}
    named = {name for _, _, names, _ in ROWS for name in names.split(", ") if "-" in name}
    assert named - {"all that can be shown safely"} <= there


@pytest.mark.parametrize(
    ("program", "table", "paths"),
    [
        ("look-around", "MASKED", Policy().masked_paths),
        ("kernel-knobs", "READ_ONLY", Policy().readonly_paths),
    ],
)
def test_the_corpus_looks_at_every_path_that_is_closed_and_at_no_other(program, table, paths):
    looked_at = runpy.run_path(str(CORPUS / program / "program.py"))[table]
    assert sorted(looked_at) == sorted(paths)


def test_every_exception_that_can_be_named_is_documented():
    assert all(f"`{name}`" in DOCUMENT for name in REQUIREMENTS)


def test_every_limit_is_documented():
    for name in Limits.__dataclass_fields__:
        assert f"`{name}`" in DOCUMENT, name


LINES = runpy.run_path(str(CORPUS / "channel-malformed-frames" / "program.py"))["LINES"]


@pytest.mark.parametrize("kind", LINES)
def test_every_malformed_line_of_the_corpus_is_a_violation(kind):
    job = Life("j", "p", log_kept_bytes=100, decode=str, on_cancel=os.getpid)
    relay = Relay(job, Limits(), stdio=False)
    with pytest.raises(ProtocolError):
        relay.feed_socket(LINES[kind] + b"\n")
