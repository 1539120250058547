"""What dies, and when: the caller, the node part, a whole node; and nothing is left of it."""

from __future__ import annotations

import os
import signal
import time

from runner import Outcome
from runner.sandboxes.sweep import sweep
from tests.cluster.nodes import kill_all, signal_all, wait_until
from tests.cluster.tried import KNOWN_WITHIN_S, ONCE, SLEEPER, doomed_on, on
from tests.engine.bare import Supervisor


@on("stdio", "ray", "slurm")
def test_a_lost_job_is_another_attempt_if_that_was_asked_for(cluster, supervisor, program, watch):
    path = program(ONCE)
    job = supervisor.run(path, retries=1)
    live = job.messages()
    assert next(live) == "up"
    (process,) = watch.of(path).values()
    os.kill(process.pid, signal.SIGKILL)
    assert job.result(60) == "awake"
    assert job.attempt == job.record.attempt == 2
    assert list(job.messages()) == ["up"]  # of the attempt that counts, and of no other
    assert list(live) == ["up"]
    assert [each.attempt for each in job.events() if hasattr(each, "attempt")] == [1, 2]


@doomed_on("ray", "slurm")
def test_a_node_that_is_killed_is_told_by_name(doomed, program, engine, watch):
    path, other = program(SLEEPER), program(ONCE, "other")
    with Supervisor(cluster=doomed.cluster) as supervisor:
        job = supervisor.run(path)
        next(job.messages())
        watch.of(path)
        began = time.monotonic()
        kill_all(doomed.processes(job.node))
        watch.gone_within(path, 5)
        assert job.wait(60).outcome is Outcome.INTERRUPTED
        assert time.monotonic() - began < KNOWN_WITHIN_S
        assert f"node {job.node} is lost" in job.evidence.detail
        # The one that is left takes the next, and sweeps in the place of one that comes back.
        next_job = supervisor.run(other, {"seconds": 0.1})
        assert next_job.result(60) == "awake"
        assert next_job.node != job.node
    sweep(engine)


@doomed_on("ray", "slurm")
def test_a_map_survives_the_death_of_a_node(doomed, program, engine, watch):
    path, inputs = program(ONCE), [{"seconds": 1 + n / 1000} for n in range(12)]
    with Supervisor(cluster=doomed.cluster, retries=1) as supervisor:
        jobs = []
        for job in supervisor.map(path, inputs):
            jobs.append(job)
            watch.of(path)
            if len(jobs) == 2:
                kill_all(doomed.processes(job.node))
        assert [job.outcome for job in jobs] == [Outcome.COMPLETED] * 12
        assert [job.inputs for job in jobs] == inputs
        assert {job.attempt for job in jobs} <= {1, 2}
    sweep(engine)


@doomed_on("ray", "slurm")
def test_a_node_that_hangs_is_told_by_name(doomed, program, engine, watch):
    path = program(SLEEPER)
    with Supervisor(cluster=doomed.cluster) as supervisor:
        job = supervisor.run(path, limits={"timeout_s": 60})
        next(job.messages())
        assert watch.of(path)
        processes = doomed.processes(job.node)
        began = time.monotonic()
        signal_all(processes, signal.SIGSTOP)
        try:
            assert job.wait(60).outcome is Outcome.INTERRUPTED
            assert time.monotonic() - began < KNOWN_WITHIN_S
            assert f"node {job.node} is lost" in job.evidence.detail
        finally:
            signal_all(processes, signal.SIGCONT)
        # Back again, it learns that nobody wants the job any more.
        watch.gone_within(path, 15)
    sweep(engine)  # which the node's next supervisor does: Ray ends janitors with their workers


@on("stdio")
def test_a_hung_node_part_is_lost_within_five_heartbeats(cluster, supervisor, program, watch):
    path = program(SLEEPER)
    job = supervisor.run(path)
    next(job.messages())
    (process,) = watch.of(path).values()
    began = time.monotonic()
    os.kill(process.pid, signal.SIGSTOP)
    assert job.wait(60).outcome is Outcome.INTERRUPTED
    assert time.monotonic() - began < KNOWN_WITHIN_S
    watch.gone_within(path, 5)


@on("ray")
def test_a_driver_that_hangs_is_a_loss_and_replaced(cluster, program, watch):
    path, other = program(SLEEPER), program(ONCE, "other")
    with Supervisor(cluster=cluster.cluster, max_jobs=8) as supervisor:
        running = [supervisor.run(path) for _ in range(4)]
        for each in running:
            next(each.messages())
        watch.of(path)
        jobs = [*running, supervisor.run(path)]  # the last one waits for a node
        time.sleep(3)  # longer than a heartbeat
        driver = supervisor._site.engine._driver
        began = time.monotonic()
        driver._process.send_signal(signal.SIGSTOP)
        assert {each.wait(30).outcome for each in jobs} == {Outcome.INTERRUPTED}
        assert time.monotonic() - began < KNOWN_WITHIN_S
        assert "no node has taken the job" in jobs[-1].evidence.detail
        assert supervisor.run(other, {"seconds": 0.1}).result(60) == "awake"
        watch.gone_within(path, 5)


@on("ray")
def test_a_driver_that_is_killed_is_a_loss_and_replaced(cluster, supervisor, program, watch):
    path, other = program(SLEEPER), program(ONCE, "other")
    job = supervisor.run(path)
    next(job.messages())
    watch.of(path)
    supervisor._site.engine._driver._process.kill()
    assert job.wait(30).outcome is Outcome.INTERRUPTED
    assert f"node {job.node} is lost" in job.evidence.detail
    assert supervisor.run(other, {"seconds": 0.1}).result(60) == "awake"
    watch.gone_within(path, 5)


@on("stdio")
def test_a_node_part_that_does_not_start_is_no_loss(cluster, program, monkeypatch):
    monkeypatch.setenv("QRUNNER_NODE_PYTHON", "/bin/false")
    with Supervisor(cluster=cluster.cluster) as supervisor:
        record = supervisor.run(program(SLEEPER), retries=3).wait(60)
    assert record.outcome is Outcome.SANDBOX_ERROR
    assert record.attempt == 1


@doomed_on("slurm")
def test_when_slurm_is_gone_the_caller_is_told(doomed, program, monkeypatch):
    with Supervisor(cluster=doomed.cluster) as supervisor:
        path = program(SLEEPER)
        kill_all({each for node in doomed.nodes for each in doomed.processes(node)})
        job = supervisor.run(path)
        time.sleep(1)
        job.cancel()
        assert wait_until(lambda: job.outcome, 15) is Outcome.CANCELLED
