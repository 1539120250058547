"""The life of a job: the part of it that changes, from its submission to its end.

Pure bookkeeping: no engine, no sockets, no files.  The thread that executes the job writes, any
thread may read.  What callers make of it is in `runner/job/handle.py`; what the job says goes into
its `History`.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

from runner.host.trace import Trace
from runner.job.delivery import Callback, Delivery
from runner.job.history import History
from runner.job.record import Event, JobRecord, JobStatus, Outcome, StartedEvent
from runner.job.request import Request
from sandbox.wire.protocol import JsonText


def nothing_known() -> int | None:
    """Stand for the memory of a job that has no sandbox."""
    return None


class Keeper:
    """Who keeps jobs beyond the life of their handles; this one keeps nothing."""

    def keep(self, job: Life, record: JobRecord) -> JobRecord:
        """Keep a job that has just ended, and return its record as others may now see it.

        Never raises.
        """
        del job
        return record

    def retag(self, job: Life, tags: tuple[str, ...]) -> None:
        """Keep the new tags of a job.  Raises StoreError."""


class Life:
    """What happens to one job; `Job` adds what its caller wants to know."""

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
        self.image: str | None = None
        self.node: str | None = None
        self.attempt = 1
        self.created = datetime.now(UTC)
        self.started: datetime | None = None
        self.gauge: Callable[[], int | None] = nothing_known
        self.trace = Trace()
        self._decode = decode
        self._compare = compare
        self._on_cancel = on_cancel
        self._keeper = keeper or Keeper()
        self._tags = self.request.tags
        self._history = history or History(log_kept_bytes)
        self._changed = self._history.changed
        self._finishing = threading.Lock()
        self._status = JobStatus.INITIALIZING
        self._record: JobRecord | None = None
        self._delivery = Delivery(job_id, self._history, decode, self._final)
        self._cancelled = False

    def status(self) -> JobStatus:
        """Return where the job is now."""
        return self._status

    @property
    def outcome(self) -> Outcome | None:
        """Why the job ended, None while it has not."""
        return self._record.outcome if self._record else None

    @property
    def record(self) -> JobRecord | None:
        """Everything about the finished job, None while it runs."""
        return self._record

    def events(self) -> Iterator[Event]:
        """Yield the start, messages (still encoded) and log as they come, until the end."""
        return self._history.events()

    def history(self, start: int = 0, limit: int | None = None) -> list[Event]:
        """Return the events so far from position `start` on, at most `limit`, without waiting."""
        return self._history.since(start, limit)

    def wait(self, timeout: float | None = None) -> JobRecord:
        """Wait for the end and return the record; TimeoutError after `timeout` seconds.

        The job goes on if the time runs out.
        """
        with self._changed:
            if not self._changed.wait_for(lambda: self._record is not None, timeout):
                msg = f"job {self.id} has not ended within {timeout:g} s; it goes on"
                raise TimeoutError(msg)
        assert self._record is not None
        return self._record

    def cancel(self) -> None:
        """Ask the job to end as cancelled; harmless if it has ended, or been asked before."""
        with self._changed:
            if self._record or self._cancelled:
                return
            self._cancelled = True
            on_cancel = self._on_cancel
        on_cancel()

    # --- for the thread that executes it --------------------------------------------------------

    @property
    def is_cancelled(self) -> bool:
        return self._cancelled

    @property
    def is_congested(self) -> bool:
        """Whether a callback is so far behind that no further message should be taken."""
        return self._delivery.is_congested

    def enqueue(self) -> None:
        self._status = JobStatus.QUEUED

    def start(self) -> bool:
        """Say that the program runs from now on; False if the job has been cancelled before."""
        with self._changed:
            if self._cancelled:
                return False
            self._status = JobStatus.RUNNING
            self.started = datetime.now(UTC)
            event = StartedEvent(
                job=self.id,
                program=self.program,
                image=self.image,
                node=self.node,
                attempt=self.attempt,
            )
            self._history.extend([event])
        return True

    def begin_again(self) -> None:
        """Queue the job once more, as another attempt: its node was lost."""
        with self._changed:
            self.attempt += 1
            self.node = self.started = None
            self._status = JobStatus.QUEUED
            self._history.begin_again()

    def follow(self, status: JobStatus, image: str | None, started: datetime | None) -> None:
        """Take over where the job is, as another process has kept it."""
        with self._changed:
            self._status, self.image, self.started = status, image, started

    def add_events(self, events: list[Event]) -> None:
        """Add messages and log as another supervisor has numbered them."""
        self._history.extend(events)

    def add_message(self, body: JsonText) -> None:
        self._history.add_message(body)

    def add_log(self, data: bytes) -> None:
        self._history.add_log(data)

    def finish(self, record: JobRecord) -> None:
        """Fix the record; the job has ended.  Only the first call counts.

        It is kept before anybody sees it.
        """
        with self._finishing:
            if self._record is None:
                self._history.close_log()
                self.settle(self._keeper.keep(self, record))

    def settle(self, record: JobRecord) -> None:
        """Fix the record of a job that is kept already."""
        with self._changed:
            self._record = record
            self._status = JobStatus.of(record.outcome)
            self._on_cancel = lambda: None  # and let go of all that it holds
            self._history.has_ended = True
            self._changed.notify_all()

    # --- for the thread that calls back ---------------------------------------------------------

    def expect_callback(self) -> None:
        self._delivery.expect()

    def deliver(
        self, callback: Callback, on_final: Callback, on_progress: Callable[[], None]
    ) -> None:
        """Call `callback(job_id, message)` for each message, then `on_final(job_id, result)`.

        `on_final` is called only if the job has completed.  An exception of either is logged and
        stops neither the job nor the later calls.  `on_progress` is called when a callback that was
        congested has caught up.  Blocks; meant for a thread of its own.
        """
        self._delivery.deliver(callback, on_final, on_progress)

    def _final(self) -> JsonText | None:
        record = self._record
        return record.result if record and record.outcome is Outcome.COMPLETED else None
