"""Outcomes and figures, as this host reads them, and where it cannot: there PID 1 reads them."""

from __future__ import annotations

import dataclasses

import pytest

from runner import Limits
from runner.sandboxes import cgroup
from tests.engine.bare import Supervisor

pytestmark = pytest.mark.engine

MIB = 1 << 20


@pytest.fixture(params=["whoever", "user"])
def supervisor(request, monkeypatch):
    """A supervisor of whoever runs this, and one like that of a user who is not root."""
    if request.param == "user":
        monkeypatch.setattr(cgroup, "is_usable", lambda **_: False)
        monkeypatch.setattr(cgroup, "is_found", lambda **_: False)
    limits = Limits(timeout_s=60, memory_bytes=300 * MIB, processes=32)
    with Supervisor(limits=limits) as supervisor:
        yield supervisor


@dataclasses.dataclass(frozen=True)
class Tried:
    """A program, and what is to be said of its job: figures are at least these, in s and MiB."""

    source: str
    outcome: str
    oom_kills: int = 0
    timeout_s: float = 30.0
    cpu_s: float = 0.0
    memory_mib: int = 5


TRIED = {
    "work": Tried(
        """
        import time
        def main(backend, user_messenger):
            block = bytearray(100 << 20)
            until = time.process_time() + 0.3
            while time.process_time() < until: pass
            return len(block)
        """,
        "completed",
        cpu_s=0.3,
        memory_mib=100,
    ),
    "too much memory": Tried(
        """
        def main(backend, user_messenger):
            return len(bytearray(1000 << 20))
        """,
        "memory_limit",
        oom_kills=1,
        memory_mib=290,
    ),
    "a child with too much memory": Tried(
        """
        import subprocess, sys
        def main(backend, user_messenger):
            return subprocess.run([sys.executable, "-c", "bytearray(1000 << 20)"]).returncode
        """,
        "completed",
        oom_kills=1,
        memory_mib=290,
    ),
    "too many processes": Tried(
        """
        import os, time
        def main(backend, user_messenger):
            while True:
                if os.fork() == 0: time.sleep(60)
        """,
        "process_limit",
    ),
    "too much time": Tried(
        """
        def main(backend, user_messenger):
            block = bytearray(30 << 20)
            while True: pass
        """,
        "time_limit",
        timeout_s=1,
        cpu_s=0.1,
        memory_mib=30,
    ),
    "a sudden end": Tried(
        """
        import os
        def main(backend, user_messenger):
            os._exit(3)
        """,
        "no_result",
    ),
}


@pytest.mark.outcomes
@pytest.mark.parametrize("name", TRIED)
def test_outcomes_and_figures_are_those_of_a_host_that_can_read_them(supervisor, program, name):
    tried = TRIED[name]
    job = supervisor.run(
        program(tried.source, "tried.py"), limits=Limits(timeout_s=tried.timeout_s)
    )
    record = job.wait(60)
    assert record.outcome == tried.outcome, record
    usage = record.usage
    assert usage.oom_kills == tried.oom_kills
    assert usage.cpu_s > tried.cpu_s
    # The kernel counts in batches: a few pages more than the limit in the group above.
    assert tried.memory_mib * MIB <= usage.memory_peak_bytes <= 301 * MIB
    supply = supervisor._site.supply
    read_by = {"cgroup"} if supply._own_cgroup or supply._engine_cgroup else {"guest"}
    figures = ("cpu_s", "memory_peak_bytes", "oom_kills")
    assert {usage.sources[each] for each in figures} == read_by, record
    assert record.evidence.source in {None, "guest", "host", *read_by}


@pytest.mark.outcomes
def test_what_is_counted_in_a_session_is_counted_for_the_job_that_has_done_it(supervisor, program):
    path = program(
        """
        import os, time
        def main(backend, user_messenger, what):
            if what == "memory":
                bytearray(1000 << 20)
            while what == "processes":
                if os.fork() == 0: time.sleep(60)
        """
    )
    with supervisor.session(path, backend="none") as session:
        jobs = [session.run({"what": each}) for each in ("memory", "", "processes", "")]
        records = [job.wait(60) for job in jobs]
    outcomes = [record.outcome for record in records]
    assert outcomes == ["memory_limit", "completed", "process_limit", "completed"]
    assert [record.usage.oom_kills for record in records] == [1, 0, 0, 0]


def test_the_warm_up_of_a_sandbox_is_not_the_jobs(monkeypatch, trivial):
    monkeypatch.setattr(cgroup, "is_usable", lambda **_: False)
    monkeypatch.setattr(cgroup, "is_found", lambda **_: False)
    with Supervisor(limits=Limits(timeout_s=60), warm={trivial: 1}) as supervisor:
        record = supervisor.run(trivial).wait(60)
    assert record.outcome == "completed"
    assert record.usage.cpu_s < 0.2  # importing Qiskit takes more
