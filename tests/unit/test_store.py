"""The store of jobs: what goes in comes out, whoever dies, fills the disk or looks on meanwhile."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import sqlite3
import stat
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from runner.errors import RequestError, StoreError, UnknownJobError
from runner.job import Job
from runner.job.record import (
    Evidence,
    JobRecord,
    JobStatus,
    LogEvent,
    MessageEvent,
    Outcome,
    Request,
    Usage,
)
from runner.registry import programs as registry
from runner.sandboxes.owner import Owner
from runner.store import Store, kept, open_default, recorder
from runner.store import file as storefile
from runner.store.file import MIGRATIONS, VERSION, default_path
from runner.store.recorder import Recorder
from runner.store.rows import Query
from sandbox.protocol import JsonText

ROOT = Path(__file__).parents[2]
DEAD = "0"  # no process has this start time


@pytest.fixture
def path(tmp_path):
    return tmp_path / "kept" / "jobs.db"


@pytest.fixture
def store(path):
    with contextlib.closing(Store(path)) as opened:
        yield opened


@pytest.fixture
def keeper(store):
    return Recorder(store, keep_open=True)


def make_job(keeper, number=1, *, bundle=None, on_cancel=lambda: None, **asked):
    job = Job(
        f"job-{number:016x}",
        "sampler",
        decode=json.loads,
        on_cancel=on_cancel,
        log_kept_bytes=10_000,
        request=Request(path="sampler.py", **asked),
        keeper=keeper,
    )
    job.enqueue()
    keeper.add(job, bundle)
    return job


def completed(job, value="1", **fields):
    text = JsonText(value)
    return JobRecord(
        job=job.id, program=job.program, outcome=Outcome.COMPLETED, result=text, **fields
    )


def run(keeper, number=1, messages=("1",), **asked):
    job = make_job(keeper, number, **asked)
    job.start()
    for each in messages:
        job.add_message(JsonText(each))
    job.finish(completed(job))
    return job


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
    job = make_job(keeper, inputs={"x": [1.5, text]}, backend={"name": "aer_simulator"})
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
    assert found.history() == job.history()
    assert found.request == job.request
    assert (found.status(), found.logs()) == (JobStatus.ERROR, job.logs())
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
        assert store.events(job.id) == job.history()


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
    first.update_tags(["c", "c"])
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
    bundle = kept.bundle_of(program)
    run(keeper, 1, bundle=bundle)
    assert kept.read_program(store, bundle[0]) == program
    assert kept.read_program(store, "another") is None
    assert kept.read_program(store, None) is None


# --- death ----------------------------------------------------------------------------------------

WRITER = """
import json, os, sys, time
sys.path.insert(0, {root!r})
from tests.unit.test_store import Recorder, Store, make_job, completed, JsonText
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
    me = Owner.current()
    others = {
        2: f"elsewhere.{me.boot}.{me.namespace}.{me.pid}.{DEAD}",  # another machine
        3: f"{me.machine}.{me.boot}.1.{me.pid}.{DEAD}",  # another pid namespace
        4: "what is this",
        5: f"{me.machine}.{me.boot}.{me.namespace}.{me.pid}.{DEAD}",  # a reused pid
        6: f"{me.machine}.earlier.{me.namespace}.{me.pid}.{me.started}",  # before a reboot
    }
    with store._file.writing() as db:
        for number, owner in others.items():
            db.execute(
                "INSERT INTO jobs (id, program, owner, created, status, request, inputs, bytes) "
                "VALUES (?, 'p', ?, 1, 'RUNNING', '{}', '{}', 1)",
                (f"job-{number:016x}", owner),
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


def test_a_file_of_another_user_is_refused(path):
    Store(path).close()
    try:
        os.chown(path, 12345, -1)
    except PermissionError:
        pytest.skip("only root can give files away")
    with pytest.raises(StoreError, match="belongs to user 12345"):
        Store(path)


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
    assert job.result() == 1
    assert job.record.stored is False


# --- files that cannot be used --------------------------------------------------------------------


def test_the_file_is_for_its_user_only(path, tmp_path):
    Store(path).close()
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    path.chmod(0o644)
    with contextlib.closing(Store(path)) as store:
        run(Recorder(store, keep_open=True))
        modes = {each.name: stat.S_IMODE(each.stat().st_mode) for each in path.parent.iterdir()}
    assert set(modes.values()) == {0o600}
    assert len(modes) == 3  # the log and its index too


@pytest.mark.parametrize("mode", [0o770, 0o707, 0o1777])
def test_a_directory_that_others_can_write_to_is_refused_with_what_to_do(path, mode):
    Store(path).close()
    path.parent.chmod(mode)
    link = path.parents[1] / "link.db"
    link.symlink_to(path)
    for each in (path, link):
        with pytest.raises(StoreError, match=f"write to its directory {path.parent}: `chmod go-w`"):
            Store(each)
    path.parent.chmod(0o755)
    Store(path).close()


@pytest.mark.parametrize("suffix", ["-wal", "-shm", "-journal"])
def test_what_others_put_beside_the_file_is_refused(path, suffix):
    Store(path).close()
    beside = path.with_name(path.name + suffix)
    beside.touch(0o600)
    Store(path).close()
    beside.touch(0o644)
    beside.chmod(0o644)
    with pytest.raises(StoreError, match=f"{beside.name} is not for its user only"):
        Store(path)
    beside.unlink()
    beside.symlink_to("/dev/null")
    with pytest.raises(StoreError, match=f"{beside.name} is not for its user only"):
        Store(path)


@pytest.mark.parametrize("how", ["text", "foreign"])
def test_the_mode_of_a_file_that_is_no_store_is_left_as_it_is(path, how):
    Store(path).close()
    spoil(path, how)
    path.chmod(0o644)
    with pytest.raises(StoreError):
        Store(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o644
    assert [each.name for each in path.parent.iterdir()] == [path.name]


def test_where_jobs_are_kept_follows_the_environment(tmp_path):
    named = {"QRUNNER_STORE": "/x/y", "XDG_DATA_HOME": "/data"}
    assert default_path(named) == Path("/x/y")
    expected = Path("/data/qiskit-program-runner/jobs.sqlite3")
    assert default_path({"XDG_DATA_HOME": "/data"}) == expected
    own = Path.home() / ".local/share/qiskit-program-runner/jobs.sqlite3"
    assert default_path({"XDG_DATA_HOME": "relative"}) == default_path({}) == own
    environment = {"QRUNNER_STORE": str(tmp_path), "QRUNNER_KEEP_DAYS": "soon"}
    with pytest.raises(RequestError, match="QRUNNER_KEEP_DAYS is 'soon'"):
        open_default(environment)
    with contextlib.closing(open_default({"QRUNNER_STORE": str(tmp_path)})) as store:
        assert store.path == tmp_path / "jobs.sqlite3"


def version_1(path):
    """Make a file as the first version of the schema had it, with a job in it."""
    path.parent.mkdir()
    with contextlib.closing(sqlite3.connect(path)) as db, db:
        for statement in MIGRATIONS[0]:
            db.execute(statement)
        record = {"job": "job-1", "program": "old", "outcome": "completed", "later": "ignored"}
        record |= {"evidence": {}, "usage": {}, "exceptions": []}
        asked = {"path": "p", "backend": {}, "options": {}, "limits": {"cpus": 1, "gone": 2}}
        db.execute(
            "INSERT INTO jobs (id, program, owner, created, finished, status, outcome, request, "
            "inputs, bytes, record, result) VALUES "
            "('job-1', 'old', 'x', 1, ?, 'DONE', 'completed', ?, '{}', 1, ?, x'35')",
            (time.time(), json.dumps(asked), json.dumps(record)),
        )
        db.execute(f"PRAGMA application_id={storefile._APPLICATION}")
        db.execute("PRAGMA user_version=1")


def test_a_file_of_the_first_version_is_migrated_with_its_jobs(path):
    version_1(path)
    with contextlib.closing(Store(path)) as store:
        found = store.load("job-1")
        assert (found.record.result, found.summary.replay_of) == ("5", None)
        assert found.request.limits == {"cpus": 1}
        run(Recorder(store, keep_open=True), 2, replay_of="job-1")
        assert store.load(store.find("last")).request.replay_of == "job-1"
    with contextlib.closing(sqlite3.connect(path)) as db:
        assert db.execute("PRAGMA user_version").fetchone() == (VERSION,)


def test_a_migration_that_fails_leaves_the_file_as_it_was(path, monkeypatch):
    version_1(path)
    before = path.read_bytes()
    monkeypatch.setattr(storefile, "MIGRATIONS", (*MIGRATIONS, ("CREATE nonsense",)))
    monkeypatch.setattr(storefile, "VERSION", VERSION + 1)
    with pytest.raises(StoreError, match="syntax error"):
        Store(path)
    with contextlib.closing(sqlite3.connect(path)) as db:
        assert db.execute("PRAGMA user_version").fetchone() == (1,)
        assert "replay_of" not in str(db.execute("SELECT sql FROM sqlite_master").fetchall())
    assert len(path.read_bytes()) == len(before)


def test_a_store_of_a_newer_version_is_refused_by_name(path):
    Store(path).close()
    with contextlib.closing(sqlite3.connect(path)) as db:
        db.execute(f"PRAGMA user_version={VERSION + 1}")
    with pytest.raises(StoreError, match=f"version {VERSION + 1} .* newer qrunner") as caught:
        Store(path)
    assert str(path) in str(caught.value)
    assert "QRUNNER_STORE" in str(caught.value)


def spoil(path, how):
    if how == "text":
        path.write_text("this is no database, but long enough to be taken for one\n" * 100)
    elif how == "damaged":
        size = path.stat().st_size
        with path.open("r+b") as file:
            file.seek(100)
            file.write(b"\xff" * (size - 100))
    elif how == "foreign":
        path.unlink()
        with contextlib.closing(sqlite3.connect(path)) as db:
            db.execute("CREATE TABLE theirs (x)")
    elif how == "a pipe":
        path.unlink()
        os.mkfifo(path)


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ("text", "it is no database: move it away"),
        ("damaged", "move it away"),
        ("foreign", "database of another program"),
        ("a pipe", "no regular file"),
    ],
)
def test_a_file_that_is_no_store_is_refused_and_left_alone(path, how, said):
    Store(path).close()
    spoil(path, how)
    content = None if how == "a pipe" else path.read_bytes()
    with pytest.raises(StoreError, match=said) as caught:
        Store(path)
    assert str(path) in str(caught.value)
    assert content is None or path.read_bytes() == content


def test_a_place_that_cannot_be_written_is_refused_with_what_to_do():
    with pytest.raises(StoreError, match="/dev/null/jobs.db: .*QRUNNER_STORE names the file"):
        Store("/dev/null/jobs.db")


def test_retention_must_make_sense(path):
    with pytest.raises(RequestError, match="must be above 0"):
        Store(path, keep_days=0)


# --- a store that fails while jobs run ------------------------------------------------------------


def test_a_full_disk_costs_a_job_its_place_in_the_store_and_never_its_result(store, keeper, caplog):
    job = make_job(keeper)
    with store._file.reading() as db:
        pages = db.execute("PRAGMA page_count").fetchone()[0]
        db.execute(f"PRAGMA max_page_count={pages}")
    job.start()
    job.add_message(JsonText(json.dumps("x" * 100_000)))
    job.finish(completed(job, "[1]"))
    assert job.result() == [1]
    assert job.record.stored is False
    assert list(job.messages()) == ["x" * 100_000]
    assert "its end is not kept" in caplog.text
    assert "no space left" in caplog.text
    with store._file.reading() as db:
        db.execute("PRAGMA max_page_count=1000000")
    assert run(keeper, 2).record.stored is True


def test_a_locked_store_delays_the_end_of_a_job_for_seconds_only(path, monkeypatch, caplog):
    monkeypatch.setattr(storefile, "BUSY_S", 0.2)
    with contextlib.closing(Store(path)) as store:
        keeper = Recorder(store, keep_open=True)
        late = make_job(keeper, 1)
        with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            began = time.monotonic()
            early = run(keeper, 2)
            assert time.monotonic() - began < 5
            assert (early.result(), early.record.stored) == (1, False)
            assert "goes on, but is not kept so far" in caplog.text
            third = make_job(keeper, 3)
            other.execute("ROLLBACK")
        # What could not be written at first is written at the end.
        for job in (late, third):
            job.start()
            job.finish(completed(job))
            assert job.record.stored is True
        assert {each.id for each in store.summaries()} == {late.id, third.id}


def test_a_store_that_is_closed_too_early_does_no_harm(store, keeper):
    job = make_job(keeper)
    store.close()
    job.finish(completed(job))
    assert (job.result(), job.record.stored) == (1, False)


def test_a_recorder_closes_its_store_when_its_last_job_has_ended(path):
    store = Store(path)
    keeper = Recorder(store, keep_open=False)
    job = make_job(keeper)
    keeper.close()
    job.finish(completed(job))
    assert job.record.stored is True
    with pytest.raises(StoreError, match="it is closed"):
        store.summaries()


def test_damage_inside_is_an_error_that_names_the_file(path, store, keeper):
    job = run(keeper)
    with store._file.writing() as db:
        db.execute("UPDATE jobs SET record = '{'")
    with pytest.raises(StoreError, match=f"{job.id} is damaged"):
        store.load(job.id)


# --- retention ------------------------------------------------------------------------------------


def age(store, job, days):
    with store._file.writing() as db:
        db.execute("UPDATE jobs SET finished = finished - ? WHERE id = ?", (days * 86400, job.id))


def test_what_is_too_old_goes_but_never_what_runs_nor_the_last_one(path, store, keeper):
    bundles = [(f"{number}", b"files") for number in range(3)]
    old = run(keeper, 1, bundle=bundles[0])
    running = make_job(keeper, 2, bundle=bundles[1])
    young = run(keeper, 3, bundle=bundles[2])
    age(store, old, 31)
    age(store, young, 29)
    with contextlib.closing(Store(path)) as other:  # opening applies it
        assert [each.id for each in other.summaries()] == [young.id, running.id]
        assert other.bundle("0") is None
        assert other.bundle("1") == other.bundle("2") == b"files"
        age(other, young, 100)
        assert other.prune() == 0
    assert store.events(old.id) == []


def test_what_is_too_much_goes_oldest_first_and_the_file_shrinks(path):
    with contextlib.closing(Store(path, keep_bytes=1_000_000)) as store:
        keeper = Recorder(store, keep_open=True)
        text = json.dumps("x" * 100_000)
        jobs = [run(keeper, number, [text]) for number in range(30)]
        before = path.stat().st_size
        assert store.prune() == 21
        assert [each.id for each in store.summaries(Query(limit=None, descending=False))] == [
            each.id for each in jobs[21:]
        ]
        with store._file.reading() as db:
            db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        assert path.stat().st_size < max(before, 2_500_000) / 2


def test_retention_is_applied_while_a_process_goes_on(path, monkeypatch):
    monkeypatch.setattr(recorder, "_PRUNE_EVERY_BYTES", 1000)
    with contextlib.closing(Store(path, keep_bytes=10_000)) as store:
        keeper = Recorder(store, keep_open=True)
        blocker = make_job(keeper, 99)
        for number in range(5):
            run(keeper, number, [json.dumps("x" * 6000)])
        deadline = time.monotonic() + 10
        while len(store.summaries()) > 2 and time.monotonic() < deadline:
            time.sleep(0.05)
        assert len(store.summaries()) == 2
        blocker.finish(completed(blocker))


def test_messages_cost_the_thread_that_reads_them_no_transaction(store, keeper):
    job = make_job(keeper)
    job.start()
    with store._file.writing():  # nobody else can write now
        for number in range(10_000):
            job.add_message(JsonText(str(number)))
        assert len(job.interim_results()) == 10_000
    job.finish(completed(job))
    assert len(store.events(job.id)) == 10_001


def test_a_live_message_is_carried_over_before_the_job_ends(store, keeper):
    job = make_job(keeper)
    job.start()
    job.add_message(JsonText("1"))
    deadline = time.monotonic() + 10
    while not store.events(job.id) and time.monotonic() < deadline:
        time.sleep(0.02)
    kinds = [type(each) for each in store.events(job.id)]
    assert MessageEvent in kinds
    assert LogEvent not in kinds
    assert store.load(job.id).summary.status is JobStatus.RUNNING
    job.finish(completed(job))
