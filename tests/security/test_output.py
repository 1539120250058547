"""What people see of a hostile program, at a terminal and in a CI system's log."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.engine, pytest.mark.security]

CORPUS = Path(__file__).parent / "corpus"
ANYWHERE = ("##[", "##vso[", "##teamcity[")  # obeyed wherever they stand in a line
COMMANDS = ("::", "##vso", "##teamcity", "section_")


def run(*arguments):
    return subprocess.run(
        [sys.executable, "-m", "runner", *arguments], capture_output=True, timeout=120
    )


def test_nothing_that_a_program_wrote_can_command_a_terminal_or_a_ci_system():
    done = run("run", str(CORPUS / "output-terminal-and-ci-commands"))
    assert done.returncode == 0, done.stderr
    for stream in (done.stdout, done.stderr):
        text = stream.decode()
        assert all(each.isprintable() or each in "\n\t" for each in text)
        lines = text.replace("\r", "\n").splitlines()
        assert not [line for line in lines if line.strip().startswith(COMMANDS)]
        assert not [each for each in ANYWHERE if each in text]


def test_events_for_machines_are_one_line_of_strict_json_each():
    done = run("run", "--format", "json", str(CORPUS / "output-terminal-and-ci-commands"))
    events = [json.loads(line) for line in done.stdout.decode().split("\n") if line]
    assert [each["event"] for each in events].count("message") == 15
    assert events[-1]["event"] == "finished"
    assert done.stdout.isascii()
