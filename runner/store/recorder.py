"""Writes the events of this process's jobs into a store, without delaying the jobs.

A job's events are in its `History` anyway, bounded by its limits.  A thread, which exists only
while jobs run, copies new events several times a second.  Only the end of a job waits for the
store: the end is written before anyone can see it.  The same thread notices when another process
requests a cancellation.  If the store fails, a job is not stored, but keeps its result.
"""

from __future__ import annotations

import dataclasses
import logging
import threading
import time
from dataclasses import dataclass, field
from typing import Final

from runner.errors import StoreError
from runner.host.processes import HostProcess
from runner.job.life import Keeper, Life
from runner.job.record import Event, JobRecord, JobStatus, length
from runner.store.jobs import Store
from runner.store.rows import Change, Summary

log = logging.getLogger(__name__)

TICK_S: Final = 0.2
"""Interval at which events are copied and requested cancellations are noticed, in seconds."""

_EVENTS_AT_ONCE: Final = 1000
_BYTES_AT_ONCE: Final = 4 << 20
"""The most that one transaction writes, so that other processes wait only milliseconds."""

_PRUNE_EVERY_S: Final = 60.0
_PRUNE_EVERY_BYTES: Final = 32 << 20


@dataclass(slots=True, kw_only=True, eq=False)
class _Live:
    """A running job; `number` is None until it is stored, `position` counts stored events."""

    job: Life
    bundle: tuple[str, bytes] | None
    lock: threading.Lock = field(default_factory=threading.Lock)
    number: int | None = None
    position: int = 0
    saved: tuple[JobStatus, str | None] | None = None


class Recorder(Keeper):
    """Stores the jobs of one process in one store; all methods may be called from any thread."""

    def __init__(self, store: Store, *, keep_open: bool) -> None:
        self.store = store
        self._keep_open = keep_open
        self._process = str(HostProcess.current())
        self._lock = threading.Lock()
        self._live: dict[str, _Live] = {}
        self._thread: threading.Thread | None = None
        self._seen = -1
        self._pruned_at = time.monotonic()
        self._written = 0
        self._is_closing = False

    def add(self, job: Life, bundle: tuple[str, bytes] | None) -> None:
        """Store a job from its submission on; `bundle` is the digest and content of its program."""
        live = _Live(job=job, bundle=bundle)
        with live.lock:
            try:
                self._insert(live)
            except StoreError as error:
                log.warning("job %s continues, but is not in the store yet: %s", job.id, error)
        with self._lock:
            self._live[job.id] = live
            if self._thread is None:
                self._start_thread()

    def keep(self, job: Life, record: JobRecord) -> JobRecord:
        """Write the rest of a job and its end; return the record with `stored` set.

        Returns within seconds, whatever state the store is in.
        """
        with self._lock:
            live = self._live.get(job.id)
        if live is None:
            return record
        try:
            return self._keep(live, record)
        finally:
            with self._lock:
                del self._live[job.id]
                self._close_if_wanted()

    def _keep(self, live: _Live, record: JobRecord) -> JobRecord:
        kept = dataclasses.replace(record, stored=True)
        try:
            with live.lock:
                if live.number is None:
                    self._insert(live)
                is_there = self._write_rest(live, kept)
            # A job that was deleted while it ran stays deleted.
            return kept if is_there else dataclasses.replace(record, stored=False)
        except StoreError as error:
            log.warning("job %s has ended, but its end was not stored: %s", record.job, error)
        except Exception:
            log.exception("job %s has ended, but its end was not stored", record.job)
        return dataclasses.replace(record, stored=False)

    def retag(self, job: Life, tags: tuple[str, ...]) -> None:
        """Store the new tags of a job.  Raises StoreError."""
        self.store.retag(job.id, tags)

    def close(self) -> None:
        """Close the store as soon as no job runs, unless it belongs to the caller."""
        with self._lock:
            self._is_closing = True
            self._close_if_wanted()

    def _close_if_wanted(self) -> None:
        if self._is_closing and not self._keep_open and not self._live:
            self.store.close()

    # --- writing ----------------------------------------------------------------------------------

    def _insert(self, live: _Live) -> None:
        job = live.job
        summary = Summary(
            id=job.id,
            program=job.program,
            user=job.request.user,
            process=self._process,
            created=job.created.timestamp(),
            status=job.status,
            replay_of=job.request.replay_of,
            tags=job.tags,
        )
        live.number = self.store.add(summary, job.request, live.bundle)
        live.bundle = None
        live.saved = (job.status, job.image)

    def _write_rest(self, live: _Live, record: JobRecord) -> bool:
        """Write all remaining events, and the record together with the last of them."""
        while True:
            events = _first(live.job.history.since(live.position, _EVENTS_AT_ONCE))
            if not live.job.history.since(live.position + len(events), 1):
                return self._write(live, events, record)
            self._write(live, events)

    def _carry_over(self, live: _Live) -> bool:
        """Write some of the new events; return True if there may be more."""
        if live.number is None:
            return False
        events = _first(live.job.history.since(live.position, _EVENTS_AT_ONCE))
        state = (live.job.status, live.job.image)
        if not events and state == live.saved:
            return False
        self._write(live, events)
        live.saved = state
        return bool(events)

    def _write(self, live: _Live, events: list[Event], record: JobRecord | None = None) -> bool:
        job, status = live.job, live.job.status
        if record is not None:
            status = JobStatus.of(record.outcome)
        assert live.number is not None
        change = Change(
            number=live.number,
            id=job.id,
            status=status,
            started=job.started,
            image=job.image,
            position=live.position,
            events=events,
            record=record,
            answers=() if record is None else job.answers,
        )
        is_there = self.store.save(change)
        live.position += len(events)
        self._written += sum(map(length, events))
        return is_there

    # --- the thread -------------------------------------------------------------------------------

    def _start_thread(self) -> None:
        thread = threading.Thread(target=self._run, name="qrunner-store", daemon=True)
        try:
            thread.start()
        except RuntimeError as error:
            # Without the thread everything is written at the end, and other processes cannot
            # cancel.
            log.warning("this process cannot start a thread for the store: %s", error)
        else:
            self._thread = thread

    def _run(self) -> None:
        has_failed = False
        while True:
            time.sleep(TICK_S)
            with self._lock:
                live = list(self._live.values())
                if not live or not self.store.is_open:
                    self._thread = None
                    return
            try:
                for each in live:
                    self._follow(each)
                self._look_for_cancellations()
                self._prune_at_times()
                has_failed = False
            except StoreError as error:
                if not has_failed:
                    log.warning("the store cannot be written now; trying again: %s", error)
                has_failed = True
            except Exception:
                log.exception("the store's thread failed, and continues")

    def _follow(self, live: _Live) -> None:
        while live.job.record is None:
            with live.lock:
                if not self._carry_over(live):
                    return

    def _look_for_cancellations(self) -> None:
        counter = self.store.change_counter()
        if counter == self._seen:
            return
        self._seen = counter
        for job_id in self.store.unwanted(self._process):
            with self._lock:
                live = self._live.get(job_id)
            if live is not None:
                live.job.cancel()

    def _prune_at_times(self) -> None:
        now = time.monotonic()
        if now - self._pruned_at > _PRUNE_EVERY_S or self._written > _PRUNE_EVERY_BYTES:
            self._pruned_at, self._written = now, 0
            self.store.prune()


def _first(events: list[Event]) -> list[Event]:
    """Return the events that fit into one transaction, at least one."""
    total = 0
    for index, each in enumerate(events):
        total += length(each)
        if total > _BYTES_AT_ONCE and index:
            return events[:index]
    return events
