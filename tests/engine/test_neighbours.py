"""A hostile neighbour takes nothing from the others but its own share."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.engine.bare import Supervisor

pytestmark = pytest.mark.engine

HOSTILE = Path(__file__).resolve().parents[2] / "benchmarks" / "programs" / "hostile.py"


def test_next_to_a_hostile_job_all_others_get_their_right_results(program):
    path = program(
        """
        def main(backend, user_messenger, n):
            for each in range(n):
                user_messenger.publish(each)
            return n * n
        """
    )
    with Supervisor(max_jobs=3) as supervisor:
        hostile = supervisor.run(HOSTILE, limits={"memory_bytes": 256 << 20, "timeout_s": 60})
        jobs = [supervisor.run(path, {"n": n}) for n in range(10, 16)]
        for n, job in enumerate(jobs, 10):
            assert job.result(100) == n * n
            assert list(job.messages()) == list(range(n))
        hostile.cancel()
        assert hostile.wait(10).outcome in {
            "cancelled",
            "memory_limit",
            "message_limit",
            "output_limit",
            "process_limit",
        }
