"""The host pauses a job's clocks, its own and that of PID 1: the job lives on by just that much."""

from __future__ import annotations

import contextlib
import json
import threading

import pytest

from runner.host.interrupt import Waker
from runner.host.processes import HostProcess
from runner.images import ImageStore, build_id
from runner.job.life import Life
from runner.job.record import Outcome
from runner.job.request import Request
from runner.policy import Limits, Policy
from runner.running.execution import Execution
from runner.sandboxes.launcher import Sandbox
from runner.sandboxes.place import Container
from runner.sandboxes.spec import Carrier, SandboxSpec
from sandbox.processes.init import GRACE_S
from sandbox.wire.protocol import Pause, Resume
from tests.waiting import within

pytestmark = pytest.mark.engine

LIMIT_S = 1.0
TICKING = b"""
import time
def main(backend, user_messenger):
    while True:
        user_messenger.publish(0)
        time.sleep(0.05)
"""


@pytest.fixture
def place(engine):
    """A sandbox of its own that waits for its request, without a supervisor."""
    images = ImageStore(engine)
    info = engine.info()
    options = " ".join(info.security_options)
    spec = SandboxSpec(
        image=images.program({"program.py": TICKING}, "ticking", ()).id,
        build=build_id(),
        policy=Policy().fitted_to(info.raw),
        limits=Limits().for_container(),
        rootful="rootless" not in options and "userns" not in options,
        own_cgroup=False,
        engine_cgroup=False,
        podman=False,
        carrier=Carrier.STDIO,
        kernel=info.raw["KernelVersion"],
        process=HostProcess.current(),
    )
    sandbox = Sandbox(engine, spec)
    waker = Waker()
    waker.open()
    try:
        sandbox.start()
        sandbox.wait_ready(waker)
        yield Container(engine, sandbox), waker
    finally:
        waker.close()
        assert within(30, sandbox.destroy)


def test_a_paused_job_outlives_its_limit_by_the_pause_and_is_then_ended_by_it(place):
    container, waker = place
    limits = Limits().lowered_by({"timeout_s": LIMIT_S})
    request = Request(program="ticking", backend={"name": "none"}, limits=limits)
    job = Life("job-1", "ticking", log_kept_bytes=1000, decode=json.loads, on_cancel=waker.wake)
    execution = Execution(container, job, limits, waker)
    paused_s = LIMIT_S + GRACE_S + 1  # neither clock would have let it live so long

    def pause():
        assert within(30, job.history.since)
        execution.say(Pause(job=0, at_most_s=60))
        is_over.wait(paused_s)
        seen.append(is_over.is_set())
        execution.say(Resume(job=0))

    seen, is_over = [], threading.Event()
    with contextlib.ExitStack() as stack:
        thread = threading.Thread(target=pause)
        thread.start()
        stack.callback(thread.join)
        stack.callback(is_over.set)
        verdict = execution.run(request)
    assert seen == [False]
    assert verdict.outcome == Outcome.TIME_LIMIT
    assert verdict.evidence.limit == "timeout_s"
    assert LIMIT_S <= verdict.evidence.observed < LIMIT_S + 2  # the pause is not counted
    assert verdict.usage.wall_s > paused_s
    assert verdict.usage.messages > paused_s  # it ran: the clocks stood, the program did not
