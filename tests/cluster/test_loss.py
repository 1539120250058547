"""What dies, and when: the caller, the node part, a whole node; and nothing is left of it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import pytest

from runner import Outcome, Supervisor
from runner.sandboxes.sweep import sweep
from tests.cluster.nodes import ROOT, kill_all, signal_all, wait_until
from tests.cluster.test_conformance import SLEEPER, on

KNOWN_WITHIN_S = 12
"""After which a caller knows that a node is lost, whatever happened to it."""

ONCE = """
import time
def main(backend, user_messenger, seconds=6):
    user_messenger.publish("up")
    time.sleep(seconds)
    return "awake"
"""
CALLER = """
import sys
sys.path.insert(0, {root!r})
from runner import Supervisor
with Supervisor(cluster={cluster!r}) as supervisor:
    job = supervisor.run({path!r})
    next(job.messages())
    print("up", flush=True)
    job.wait()
"""


def doomed_on(*kinds):
    return pytest.mark.parametrize("doomed", kinds, indirect=True)


@on("local", "ray", "slurm", brief=("ray", "slurm"))
def test_a_caller_that_is_killed_takes_its_sandboxes_along(cluster, program, watch):
    path = program(SLEEPER)
    code = CALLER.format(root=str(ROOT), cluster=cluster.cluster, path=str(path))
    caller = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
    try:
        assert caller.stdout.readline() == b"up\n"
        assert watch.of(path)
    finally:
        caller.kill()
        caller.wait()
        caller.stdout.close()
    watch.gone_within(path, 5)


@on("stdio", "ray", "slurm", brief=("ray",))
def test_a_node_part_that_is_killed_is_told_by_name(cluster, supervisor, program, watch):
    path = program(SLEEPER)
    job = supervisor.run(path)
    next(job.messages())
    (owner,) = watch.of(path).values()
    began = time.monotonic()
    os.kill(owner.pid, signal.SIGKILL)
    assert job.wait(30).outcome is Outcome.INTERRUPTED
    assert time.monotonic() - began < KNOWN_WITHIN_S
    assert f"node {job.node} is lost" in job.evidence.detail
    assert "last sign of life" in job.evidence.detail
    assert job.attempt == 1
    watch.gone_within(path, 5)


@on("stdio", "ray", "slurm")
def test_a_lost_job_is_another_attempt_if_that_was_asked_for(cluster, supervisor, program, watch):
    path = program(ONCE)
    job = supervisor.run(path, retries=1)
    live = job.messages()
    assert next(live) == "up"
    (owner,) = watch.of(path).values()
    os.kill(owner.pid, signal.SIGKILL)
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


@on("stdio", brief=("stdio",))
def test_a_hung_node_part_is_lost_within_five_heartbeats(cluster, supervisor, program, watch):
    path = program(SLEEPER)
    job = supervisor.run(path)
    next(job.messages())
    (owner,) = watch.of(path).values()
    began = time.monotonic()
    os.kill(owner.pid, signal.SIGSTOP)
    assert job.wait(60).outcome is Outcome.INTERRUPTED
    assert time.monotonic() - began < KNOWN_WITHIN_S
    watch.gone_within(path, 5)


@on("ray")
def test_a_driver_that_is_killed_is_a_loss_and_replaced(cluster, supervisor, program, watch):
    path, other = program(SLEEPER), program(ONCE, "other")
    job = supervisor.run(path)
    next(job.messages())
    watch.of(path)
    supervisor._remote.engine._driver._process.kill()
    assert job.wait(30).outcome is Outcome.INTERRUPTED
    assert f"node {job.node} is lost" in job.evidence.detail
    assert supervisor.run(other, {"seconds": 0.1}).result(60) == "awake"
    watch.gone_within(path, 5)


def _wrapped(tmp_path, code):
    """Return a command that stands in for a node's Python, with something changed in it."""
    script = tmp_path / "python"
    text = f"{code}\nimport runpy; runpy.run_module('runner.cluster.node', run_name='__main__')"
    (tmp_path / "node.py").write_text(text)
    script.write_text(f"#!/bin/sh\nexec {sys.executable} {tmp_path}/node.py\n")
    script.chmod(0o755)
    return str(script)


@on("stdio", brief=("stdio",))
def test_a_node_of_another_version_refuses_by_name(cluster, program, tmp_path, monkeypatch):
    python = _wrapped(tmp_path, "import runner; runner.__version__ = '99.1'")
    monkeypatch.setenv("QRUNNER_NODE_PYTHON", python)
    monkeypatch.setenv("QRUNNER_NODE", "the-old-one")
    with Supervisor(cluster=cluster.cluster) as supervisor:
        record = supervisor.run(program(SLEEPER)).wait(60)
    assert record.outcome is Outcome.SANDBOX_ERROR
    assert "node the-old-one has qiskit-program-runner 99.1" in record.error


@on("stdio", brief=("stdio",))
def test_a_node_without_the_base_image_says_so(cluster, program, tmp_path, monkeypatch):
    code = "from runner import transfer; transfer.missing_base = lambda _: 'x/stack:1'"
    monkeypatch.setenv("QRUNNER_NODE_PYTHON", _wrapped(tmp_path, code))
    monkeypatch.setenv("QRUNNER_NODE", "the-bare-one")
    with Supervisor(cluster=cluster.cluster) as supervisor:
        record = supervisor.run(program(SLEEPER)).wait(60)
    assert record.outcome is Outcome.SANDBOX_ERROR
    assert "node the-bare-one has no base image x/stack:1" in record.error
    assert "qrunner build --base" in record.error


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
