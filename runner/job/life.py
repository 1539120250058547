"""The life of a job: the part of it that changes, from its submission to its end.

Pure bookkeeping: no engine, no sockets, no files.  The thread that executes the job writes, any
thread may read.  Callers get a `Job` (`runner/job/handle.py`), which only reads it; what the job
says goes into its `History`.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from runner.host.trace import Trace
from runner.job.delivery import Delivery
from runner.job.history import History
from runner.job.record import JobRecord, JobStatus, Outcome, StartedEvent
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
    """What happens to one job; `Job` shows it to the job's caller.

    Attributes: `history` is what it has said, `delivery` its callbacks, `status` where it is now,
    `record` everything about its end (None before), `gauge` tells the memory that its sandbox uses,
    `trace` where its time goes.  The others are those of `Job`.
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
        """Wait for the end; return whether it has come, False after so many seconds."""
        with self.changed:
            return self.changed.wait_for(lambda: self.record is not None, seconds)

    def wait(self, timeout: float | None) -> JobRecord:
        """Wait for the end and return the record; TimeoutError after `timeout` seconds."""
        if not self.ends_within(timeout):
            msg = f"job {self.id} has not ended within {timeout:g} s; it goes on"
            raise TimeoutError(msg)
        assert self.record is not None
        return self.record

    def cancel(self) -> None:
        """Ask the job to end as cancelled; harmless if it has ended, or been asked before."""
        with self.changed:
            if self.record or self.is_cancelled:
                return
            self.is_cancelled = True
            on_cancel = self._on_cancel
        on_cancel()

    def retag(self, tags: tuple[str, ...]) -> None:
        """Replace the tags, kept ones too.  Raises StoreError."""
        self._keeper.retag(self, tags)
        self.tags = tags

    # --- for the thread that executes it --------------------------------------------------------

    @property
    def is_congested(self) -> bool:
        """Whether a callback is so far behind that no further message should be taken."""
        return self.delivery.is_congested

    def start(self) -> bool:
        """Say that the program runs from now on; False if the job has been cancelled before."""
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
        """Queue the job once more, as another attempt: its node was lost."""
        with self.changed:
            self.attempt += 1
            self.node = self.started = None
            self.status = JobStatus.QUEUED
            self.history.begin_again()

    def follow(self, status: JobStatus, image: str | None, started: datetime | None) -> None:
        """Take over where the job is, as another process has kept it."""
        with self.changed:
            self.status, self.image, self.started = status, image, started

    def add_message(self, body: JsonText) -> None:
        """Add an interim result."""
        self.history.add_message(body)

    def add_log(self, data: bytes) -> None:
        """Add what the program has printed."""
        self.history.add_log(data)

    def finish(self, record: JobRecord) -> None:
        """Fix the record; the job has ended.  Only the first call counts.

        It is kept before anybody sees it.
        """
        with self._finishing:
            if self.record is None:
                self.history.close_log()
                self.settle(self._keeper.keep(self, record))

    def settle(self, record: JobRecord) -> None:
        """Fix the record of a job that is kept already."""
        with self.changed:
            self.record = record
            self.status = JobStatus.of(record.outcome)
            self._on_cancel = lambda: None  # and let go of all that it holds
            self.history.has_ended = True
            self.changed.notify_all()

    def _final(self) -> JsonText | None:
        record = self.record
        return record.result if record and record.outcome is Outcome.COMPLETED else None
