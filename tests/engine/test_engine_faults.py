"""The engine itself stalls, dies, restarts or fills up: typed outcomes in time, and nothing left.

On an engine of the tests' own, because the one that everybody uses is not for that.
"""

from __future__ import annotations

import contextlib
import gc
import os
import threading
import time

import pytest

from runner.host.processes import HostProcess
from tests.engine.bare import Supervisor
from tests.engine.second_engine import SecondEngine, why_not
from tests.engine.traces import containers_of, processes_in, traces_of
from tests.waiting import within

pytestmark = [
    pytest.mark.engine,
    pytest.mark.skipif(why_not() is not None, reason=why_not() or "there is one"),
    # docker-py forgets to close its sockets when a call fails.
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning"),
]

CALL_TIMEOUT_S = 3
MINE = f"/{HostProcess.current()}/"


@pytest.fixture(scope="module")
def second():
    """The second engine, with the base image."""
    with SecondEngine() as engine:
        engine.load_base()
        yield engine
    gc.collect()


@pytest.fixture
def supervisor(second, trivial):
    """A supervisor on the second engine that gives up on a call after `CALL_TIMEOUT_S`."""
    with contextlib.closing(second.connect(timeout_s=CALL_TIMEOUT_S)) as connection:
        with Supervisor(engine=connection) as running:
            assert running.run(trivial).result(60) == 1
            yield running
            # The engine works again at the end of every test, and so does the supervisor.
            assert running.run(trivial).result(60) == 1
            assert within(15, lambda: not containers_of(connection, os.getpid()))
        assert not processes_in(MINE)
    gc.collect()


@pytest.fixture
def running_job(supervisor, sleeper):
    job = supervisor.run(sleeper)
    assert next(job.messages()) == "up"
    return job


@contextlib.contextmanager
def frozen(engine):
    engine.freeze()
    try:
        yield
    finally:
        engine.thaw()


def test_a_stall_delays_neither_cancel_nor_the_death_of_the_sandbox(second, running_job):
    assert processes_in(MINE)
    with frozen(second):
        began = time.monotonic()
        running_job.cancel()
        assert running_job.wait(2).outcome == "cancelled"
        assert within(2, lambda: not processes_in(MINE))
        assert time.monotonic() - began < 3


def test_a_stall_does_not_delay_the_time_limit_which_then_names_it(second, supervisor, sleeper):
    job = supervisor.run(sleeper, limits={"timeout_s": 3})
    assert next(job.messages()) == "up"
    with frozen(second):
        record = job.wait(10)
    assert record.outcome == "time_limit"
    assert 3 <= record.evidence.observed < 4
    assert record.usage.wall_s < 6
    assert "the engine does not answer" in record.evidence.detail


def test_a_stall_while_sandboxes_start_is_a_sandbox_error_in_time(second, supervisor, trivial):
    with frozen(second):
        began = time.monotonic()
        jobs = [supervisor.run(trivial) for _ in range(3)]
        jobs[2].cancel()
        assert jobs[2].wait(1).outcome == "cancelled"
        for job in jobs[:2]:
            record = job.wait(6 * CALL_TIMEOUT_S)
            assert record.outcome == "sandbox_error"
            assert "no answer of the engine" in record.error
        assert time.monotonic() - began < 6 * CALL_TIMEOUT_S


def test_what_was_asked_before_the_stall_and_comes_after_it_is_removed(
    second, supervisor, trivial, monkeypatch
):
    create = supervisor._site.engine.create

    def create_in_a_stall(*arguments, **options):
        second.freeze()
        threading.Timer(CALL_TIMEOUT_S + 1, second.thaw).start()
        return create(*arguments, **options)

    monkeypatch.setattr(supervisor._site.engine, "create", create_in_a_stall)
    record = supervisor.run(trivial).wait(4 * CALL_TIMEOUT_S)
    monkeypatch.undo()
    assert record.outcome == "sandbox_error"
    time.sleep(2)  # the engine has come back and done what it was asked; the fixture looks


def test_close_gives_up_on_a_stuck_engine(second, sleeper):
    connection = second.connect()
    supervisor = Supervisor(engine=connection)
    job = supervisor.run(sleeper)
    next(job.messages())
    with frozen(second):
        began = time.monotonic()
        supervisor.close()
        assert time.monotonic() - began < 8
        assert job.outcome == "cancelled"
        assert not processes_in(MINE)
    assert within(10, lambda: not traces_of(connection, os.getpid()))
    connection.close()


def test_a_restart_is_a_sandbox_error_and_leaves_nothing(second, running_job):
    second.stop()
    record = running_job.wait(10)
    second.start()
    assert record.outcome == "sandbox_error"
    assert record.evidence.source == "engine"
    assert "engine was lost" in record.error or "from outside" in record.error


def test_the_sudden_death_of_the_engine_is_a_sandbox_error_and_leaves_nothing(second, running_job):
    second.kill()
    began = time.monotonic()
    record = running_job.wait(10)
    assert time.monotonic() - began < 3
    assert within(2, lambda: not processes_in(MINE))
    second.start()
    assert record.outcome == "sandbox_error"
    assert "the engine was lost" in record.error


def test_a_restart_ends_the_cells_and_there_are_new_ones_after_it(second, program):
    waits = program("import time\ndef main(b, m, s):\n    m.publish(1)\n    time.sleep(s)\n")
    with (
        contextlib.closing(second.connect(timeout_s=CALL_TIMEOUT_S)) as connection,
        Supervisor(engine=connection) as supervisor,
        supervisor.session(waits, backend="none") as session,
    ):
        job = session.run({"s": 60})
        assert next(job.messages()) == 1
        second.stop()
        record = job.wait(10)
        second.start()
        assert (record.outcome, record.place) == ("sandbox_error", "cell")
        again = session.run({"s": 0}).wait(60)
        assert (again.outcome, again.place) == ("completed", "cell")
    gc.collect()


def test_a_full_disk_of_the_engine_is_a_sandbox_error(second, supervisor, trivial, unbuilt):
    filler = second.data / "filler"
    try:
        with filler.open("wb") as file, contextlib.suppress(OSError):
            while True:
                file.write(bytes(1 << 20))
        for path in (unbuilt, trivial):
            record = supervisor.run(path).wait(30)
            assert record.outcome == "sandbox_error"
            assert "no space left on device" in record.error.lower()
    finally:
        filler.unlink()
    assert supervisor.run(unbuilt).result(60) == 1
