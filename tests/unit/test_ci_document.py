"""docs/ci.md, compared with what it describes."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
import yaml

from runner.checking.pytest_plugin import pytest_addoption
from runner.cli import cli
from runner.policy.settings import load

ROOT = Path(__file__).parents[2]
DOCUMENT = (ROOT / "docs" / "ci.md").read_text()
ACTION = yaml.safe_load((ROOT / "action.yml").read_text())


def blocks(language):
    return re.findall(rf"^```{language}\n(.*?)^```$", DOCUMENT, re.MULTILINE | re.DOTALL)


def table(first):
    rows = re.findall(r"^\| `([\w-]+)` \| (.*?) \|", DOCUMENT, re.MULTILINE)
    return [name for name, _ in rows][[name for name, _ in rows].index(first) :]


def test_the_configuration_that_is_shown_is_valid_and_names_every_key(tmp_path):
    (text,) = blocks("toml")
    path = tmp_path / "qrunner.toml"
    path.write_text(text)
    assert load(path).limits.memory_bytes == 1 << 30
    assert set(tomllib.loads(text)) == {
        "isolation",
        "jobs",
        "check_deadline_s",
        "allow_missing",
        "limits",
    }


def test_the_workflow_that_is_shown_is_safe_and_uses_the_action_as_it_is():
    workflow, _ = map(yaml.safe_load, blocks("yaml"))
    assert workflow[True] == "pull_request"  # YAML reads the key `on` so
    assert workflow["permissions"] == {"contents": "read"}
    checkout, check, upload = workflow["jobs"]["check"]["steps"]
    assert checkout["with"] == {"fetch-depth": 0, "persist-credentials": False}
    assert set(check["with"]) <= set(ACTION["inputs"])
    outputs = re.findall(r"steps\.programs\.outputs\.([\w-]+)", str(upload))
    assert set(outputs) <= set(ACTION["outputs"])


def test_every_input_of_the_action_is_described():
    assert table("paths")[: len(ACTION["inputs"])] == list(ACTION["inputs"])
    assert all(f"`{name}`" in DOCUMENT for name in ACTION["outputs"])


def test_the_gitlab_job_that_is_shown_uses_options_that_there_are():
    _, job = map(yaml.safe_load, blocks("yaml"))
    script = "\n".join(job["check-programs"]["script"])
    assert job["check-programs"]["artifacts"]["reports"]["junit"] in script
    assert "qrunner check" in script


@pytest.mark.parametrize("name", ["ci.md", "terminal.md"])
def test_every_option_of_a_check_that_is_named_exists(name):
    known = {option for each in cli.commands["check"].params for option in each.opts}
    text = (ROOT / "docs" / name).read_text()
    for line in re.findall(r"qrunner check ([^\n`|]*)", text):
        assert set(re.findall(r"(?<!\S)--[a-z-]+", line)) <= known, line


def test_every_option_of_the_plugin_is_described():
    class Names:
        def __init__(self):
            self.seen = []

        def getgroup(self, *_):
            return self

        def addoption(self, name, **_):
            self.seen.append(name)

    names = Names()
    pytest_addoption(names)
    assert all(name in DOCUMENT for name in names.seen)
