"""Whatever fails, jobs end in a typed outcome with evidence, and nothing is left."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import pytest

from runner import JobFailedError
from runner.engine import OWN_LABEL, Engine
from runner.host.processes import HostProcess
from runner.images import ImageStore
from runner.sandboxes.sweep import sweep
from tests.engine.bare import Supervisor
from tests.engine.faulty_engine import NumberedEngine, RefusingEngine
from tests.engine.traces import containers_of, holdings_here, processes_in, traces_of
from tests.waiting import within

pytestmark = pytest.mark.engine

ROOT = Path(__file__).resolve().parents[2]
# --- the engine fails -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "late"),
    [
        *((each, False) for each in ("info", "containers", "image", "create", "attach", "start")),
        ("create", True),
        ("start", True),
    ],
)
def test_a_call_that_fails_is_a_typed_outcome_and_leaves_nothing(engine, trivial, name, late):
    faulty = RefusingEngine.connect()
    faulty.refused, faulty.late = {name}, late
    with Supervisor(engine=faulty) as supervisor:
        record = supervisor.run(trivial).wait(20)
        assert record.outcome == "sandbox_error"
        assert record.evidence.source == "host"
        assert "refused for the test" in record.error
        faulty.refused = ()
        assert within(10, lambda: not containers_of(engine, os.getpid()))
        assert supervisor.run(trivial).result(60) == 1
    faulty.close()
    assert not traces_of(engine, os.getpid())


def test_a_sandbox_that_ends_before_it_is_ready_says_how_and_what_to_try(engine, trivial):
    class EndingEngine(Engine):
        def create(self, config, **options):
            command = ["sh", "-c", "echo no library >&2; exit 7"]
            return super().create({**config, "Cmd": command}, **options)

    faulty = EndingEngine.connect()
    with Supervisor(engine=faulty) as supervisor:
        record = supervisor.run(trivial).wait(20)
    faulty.close()
    assert record.outcome == "sandbox_error"
    assert "before it was ready (exit code 7 under runc)" in record.error
    assert "no library" in record.error
    assert f"docker run --rm --runtime runc {record.image} " in record.error
    assert "qrunner doctor" in record.error
    assert not traces_of(engine, os.getpid())


def test_what_the_engine_refuses_to_remove_is_dead_at_once_and_removed_when_it_may(engine, sleeper):
    faulty = RefusingEngine.connect()
    faulty.refused = {"remove"}
    with Supervisor(engine=faulty) as supervisor:
        job = supervisor.run(sleeper)
        next(job.messages())
        (labels,) = containers_of(engine, os.getpid()).values()
        group = f"{labels[f'{OWN_LABEL}.owner']}/"
        assert processes_in(group)
        job.cancel()
        assert job.wait(5).outcome == "cancelled"
        assert within(1, lambda: not processes_in(group))
        assert containers_of(engine, os.getpid())
        faulty.refused = ()
        assert within(10, lambda: not containers_of(engine, os.getpid()))
    faulty.close()
    assert not traces_of(engine, os.getpid())


def test_an_engine_that_never_removes_does_not_hold_up_close(engine, child, trivial):
    code = """
    from tests.engine.faulty_engine import RefusingEngine
    engine = RefusingEngine.connect()
    engine.refused = {"remove"}
    with Supervisor(engine=engine) as supervisor:
        print(supervisor.run(path).result(60), flush=True)
    """
    process = child(code, trivial)
    assert process.stdout.readline() == "1\n"
    assert process.wait(20) == 0
    assert within(10, lambda: not traces_of(engine, process.pid))  # by the janitor


def test_a_container_that_is_killed_or_removed_from_outside_is_a_sandbox_error(engine, sleeper):
    with Supervisor() as supervisor:
        for action, words in ((engine.kill, "stopped"), (engine.remove, "from outside")):
            job = supervisor.run(sleeper)
            next(job.messages())
            (container,) = containers_of(engine, os.getpid())
            began = time.monotonic()
            action(container)
            record = job.wait(10)
            assert time.monotonic() - began < 6
            assert record.outcome == "sandbox_error"
            assert words in record.evidence.detail
            assert record.evidence.source == "engine"
            assert within(5, lambda: not containers_of(engine, os.getpid()))


class ForgettingEngine(NumberedEngine):
    """Loses the image just before it creates a container of it, `times` times."""

    times = 0

    def create(self, config, **options):
        if self.times:
            self.times -= 1
            self._client.remove_image(config["Image"], force=True)
        return super().create(config, **options)


@pytest.mark.parametrize(("times", "outcome"), [(1, "completed"), (2, "sandbox_error")])
def test_an_image_that_vanishes_before_create_is_built_once_more(unbuilt, times, outcome):
    forgetful = ForgettingEngine.connect()
    forgetful.times = times
    with Supervisor(engine=forgetful) as supervisor:
        record = supervisor.run(unbuilt).wait(60)
    assert record.outcome == outcome
    assert outcome == "completed" or "No such image" in record.error
    forgetful.close()


# --- the host runs out of something ---------------------------------------------------------------


def test_out_of_descriptors_jobs_fail_typed_and_later_ones_work(engine, child, trivial):
    code = """
    import resource
    from collections import Counter
    from runner.programs import find
    path = find(path)
    with Supervisor(max_jobs=6) as supervisor:
        assert supervisor.run(path).result(60) == 1
        hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        resource.setrlimit(resource.RLIMIT_NOFILE, (len(os.listdir("/proc/self/fd")) + 9, hard))
        jobs = [supervisor.run(path) for _ in range(8)]
        outcomes = Counter(job.wait(60).outcome for job in jobs)
        faults = {job.record.error for job in jobs if job.outcome != "completed"}
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        assert supervisor.run(path).result(60) == 1
    print(outcomes["completed"] + outcomes["sandbox_error"], outcomes["sandbox_error"], faults)
    """
    process = child(code, trivial)
    total, failed, words = process.stdout.read().split(maxsplit=2)
    assert total == "8"
    assert int(failed) >= 1
    assert "Too many open files" in words
    assert process.wait(20) == 0
    assert within(10, lambda: not traces_of(engine, process.pid))


def test_a_full_temporary_directory_is_a_sandbox_error(engine, monkeypatch, trivial):
    small = Path(tempfile.mkdtemp(prefix="q", dir="/tmp"))  # a socket's path is short
    options = "size=64k,nr_inodes=4,mode=1777"
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", small], check=True)
    try:
        monkeypatch.setattr(tempfile, "tempdir", str(small))
        with Supervisor(carrier="socket") as supervisor:
            record = supervisor.run(trivial).wait(60)
            assert record.outcome == "sandbox_error"
            assert "No space left on device" in record.error
            subprocess.run(["mount", "-o", "remount,nr_inodes=100", small], check=True)
            assert supervisor.run(trivial).result(60) == 1
        assert not list(small.iterdir())
    finally:
        subprocess.run(["umount", small], check=True)
        small.rmdir()


# --- neighbours on one engine ---------------------------------------------------------------------


def test_sweeping_while_others_work_harms_nobody(engine, child, trivial):
    code = """
    with Supervisor(max_jobs=2) as supervisor:
        jobs = [supervisor.run(path, {"n": n}) for n in range(6)]
        print([job.result(60) for job in jobs])
    """
    process = child(code, trivial)
    other = Engine.connect()
    swept = 0
    while process.poll() is None:
        sweep(other)
        swept += 1
    other.close()
    assert swept > 10
    assert process.stdout.read() == "[1, 2, 3, 4, 5, 6]\n"
    assert not traces_of(engine, process.pid)


def test_foreign_containers_with_similar_names_and_labels_are_not_touched(engine, trivial):
    dead = subprocess.run([sys.executable, "-c", ""], check=True) and HostProcess.current()
    image = ImageStore(engine).guest()
    prefix = f"qrunner-test-{os.getpid()}"
    foreign = {
        f"{prefix}-named": {},
        f"{prefix}-similar": {f"{OWN_LABEL}x.sandbox": "1", f"{OWN_LABEL}.owner": f"{dead}x"},
        f"{prefix}-nobodys": {f"{OWN_LABEL}.sandbox": "1", f"{OWN_LABEL}.owner": "somebody"},
        f"{prefix}-remote": {
            f"{OWN_LABEL}.sandbox": "1",
            f"{OWN_LABEL}.owner": "elsewhere.b.1.1.1",
        },
    }
    made = [
        engine.create({"Image": image, "Cmd": ["true"], "Labels": labels}, name=name)
        for name, labels in foreign.items()
    ]
    try:
        sweep(engine)
        with Supervisor() as supervisor:
            assert supervisor.run(trivial).result(60) == 1
        assert all(engine.inspect(each) for each in made)
    finally:
        for each in made:
            engine.remove(each)


# --- many -----------------------------------------------------------------------------------------

MIXED = """
import os, time
def main(b, m, n):
    if n % 10 == 1: raise ValueError(n)
    if n % 10 == 2: os._exit(n)
    if n % 10 == 3: m.publish('up'); time.sleep(60)
    if n % 10 == 4: time.sleep(60)
    while n % 10 == 5: os.write(1, b'x' * 70000)
    if n % 10 == 6: m.publish(n)
    return n
"""
EXPECTED = {
    1: "program_error",
    2: "no_result",
    3: "time_limit",
    4: "time_limit",
    5: "output_limit",
}


def test_after_fifty_jobs_of_every_kind_everything_is_as_it_was_before(engine, program):
    path = program(MIXED, "mixed.py")
    with Supervisor() as supervisor:
        supervisor.run(path, {"n": 0}).result(60)
    before = holdings_here()
    with Supervisor(max_jobs=3) as supervisor:
        short, usual = ({"timeout_s": seconds, "log_bytes": 65536} for seconds in (0.5, 30))
        jobs = [
            supervisor.run(path, {"n": n}, limits=short if n % 10 in {3, 4} else usual)
            for n in range(40)
        ]
        stuck = [supervisor.run(path, {"n": n}) for n in range(3, 103, 10)]
        for job in stuck[:5]:
            job.cancel()
        for job in stuck[5:]:
            threading.Thread(target=lambda job=job: (next(job.messages(), 0), job.cancel())).start()
        for n, job in enumerate(jobs):
            assert job.wait(120).outcome == EXPECTED.get(n % 10, "completed"), job.record
        assert {job.wait(60).outcome for job in stuck} == {"cancelled"}
    assert within(10, lambda: holdings_here() == before), (holdings_here(), before)
    assert not traces_of(engine, os.getpid())


def test_a_storm_of_cancellations_leaves_nothing(engine, sleeper):
    before = holdings_here()
    with Supervisor(max_jobs=4) as supervisor:
        jobs = [supervisor.run(sleeper) for _ in range(24)]
        for number, job in enumerate(jobs):
            # Spread over queue, start and run: whatever each of them is at just then.
            threading.Timer(number * 0.08, job.cancel).start()
        assert {job.wait(30).outcome for job in jobs} == {"cancelled"}
        with pytest.raises(JobFailedError):
            jobs[0].result(1)
        assert within(15, lambda: not containers_of(engine, os.getpid()))
    assert within(10, lambda: holdings_here() == before), (holdings_here(), before)
    assert not traces_of(engine, os.getpid())
