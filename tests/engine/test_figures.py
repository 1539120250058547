"""Outcomes and figures where this host cannot read the sandbox's control group: PID 1 reads it."""

from __future__ import annotations

import pytest

from runner import Limits
from runner.sandboxes import cgroup
from tests.engine.bare import Supervisor

pytestmark = pytest.mark.engine

MIB = 1 << 20


@pytest.fixture
def supervisor(monkeypatch):
    """A supervisor like that of a user who is not root."""
    monkeypatch.setattr(cgroup, "is_usable", lambda **_: False)
    monkeypatch.setattr(cgroup, "is_found", lambda **_: False)
    limits = Limits(timeout_s=60, memory_bytes=300 * MIB, processes=32)
    with Supervisor(limits=limits) as supervisor:
        yield supervisor


WORK = """
    import time
    def main(backend, user_messenger):
        block = bytearray(100 << 20)
        until = time.process_time() + 0.3
        while time.process_time() < until: pass
        return len(block)
"""
OVERFULL = """
    def main(backend, user_messenger):
        return len(bytearray(1000 << 20))
"""
CHILD_OVERFULL = """
    import subprocess, sys
    def main(backend, user_messenger):
        return subprocess.run([sys.executable, "-c", "bytearray(1000 << 20)"]).returncode
"""
BOMB = """
    import os, time
    def main(backend, user_messenger):
        while True:
            if os.fork() == 0: time.sleep(60)
"""
ENDLESS = """
    def main(backend, user_messenger):
        block = bytearray(100 << 20)
        while True: pass
"""
SUDDEN = """
    import os
    def main(backend, user_messenger):
        os._exit(3)
"""


@pytest.mark.parametrize(
    ("source", "timeout_s", "outcome", "oom_kills"),
    [
        (WORK, 30, "completed", 0),
        (OVERFULL, 30, "memory_limit", 1),
        (CHILD_OVERFULL, 30, "completed", 1),
        (BOMB, 30, "process_limit", 0),
        (ENDLESS, 1, "time_limit", 0),
        (SUDDEN, 30, "no_result", 0),
    ],
)
def test_outcomes_and_figures_are_those_of_a_host_that_can_read_them(
    supervisor, program, source, timeout_s, outcome, oom_kills
):
    job = supervisor.run(program(source, "tried.py"), limits=Limits(timeout_s=timeout_s))
    record = job.wait(60)
    assert record.outcome == outcome, record
    usage = record.usage
    assert usage.oom_kills == oom_kills
    assert usage.cpu_s > (0.1 if source in (WORK, ENDLESS) else 0)
    least = {WORK: 100, ENDLESS: 100, OVERFULL: 290, CHILD_OVERFULL: 290}.get(source, 5)
    assert least * MIB <= usage.memory_peak_bytes <= 300 * MIB
    figures = ("cpu_s", "memory_peak_bytes", "oom_kills")
    assert {usage.sources[name] for name in figures} == {"guest"}
    assert record.evidence.source in {None, "guest", "host"}


def test_the_warm_up_of_a_sandbox_is_not_the_jobs(monkeypatch, trivial):
    monkeypatch.setattr(cgroup, "is_usable", lambda **_: False)
    monkeypatch.setattr(cgroup, "is_found", lambda **_: False)
    with Supervisor(limits=Limits(timeout_s=60), warm={trivial: 1}) as supervisor:
        record = supervisor.run(trivial).wait(60)
    assert record.outcome == "completed"
    assert record.usage.cpu_s < 0.2  # importing Qiskit takes more
