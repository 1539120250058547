"""The same job, whatever it runs on: one machine, a Ray cluster, Slurm."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time

import pytest

from runner import JobFailedError, JobStatus, Limits, Outcome, RequestError, Supervisor

ALL = ["local", "ray", "slurm"]
CLUSTERS = ["ray", "slurm"]

TALKER = """
def main(backend, user_messenger, n=3, fail=False):
    print("to the log")
    for i in range(n):
        user_messenger.publish({"i": i, "text": "naïve\\n"})
    if fail:
        raise ValueError("on purpose")
    return {"sum": sum(range(n)), "nan": float("nan")}
"""
SLEEPER = """
import time
def main(backend, user_messenger, seconds=120):
    user_messenger.publish("up")
    time.sleep(seconds)
    return "awake"
"""
FLOODER = """
def main(backend, user_messenger):
    while True:
        user_messenger.publish("x" * 1000)
"""
BURST = """
def main(backend, user_messenger, n=20_000):
    for i in range(n):
        user_messenger.publish(i)
"""
SEEDED = """
from qiskit import transpile
from qiskit.circuit.random import random_circuit
def main(backend, user_messenger, seed):
    for i in range(3):
        circuit = transpile(random_circuit(4, 4, measure=True, seed=seed + i), backend)
        counts = backend.run(circuit, seed_simulator=seed).result().get_counts()
        user_messenger.publish(counts)
    return counts
"""


def on(*kinds, brief=()):
    """Run a test on these kinds of cluster; `make test` runs it on those that are `brief`."""
    marks = {True: [pytest.mark.brief], False: []}
    params = [pytest.param(each, marks=marks[each in brief]) for each in kinds]
    return pytest.mark.parametrize("cluster", params, indirect=True)


@on(*ALL, "stdio", brief=("stdio", "ray", "slurm"))
def test_a_job_is_the_ordinary_one(cluster, supervisor, program, watch):
    path = program(TALKER)
    seen, finals = [], []
    job = supervisor.run(
        path,
        {"n": 4},
        callback=lambda job_id, message: seen.append((job_id, message)),
        on_final=lambda job_id, result: finals.append(result),
    )
    expected = [{"i": i, "text": "naïve\n"} for i in range(4)]
    watch.of(path)
    assert list(job.messages()) == expected, job.record
    assert job.result(60)["sum"] == 6
    assert list(job.messages(2)) == expected[2:]
    assert [each for _, each in seen] == expected
    assert {each for each, _ in seen} == {job.id}
    assert len(finals) == 1
    assert job.logs() == "to the log\n"
    assert job.status() is JobStatus.DONE
    assert job.usage.messages == 4
    assert job.usage.wall_s > 0
    assert job.image
    assert job.attempt == job.record.attempt == 1
    if cluster.nodes:
        assert job.node in cluster.nodes or job.node.rpartition("/")[2] in cluster.nodes
    assert job.record.node == job.node
    assert job.record.timestamps["created"] == job.created.isoformat()


@on(*ALL)
def test_a_program_that_fails_shows_its_own_lines(supervisor, program):
    path = program(TALKER)
    job = supervisor.run(path, {"n": 0, "fail": True})
    with pytest.raises(JobFailedError) as caught:
        job.result(60)
    assert caught.value.outcome == "program_error"
    assert f'File "{path}"' in caught.value.traceback


@on(*ALL)
def test_twenty_jobs_go_over_all_nodes(cluster, supervisor, program, watch):
    path = program(TALKER)
    jobs = [supervisor.run(path, {"n": n}) for n in range(20)]
    assert [job.result(120)["sum"] for job in jobs] == [sum(range(n)) for n in range(20)]
    assert all(len(list(job.messages())) == n for n, job in enumerate(jobs))
    assert len({job.node for job in jobs}) == max(1, len(cluster.nodes))


@on(*ALL)
def test_a_burst_arrives_whole_and_in_order(supervisor, program):
    job = supervisor.run(program(BURST))
    assert list(job.messages()) == list(range(20_000))
    assert job.wait(60).outcome is Outcome.COMPLETED


@on(*ALL, brief=("ray",))
def test_cancel_ends_a_running_job_at_once(supervisor, program, watch):
    path = program(SLEEPER)
    job = supervisor.run(path)
    next(job.messages())
    assert watch.of(path)
    began = time.monotonic()
    job.cancel()
    assert job.wait(10).outcome is Outcome.CANCELLED
    assert time.monotonic() - began < 5
    watch.gone_within(path, 5)


@on(*CLUSTERS)
def test_cancel_of_a_job_that_waits_for_a_node_is_immediate(cluster, program, watch):
    path, other = program(SLEEPER), program(TALKER, "other")
    with Supervisor(cluster=cluster.cluster, max_jobs=8) as supervisor:
        running = [supervisor.run(path) for _ in range(4)]
        for each in running:
            next(each.messages())
        waiting = supervisor.run(other)
        time.sleep(1)
        assert waiting.status() is JobStatus.QUEUED
        began = time.monotonic()
        waiting.cancel()
        assert waiting.wait(10).outcome is Outcome.CANCELLED
        assert time.monotonic() - began < 1
        assert not watch.of(other)
        watch.of(path)
        for each in running:
            each.cancel()
        last = supervisor.run(other)  # nothing holds the nodes any more
        assert last.result(60)["sum"] == 3


@on(*ALL)
def test_the_deadline_does_not_wait_for_a_stalled_consumer(supervisor, program, watch):
    path = program(FLOODER)
    stall = threading.Event()
    job = supervisor.run(path, callback=lambda *_: stall.wait(30), limits={"timeout_s": 4.0})
    try:
        next(job.messages())
        assert watch.of(path)
        watch.gone_within(path, 20)
    finally:
        stall.set()
    assert job.wait(30).outcome is Outcome.TIME_LIMIT
    assert job.evidence.limit == "timeout_s"


@on(*ALL)
def test_cancel_reaches_a_job_whose_consumer_stalls(supervisor, program, watch):
    path = program(FLOODER)
    stall = threading.Event()
    job = supervisor.run(path, callback=lambda *_: stall.wait(30))
    next(job.messages())
    watch.of(path)
    time.sleep(1)
    try:
        job.cancel()
        assert job.wait(10).outcome is Outcome.CANCELLED
        watch.gone_within(path, 5)
    finally:
        stall.set()


@on(*CLUSTERS, brief=CLUSTERS)
def test_a_job_larger_than_any_node_is_refused_with_the_numbers(cluster, program):
    pattern = r"needs 64 CPUs and 2048 MiB.*has 2 and 4096 MiB"
    with (
        Supervisor(cluster=cluster.cluster, limits=Limits(cpus=64.0)) as supervisor,
        pytest.raises(RequestError, match=pattern),
    ):
        supervisor.run(program(TALKER))


@on(*ALL)
def test_equal_seeds_give_equal_results(supervisor, program):
    path = program(SEEDED)
    with Supervisor() as here:
        expected = here.run(path, {"seed": 7})
        job = supervisor.run(path, {"seed": 7})
        assert job.result(60) == expected.result(60)
        assert list(job.messages()) == list(expected.messages())


@on(*CLUSTERS)
def test_map_gives_results_in_the_order_of_the_inputs(cluster, program, tmp_path):
    path, inputs = program(SEEDED), tmp_path / "inputs.jsonl"
    inputs.write_text("".join(f'{{"seed": {n}}}\n' for n in range(12)))
    command = [sys.executable, "-m", "runner", "map", str(path), "--inputs", str(inputs)]
    there = subprocess.run([*command, "--cluster", cluster.cluster], capture_output=True)
    here = subprocess.run(command, capture_output=True)
    found = [
        [(each["index"], each["outcome"], each["result"]) for each in map(json.loads, lines)]
        for lines in (there.stdout.splitlines(), here.stdout.splitlines())
    ]
    assert there.returncode == 0, there.stderr
    assert [index for index, _, _ in found[0]] == list(range(12))
    assert found[0] == found[1]
