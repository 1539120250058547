"""Jobs as values and as handles: how one ended, what it used, and the record of what it said.

Pure bookkeeping: no engine, no sockets, no files.  `Job` is the caller's handle and the only
mutable class here; the thread that executes the job writes to it, any thread may read.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, Final, TypeAlias

from runner.errors import JobFailedError
from runner.joblog import Log
from sandbox.protocol import JsonText

log = logging.getLogger(__name__)

CALLBACK_GRACE_S: Final = 2.0
"""How long `Job.result` waits for a callback that is behind, before it returns anyway."""

MAX_BACKLOG: Final = 1024
"""Messages that a callback may be behind before the sandbox's channel is no longer read."""

_LOG_TAIL_LINES: Final = 20


class Outcome(StrEnum):
    """Why a job ended."""

    COMPLETED = "completed"
    PROGRAM_ERROR = "program_error"
    INIT_ERROR = "init_error"
    NO_RESULT = "no_result"
    RESULT_ERROR = "result_error"
    INVALID_INPUTS = "invalid_inputs"
    TIME_LIMIT = "time_limit"
    MEMORY_LIMIT = "memory_limit"
    OUTPUT_LIMIT = "output_limit"
    MESSAGE_LIMIT = "message_limit"
    RESULT_LIMIT = "result_limit"
    PROCESS_LIMIT = "process_limit"
    PROTOCOL_VIOLATION = "protocol_violation"
    SANDBOX_ERROR = "sandbox_error"
    INTERRUPTED = "interrupted"
    CANCELLED = "cancelled"

    @property
    def exit_code(self) -> int:
        """The exit code of `qrunner run` for a job that ended so."""
        return _EXIT_CODES[self]


_EXIT_CODES: Final = {
    Outcome.COMPLETED: 0,
    Outcome.PROGRAM_ERROR: 1,
    Outcome.INIT_ERROR: 1,
    Outcome.NO_RESULT: 1,
    Outcome.RESULT_ERROR: 1,
    Outcome.INVALID_INPUTS: 2,
    Outcome.TIME_LIMIT: 3,
    Outcome.MEMORY_LIMIT: 3,
    Outcome.OUTPUT_LIMIT: 3,
    Outcome.MESSAGE_LIMIT: 3,
    Outcome.RESULT_LIMIT: 3,
    Outcome.PROCESS_LIMIT: 3,
    Outcome.PROTOCOL_VIOLATION: 3,
    Outcome.SANDBOX_ERROR: 4,
    Outcome.INTERRUPTED: 4,
    Outcome.CANCELLED: 130,
}


def _nothing() -> None:
    """Stand for what there is no more to do."""


class JobStatus(StrEnum):
    """Where a job is, in the words that Qiskit users know."""

    INITIALIZING = "INITIALIZING"
    QUEUED = "QUEUED"
    RUNNING = "RUNNING"
    DONE = "DONE"
    ERROR = "ERROR"
    CANCELLED = "CANCELLED"


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """What a job consumed; None where nobody could tell, with the reason in `sources`.

    `wall_s` runs from hand-out to the end.  `stdout_bytes` are those of the result stream,
    `stderr_bytes` those of the log, to which everything the program prints goes.  `sources` says
    for each figure who measured it ("host", "cgroup", "engine", "guest") or why it is null.
    """

    wall_s: float | None = None
    cpu_s: float | None = None
    memory_peak_bytes: int | None = None
    oom_kills: int | None = None
    messages: int = 0
    stdout_bytes: int = 0
    stderr_bytes: int = 0
    sources: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """What the outcome rests on: a limit, its value, what was seen, and who measured it.

    All four are None when no limit was met; `detail` then says in words what happened.
    """

    limit: str | None = None
    value: float | None = None
    observed: float | None = None
    source: str | None = None
    detail: str | None = None

    def as_dict(self) -> dict[str, object]:
        """Return the keys of the job record; `detail` only where there is one."""
        content: dict[str, object] = {
            "limit": self.limit,
            "value": self.value,
            "observed": self.observed,
            "source": self.source,
        }
        return content if self.detail is None else {**content, "detail": self.detail}


@dataclass(frozen=True, slots=True, kw_only=True)
class MessageEvent:
    """One interim result; `seq` and `time` (seconds since the epoch) are the host's."""

    seq: int
    time: float
    body: JsonText


@dataclass(frozen=True, slots=True, kw_only=True)
class LogEvent:
    """A piece of the log: one or more whole lines, unless a line is very long."""

    stream: str
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class StartedEvent:
    """The request was handed out: the program's time runs from here."""

    job: str
    program: str
    image: str | None


Event: TypeAlias = StartedEvent | MessageEvent | LogEvent


@dataclass(frozen=True, slots=True, kw_only=True)
class JobRecord:
    """Everything that is known of a finished job.

    `policy` is the hash of all that the sandbox was made of; `exceptions` names what the operator
    has loosened in it, or allowed to be missing.
    """

    job: str
    program: str
    outcome: Outcome
    result: JsonText | None = None
    error: str | None = None
    traceback: str | None = None
    evidence: Evidence = field(default_factory=Evidence)
    usage: Usage = field(default_factory=Usage)
    image: str | None = None
    isolation: str | None = None
    carrier: str | None = None
    policy: str | None = None
    exceptions: tuple[str, ...] = ()
    timestamps: dict[str, str | None] = field(default_factory=dict)


class Job:
    """One execution of a program, as its caller sees it.

    Made by `Supervisor.run`.  Everything may be called from any thread, at any time; messages and
    log stay available as long as the object lives.
    """

    def __init__(
        self,
        job_id: str,
        program: str,
        *,
        log_kept_bytes: int,
        decode: Callable[[JsonText], Any],
        on_cancel: Callable[[], object],
        compare: Callable[[list[JsonText], JsonText | None], list[str]] = lambda *_: [],
    ) -> None:
        self.id = job_id
        self.program = program
        self.image: str | None = None
        self._decode = decode
        self._compare = compare
        self._on_cancel = on_cancel
        self._changed = threading.Condition()
        self._status = JobStatus.INITIALIZING
        self._events: list[Event] = []
        self._message_count = 0
        self._delivered = 0
        self._has_callback = False
        self._is_delivered = True
        self._log = Log(log_kept_bytes)
        self._record: JobRecord | None = None
        self._cancelled = False
        self.created = datetime.now(UTC)
        self.started: datetime | None = None

    # --- for the caller -----------------------------------------------------------------------

    def status(self) -> JobStatus:
        """Return where the job is now."""
        return self._status

    @property
    def outcome(self) -> Outcome | None:
        """Why the job ended, None while it has not."""
        return self._record.outcome if self._record else None

    @property
    def usage(self) -> Usage | None:
        """What the job consumed, None while it runs."""
        return self._record.usage if self._record else None

    @property
    def evidence(self) -> Evidence | None:
        """What the outcome rests on, None while the job runs."""
        return self._record.evidence if self._record else None

    @property
    def record(self) -> JobRecord | None:
        """Everything about the finished job, None while it runs."""
        return self._record

    def messages(self, start: int = 0) -> Iterator[Any]:
        """Yield the interim results from number `start` on, live, until the job has ended.

        Any number of iterators may run at the same time, during and after the job; each sees
        every message once, in publishing order.
        """
        for event in self.events():
            if isinstance(event, MessageEvent) and event.seq >= start:
                yield self._decode(event.body)

    def events(self) -> Iterator[Event]:
        """Yield the start, messages (still encoded) and log as they come, until the end."""
        position = 0
        while batch := self._wait_events(position):
            position += len(batch)
            yield from batch

    def _wait_events(self, position: int) -> list[Event]:
        """Wait for events from `position` on; none are left when the job has ended."""
        with self._changed:
            self._changed.wait_for(lambda: len(self._events) > position or self._record)
            return self._events[position:]

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

    def result(self, timeout: float | None = None) -> Any:
        """Wait for the end and return the result, decoded.

        Raises JobFailedError (outcome, evidence, log tail) if the job did not complete, and
        TimeoutError after `timeout` seconds, which leaves the job alive.
        """
        record = self.wait(timeout)
        with self._changed:
            self._changed.wait_for(lambda: self._is_delivered, CALLBACK_GRACE_S)
        if record.outcome is not Outcome.COMPLETED:
            raise JobFailedError(
                self.id,
                record.outcome.value,
                evidence=record.evidence.as_dict(),
                traceback=record.traceback,
                log_tail=self.log_tail(),
            )
        assert record.result is not None
        return self._decode(record.result)

    def mismatches(self) -> list[str]:
        """Return how messages and result differ from what the program's manifest says of them.

        In words, for people, found when asked for: a mismatch changes neither value nor outcome.
        """
        with self._changed:
            bodies = [each.body for each in self._events if isinstance(each, MessageEvent)]
            result = self._record.result if self._record else None
        return self._compare(bodies, result)

    def logs(self) -> str:
        """Return what the program has printed so far, its middle cut out if it was too much."""
        with self._changed:
            return "".join(each.text for each in self._events if isinstance(each, LogEvent))

    def log_tail(self) -> str:
        """Return the last lines of the log."""
        return "\n".join(self.logs().splitlines()[-_LOG_TAIL_LINES:])

    def cancel(self) -> None:
        """Ask the job to end as cancelled; harmless if it has ended, or been asked before."""
        with self._changed:
            if self._record or self._cancelled:
                return
            self._cancelled = True
            on_cancel = self._on_cancel
        on_cancel()

    # --- for the thread that executes it ------------------------------------------------------

    @property
    def is_cancelled(self) -> bool:
        return self._cancelled

    @property
    def is_congested(self) -> bool:
        """Whether a callback is so far behind that no further message should be taken."""
        return self._has_callback and self._message_count - self._delivered >= MAX_BACKLOG

    def enqueue(self) -> None:
        self._status = JobStatus.QUEUED

    def start(self) -> bool:
        """Say that the program runs from now on; False if the job has been cancelled before."""
        with self._changed:
            if self._cancelled:
                return False
            self._status = JobStatus.RUNNING
            self.started = datetime.now(UTC)
            event = StartedEvent(job=self.id, program=self.program, image=self.image)
            self._events.append(event)
            self._changed.notify_all()
        return True

    def add_message(self, body: JsonText) -> None:
        with self._changed:
            event = MessageEvent(seq=self._message_count, time=time.time(), body=body)
            self._message_count += 1
            self._events.append(event)
            self._changed.notify_all()

    def add_log(self, data: bytes) -> None:
        with self._changed:
            self._append_log(self._log.feed(data))

    def _append_log(self, text: str) -> None:
        if text:
            self._events.append(LogEvent(stream="stderr", text=text))
            self._changed.notify_all()

    def finish(self, record: JobRecord) -> None:
        """Fix the record; the job has ended.  Only the first call counts."""
        statuses = {Outcome.COMPLETED: JobStatus.DONE, Outcome.CANCELLED: JobStatus.CANCELLED}
        with self._changed:
            if self._record is None:
                self._append_log(self._log.finish())
                self._record = record
                self._status = statuses.get(record.outcome, JobStatus.ERROR)
                self._on_cancel = _nothing  # and let go of all that it holds
                self._changed.notify_all()

    def deliver(
        self,
        callback: Callable[[str, Any], object],
        on_final: Callable[[str, Any], object],
        on_progress: Callable[[], None],
    ) -> None:
        """Call `callback(job_id, message)` for each message, then `on_final(job_id, result)`.

        `on_final` is called only if the job has completed.  An exception of either is logged and
        stops neither the job nor the later calls.  `on_progress` is called when a callback that was
        congested has caught up.  Blocks; meant for a thread of its own.
        """
        for event in self.events():
            if not isinstance(event, MessageEvent):
                continue
            was_congested = self.is_congested
            try:
                callback(self.id, self._decode(event.body))
            except Exception:
                log.exception("the callback of job %s failed at message %d", self.id, event.seq)
            with self._changed:
                self._delivered += 1
                self._changed.notify_all()
            if was_congested:
                on_progress()
        record = self._record
        if record and record.outcome is Outcome.COMPLETED and record.result is not None:
            try:
                on_final(self.id, self._decode(record.result))
            except Exception:
                log.exception("the callback of job %s failed at the final result", self.id)
        with self._changed:
            self._is_delivered = True
            self._changed.notify_all()

    def expect_callback(self) -> None:
        self._has_callback = True
        self._is_delivered = False
