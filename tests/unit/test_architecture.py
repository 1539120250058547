"""docs/architecture.md, compared with the modules, their imports and the contracts on these."""

from __future__ import annotations

import ast
import re

import grimp
import pytest

from tests.architecture import DOCUMENT, ROOT, drawn, floors

TEXT = DOCUMENT.read_text()
SECTIONS = dict(re.findall(r"^## (.+?)\n(.*?)(?=^## |\Z)", TEXT, re.MULTILINE | re.DOTALL))
MODULES = sorted(
    path for top in ("runner", "sandbox", "holder") for path in (ROOT / top).rglob("*.py")
)  # fmt: skip
SHARING = {"Lock", "RLock", "Condition", "Semaphore", "Thread", "Popen", "fork"}
"""What a module calls that starts something, or keeps something for several threads."""


@pytest.fixture(scope="module")
def imports():
    return grimp.build_graph("runner", "sandbox", "holder")


def name_of(path):
    return str(path.relative_to(ROOT).with_suffix("")).replace("/", ".").removesuffix(".__init__")


def test_the_table_is_that_of_the_contracts_and_docstrings():
    assert drawn(TEXT) == TEXT, "run python -m tests.architecture"


def test_every_room_has_its_layer():
    ordered = {room for layer in floors() for room in layer}
    rooms = {path for top in ("runner", "sandbox") for path in (ROOT / top).iterdir()}
    rooms = {each for each in rooms if each.suffix == ".py" or (each / "__init__.py").exists()}
    assert ordered == {each for each in rooms if each.name != "__init__.py"}


def test_every_owner_stands_where_the_table_says():
    owners = re.findall(r"`(\w+)` \(`([\w/]+\.py)`\)", SECTIONS["Who owns what"])
    assert len(owners) > 20
    for owner, path in owners:
        tree = ast.parse((ROOT / path).read_text())
        assert owner in {each.name for each in tree.body if isinstance(each, ast.ClassDef)}, path


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_whoever_starts_or_shares_something_is_in_the_table_of_owners(path):
    calls = [
        each.func for each in ast.walk(ast.parse(path.read_text())) if isinstance(each, ast.Call)
    ]
    called = {each.attr for each in calls if isinstance(each, ast.Attribute)}
    if called & SHARING and "doctor" not in path.parts:  # the probe forks inside, to see it fail
        assert str(path.relative_to(ROOT)) in SECTIONS["Who owns what"], called & SHARING


def test_the_way_of_a_job_goes_along_the_imports(imports):
    """What a step names is what the supervisor, or inside the first process, comes to."""
    named = re.findall(r"`((?:runner|sandbox)/[\w/]+\.py)`", SECTIONS["One job"])
    assert len(named) > 20
    for path in named:
        start = "runner.supervisor" if path.startswith("runner") else "sandbox.__main__"
        module = name_of(ROOT / path)
        assert module == start or imports.chain_exists(start, module), path


@pytest.mark.parametrize("heading", ["Cells", "Sessions"])
def test_cells_and_sessions_take_their_own_way_to_the_same_modules(imports, heading):
    named = re.findall(r"`((?:runner|sandbox)/[\w/]+\.py)`", SECTIONS[heading])
    assert named
    for path in named:
        start = "runner.supervisor" if path.startswith("runner") else "sandbox.__main__"
        assert imports.chain_exists(start, name_of(ROOT / path)), path
