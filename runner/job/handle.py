"""Jobs as handles: one execution as its caller sees it, while it runs and after it has ended.

A `Job` only reads what the threads write into its `Life`; what it can do is to cancel, and to
change tags.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Generator, Iterator
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

from runner.display import escape, one_line
from runner.errors import JobFailedError
from runner.host.trace import Trace
from runner.job.delivery import CALLBACK_GRACE_S
from runner.job.life import Life
from runner.job.messages import Messages
from runner.job.names import RuntimeJobNames
from runner.job.options import checked_tags
from runner.job.record import Event, Evidence, JobRecord, JobStatus, LogEvent, Outcome, Usage
from runner.job.request import Request

if TYPE_CHECKING:
    from runner.pictures.drawing import Picture

_LOG_TAIL_LINES: Final = 20


class Job(RuntimeJobNames):
    """One execution of a program, as its caller sees it; `await job` waits for its result.

    Made by `Supervisor.run`, or out of a store by `Supervisor.job`.  Everything may be called from
    any thread, at any time; messages and log stay available as long as the object lives.
    """

    def __init__(self, life: Life) -> None:
        self._life = life

    # --- what was asked -------------------------------------------------------------------------

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
        """What was asked."""
        return self._life.request

    @property
    def inputs(self) -> dict[str, Any]:
        """The inputs, defaults filled in, decoded as results are."""
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
        """Replace the tags, in the store too if there is one, and return the new ones.

        Raises RequestError for what cannot be a tag, StoreError if the store fails.
        """
        self._life.retag(checked_tags(new_tags))
        return self.tags

    # --- where it is, and how it ended ----------------------------------------------------------

    def status(self) -> JobStatus:
        """Return where the job is now."""
        return self._life.status

    @property
    def created(self) -> datetime:
        """When the job was submitted, in UTC."""
        return self._life.created

    @property
    def started(self) -> datetime | None:
        """When the program began to run, in UTC; None before."""
        return self._life.started

    @property
    def image(self) -> str | None:
        """The id of the image, which `docker run` takes; None while it is not known."""
        return self._life.image

    @property
    def node(self) -> str | None:
        """The cluster's node; None before the job has one, and on one machine."""
        return self._life.node

    @property
    def attempt(self) -> int:
        """Which attempt this is, from 1 on: a cluster may try a job again."""
        return self._life.attempt

    def memory_bytes(self) -> int | None:
        """Return the memory that the job's sandbox uses now, in bytes; None if unknown."""
        return self._life.gauge()

    @property
    def record(self) -> JobRecord | None:
        """Everything about the finished job, None while it runs."""
        return self._life.record

    @property
    def outcome(self) -> Outcome | None:
        """Why the job ended, None while it has not."""
        record = self._life.record
        return record.outcome if record else None

    @property
    def usage(self) -> Usage | None:
        """What the job consumed, None while it runs."""
        record = self._life.record
        return record.usage if record else None

    @property
    def evidence(self) -> Evidence | None:
        """What the outcome rests on, None while the job runs."""
        record = self._life.record
        return record.evidence if record else None

    def error_message(self) -> str | None:
        """Return why the job failed: the traceback that ended it, else a line in words.

        None while the job runs, and if it completed or was cancelled.  Never the log: see `logs`.
        """
        record = self._life.record
        if record is None or not self.errored():
            return None
        return record.traceback or record.error or record.evidence.in_words() or str(record.outcome)

    def metrics(self) -> dict[str, Any]:
        """Return what was measured: times, usage, versions.

        `timestamps` has `created`, `running` and `finished` (ISO 8601 in UTC, or None); `usage` has
        the figures of `Usage`, `qiskit_version` is the image's: both None while the job runs.
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
        """Return how messages and result differ from what the program's manifest says of them.

        In words, for people, found when asked for: a mismatch changes neither value nor outcome.
        """
        record = self._life.record
        return self._life.compare(self._life.history.bodies(), record.result if record else None)

    # --- what it says ---------------------------------------------------------------------------

    def messages(self, start: int = 0) -> Messages:
        """Yield the interim results from number `start` on, live, until the job has ended.

        For `for`, and in a coroutine for `async for`, which holds up nothing else.  Any number of
        iterators may run at the same time, during and after the job; each sees every message once,
        in publishing order.  Of a job that a cluster has tried again, those of the last attempt;
        who is reading when that begins sees both, each from its number 0.
        """
        return Messages(self._life.history, self._life.decode, start)

    def events(self) -> Iterator[Event]:
        """Yield the start, messages (still encoded) and log as they come, until the end."""
        return self._life.history.events()

    def logs(self) -> str:
        """Return what the program has printed so far, its middle cut out if it was too much."""
        return self._life.history.logs()

    def live_logs(self) -> Iterator[str]:
        """Yield what the program prints as it comes, in pieces of whole lines, until the end."""
        return (each.text for each in self.events() if isinstance(each, LogEvent))

    def log_tail(self) -> str:
        """Return the last lines of the log."""
        return "\n".join(self.logs().splitlines()[-_LOG_TAIL_LINES:])

    # --- its end --------------------------------------------------------------------------------

    def cancel(self) -> None:
        """Ask the job to end as cancelled; harmless if it has ended, or been asked before."""
        self._life.cancel()

    def wait(self, timeout: float | None = None) -> JobRecord:
        """Wait for the end and return the record; TimeoutError after `timeout` seconds.

        The job goes on if the time runs out.
        """
        return self._life.wait(timeout)

    def result(self, timeout: float | None = None) -> Any:
        """Wait for the end and return the result, decoded.

        Raises JobFailedError (outcome, evidence, log tail) if the job did not complete, and
        TimeoutError after `timeout` seconds, which leaves the job alive.
        """
        record = self._life.wait(timeout)
        self._life.delivery.settle()
        return self._value(record)

    def __await__(self) -> Generator[Any, None, Any]:
        """Wait for the end in a coroutine: `await job` returns or raises what `result` does.

        In any event loop of asyncio, any number of times.  Whoever waits can be cancelled, also by
        `asyncio.timeout`: the job goes on.
        """
        return self._result_async().__await__()

    async def _result_async(self) -> Any:
        import asyncio

        life = self._life
        with life.changed.sleeper() as sleeper:
            while life.record is None:
                await sleeper.sleep()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(CALLBACK_GRACE_S):
                    while not life.delivery.is_settled:
                        await sleeper.sleep()
        return self._value(life.record)

    def _value(self, record: JobRecord) -> Any:
        if record.outcome is not Outcome.COMPLETED:
            log_tail = self.log_tail()
            reason = record.traceback or log_tail or record.evidence.detail or ""
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

    # --- how it looks ---------------------------------------------------------------------------

    def plot(
        self, *fields: str, by: str | None = None, counts: bool = False, bars: int = 16
    ) -> Picture:
        """Return a picture of the counts and of the numbers in the messages, as they are now.

        Arguments:
            fields: keys of messages with numbers, or JSON Pointers into them such as `/point/0`;
                default: those that are obvious, and the counts.
            by: the key to draw them against; default: one that counts the messages, else their
                numbers.
            counts: the counts, if there are `fields` beside them.
            bars: how many outcomes are drawn, the others are added up; 1 to 128.

        A notebook shows it, `save` writes it to a file.  Raises RequestError if there is nothing
        to draw; it says what there is.
        """
        from runner.job import showing
        from runner.pictures.contents import Wanted

        life, wanted = self._life, Wanted(fields=fields, by=by, counts=counts)
        return showing.picture(
            life.id, life.program, life.history, life.record, wanted=wanted, bars=bars
        )

    def watch(self, timeout: float | None = None) -> None:
        """Show the job in a Jupyter notebook until it has ended, its messages as they come.

        Raises RequestError elsewhere, TimeoutError after `timeout` seconds; interrupting the cell
        ends the watching only.
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
    """Return where a job's time goes, for `qrunner run --trace`."""
    return job._life.trace
