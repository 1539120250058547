"""Twenty sandboxes alive at the same time (`make soak` has two hundred)."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest

from runner import RequestError
from tests.engine.bare import Supervisor

NUMBER = 20
MIB = 1 << 20
PROGRAM = """
def main(b, m, n):
    m.publish("up")
    for number in range(1400):  # more than are taken while nobody listens
        m.publish("x" * 1000)
    return n * n
"""


def test_many_sandboxes_live_side_by_side(program, engine):
    path = program(PROGRAM)
    up, go_on = threading.Semaphore(0), threading.Event()

    def callback(_, message):
        if message == "up":
            up.release()
            go_on.wait(120)

    limits = {"memory_bytes": 256 * MIB}
    before = len(list(Path("/proc/self/fd").iterdir()))
    threads = threading.active_count()
    with Supervisor(max_jobs=NUMBER, memory_budget_bytes=NUMBER * 256 * MIB) as supervisor:
        jobs = [
            supervisor.run(path, {"n": number}, limits=limits, callback=callback)
            for number in range(NUMBER)
        ]
        try:
            deadline = time.monotonic() + 120
            for _ in jobs:
                assert up.acquire(timeout=max(0.0, deadline - time.monotonic()))
            assert [job.outcome for job in jobs] == [None] * NUMBER
            assert threading.active_count() - threads <= 2 * NUMBER + 4
            assert len(list(Path("/proc/self/fd").iterdir())) - before <= 8 * NUMBER + 16
            used = [job.memory_bytes() for job in jobs]
            assert all(each is None or each < 256 * MIB for each in used)
        finally:
            go_on.set()
        assert [job.result(120) for job in jobs] == [n * n for n in range(NUMBER)]


def test_a_thousand_that_wait_and_are_cancelled_leave_nothing(program, sleeper):
    threads = threading.active_count()
    with Supervisor(max_jobs=1) as supervisor:
        running = supervisor.run(sleeper)
        jobs = [
            supervisor.run(sleeper, user=f"user {n % 3}", callback=lambda *_: None)
            for n in range(1000)
        ]
        assert threading.active_count() - threads <= 6
        assert next(running.messages()) == "up"
        for job in jobs:
            job.cancel()
        assert {job.wait(5).outcome.value for job in jobs} == {"cancelled"}
        running.cancel()
        quick = program("def main(b, m):\n    return 'still works'\n", "quick.py")
        assert supervisor.run(quick).result(60) == "still works"


def test_a_job_that_never_fits_is_refused_with_the_numbers(trivial):
    with (
        Supervisor(memory_budget_bytes=256 * MIB) as supervisor,
        pytest.raises(RequestError, match=r"536870912 .* 268435456"),
    ):
        supervisor.run(trivial, limits={"memory_bytes": 512 * MIB})
