"""Jobs as handles: one execution as its caller sees it, while it runs and after it has ended.

A `Job` only reads the `Life` that the runner's threads write.  It can change two things: cancel the
job, and replace its tags.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import AsyncIterator, Generator, Iterator
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

from runner.display import escape, one_line
from runner.errors import JobFailedError
from runner.host.trace import Trace
from runner.job import hints
from runner.job.delivery import CALLBACK_GRACE_S
from runner.job.life import Life
from runner.job.messages import Messages
from runner.job.names import RuntimeJobNames
from runner.job.options import checked_tags
from runner.job.record import (
    Event,
    Evidence,
    JobRecord,
    JobStatus,
    LogEvent,
    MessageEvent,
    Outcome,
    Usage,
)
from runner.job.request import Request

if TYPE_CHECKING:
    from runner.pictures.drawing import Picture

_LOG_TAIL_LINES: Final = 20


class Job(RuntimeJobNames):
    """One execution of a program, as its caller sees it; `await job` waits for its result.

    Made by `Supervisor.run`, or read from a store by `Supervisor.job`.  Every member may be used
    from any thread at any time.  Messages and log stay available as long as the object lives.
    """

    def __init__(self, life: Life) -> None:
        self._life = life

    # --- the request ------------------------------------------------------------------------------

    @property
    def id(self) -> str:
        """The job's id."""
        return self._life.id

    @property
    def program(self) -> str:
        """The program's name."""
        return self._life.program

    @property
    def request(self) -> Request:
        """The request."""
        return self._life.request

    @property
    def inputs(self) -> dict[str, Any]:
        """The inputs, with defaults filled in, decoded in the same way as results."""
        decoded: dict[str, Any] = self._life.decode(self._life.request.inputs)
        return decoded

    def backend(self) -> dict[str, Any]:
        """Return the description of the program's backend: `name` and `options`."""
        return dict(self._life.request.backend)

    @property
    def tags(self) -> list[str]:
        """The job's tags, as they were given."""
        return list(self._life.tags)

    def update_tags(self, new_tags: list[str]) -> list[str]:
        """Replace the tags, also in the store if there is one, and return the new ones.

        Raises RequestError for invalid tags, StoreError if the store fails.
        """
        self._life.retag(checked_tags(new_tags))
        return self.tags

    # --- state and end ----------------------------------------------------------------------------

    def status(self) -> JobStatus:
        """Return the current status of the job."""
        return self._life.status

    @property
    def created(self) -> datetime:
        """The time of submission, in UTC."""
        return self._life.created

    @property
    def started(self) -> datetime | None:
        """The time at which the program began to run, in UTC; None before that."""
        return self._life.started

    @property
    def image(self) -> str | None:
        """The id of the image, which `docker run` accepts; None while it is unknown."""
        return self._life.image

    @property
    def node(self) -> str | None:
        """The cluster node that runs the job; None before it has one, and on one machine."""
        return self._life.node

    @property
    def attempt(self) -> int:
        """The number of the current attempt, counted from 1: a cluster may run a job again."""
        return self._life.attempt

    def memory_bytes(self) -> int | None:
        """Return the current memory use of the job's sandbox in bytes; None if unknown."""
        return self._life.gauge()

    @property
    def record(self) -> JobRecord | None:
        """The complete record of the ended job; None while it runs."""
        return self._life.record

    @property
    def outcome(self) -> Outcome | None:
        """Why the job ended; None while it runs."""
        record = self._life.record
        return record.outcome if record else None

    @property
    def usage(self) -> Usage | None:
        """The resources that the job used; None while it runs."""
        record = self._life.record
        return record.usage if record else None

    @property
    def evidence(self) -> Evidence | None:
        """The evidence for the outcome; None while the job runs."""
        record = self._life.record
        return record.evidence if record else None

    def error_message(self) -> str | None:
        """Return why the job failed: the traceback that ended it, or else one line of text.

        None while the job runs, and if it completed or was cancelled.  The log is never part of it:
        see `logs`.
        """
        record = self._life.record
        if record is None or not self.errored():
            return None
        return record.traceback or record.error or record.evidence.in_words() or str(record.outcome)

    def metrics(self) -> dict[str, Any]:
        """Return the measurements of the job: times, usage, versions.

        `timestamps` has `created`, `running` and `finished` (ISO 8601 in UTC, or None); `usage` has
        the fields of `Usage`; `qiskit_version` is the version in the image.  The last two are None
        while the job runs.
        """
        record = self._life.record
        return {
            "timestamps": {
                "created": self.created.isoformat(),
                "running": self.started.isoformat() if self.started else None,
                "finished": record.timestamps.get("finished") if record else None,
            },
            "qiskit_version": record.versions.get("qiskit") if record else None,
            "versions": dict(record.versions) if record else {},
            "usage": dataclasses.asdict(record.usage) if record else None,
        }

    def mismatches(self) -> list[str]:
        """Return how messages and result differ from the program's manifest.

        The differences are text for people, and are computed on each call.  A mismatch changes
        neither the values nor the outcome.
        """
        record = self._life.record
        return self._life.compare(self._life.history.bodies(), record.result if record else None)

    # --- messages and log -------------------------------------------------------------------------

    def messages(self, start: int = 0) -> Messages:
        """Yield the interim results from number `start` on, live, until the job has ended.

        Works in `for` and, in a coroutine, in `async for`, which does not block the event loop.
        Any number of iterators may run at the same time, during and after the job; each one gets
        every message once, in publishing order.  If a cluster has run the job again, only the
        messages of the last attempt are yielded; an iterator that runs when a new attempt begins
        yields the messages of both, each counted from 0.
        """
        return Messages(self._life.history, self._life.decode, start)

    def events(self) -> Iterator[Event]:
        """Yield start, messages (still encoded) and log as they arrive, until the end."""
        return self._life.history.events()

    def events_async(self, start: int = 0) -> AsyncIterator[Event]:
        """Yield the events from position `start` on, in a coroutine, until the job has ended."""
        return self._life.history.events_async(start=start)

    async def wait_async(self) -> JobRecord:
        """Wait for the end in a coroutine and return the record."""
        life = self._life
        with life.changed.sleeper() as sleeper:
            while (record := life.record) is None:
                await sleeper.sleep()
        return record

    def events_so_far(self) -> list[Event]:
        """Return the events so far, messages still encoded, without waiting."""
        return self._life.history.since()

    def message_events(self) -> list[MessageEvent]:
        """Return the interim results published so far, still encoded, without waiting."""
        return self._life.history.messages()

    def logs(self) -> str:
        """Return what the program has printed so far; the middle of a long log is cut out."""
        return self._life.history.logs()

    @property
    def files(self) -> dict[str, bytes]:
        """The files that the program left in `/out`, by their paths there; empty before its end."""
        return self._life.history.files()

    def live_logs(self) -> Iterator[str]:
        """Yield the program's output as it arrives, in pieces of whole lines, until the end."""
        return (each.text for each in self.events() if isinstance(each, LogEvent))

    def log_tail(self) -> str:
        """Return the last lines of the log."""
        return "\n".join(self.logs().splitlines()[-_LOG_TAIL_LINES:])

    # --- waiting for the end ----------------------------------------------------------------------

    def cancel(self) -> None:
        """Ask the job to end as cancelled; does nothing if it has ended or was asked before."""
        self._life.cancel()

    def wait(self, timeout: float | None = None) -> JobRecord:
        """Wait for the end and return the record.

        Raises TimeoutError after `timeout` seconds; the job continues.
        """
        return self._life.wait(timeout)

    def result(self, timeout: float | None = None) -> Any:
        """Wait for the end and return the result, decoded.

        Raises JobFailedError (with outcome, evidence and log tail) if the job did not complete, and
        TimeoutError after `timeout` seconds, in which case the job continues.
        """
        record = self._life.wait(timeout)
        self._life.delivery.settle()
        return self._value(record)

    def __await__(self) -> Generator[Any, None, Any]:
        """Wait for the end in a coroutine: `await job` returns or raises what `result` does.

        Works in any asyncio event loop, any number of times.  The waiting can be cancelled, for
        example by `asyncio.timeout`; the job continues.
        """
        return self._result_async().__await__()

    async def _result_async(self) -> Any:
        import asyncio

        life, record = self._life, await self.wait_async()
        with life.changed.sleeper() as sleeper, contextlib.suppress(TimeoutError):
            async with asyncio.timeout(CALLBACK_GRACE_S):
                while not life.delivery.is_settled:
                    await sleeper.sleep()
        return self._value(record)

    def _value(self, record: JobRecord) -> Any:
        if record.outcome is not Outcome.COMPLETED:
            log_tail = self.log_tail()
            reason = record.traceback or log_tail or record.evidence.detail or ""
            if advice := hints.hint_for(record, self.request.path):
                reason = f"{reason.rstrip()}\n→ {advice}"
            raise JobFailedError(
                self.id,
                record.outcome.value,
                evidence=record.evidence.as_dict(),
                traceback=record.traceback,
                log_tail=log_tail,
                reason=escape(reason.strip()),  # terminals and notebooks show it
            )
        assert record.result is not None
        return self._life.decode(record.result)

    # --- pictures and notebooks -------------------------------------------------------------------

    def plot(
        self, *fields: str, by: str | None = None, counts: bool = False, bars: int = 16
    ) -> Picture:
        """Return a picture of the counts and of the numbers in the messages, as they are now.

        Arguments:
            fields: keys of numbers in the messages, or JSON Pointers into them such as `/point/0`
                (default: the obvious ones, and the counts).
            by: the key for the horizontal axis (default: a key that counts the messages, else the
                message numbers).
            counts: True to draw the counts as well when `fields` are given.
            bars: how many outcomes are drawn, 1 to 128; the others are added up into one bar.

        A notebook displays it, and `save` writes it to a file.  Raises RequestError if there is
        nothing to draw; the message lists what there is.
        """
        from runner.job import showing
        from runner.pictures.contents import Wanted

        life, wanted = self._life, Wanted(fields=fields, by=by, counts=counts)
        return showing.picture(
            life.id, life.program, life.history, life.record, wanted=wanted, bars=bars
        )

    def watch(self, timeout: float | None = None) -> None:
        """Show the job and its messages in a Jupyter notebook until it has ended.

        Raises RequestError outside a notebook, and TimeoutError after `timeout` seconds.
        Interrupting the cell stops watching; the job continues.
        """
        from runner.pictures.notebook import watch

        watch(self, self._life.ends_within, timeout)

    def __repr__(self) -> str:
        state = self.outcome or self.status()
        return f"<Job {self.id} of {one_line(self.program)}: {state.value}>"

    def _repr_html_(self) -> str:
        from runner.job import showing
        from runner.pictures.page import page

        return page(showing.view(self._life))


def trace_of(job: Job) -> Trace:
    """Return the time that each step of a job took, for `qrunner run --trace`."""
    return job._life.trace
