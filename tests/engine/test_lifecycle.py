"""Every job ends in a typed outcome and leaves nothing, whatever happens to whom and when."""

from __future__ import annotations

import dataclasses
import io
import os
import signal
import subprocess
import sys
import tarfile
import tempfile
import threading
import time
from pathlib import Path

import pytest

from runner import RequestError
from runner.engine import OWN_LABEL
from runner.host.interrupt import CancelledError, Interrupt
from runner.host.processes import SCRATCH_PREFIX, HostProcess
from runner.images import ImageStore
from runner.sandboxes.sweep import sweep
from tests.engine.bare import Supervisor
from tests.engine.traces import children_of, containers_of, processes_in, traces_of
from tests.waiting import within

pytestmark = pytest.mark.engine

ROOT = Path(__file__).resolve().parents[2]


def janitor_of(pid):
    """Return the janitor among the children of a process."""
    janitors = [
        each
        for each in children_of(pid)
        if b"runner.sandboxes.sweep" in Path(f"/proc/{each}/cmdline").read_bytes()
    ]
    (janitor,) = janitors
    return janitor


# --- SIGKILL --------------------------------------------------------------------------------------


def test_killed_between_any_two_engine_calls_nothing_is_left_after_seconds(engine, child, trivial):
    code = """
    engine = KillingEngine.connect()
    engine.last, delay = int(os.environ["LAST"]), os.environ["DELAY"]
    engine.delay_s = float(delay) if delay else None
    with Supervisor(engine=engine) as supervisor:
        supervisor.run(path).result(60)
    print("lived", engine.number)
    """
    with Supervisor() as supervisor:  # so that no image has to be built below
        supervisor.run(trivial).result(60)

    def killed(last, delay=""):
        os.environ.update(LAST=str(last), DELAY=delay)
        return child(code, trivial)

    lived = killed(0)
    calls = int(lived.stdout.read().split()[1])
    assert 7 <= calls <= 12  # info, list, image, create, attach, start, remove
    victims = [killed(last) for last in range(1, calls)]
    # … and while the engine is at it: the request is sent, nobody waits for the answer.
    victims += [killed(last, "0.004") for last in range(3, calls)]
    for each in victims:
        assert each.wait(60) in {-signal.SIGKILL, 0}
        began = time.monotonic()
        assert within(10, lambda each=each: not traces_of(engine, each.pid)), each.args
        assert time.monotonic() - began < 10


def test_killed_with_its_janitor_the_sandbox_dies_at_once_and_clean_removes_the_rest(
    engine, child, sleeper
):
    code = """
    job = Supervisor().run(path)
    print(next(job.messages(), None) or job.wait(), flush=True)
    job.wait()
    """
    for _ in range(5):  # a supervisor beside this test may sweep first, and then nothing is shown
        process = child(code, sleeper)
        assert process.stdout.readline() == "up\n"
        (labels,) = containers_of(engine, process.pid).values()
        owner = labels[f"{OWN_LABEL}.owner"]
        assert processes_in(owner)
        os.kill(janitor_of(process.pid), signal.SIGKILL)
        process.kill()
        process.wait()
        assert within(2, lambda owner=owner: not processes_in(owner)), "the lifeline does not work"
        if traces_of(engine, process.pid):
            break
    else:
        pytest.fail("somebody else has swept each time")
    cleaning = [sys.executable, "-m", "runner", "clean"]
    subprocess.run(cleaning, cwd=ROOT, check=True, capture_output=True, timeout=60)
    assert not traces_of(engine, process.pid)


def test_a_sweep_removes_the_build_directories_of_the_dead_only(engine, child, trivial):
    process = child("pass", trivial)
    dead = dataclasses.replace(HostProcess.current(), pid=process.pid, started="1")
    process.wait()
    left, kept = (
        Path(tempfile.mkdtemp(prefix=f"{SCRATCH_PREFIX}{owner}-"))
        for owner in (dead, HostProcess.current())
    )
    (left / "a.whl").touch()
    sweep(engine)
    assert not left.exists()
    kept.rmdir()


def test_a_forked_child_holds_no_lifeline_and_cannot_use_the_supervisor(engine, child, sleeper):
    code = """
    supervisor = Supervisor()
    job = supervisor.run(path)
    next(job.messages())
    if (pid := os.fork()) == 0:
        try:
            supervisor.run(path)
        except Exception as error:
            os.write(1, f"{type(error).__name__}\\n".encode())  # print may take two writes
        supervisor.close()
        time.sleep(60)
        os._exit(0)
    os.write(1, f"{pid}\\n".encode())
    job.wait()
    """
    process = child(code, sleeper)
    words = {process.stdout.readline().strip() for _ in range(2)}
    (forked,) = (int(each) for each in words if each.isdigit())
    assert "RequestError" in words
    try:
        assert len(containers_of(engine, process.pid)) == 1, "the child has closed it"
        process.kill()
        process.wait()
        assert within(8, lambda: not traces_of(engine, process.pid))
    finally:
        os.kill(forked, signal.SIGKILL)


# --- what nobody closes ---------------------------------------------------------------------------


def test_the_interpreter_ends_at_once_when_nobody_closes(engine, child, sleeper):
    code = """
    supervisor = Supervisor(max_jobs=1)
    job, queued = supervisor.run(path, callback=print), supervisor.run(path)
    next(job.messages())
    """
    process = child(code, sleeper)
    assert process.stdout.readline()
    began = time.monotonic()
    assert process.wait(20) == 0
    assert time.monotonic() - began < 5
    assert not traces_of(engine, process.pid)


def test_a_forgotten_supervisor_warns_finishes_its_jobs_and_is_closed_with_the_interpreter(
    engine, child, trivial
):
    code = """
    import warnings
    from tests.engine.traces import children_of
    warnings.simplefilter("always")
    warnings.showwarning = lambda message, *_: print(message, flush=True)
    jobs = [Supervisor(max_jobs=1).run(path, {"n": n}) for n in (1, 2)]
    print(*[each.result(60) for each in jobs], flush=True)
    print(len(children_of(os.getpid())), flush=True)
    kept = Supervisor()
    """
    process = child(code, trivial)
    assert process.wait(90) == 0
    unclosed = 'unclosed Supervisor: use "with" or close()'
    assert process.stdout.read().splitlines() == [
        *[unclosed] * 2,
        "2 3",
        "2",  # the garbage collector has closed nothing: their janitors wait
        unclosed,
    ]
    assert not traces_of(engine, process.pid)


def test_closing_ends_the_queue_and_whoever_waits(sleeper):
    seen, delivered = [], []
    with Supervisor(max_jobs=1) as supervisor:
        running = supervisor.run(sleeper, callback=lambda *each: delivered.append(each))
        queued = [supervisor.run(sleeper) for _ in range(5)]
        next(running.messages())

        def wait(job):
            seen.append((list(job.messages()), job.wait()))

        waiting = [threading.Thread(target=wait, args=[each]) for each in [running, *queued]]
        for each in waiting:
            each.start()
        began = time.monotonic()
    assert time.monotonic() - began < 5
    for each in waiting:
        each.join(5)
    assert {record.outcome for _, record in seen} == {"cancelled"}
    assert len(seen) == 6
    assert all(record.timestamps["finished"] for _, record in seen)
    with pytest.raises(RequestError, match="closed"):
        supervisor.run(sleeper)


def test_two_supervisors_of_one_process_do_not_clean_up_after_each_other(sleeper, trivial):
    with Supervisor() as longer:
        job = longer.run(sleeper)
        next(job.messages())
        for _ in range(2):
            with Supervisor() as shorter:
                assert shorter.run(trivial).result(60) == 1
        assert job.status() == "RUNNING"
        assert longer.run(trivial, {"n": 4}).result(60) == 5


# --- cancelling while something is built ----------------------------------------------------------


def test_a_job_is_cancelled_at_once_while_its_image_is_being_built(engine, unbuilt):
    store = ImageStore(engine)
    with Supervisor() as supervisor:
        found = supervisor.run(unbuilt)  # queued …
        found.cancel()  # … and not interested any more
        assert found.wait(2).outcome == "cancelled"
        builder = store._builder
        digest = store.program({"program.py": unbuilt.read_bytes()}, "other").digest
        with builder.locked(digest):
            job = supervisor.run(unbuilt)
            began = time.monotonic()
            job.cancel()
            assert job.wait(1).outcome == "cancelled"
            supervisor.close()
            assert time.monotonic() - began < 5


def test_an_interrupted_build_ends_within_seconds(engine):
    dockerfile = f"FROM {ImageStore(engine).guest()}\nRUN sleep 120\n".encode()
    context = io.BytesIO()
    with tarfile.open(fileobj=context, mode="w") as archive:
        member = tarfile.TarInfo("Dockerfile")
        member.size = len(dockerfile)
        archive.addfile(member, io.BytesIO(dockerfile))
    context.seek(0)
    interrupt = Interrupt()
    with interrupt.scope(), pytest.raises(CancelledError):
        for line in engine.build(
            context, dockerfile="Dockerfile", tag="qrunner-unfinished", arguments={}, labels={}
        ):
            if "sleep 120" in line:
                began = time.monotonic()
                threading.Timer(0.5, interrupt.fire).start()
    assert time.monotonic() - began < 3
    assert engine.image("qrunner-unfinished") is None
    command = ["docker", "ps", "--quiet", "--no-trunc", "--filter", "status=running"]
    listing = [*command, "--format", "{{.Command}}"]

    def is_running():
        return "sleep 120" in subprocess.run(listing, capture_output=True, text=True).stdout

    assert within(10, lambda: not is_running())
