"""The same job, whatever it runs on: one machine, a Ray cluster, Slurm."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time

import pytest

from runner import JobFailedError, JobStatus, Outcome
from tests.cluster.tried import ALL, BURST, CLUSTERS, FLOODER, ONCE, SEEDED, SLEEPER, TALKER, on
from tests.engine.bare import Supervisor


@on(*ALL)
def test_a_program_that_fails_shows_its_own_lines(supervisor, program):
    path = program(TALKER)
    job = supervisor.run(path, {"n": 0, "fail": True})
    with pytest.raises(JobFailedError) as caught:
        job.result(60)
    assert caught.value.outcome == "program_error"
    assert f'File "{path}"' in caught.value.traceback


@on(*ALL)
def test_twenty_jobs_go_over_all_nodes(cluster, program, watch):
    path = program(TALKER)
    with Supervisor(cluster=cluster.cluster) as supervisor:  # to which no node was ever lost
        jobs = [supervisor.run(path, {"n": n}, user="many") for n in range(20)]
        single = supervisor.run(path, {"n": 0}, user="single")
        assert [job.result(120)["sum"] for job in jobs] == [sum(range(n)) for n in range(20)]
        assert all(len(list(job.messages())) == n for n, job in enumerate(jobs))
        assert len({job.node for job in jobs}) == max(1, len(cluster.nodes))
        # It came last, and had to wait only for those that were on their way to the nodes.
        end = single.wait(60).timestamps["finished"]
        assert sum(job.record.timestamps["finished"] > end for job in jobs) >= 5


@on(*ALL)
def test_users_take_turns(cluster, program):
    path = program(ONCE)
    with Supervisor(cluster=cluster.cluster, max_jobs=1) as supervisor:
        first = supervisor.run(path, {"seconds": 2}, user="many")
        assert next(first.messages()) == "up"  # the others come while the only place is taken
        with supervisor.session(path, backend="none", user="many") as session:
            many = [session.run({"seconds": 0}) for _ in range(4)]
            few = [supervisor.run(path, {"seconds": 0}, user="few") for _ in range(2)]
            ended = sorted((each.wait(60).timestamps["finished"], each) for each in (*many, *few))
    order = ["few" if each in few else "many" for _, each in ended]
    assert order in (
        ["few", "many", "few", "many", "many", "many"],
        ["many", "few", "many", "few", "many", "many"],
    )


@on(*ALL)
def test_a_burst_arrives_whole_and_in_order(supervisor, program):
    job = supervisor.run(program(BURST))
    assert list(job.messages()) == list(range(20_000))
    assert job.wait(60).outcome is Outcome.COMPLETED


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


@on(*ALL)
def test_equal_seeds_give_equal_results(supervisor, program):
    path = program(SEEDED)
    with Supervisor() as here:
        expected = here.run(path, {"seed": 7}, backend=None)
        job = supervisor.run(path, {"seed": 7}, backend=None)
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
