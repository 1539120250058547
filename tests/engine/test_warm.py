"""Warm places on the real engine, cells and containers: quick, used once, gone like all others."""

from __future__ import annotations

import time

import pytest

from runner import Supervisor
from runner.engine import OWN_LABEL
from runner.job.handle import trace_of
from runner.sandboxes import cgroup
from tests.engine.traces import traces_of
from tests.waiting import within

SOURCE = """
import os, random, sys, time
import numpy
def main(b, m, what="look"):
    if what == "look":
        print("printed", flush=True)
        m.publish("hello")
        return [os.listdir("/tmp"), random.random(), float(numpy.random.rand()), hash("x"),
                len(os.listdir("/proc/self/task")), os.getcwd(), "scipy.linalg" in sys.modules]
    if what == "sleep":
        time.sleep(60)
    if what == "log":
        os.write(1, b"x" * 300_000)
        os.write(2, b"the end")
        return "done"
    def unused():
        import scipy.linalg
"""


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    path = tmp_path_factory.mktemp("warm") / "looks.py"
    path.write_text(SOURCE)
    return path


@pytest.fixture(scope="module", params=[True, False], ids=["cells", "containers"])
def warm(request, path):
    with Supervisor(warm={path: 2}, cells=request.param) as running:
        assert running.wait_until_warm(60)
        yield running


def modes(job):
    return {each.name for each in trace_of(job).phases()}


def test_jobs_get_warm_ones_that_share_nothing(warm, path):
    jobs = [warm.run(path) for _ in range(2)]
    looks = [job.result(30) for job in jobs]
    for job in jobs:
        assert "take" in modes(job)
        assert "create" not in modes(job)
        assert list(job.messages()) == ["hello"]
        assert job.logs() == "printed\n"
        assert job.usage.cpu_s < 1.5  # the warm-up is nobody's
        assert job.image.startswith("sha256:")
    # The idle thread that the warm-up leaves: a fork has only the one that has forked.
    threads = {"container": 2, "cell": 1}
    for job, each in zip(jobs, looks, strict=True):
        assert each[0] == ["out"]
        assert each[4:] == [threads[job.record.place], "/tmp", True]
    drawn = list(zip(*looks, strict=True))[1:4]
    if jobs[0].record.place == "cell":
        drawn.pop()  # the hash of a text: forks of one interpreter have its seed
    assert all(len(set(values)) == 2 for values in drawn)


def test_time_runs_from_hand_out_and_other_limits_match(warm, path):
    assert warm.wait_until_warm(60)
    time.sleep(1.5)
    job = warm.run(path, {"what": "sleep"}, limits={"timeout_s": 1.2})
    record = job.wait(30)
    assert "take" in modes(job)
    assert record.outcome == "time_limit"
    assert record.usage.wall_s >= 1.2


def test_the_whole_log_arrives_before_the_end(warm, path):
    assert warm.wait_until_warm(60)
    job = warm.run(path, {"what": "log"})
    assert job.result(30) == "done"
    assert job.logs() == "x" * 300_000 + "the end"
    assert job.usage.stderr_bytes == 300_007


def test_one_that_was_killed_from_outside_is_not_handed_out(warm, path, engine):
    assert warm.wait_until_warm(60)
    me = str(warm._site.supply.process)
    waiting = [
        name
        for name, labels in engine.containers().items()
        if labels.get(f"{OWN_LABEL}.owner") == me and engine.inspect(name).running
    ]
    for each in waiting:
        engine.kill(each)
    assert warm.run(path).result(60)
    assert warm.wait_until_warm(60)


def test_nothing_is_left_of_a_full_pool_whose_supervisor_is_killed(engine, child, path):
    code = """
    supervisor = Supervisor(warm={path: 2})
    print(supervisor.wait_until_warm(60), supervisor.pool().waiting, flush=True)
    time.sleep(120)
    """
    process = child(code, path)
    assert process.stdout.readline() == "True 2\n"
    assert [each for each in engine.containers().values() if f".{process.pid}." in str(each)]
    process.kill()
    process.wait()
    assert within(15, lambda: not traces_of(engine, process.pid))


def test_where_systemd_delegates_no_group_jobs_have_containers_and_it_is_said_why(
    path, monkeypatch, tmp_path
):
    monkeypatch.setattr(cgroup, "is_usable", lambda **_: False)
    monkeypatch.setattr(cgroup, "is_found", lambda **_: True)
    monkeypatch.setenv("PATH", str(tmp_path))  # systemd's busctl is not there
    with Supervisor(warm=True) as supervisor:
        jobs = [supervisor.run(path) for _ in range(2)]
        assert [job.wait(60).place for job in jobs] == ["container"] * 2
        assert "systemd delegates no control group: " in supervisor.cell_obstacle()
        assert "busctl" in supervisor.cell_obstacle()
