"""Stored jobs as handles, and stored programs that a later replay is built from.

A job that has ended becomes an ordinary `Job`, whose events are read on first use.  A job that
still runs in another process is followed through the store.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import threading
import time
import zlib
from collections.abc import Iterator
from datetime import UTC, datetime
from functools import partial
from typing import Any, Final

from runner.errors import RequestError, RunnerError, StoreError
from runner.job import Job
from runner.job.history import History
from runner.job.life import Keeper, Life, lost
from runner.job.record import Event
from runner.programs import Program, bundle, values
from runner.store.jobs import Store
from runner.store.rows import Kept, Summary

POLL_S: Final = 0.2
"""Interval at which the store is read for new events of a job in another process, in seconds."""

_EVENTS_AT_ONCE: Final = 1000


class _Tags(Keeper):
    """Stores only new tags; the process that executes the job stores the rest."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def retag(self, job: Life, tags: tuple[str, ...]) -> None:
        with _opened(self._store) as opened:
            opened.retag(job.id, tags)


def open_job(store: Store, job_id: str) -> Job:
    """Return the handle of a stored job, live if the job runs in another process.

    Raises UnknownJobError, StoreError, or RunnerError if no thread can be started to follow it.
    """
    kept = store.load(job_id)
    history = None if kept.record is None else History(load=partial(_events, store, job_id))
    summary = kept.summary
    job = Life(
        job_id,
        summary.program,
        decode=values.decode,
        compare=partial(_mismatches, store, kept.bundle),
        on_cancel=lambda: store.request_cancel(job_id),
        request=kept.request,
        keeper=_Tags(store),
        history=history,
    )
    job.created = datetime.fromtimestamp(summary.created, UTC)
    _update(job, summary)
    if kept.record is not None:
        job.settle(kept.record)
    else:
        _start_following(store, job)
    return Job(job)


def _update(job: Life, summary: Summary) -> None:
    started = summary.started
    started_at = None if started is None else datetime.fromtimestamp(started, UTC)
    job.follow(summary.status, summary.image, started_at)


def _start_following(store: Store, job: Life) -> None:
    try:
        threading.Thread(
            target=_follow, args=(store, job), name="qrunner-follow", daemon=True
        ).start()
    except RuntimeError as error:
        msg = f"this process cannot start a thread to follow job {job.id}: {error}"
        raise RunnerError(msg) from error


def _follow(store: Store, job: Life) -> None:
    """Copy a job's events from the store until the job has ended or cannot be followed."""
    position = 0
    try:
        while True:
            # Read the state first: if it has ended, the events read afterwards are complete.
            has_ended = store.summary(job.id).outcome is not None
            while events := store.events(job.id, position, _EVENTS_AT_ONCE):
                _update(job, store.summary(job.id))
                position += len(events)
                job.history.extend(events)
            if has_ended:
                record = store.load(job.id).record
                assert record is not None
                job.settle(record)
                return
            time.sleep(POLL_S)
            store.mark_interrupted()
    except RunnerError as error:
        job.settle(lost(job, str(error), stored=False))


@contextlib.contextmanager
def _opened(store: Store) -> Iterator[Store]:
    """Provide the store, opened again if it is closed: a handle may outlive the supervisor."""
    if store.is_open:
        yield store
        return
    with contextlib.closing(store.reopen()) as again:
        yield again


def _events(store: Store, job_id: str) -> list[Event]:
    with _opened(store) as opened:
        return opened.events(job_id)


def _mismatches(store: Store, digest: str | None, bodies: Any, result: Any) -> list[str]:
    with _opened(store) as opened:
        program = read_program(opened, digest)
    return [] if program is None else values.mismatches(program.manifest, bodies, result)


# --- stored programs ------------------------------------------------------------------------------


def pack(program: Program) -> tuple[str, bytes]:
    """Return the digest and the content of a program: everything needed to run it again."""
    text = json.dumps(bundle.data_of(program), sort_keys=True).encode()
    return hashlib.sha256(text).hexdigest(), zlib.compress(text, 1)


def program_of(store: Store, job: Kept) -> Program:
    """Return the program of a stored job.  Raises RequestError if it was removed, StoreError."""
    program = read_program(store, job.bundle)
    if program is None:
        msg = f"job {job.summary.id} cannot be replayed: its program is no longer kept"
        raise RequestError(msg)
    return program


def read_program(store: Store, digest: str | None) -> Program | None:
    """Return the program stored under this digest, None if there is none.

    Raises StoreError if it is damaged.
    """
    content = None if digest is None else store.bundle(digest)
    if content is None:
        return None
    try:
        text = zlib.decompress(content)
        if hashlib.sha256(text).hexdigest() != digest:
            msg = "it has another digest"
            raise ValueError(msg)
        return bundle.program_of(json.loads(text))
    except (ValueError, TypeError, AttributeError, LookupError, zlib.error) as error:
        msg = f"the store of jobs, {store.path}: a kept program is damaged: {error}"
        raise StoreError(msg) from error
