"""What people see of a hostile program, at a terminal and in a CI system's log."""

from __future__ import annotations

import contextlib
import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

from runner import Supervisor
from runner.engine import OWN_LABEL
from runner.host.processes import HostProcess
from tests.waiting import within

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


def cpu_s(pid):
    """Return the CPU time of a process, its threads included."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def first_process(engine):
    """Return the process id of this process's only container, 0 before it has started."""
    mine = {"label": [f"{OWN_LABEL}.owner={HostProcess.current()}"]}
    found = [each["Id"] for each in engine._client.containers(filters=mine)]
    return engine._client.inspect_container(found[0])["State"]["Pid"] if found else 0


@pytest.mark.parametrize("stream", ["log", "results"])
def test_bytes_written_one_at_a_time_cost_the_program_more_than_all_who_pass_them_on(
    engine, stream
):
    """Here the supervisor and the process that the engine has for each container.

    The engine itself works for others as well; each piece of the stream costs it as much again.
    """
    program = CORPUS / "output-byte-by-byte"
    with Supervisor() as supervisor:  # builds the image
        supervisor.run(program, {"stream": stream, "count": 1}, backend="none").wait(60)
    with Supervisor() as supervisor:
        before = time.process_time()
        job = supervisor.run(program, {"stream": stream, "count": 20_000}, backend="none")
        first = within(30, lambda: first_process(engine))
        status = Path(f"/proc/{first}/status").read_text()
        shim = int(re.search(r"^PPid:\s+(\d+)$", status, re.MULTILINE)[1])
        passed_on = 0.0
        while job.record is None:
            with contextlib.suppress(OSError):
                passed_on = cpu_s(shim)
            time.sleep(0.1)
        passed_on += time.process_time() - before
    assert job.outcome == "completed"
    assert job.result() == "x" * 20_000
    assert passed_on < job.usage.cpu_s, (passed_on, job.usage)
