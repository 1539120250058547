"""The changing state of a job, from its submission to its end.

Bookkeeping only: no engine, no sockets, no files.  The thread that executes the job writes, and any
thread may read.  Callers get a `Job` (`runner/job/handle.py`), which only reads this state.  Events
of the job go into its `History`.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from runner.host.trace import Trace
from runner.job.delivery import Delivery
from runner.job.device import Answer
from runner.job.history import History
from runner.job.record import Evidence, JobRecord, JobStatus, Outcome, StartedEvent
from runner.job.request import Request
from sandbox.wire.protocol import JsonText


def nothing_known() -> int | None:
    """Return None: the memory use of a job that has no sandbox."""
    return None


class Keeper:
    """Keeps jobs beyond the life of their handles; this base class keeps nothing."""

    def keep(self, job: Life, record: JobRecord) -> JobRecord:
        """Store a job that has just ended, and return its record as others may now see it.

        Never raises.
        """
        del job
        return record

    def retag(self, job: Life, tags: tuple[str, ...]) -> None:
        """Store the new tags of a job.  Raises StoreError."""


class Life:
    """The state of one job; `Job` shows it to the job's caller.

    Attributes:
        history: the events of the job.
        delivery: its callbacks.
        status: its current status.
        record: everything about its end, None before that.
        gauge: returns the memory that its sandbox uses, in bytes.
        trace: the time that each step took.
        answers: what its held backend answered, for a recording.

    The other attributes are those of `Job`.
    """

    def __init__(  # noqa: PLR0913  keywords only but for the first two
        self,
        job_id: str,
        program: str,
        *,
        decode: Callable[[JsonText], Any],
        on_cancel: Callable[[], object],
        log_kept_bytes: int = 1,
        compare: Callable[[list[JsonText], JsonText | None], list[str]] = lambda *_: [],
        request: Request | None = None,
        keeper: Keeper | None = None,
        history: History | None = None,
    ) -> None:
        self.id = job_id
        self.program = program
        self.request = request or Request(program=program)
        self.tags = self.request.tags
        self.image: str | None = None
        self.node: str | None = None
        self.attempt = 1
        self.created = datetime.now(UTC)
        self.started: datetime | None = None
        self.status = JobStatus.INITIALIZING
        self.record: JobRecord | None = None
        self.is_cancelled = False
        self.gauge: Callable[[], int | None] = nothing_known
        self.answers: list[Answer] = []
        self.trace = Trace()
        self.decode = decode
        self.compare = compare
        self.history = history or History(log_kept_bytes)
        self.changed = self.history.changed
        self.delivery = Delivery(job_id, self.history, decode, self._final)
        self._on_cancel = on_cancel
        self._keeper = keeper or Keeper()
        self._finishing = threading.Lock()

    def ends_within(self, seconds: float | None) -> bool:
        """Wait for the end for at most `seconds`; return True if the job has ended."""
        if seconds is not None:  # infinity, too, is more than a thread can wait
            seconds = min(seconds, threading.TIMEOUT_MAX)
        with self.changed:
            return self.changed.wait_for(lambda: self.record is not None, seconds)

    def wait(self, timeout: float | None) -> JobRecord:
        """Wait for the end and return the record.  Raises TimeoutError after `timeout` seconds."""
        if not self.ends_within(timeout):
            msg = f"job {self.id} has not ended within {timeout:g} s; it goes on"
            raise TimeoutError(msg)
        assert self.record is not None
        return self.record

    def cancel(self) -> None:
        """Ask the job to end as cancelled; does nothing if it has ended or was asked before."""
        with self.changed:
            if self.record or self.is_cancelled:
                return
            self.is_cancelled = True
            on_cancel = self._on_cancel
        on_cancel()

    def retag(self, tags: tuple[str, ...]) -> None:
        """Replace the tags, also where the job is stored.  Raises StoreError."""
        self._keeper.retag(self, tags)
        self.tags = tags

    # --- for the thread that executes it --------------------------------------------------------

    @property
    def is_congested(self) -> bool:
        """Return True if a callback is so far behind that no further message should be taken."""
        return self.delivery.is_congested

    def start(self) -> bool:
        """Record that the program starts to run; return False if the job was cancelled."""
        with self.changed:
            if self.is_cancelled:
                return False
            self.status = JobStatus.RUNNING
            self.started = datetime.now(UTC)
            event = StartedEvent(
                job=self.id,
                program=self.program,
                image=self.image,
                node=self.node,
                attempt=self.attempt,
            )
            self.history.extend([event])
        return True

    def begin_again(self) -> None:
        """Queue the job for another attempt, because its node was lost."""
        with self.changed:
            self.attempt += 1
            self.node = self.started = None
            self.status = JobStatus.QUEUED
            self.history.begin_again()

    def follow(self, status: JobStatus, image: str | None, started: datetime | None) -> None:
        """Set status, image and start as another process has stored them."""
        with self.changed:
            self.status, self.image, self.started = status, image, started

    def add_message(self, body: JsonText) -> None:
        """Add an interim result."""
        self.history.add_message(body)

    def add_log(self, data: bytes) -> None:
        """Add output that the program has printed."""
        self.history.add_log(data)

    def finish(self, record: JobRecord) -> None:
        """Set the record and end the job.  Only the first call has an effect.

        The record is stored before any waiting thread sees it.
        """
        with self._finishing:
            if self.record is None:
                self.history.close_log()
                self.settle(self._keeper.keep(self, record))

    def settle(self, record: JobRecord) -> None:
        """Set the record of a job that is stored already."""
        with self.changed:
            self.record = record
            self.status = JobStatus.of(record.outcome)
            self._on_cancel = lambda: None  # release everything that it refers to
            self.history.has_ended = True
            self.changed.notify_all()

    def _final(self) -> JsonText | None:
        record = self.record
        return record.result if record and record.outcome is Outcome.COMPLETED else None


def lost(life: Life, reason: str, *, stored: bool | None = None) -> JobRecord:
    """Return the record of a job elsewhere that cannot be followed any further."""
    evidence = Evidence(source="host", detail=f"the job cannot be followed any further: {reason}")
    return JobRecord(
        job=life.id,
        program=life.program,
        outcome=Outcome.INTERRUPTED,
        error=evidence.detail,
        evidence=evidence,
        stored=stored,
        user=life.request.user,
    )
