"""The output of `qrunner run`: plain lines on stderr, or one JSON event per line on stdout.

`runner.cli.live` replaces the plain lines on a terminal.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import Final, Protocol, Self

from runner.cli.terminal import styled, write
from runner.display import inert_json, notice, one_line, quoted
from runner.errors import RequestError, RunnerError
from runner.host.trace import Trace
from runner.job import form
from runner.job.form import strict
from runner.job.hints import hint, hint_for
from runner.job.record import (
    Event,
    Evidence,
    FileEvent,
    JobRecord,
    LogEvent,
    MessageEvent,
    Outcome,
    StartedEvent,
)
from runner.job.words import because
from runner.policy import Limits, size
from sandbox.wire.protocol import JsonText


class Output(Protocol):
    """The output for one job: a context manager that is told what happens.

    `trace` is the job's trace, if it is to be part of the record.
    """

    trace: Trace | None

    def __enter__(self) -> Self: ...

    def __exit__(self, *_: object) -> None: ...

    def doing(self, line: str) -> None:
        """Show a step that takes a while before the program starts, such as a build."""

    def watch(self, limits: Limits, memory: Callable[[], int | None]) -> None:
        """Take the effective limits, and a function for the sandbox's memory in bytes."""

    def event(self, event: Event) -> None:
        """Show one event."""

    def finished(self, record: JobRecord, mismatches: Sequence[str] = ()) -> None:
        """Show how the job ended, and its result."""

    def refused(self, error: RunnerError) -> None:
        """Show why nothing was run: the request was refused, or the runner failed."""


class _Plain:
    """Base class of outputs that write each line once."""

    trace: Trace | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def doing(self, line: str) -> None:
        """Show a step that takes a while before the program starts, such as a build."""
        show(f"qrunner: {notice(line)}\n")

    def watch(self, limits: Limits, memory: Callable[[], int | None]) -> None:
        """Show nothing: a line that is written once cannot show values that change."""


def said_of(file: FileEvent) -> str:
    """Return a line about a file that the program has left."""
    length = len(file.content) * 3 // 4 - file.content[-2:].count("=")
    return f"/out/{one_line(file.name)} ({size(length)}): `qrunner files` has it"


class HumanOutput(_Plain):
    """Writes the result to stdout, by `write`; messages, log and the end to stderr."""

    def __init__(
        self, program: str = "", write: Callable[[JsonText], object] | None = None
    ) -> None:
        self._named = program
        self._write = write or write_result

    def event(self, event: Event) -> None:
        """Show one event."""
        match event:
            case StartedEvent():
                place = "" if event.node is None else f" on {event.node} (run {event.attempt})"
                show(f"{event.program} started as {event.job}{one_line(place)}\n")
            case MessageEvent():
                show(f"#{event.seq} {one_line(event.body)}\n")
            case LogEvent():
                show(quoted(event.text))
            case FileEvent():
                show(f"{said_of(event)}\n")

    def finished(self, record: JobRecord, mismatches: Sequence[str] = ()) -> None:
        """Show how the job ended; a traceback is the program's, with the user's path."""
        seconds = record.usage.wall_s
        took = "" if seconds is None else f" after {seconds:.2f} s"
        show_end(record, mismatches, took, self._named)
        if record.result is not None:
            self._write(record.result)

    def refused(self, error: RunnerError) -> None:
        """Show why nothing was run: the request was refused, or the runner failed."""
        show(f"qrunner: {notice(str(error))}\n{arrow(hint(str(error)))}")


class JsonOutput(_Plain):
    """Writes one strict JSON object per line; the last one is always `finished`.

    `program` is the program as its user named it, for an end before there is a job.
    """

    def __init__(self, program: str = "") -> None:
        self._named = program
        self._has_finished = False

    def __exit__(self, *error: object) -> None:
        if KeyboardInterrupt in error and not self._has_finished:
            self._end(Outcome.CANCELLED, "cancelled before it was started")

    def event(self, event: Event) -> None:
        """Write one event."""
        write_line(form.event_text(event, strict))

    def finished(self, record: JobRecord, mismatches: Sequence[str] = ()) -> None:
        """Write the record."""
        more = {"trace": self.trace.as_dict()} if self.trace is not None else {}
        self._has_finished = True
        write_line(finished_line(record, mismatches, **more))

    def refused(self, error: RunnerError) -> None:
        """Write the record of a job that ended before a sandbox was used."""
        is_refused = isinstance(error, RequestError)
        self._end(Outcome.INVALID_INPUTS if is_refused else Outcome.SANDBOX_ERROR, str(error))

    def _end(self, outcome: Outcome, reason: str) -> None:
        evidence = Evidence(source="host", detail=reason)
        self.finished(
            JobRecord(job="", program=self._named, outcome=outcome, error=reason, evidence=evidence)
        )


def finished_line(record: JobRecord, mismatches: Sequence[str] = (), **more: object) -> str:
    """Return the last event of a job as one line of strict JSON, with additional members."""
    return form.finished_text(record, strict, **more, mismatches=list(mismatches))


def write_line(line: str) -> None:
    """Write a line of JSON to stdout and flush it."""
    sys.stdout.buffer.write(inert_json(line).encode() + b"\n")
    sys.stdout.buffer.flush()


COLOURS: Final = {True: "green", False: "red"}
"""The colours of success and of failure."""


def arrow(hint: str) -> str:
    """Return a hint as a line of its own; empty if there is none."""
    return f"→ {one_line(hint)}\n" if hint else ""


def show(text: str, colour: str | None = None) -> None:
    """Write text to stderr; adds no newline."""
    write(styled(text, colour, sys.stderr) if colour else text, sys.stderr)


def show_end(record: JobRecord, mismatches: Sequence[str], took: str, program: str = "") -> None:
    """Write to stderr how a job ended, and a hint; `took` is part of the line.

    `program` is the program as its user named it.
    """
    for each in mismatches:
        show(f"not as the manifest says: {one_line(each)}\n", "yellow")
    if record.traceback:
        show(quoted(record.traceback))
    show(f"{record.program}: ")
    show(record.outcome.value, COLOURS[record.outcome is Outcome.COMPLETED])
    show(f"{took}{because(record)}\n{arrow(hint_for(record, program))}")


def write_result(result: JsonText) -> None:
    """Write the final result to stdout, as one line of JSON."""
    write(f"{inert_json(strict(result))}\n", sys.stdout)
