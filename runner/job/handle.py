"""Jobs as handles: one execution as its caller sees it, while it runs and after it has ended.

The names that Qiskit users know mean here what they meant there.  What changes in a job's life is
in `runner/job/life.py`; here it is only read.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Generator, Iterator
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

from runner.display import one_line
from runner.errors import JobFailedError
from runner.job.delivery import CALLBACK_GRACE_S, Callback
from runner.job.life import Life
from runner.job.messages import Messages
from runner.job.options import checked_tags
from runner.job.record import (
    Evidence,
    JobRecord,
    JobStatus,
    LogEvent,
    Outcome,
    Usage,
)

if TYPE_CHECKING:
    from runner.pictures.drawing import Picture

_LOG_TAIL_LINES: Final = 20


class Job(Life):
    """One execution of a program, as its caller sees it; `await job` waits for its result.

    Made by `Supervisor.run`, or out of a store by `Supervisor.job`.  Everything may be called from
    any thread, at any time; messages and log stay available as long as the object lives.

    Attributes: `id`; `program`, its name; `request`, what was asked; `image`, `started`: None
    before; `created`; times in UTC; on a cluster, `node` (None before) and `attempt`, from 1 on.
    """

    # --- where it is, and how it ended ----------------------------------------------------------

    def job_id(self) -> str:
        """Return the job's id, as `id` does."""
        return self.id

    def done(self) -> bool:
        """Whether the job has completed."""
        return self._status is JobStatus.DONE

    def running(self) -> bool:
        """Whether the program runs now."""
        return self._status is JobStatus.RUNNING

    def cancelled(self) -> bool:
        """Whether the job has ended by being cancelled."""
        return self._status is JobStatus.CANCELLED

    def errored(self) -> bool:
        """Whether the job has ended, neither completed nor cancelled."""
        return self._status is JobStatus.ERROR

    def memory_bytes(self) -> int | None:
        """Return the memory that the job's sandbox uses now, in bytes; None if unknown."""
        return self.gauge()

    def in_final_state(self) -> bool:
        """Whether the job has ended, however that was."""
        return self._record is not None

    @property
    def usage(self) -> Usage | None:
        """What the job consumed, None while it runs."""
        return self._record.usage if self._record else None

    @property
    def evidence(self) -> Evidence | None:
        """What the outcome rests on, None while the job runs."""
        return self._record.evidence if self._record else None

    def error_message(self) -> str | None:
        """Return why the job failed: the traceback that ended it, else a line in words.

        None while the job runs, and if it completed or was cancelled.  Never the log: see `logs`.
        """
        record = self._record
        if record is None or self._status is not JobStatus.ERROR:
            return None
        return record.traceback or record.error or record.evidence.in_words() or str(record.outcome)

    def metrics(self) -> dict[str, Any]:
        """Return what was measured: times, usage, versions.

        `timestamps` has `created`, `running` and `finished` (ISO 8601 in UTC, or None); `usage` has
        the figures of `Usage`, `qiskit_version` is the image's: both None while the job runs.
        """
        record = self._record
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

    # --- what was asked -------------------------------------------------------------------------

    @property
    def program_id(self) -> str:
        """The program's name."""
        return self.program

    @property
    def inputs(self) -> dict[str, Any]:
        """The inputs, defaults filled in, decoded as results are."""
        decoded: dict[str, Any] = self._decode(self.request.inputs)
        return decoded

    def backend(self) -> dict[str, Any]:
        """Return the description of the program's backend: `name` and `options`."""
        return dict(self.request.backend)

    @property
    def creation_date(self) -> datetime:
        """When the job was submitted, in UTC."""
        return self.created

    @property
    def tags(self) -> list[str]:
        """The job's tags, as they were given."""
        return list(self._tags)

    def update_tags(self, new_tags: list[str]) -> list[str]:
        """Replace the tags, in the store too if there is one, and return the new ones.

        Raises RequestError for what cannot be a tag, StoreError if the store fails.
        """
        tags = checked_tags(new_tags)
        self._keeper.retag(self, tags)
        self._tags = tags
        return list(tags)

    # --- what it says ---------------------------------------------------------------------------

    def messages(self, start: int = 0) -> Messages:
        """Yield the interim results from number `start` on, live, until the job has ended.

        For `for`, and in a coroutine for `async for`, which holds up nothing else.  Any number of
        iterators may run at the same time, during and after the job; each sees every message once,
        in publishing order.  Of a job that a cluster has tried again, those of the last attempt;
        who is reading when that begins sees both, each from its number 0.
        """
        return Messages(self._history, self._decode, start)

    def interim_results(self) -> list[Any]:
        """Return the interim results that have been published so far, without waiting."""
        return [self._decode(body) for body in self._history.bodies()]

    def logs(self) -> str:
        """Return what the program has printed so far, its middle cut out if it was too much."""
        return self._history.logs()

    def live_logs(self) -> Iterator[str]:
        """Yield what the program prints as it comes, in pieces of whole lines, until the end."""
        return (each.text for each in self.events() if isinstance(each, LogEvent))

    def log_tail(self) -> str:
        """Return the last lines of the log."""
        return "\n".join(self.logs().splitlines()[-_LOG_TAIL_LINES:])

    def stream_results(self, callback: Callback, on_final: Callback | None = None) -> None:
        """Call `callback(job_id, message)` for every interim result, the earlier ones first.

        Then `on_final(job_id, result)`, a function of its own, if the job completes.  Both are
        called from a thread; their exceptions are logged and do no harm.  Raises RequestError if
        such a stream runs already, RunnerError if no thread can be started.
        """
        self._delivery.stream(callback, on_final)

    def cancel_result_streaming(self) -> None:
        """End what `stream_results` began, while the job goes on; harmless if nothing streams."""
        self._delivery.cancel_stream()

    # --- its end --------------------------------------------------------------------------------

    def wait_for_final_state(self, timeout: float | None = None) -> None:
        """Wait for the end; TimeoutError after `timeout` seconds, which leaves the job alive."""
        self.wait(timeout)

    def result(self, timeout: float | None = None) -> Any:
        """Wait for the end and return the result, decoded.

        Raises JobFailedError (outcome, evidence, log tail) if the job did not complete, and
        TimeoutError after `timeout` seconds, which leaves the job alive.
        """
        record = self.wait(timeout)
        self._delivery.settle()
        return self._value(record)

    def __await__(self) -> Generator[Any, None, Any]:
        """Wait for the end in a coroutine: `await job` returns or raises what `result` does.

        In any event loop of asyncio, any number of times.  Whoever waits can be cancelled, also by
        `asyncio.timeout`: the job goes on.
        """
        return self._result_async().__await__()

    async def _result_async(self) -> Any:
        import asyncio

        with self._changed.sleeper() as sleeper:
            while self._record is None:
                await sleeper.sleep()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(CALLBACK_GRACE_S):
                    while not self._delivery.is_settled:
                        await sleeper.sleep()
        return self._value(self._record)

    def _value(self, record: JobRecord) -> Any:
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

        wanted = Wanted(fields=fields, by=by, counts=counts)
        return showing.picture(
            self.id, self.program, self._history, self._record, wanted=wanted, bars=bars
        )

    def watch(self, timeout: float | None = None) -> None:
        """Show the job in a Jupyter notebook until it has ended, its messages as they come.

        Raises RequestError elsewhere, TimeoutError after `timeout` seconds; interrupting the cell
        ends the watching only.
        """
        from runner.pictures.notebook import watch

        watch(self, self._ends_within, timeout)

    def _ends_within(self, seconds: float) -> bool:
        with self._changed:
            return self._changed.wait_for(lambda: self._record is not None, seconds)

    def __repr__(self) -> str:
        state = self._record.outcome if self._record else self._status
        return f"<Job {self.id} of {one_line(self.program)}: {state.value}>"

    def _repr_html_(self) -> str:
        from runner.job import showing
        from runner.pictures.page import page

        return page(showing.view(self, self._history))

    # --- what is said against it ----------------------------------------------------------------

    def mismatches(self) -> list[str]:
        """Return how messages and result differ from what the program's manifest says of them.

        In words, for people, found when asked for: a mismatch changes neither value nor outcome.
        """
        return self._compare(self._history.bodies(), self._record.result if self._record else None)
