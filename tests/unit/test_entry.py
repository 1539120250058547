"""The command line's last words: streams that are closed or full, Ctrl-C at any moment."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from runner import programs
from runner.cli import cli
from runner.cli.output import JsonOutput
from runner.errors import RequestError

INTERRUPTED_WHILE_IMPORTING = """
import importlib.abc, os, signal, sys

class Interrupting(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name == "runner.cli.entry":
            os.kill(os.getpid(), signal.SIGINT)

sys.meta_path.insert(0, Interrupting())
from runner.__main__ import main
main()
"""


def qrunner(*arguments: str, redirected: str = "") -> subprocess.CompletedProcess[str]:
    command = f'exec "$0" -m runner "$@" {redirected}'
    return subprocess.run(
        ["/bin/sh", "-c", command, sys.executable, *arguments],
        capture_output=True,
        text=True,
        timeout=60,
    )


def test_ctrl_c_while_modules_are_imported_is_no_traceback():
    command = [sys.executable, "-c", INTERRUPTED_WHILE_IMPORTING]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (-signal.SIGINT, "")


def test_ctrl_c_stays_ignored_where_the_caller_ignores_it():
    command = 'trap \'\' INT; exec "$0" -c "$1" schema config'
    done = subprocess.run(
        ["/bin/sh", "-c", command, sys.executable, INTERRUPTED_WHILE_IMPORTING],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("arguments", [["schema", "config"], ["run", "nothing", "--format=json"]])
def test_a_full_stdout_is_said_and_our_fault(arguments):
    done = qrunner(*arguments, redirected=">/dev/full")
    assert done.returncode == 4
    assert done.stderr.startswith("qrunner: the output: cannot be written: No space left")


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-"])
def test_a_closed_stream_changes_nothing_else(closed):
    done = qrunner("new", "No Name", redirected=closed)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("" if closed == "2>&-" else "qrunner: 'No Name' cannot be")


@pytest.mark.parametrize(
    "arguments",
    [
        ["run", "--format", "json"],
        ["run", "--format=json", "hello_world", "--tiemout", "3"],
        ["run", "hello_world", "--isolation", "moon", "--format", "json"],
        ["replay", "--format", "json"],
    ],
)
def test_a_mistaken_command_ends_its_events_too(arguments):
    done = qrunner(*arguments)
    assert done.returncode == 2
    (finished,) = map(json.loads, done.stdout.splitlines())
    assert (finished["event"], finished["outcome"]) == ("finished", "invalid_inputs")
    assert finished["error"] in done.stderr


def test_a_mistaken_command_of_people_writes_no_event():
    assert qrunner("run", "hello_world", "--isolation", "moon").stdout == ""


@pytest.mark.parametrize(("name", "named"), [("mine", "mine"), ("vqe", "./vqe")])
def test_a_new_program_is_run_as_new_says_even_if_another_has_its_name(
    tmp_path, monkeypatch, name, named
):
    monkeypatch.chdir(tmp_path)
    said = CliRunner().invoke(cli, ["new", name], standalone_mode=False).output
    assert said.endswith(f"qrunner run {named}\n")
    assert programs.find(named).path == Path(name)


def test_ctrl_c_before_there_is_a_job_ends_its_events_too(capfd):
    with pytest.raises(KeyboardInterrupt), JsonOutput("mine.py"):
        raise KeyboardInterrupt
    (finished,) = map(json.loads, capfd.readouterr().out.splitlines())
    assert (finished["program"], finished["outcome"]) == ("mine.py", "cancelled")


def test_ctrl_c_after_the_last_event_adds_none(capfd):
    with pytest.raises(KeyboardInterrupt), JsonOutput("mine.py") as output:
        output.refused(RequestError("no such thing"))
        raise KeyboardInterrupt
    assert len(capfd.readouterr().out.splitlines()) == 1
