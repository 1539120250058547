"""What goes in comes out, whoever dies or looks on meanwhile."""

from __future__ import annotations

import contextlib
import functools
import itertools
import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from runner.errors import StoreError, UnknownJobError
from runner.host.processes import HostProcess
from runner.job import Job
from runner.job.record import (
    Evidence,
    JobRecord,
    JobStatus,
    Outcome,
    Usage,
)
from runner.programs import program as registry
from runner.store import Store, kept, recorder
from runner.store.recorder import Recorder
from runner.store.rows import Query
from sandbox.wire.protocol import JsonText
from tests.unit.store.keeping import completed, make_job, run

ROOT = Path(__file__).parents[3]
DEAD = "0"  # no process has this start time


def unfinished(store):
    return store.summaries(Query(pending=True, limit=None))


# --- what goes in comes out -----------------------------------------------------------------------

NASTY = [
    "'); DROP TABLE jobs; --",
    "a\0b",
    "\ud800 alone",
    "\x1b[31m\u202e",
    "%s ? :x {0}",
    "é\U0001f600",
]


@pytest.mark.parametrize("text", NASTY)
def test_whatever_a_program_wrote_is_data_and_comes_back_as_it_was(store, keeper, text):
    job = make_job(
        keeper, inputs=JsonText(json.dumps({"x": [1.5, text]})), backend={"name": "aer_simulator"}
    )
    job.image = "sha256:1"
    job.start()
    job.add_message(JsonText(json.dumps(text)))
    job.add_log(text.encode(errors="surrogatepass") + b"\nmore")
    job.finish(
        JobRecord(
            job=job.id,
            program=job.program,
            outcome=Outcome.PROGRAM_ERROR,
            error=text,
            traceback=f"Traceback\n{text}",
            evidence=Evidence(limit="messages", value=1, observed=2.5, source="host", detail=text),
            usage=Usage(wall_s=0.5, messages=1, sources={"wall_s": "host"}),
            image=job.image,
            exceptions=("swap-limit",),
            timestamps={"created": job.created.isoformat(), "started": None},
            versions={"qiskit": "2.6.2"},
        )
    )
    found = kept.open_job(store, job.id)
    assert found.record == job.record
    assert found.record.stored is True
    assert list(found.events()) == job.history.since()
    assert found.request == job.request
    assert (found.status(), found.logs()) == (JobStatus.ERROR, job.history.logs())
    assert (found.created, found.started, found.image) == (job.created, job.started, "sha256:1")
    assert list(found.messages()) == [text]
    assert found.error_message() == f"Traceback\n{text}"


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    bodies=st.lists(st.text(max_size=20), max_size=20),
    pieces=st.lists(st.binary(max_size=50), max_size=10),
    at_once=st.integers(1, 7),
)
def test_events_are_kept_in_their_order_however_they_are_carried_over(
    tmp_path_factory, bodies, pieces, at_once
):
    with (
        contextlib.closing(Store(tmp_path_factory.mktemp("s"))) as store,
        pytest.MonkeyPatch.context() as patch,
    ):
        patch.setattr(recorder, "_EVENTS_AT_ONCE", at_once)
        job = make_job(Recorder(store, keep_open=True))
        job.start()
        for body in bodies:
            job.add_message(JsonText(json.dumps(body, ensure_ascii=False)))
        for piece in pieces:
            job.add_log(piece)
        job.finish(completed(job))
        assert store.events(job.id) == job.history.since()


def test_a_job_is_in_the_store_with_all_its_messages_before_anybody_sees_its_end(path, keeper):
    seen = []
    job = make_job(keeper)

    def look():
        job.wait(10)
        with contextlib.closing(Store(path)) as other:
            found = other.load(job.id)
            seen.append((found.record.result, len(other.events(job.id)), found.summary.status))

    thread = threading.Thread(target=look)
    thread.start()
    job.start()
    for number in range(2500):
        job.add_message(JsonText(str(number)))
    job.finish(completed(job, "[7]"))
    thread.join(10)
    assert seen == [("[7]", 2501, JobStatus.DONE)]


def test_each_user_has_jobs_of_their_own(store, keeper):
    alices, bobs, nobodys = (
        run(keeper, number, user=user, tags=("t",))
        for number, user in ((0xA1, "alice"), (0xB1, "bob"), (0xB2, ""))
    )
    for user, job in (("alice", alices), ("bob", bobs), ("", nobodys)):
        (found,) = store.summaries(Query(user=user))
        assert (found.id, found.user) == (job.id, user)
        assert store.count(Query(user=user, tags=("t",))) == 1
        assert store.find("last", user=user) == store.find(job.id[:-1], user=user) == job.id
        loaded = store.load(job.id)
        assert (loaded.request.user, loaded.summary.user) == (user, user)
    assert store.count() == store.count(Query(limit=1, skip=5)) == 3
    assert len(store.summaries(Query(user=None))) == 3
    assert store.find(alices.id, user="alice", exact=True) == alices.id


def test_what_is_another_users_is_unknown_and_not_hinted_at(store, keeper):
    alices, bobs = run(keeper, 1, user="alice"), run(keeper, 2, user="bob")
    for name, exact in ((bobs.id, False), (bobs.id, True), (bobs.id[4:], False)):
        with pytest.raises(UnknownJobError) as caught:
            store.find(name, user="alice", exact=exact)
        assert bobs.id not in str(caught.value).replace(repr(name), "")
    with pytest.raises(UnknownJobError, match="more than one") as caught:
        store.find(alices.id[:-1])
    assert bobs.id in str(caught.value)
    assert store.find(alices.id[:-1], user="alice") == alices.id
    with pytest.raises(UnknownJobError, match="there is no job"):
        store.find("last", user="carol")


@pytest.mark.parametrize("name", ["last", "job-000000000000000", "0000000000000001"])
def test_an_exact_search_takes_whole_ids_only(store, keeper, name):
    run(keeper, 1)
    assert store.find(name) == "job-0000000000000001"
    with pytest.raises(UnknownJobError, match="give the whole id"):
        store.find(name, exact=True)


def test_jobs_of_a_user_are_found_by_an_index(store):
    with store._file.reading() as db:
        plan = str(
            db.execute(
                "EXPLAIN QUERY PLAN SELECT id FROM jobs WHERE user = 'x' ORDER BY created DESC"
            ).fetchall()
        )
    assert "jobs_by_user" in plan
    assert "TEMP B-TREE" not in plan


def test_lists_find_jobs_by_program_outcome_tag_and_time(store, keeper):
    first = run(keeper, 1, tags=("a", "b"))
    second = make_job(keeper, 2, tags=("a",))
    second.start()
    second.finish(JobRecord(job=second.id, program="sampler", outcome=Outcome.TIME_LIMIT))
    third = make_job(keeper, 3)

    def ids(**query):
        return [each.id for each in store.summaries(Query(**query))]

    assert ids() == [third.id, second.id, first.id]
    assert ids(limit=1, skip=1) == [second.id]
    assert ids(tags=("a",)) == [second.id, first.id]
    assert ids(tags=("a", "b")) == [first.id]
    assert ids(outcomes=("time_limit",)) == ids(outcomes=("ERROR",)) == [second.id]
    assert ids(pending=True) == [third.id]
    assert ids(program="nothing") == []
    assert ids(created_before=second.created.timestamp()) == [first.id]
    Job(first).update_tags(["c", "c"])
    assert ids(tags=("c",)) == [first.id]
    assert store.load(first.id).request.tags == ("c",)


def test_a_job_is_named_by_its_id_by_the_beginning_of_it_or_as_last(store, keeper):
    with pytest.raises(UnknownJobError, match="no job in"):
        store.find("last")
    first, second = run(keeper, 0xA1 << 56), run(keeper, 0xA2 << 56)
    assert store.find("last") == second.id
    assert store.find(first.id) == store.find("job-a1") == store.find("a1") == first.id
    with pytest.raises(UnknownJobError, match=f"more than one job: {first.id}, {second.id}"):
        store.find("job-a")
    with pytest.raises(UnknownJobError, match=f"did you mean .*{first.id}"):
        store.find(first.id[:-1] + "7")
    with pytest.raises(UnknownJobError):
        store.find("%")


def test_a_kept_program_comes_back_as_it_was(store, keeper):
    program = registry.find("random_circuits")
    bundle = kept.pack(program)
    run(keeper, 1, bundle=bundle)
    assert kept.read_program(store, bundle[0]) == program
    assert kept.read_program(store, "another") is None
    assert kept.read_program(store, None) is None


# --- death ----------------------------------------------------------------------------------------

WRITER = """
import json, os, sys, time
sys.path.insert(0, {root!r})
from runner.store import Store
from runner.store.recorder import Recorder
from sandbox.wire.protocol import JsonText
from tests.unit.store.keeping import completed, make_job
store = Store({path!r})
keeper = Recorder(store, keep_open=True)
print("open", flush=True)
for number in range(int({first}), int({first}) + {count}):
    job = make_job(keeper, number)
    job.start()
    for each in range(30):
        job.add_message(JsonText(json.dumps("x" * each)))
    job.finish(completed(job))
    os.write(1, (job.id + "\\n").encode())
print("closed", flush=True)
store.close()
"""


@contextlib.contextmanager
def writer(path, first, count):
    """Run a process that keeps jobs, and names each one that has ended."""
    code = WRITER.format(root=str(ROOT), path=str(path), first=first, count=count)
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as child:
        try:
            yield child
        finally:
            child.kill()


def test_killed_at_any_moment_no_completed_job_is_lost_and_none_is_left_running(path):
    names = set()
    for turn in range(3):
        with writer(path, turn << 32, 100_000) as child:
            assert child.stdout.readline() == "open\n"
            time.sleep(random.uniform(0.02, 0.4))
            os.kill(child.pid, signal.SIGKILL)
            names |= {line.strip() for line in child.stdout.read().splitlines() if len(line) == 20}
    assert names
    with contextlib.closing(Store(path)) as store:
        found = {each.id: each for each in store.summaries(Query(limit=None))}
        assert {found[name].outcome for name in names} == {Outcome.COMPLETED}
        for name in names:
            assert len(store.events(name)) == 31
        assert {each.outcome for each in found.values()} <= {
            Outcome.COMPLETED,
            Outcome.INTERRUPTED,
        }
        assert len(found) <= len(names) + 2 * 3  # the one that was written, one that was not told
        for each in found.values():
            if each.outcome is Outcome.INTERRUPTED:
                record = store.load(each.id).record
                assert "died before the job had ended" in record.error
                assert record.timestamps["finished"]
    with contextlib.closing(sqlite3.connect(path)) as db:
        assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)


def test_jobs_of_the_living_and_of_who_cannot_be_known_are_left_alone(store, keeper):
    make_job(keeper, 1)
    me = HostProcess.current()
    others = {
        2: f"elsewhere.{me.boot}.{me.namespace}.{me.pid}.{DEAD}",  # another machine
        3: f"{me.machine}.{me.boot}.1.{me.pid}.{DEAD}",  # another pid namespace
        4: "what is this",
        5: f"{me.machine}.{me.boot}.{me.namespace}.{me.pid}.{DEAD}",  # a reused pid
        6: f"{me.machine}.earlier.{me.namespace}.{me.pid}.{me.started}",  # before a reboot
    }
    with store._file.writing() as db:
        for number, process in others.items():
            db.execute(
                "INSERT INTO jobs (id, program, process, created, status, request, inputs, bytes) "
                "VALUES (?, 'p', ?, 1, 'RUNNING', '{}', '{}', 1)",
                (f"job-{number:016x}", process),
            )
    assert store.mark_interrupted() == 2
    assert {int(each.id[4:], 16) for each in unfinished(store)} == {1, 2, 3, 4}


def test_several_processes_keep_jobs_at_the_same_time(path):
    with contextlib.ExitStack() as stack:
        children = [stack.enter_context(writer(path, turn << 32, 40)) for turn in range(3)]
        for child in children:
            *_, last = child.stdout.read().splitlines()
            assert last == "closed"
    with contextlib.closing(Store(path)) as store:
        found = store.summaries(Query(limit=None))
        assert len(found) == 120
        assert {each.outcome for each in found} == {Outcome.COMPLETED}


@pytest.mark.parametrize("turn", range(1, 16))
def test_a_new_file_may_be_made_by_another_process_at_any_moment(path, monkeypatch, turn):
    connect, count = sqlite3.connect, itertools.count(1)

    class Overtaken(sqlite3.Connection):
        """Another connection makes the store before the n-th statement, unless it is locked."""

        def execute(self, *arguments):
            if next(count) == turn and not self.in_transaction:
                with monkeypatch.context() as here:
                    here.setattr(sqlite3, "connect", connect)
                    Store(path).close()
            return super().execute(*arguments)

    monkeypatch.setattr(sqlite3, "connect", functools.partial(connect, factory=Overtaken))
    with contextlib.closing(Store(path)) as store:
        assert store.summaries() == []
    assert next(count) > turn


def test_a_forked_child_cannot_use_its_parents_store_and_does_it_no_harm(store, keeper):
    run(keeper, 1)
    pid = os.fork()
    if pid == 0:
        with contextlib.suppress(StoreError):
            store.summaries()
            os._exit(1)
        store.close()
        os._exit(7)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 7
    assert run(keeper, 2).record.stored is True


# --- other processes ------------------------------------------------------------------------------


def test_a_kept_job_can_be_read_after_its_store_was_closed(path):
    store = Store(path)
    job = run(Recorder(store, keep_open=True), 1, ["1", "2"])
    found = kept.open_job(store, job.id)
    store.close()
    assert list(found.messages()) == [1, 2]
    assert found.update_tags(["late"]) == ["late"]
    with contextlib.closing(Store(path)) as again:
        assert again.load(job.id).request.tags == ("late",)


def test_a_kept_job_that_cannot_be_read_says_so_each_time(path):
    store = Store(path)
    job = run(Recorder(store, keep_open=True))
    found = kept.open_job(store, job.id)
    with store._file.writing() as db:
        db.execute("DROP TABLE events")
    for _ in range(2):
        with pytest.raises(StoreError, match="no such table"):
            found.logs()
    store.close()


def test_a_cancellation_by_another_process_is_noticed(path, keeper):
    wanted = threading.Event()
    job = make_job(keeper, on_cancel=wanted.set)
    with contextlib.closing(Store(path)) as other:
        assert other.request_cancel(job.id) is True
        assert wanted.wait(5)
        assert job.is_cancelled
        job.finish(JobRecord(job=job.id, program="sampler", outcome=Outcome.CANCELLED))
        assert other.load(job.id).summary.status is JobStatus.CANCELLED
        assert other.request_cancel(job.id) is False


def test_a_job_of_another_process_is_followed_while_it_runs(path, keeper):
    job = make_job(keeper)
    job.start()
    job.add_message(JsonText("1"))
    job.add_log(b"hello\n")
    with contextlib.closing(Store(path)) as other:
        seen = kept.open_job(other, job.id)
        live = seen.messages()
        assert next(live) == 1
        assert seen.status() is JobStatus.RUNNING
        job.add_message(JsonText("2"))
        assert next(live) == 2
        job.finish(completed(job, "3"))
        assert seen.result(10) == 3
        assert list(live) == []
        assert (seen.logs(), seen.started) == ("hello\n", job.started)


def test_a_followed_job_ends_when_it_is_deleted(path, keeper):
    job = make_job(keeper)
    with contextlib.closing(Store(path)) as other:
        seen = kept.open_job(other, job.id)
        assert other.delete(job.id) is False
        assert other.delete(job.id, even_running=True) is True
        assert seen.wait(10).outcome is Outcome.INTERRUPTED
        assert "has been removed" in seen.record.error
    job.finish(completed(job))
    assert (job.record.result, job.record.stored) == ("1", False)
