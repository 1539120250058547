"""Jobs that are kept: the commands for them, other processes, and who dies meanwhile."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from runner import Outcome, Supervisor, UnknownJobError
from runner.store import Store
from runner.store.rows import Query
from tests.engine.traces import containers_of, traces_of
from tests.waiting import within

pytestmark = pytest.mark.engine

ROOT = Path(__file__).resolve().parents[2]
TALKER = """
import sys
def main(backend, user_messenger, n, fail=False):
    print("::error::forged \\x1b[31m")
    user_messenger.publish({"n": n})
    if fail:
        raise ValueError("no " + "\\x1b[31m")
    return [n, backend]
"""
PATIENT = """
import time
def main(backend, user_messenger):
    print("line one", flush=True)
    user_messenger.publish("up")
    time.sleep(120)
"""


@pytest.fixture
def qrunner(tmp_path):
    """Run the command line with a store of the test's own."""
    environment = {**os.environ, "QRUNNER_STORE": str(tmp_path / "jobs.db")}

    def call(*arguments, start=False, **options):
        command = [sys.executable, "-m", "runner", *(str(each) for each in arguments)]
        options = {"env": environment, "cwd": ROOT, "text": True, **options}
        if start:
            return subprocess.Popen(
                command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **options
            )
        return subprocess.run(command, capture_output=True, timeout=120, **options)

    return call


@pytest.fixture
def store(tmp_path):
    with contextlib.closing(Store(tmp_path / "jobs.db")) as opened:
        yield opened


def test_a_job_that_was_run_is_read_and_replayed_by_later_commands(qrunner, program):
    path = program(TALKER, "talker.py")
    run = qrunner(
        "run", path, "--backend", "none", "-i", "n=3", "--tag", "mine", "--format", "json"
    )
    assert run.returncode == 0, run.stderr
    finished = json.loads(run.stdout.splitlines()[-1])
    job = finished["job"]
    assert finished["stored"] is True

    shown = json.loads(qrunner("show", "last", "--format", "json").stdout)
    for key in ("job", "result", "usage", "image", "isolation", "carrier", "policy", "versions"):
        assert shown[key] == finished[key], key
    assert (shown["inputs"], shown["tags"]) == ({"n": 3}, ["mine"])
    assert shown["messages"][0]["body"] == {"n": 3}
    assert "::error::forged \x1b" in shown["log"]

    again = qrunner("replay", job[:12], "--format", "json")
    assert again.returncode == 0, again.stderr
    replayed = json.loads(again.stdout.splitlines()[-1])
    assert (replayed["result"], replayed["image"]) == (finished["result"], finished["image"])
    assert json.loads(qrunner("show", "last", "--format", "json").stdout)["replay_of"] == job

    failed = qrunner("run", path, "--backend", "none", "-i", "n=3", "-i", "fail=true", "--no-store")
    assert failed.returncode == 1
    assert len(qrunner("jobs", "--format", "json").stdout.splitlines()) == 2


def test_a_running_job_is_followed_and_cancelled_from_another_process(qrunner, program, store):
    run = qrunner(
        "run", program(PATIENT, "patient.py"), "--backend", "none", "--format", "json", start=True
    )
    with run:
        assert within(30, lambda: store.summaries(Query(outcomes=("RUNNING",))))
        (job,) = store.summaries()
        with qrunner("logs", job.id, "--follow", start=True) as follower:
            assert follower.stdout.readline() == "| line one\n"
            with qrunner("messages", job.id, "-f", "--format", "json", start=True) as messages:
                assert json.loads(messages.stdout.readline())["body"] == "up"
                refused = qrunner("delete", job.id)
                assert refused.returncode == 2
                assert "still runs" in refused.stderr
                cancelled = qrunner("cancel", job.id[:14])
                assert cancelled.returncode == 0, cancelled.stderr
                assert messages.wait(20) == 0
            assert follower.wait(20) == 0
        out, err = run.communicate(timeout=20)
    assert run.returncode == 130, err
    finished = json.loads(out.splitlines()[-1])
    assert finished["outcome"] == "cancelled"
    assert finished["usage"]["wall_s"] < 60
    assert store.load(job.id).record.outcome is Outcome.CANCELLED
    late = qrunner("cancel", job.id)
    assert late.returncode == 2
    assert "has ended already, as cancelled" in late.stderr


def test_a_store_that_cannot_be_used_refuses_the_run_and_says_what_to_do(qrunner, tmp_path):
    bad = tmp_path / "bad.db"
    bad.write_text("nonsense " * 1000)
    environment = {**os.environ, "QRUNNER_STORE": str(bad)}
    for arguments in (["run", "hello_world"], ["jobs"], ["show", "last"]):
        done = qrunner(*arguments, env=environment)
        assert (done.returncode, done.stdout) == (4, "")
        assert f"{bad}: it is no database: move it away" in done.stderr
        assert "Traceback" not in done.stderr


def test_a_replay_goes_on_when_the_image_is_gone(engine, program, tmp_path):
    path = program(f"# {time.time()}\n{TALKER}", "talker.py")
    with Supervisor(store=tmp_path / "jobs.db") as supervisor:
        job = supervisor.run(path, {"n": 1}, backend="none", options={"tags": ["t"]})
        assert job.result(60) == [1, None]
        path.unlink()  # only what is kept counts
        same = supervisor.replay(job.id)
        assert (same.result(60), same.image) == (job.result(), job.image)
        assert within(10, lambda: not containers_of(engine, os.getpid()))
        for tag in engine._client.inspect_image(job.image)["RepoTags"]:
            engine.remove_image(tag)
        assert engine.image(job.image) is None
        again = supervisor.replay(job.id)
        assert again.result(60) == job.result()
        assert (again.inputs, again.tags, again.backend()) == (job.inputs, ["t"], job.backend())
        assert [each.id for each in supervisor.jobs(job_tags=["t"])] == [
            again.id,
            same.id,
            job.id,
        ]
        assert supervisor.job(job.id) is job
    with Supervisor(store=tmp_path / "jobs.db") as later:
        found = later.job(job.id)
        assert found.result() == [1, None]
        assert (found.record, [*found.events()]) == (job.record, [*job.events()])
        assert found.metrics() == job.metrics()


def test_without_a_store_jobs_are_found_as_long_as_their_handles_live(supervisor, trivial):
    job = supervisor.run(trivial, {"n": 1}, backend="none", options={"job_tags": ["only"]})
    job.wait(60)
    assert job.record.stored is None
    assert supervisor.job(job.id) is job
    assert supervisor.jobs(job_tags=["only"], outcome="completed") == [job]
    assert supervisor.jobs(job_tags=["only"], pending=True) == []
    with pytest.raises(UnknownJobError, match="without a store"):
        supervisor.job("job-none")


PAIRS = 3
LOAD = """
with Supervisor(store={store!r}, max_jobs=3) as supervisor:
    jobs = [supervisor.run(path, {{"n": n}}, backend="none") for n in range(60)]
    for n, job in enumerate(jobs):
        assert job.result(60) == n + 1
        os.write(1, f"{{job.id}} {{n + 1}}\\n".encode())
"""


def test_killed_under_load_again_and_again_no_job_is_lost_and_nothing_is_left(
    engine, child, trivial, tmp_path
):
    path = tmp_path / "jobs.db"
    with Supervisor(store=path) as supervisor:  # so that no image has to be built below
        supervisor.run(trivial, backend="none").result(60)
    completed, pids = {}, []
    for _ in range(PAIRS):  # two at a time, on one store
        pair = [child(LOAD.format(store=str(path)), trivial) for _ in range(2)]
        for each in pair:
            completed |= dict([each.stdout.readline().split()])
        for each in pair:
            time.sleep(random.uniform(0, 0.7))
            each.send_signal(signal.SIGKILL)
            completed |= dict(line.split() for line in each.stdout.read().splitlines())
            pids.append(each.pid)
    assert completed
    with contextlib.closing(Store(path)) as store:
        found = {each.id: each.outcome for each in store.summaries(Query(limit=None))}
        assert len(found) == 1 + PAIRS * 2 * 60
        assert set(found.values()) == {Outcome.COMPLETED, Outcome.INTERRUPTED}
        for job, value in completed.items():
            assert store.load(job).record.result == value
        assert store.summaries(Query(pending=True)) == []
    for pid in pids:
        assert within(10, lambda pid=pid: not traces_of(engine, pid))
