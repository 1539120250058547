"""A store that fails while jobs run, and what it keeps for how long."""

from __future__ import annotations

import contextlib
import json
import sqlite3
import time

import pytest

from runner.errors import RequestError, StoreError
from runner.job.record import (
    JobStatus,
    LogEvent,
    MessageEvent,
)
from runner.store import Store, recorder
from runner.store import file as storefile
from runner.store.recorder import Recorder
from runner.store.rows import Query
from sandbox.wire.protocol import JsonText
from tests.unit.store.keeping import completed, make_job, run
from tests.waiting import within

# --- a store that fails while jobs run ------------------------------------------------------------


def test_a_full_disk_costs_a_job_its_place_in_the_store_and_never_its_result(store, keeper, caplog):
    job = make_job(keeper)
    with store._file.reading() as db:
        pages = db.execute("PRAGMA page_count").fetchone()[0]
        db.execute(f"PRAGMA max_page_count={pages}")
    job.start()
    job.add_message(JsonText(json.dumps("x" * 100_000)))
    job.finish(completed(job, "[1]"))
    assert (job.record.result, job.record.stored) == ("[1]", False)
    assert [json.loads(body) for body in job.history.bodies()] == ["x" * 100_000]
    assert "its end was not stored" in caplog.text
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
            assert (early.record.result, early.record.stored) == ("1", False)
            assert "continues, but is not in the store yet" in caplog.text
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
    assert (job.record.result, job.record.stored) == ("1", False)


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


def test_retention_must_make_sense(path):
    with pytest.raises(RequestError, match="must be above 0"):
        Store(path, keep_days=0)


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
        assert within(10, lambda: len(store.summaries()) == 2)
        blocker.finish(completed(blocker))


def test_messages_cost_the_thread_that_reads_them_no_transaction(store, keeper):
    job = make_job(keeper)
    job.start()
    with store._file.writing():  # nobody else can write now
        for number in range(10_000):
            job.add_message(JsonText(str(number)))
        assert job.history.message_count == 10_000
    job.finish(completed(job))
    assert len(store.events(job.id)) == 10_001


def test_a_live_message_is_carried_over_before_the_job_ends(store, keeper):
    job = make_job(keeper)
    job.start()
    job.add_message(JsonText("1"))
    assert within(10, lambda: store.events(job.id))
    kinds = [type(each) for each in store.events(job.id)]
    assert MessageEvent in kinds
    assert LogEvent not in kinds
    assert store.load(job.id).summary.status is JobStatus.RUNNING
    job.finish(completed(job))
