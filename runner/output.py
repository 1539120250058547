"""How `qrunner run` shows a job: for people on stderr, or as one JSON event per line on stdout."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import click

from runner.display import escape, one_line, quoted
from runner.job import Event, Evidence, JobRecord, LogEvent, MessageEvent, Outcome, StartedEvent
from sandbox.protocol import JsonText


class HumanOutput:
    """The result on stdout; messages, log and the way it ended on stderr."""

    def event(self, event: Event) -> None:
        """Show one event as it comes."""
        match event:
            case StartedEvent():
                self._say(f"{event.program} started as {event.job}\n")
            case MessageEvent():
                self._say(f"#{event.seq} {one_line(event.body)}\n")
            case LogEvent():
                self._say(quoted(event.text))

    def finished(self, record: JobRecord, mismatches: Sequence[str] = ()) -> None:
        """Show how the job ended; a traceback is the program's own, its path the user's."""
        for each in mismatches:
            self._say(f"not as the manifest says: {one_line(each)}\n")
        if record.traceback:
            self._say(quoted(record.traceback))
        seconds = record.usage.wall_s
        took = "" if seconds is None else f" after {seconds:.2f} s"
        self._say(f"{record.program}: {record.outcome}{took}{_because(record)}\n")
        if record.result is not None:
            click.echo(_strict(record.result))

    def refused(self, program: str, reason: str) -> None:
        """Say why nothing was run."""
        del program
        self._say(f"qrunner: {escape(reason)}\n")

    def _say(self, text: str) -> None:
        click.echo(text, err=True, nl=False)


class JsonOutput:
    """One strict JSON object per line; the last one is `finished`, in every case."""

    def event(self, event: Event) -> None:
        """Write one event as it comes."""
        match event:
            case StartedEvent():
                self._write({"event": "started", **asdict(event)})
            case MessageEvent():
                head = json.dumps({"event": "message", "seq": event.seq, "time": event.time})
                self._write_line(f'{head[:-1]}, "body": {_strict(event.body)}}}')
            case LogEvent():
                self._write({"event": "log", "stream": event.stream, "text": event.text})

    def finished(self, record: JobRecord, mismatches: Sequence[str] = ()) -> None:
        """Write the record."""
        usage = asdict(record.usage)
        content = {
            "event": "finished",
            "job": record.job or None,
            "program": record.program,
            "outcome": record.outcome.value,
            "error": record.error,
            "traceback": record.traceback,
            "evidence": None if record.evidence == Evidence() else record.evidence.as_dict(),
            "usage": usage,
            "image": record.image,
            "isolation": record.isolation,
            "carrier": record.carrier,
            "policy": record.policy,
            "exceptions": list(record.exceptions),
            "timestamps": record.timestamps,
            "mismatches": list(mismatches),
        }
        result = "null" if record.result is None else _strict(record.result)
        self._write_line(f'{json.dumps(content)[:-1]}, "result": {result}}}')

    def refused(self, program: str, reason: str) -> None:
        """Write the record of a job that was refused before a sandbox was used."""
        evidence = Evidence(source="host", detail=reason)
        outcome = Outcome.INVALID_INPUTS
        record = JobRecord(
            job="", program=program, outcome=outcome, error=reason, evidence=evidence
        )
        self.finished(record)

    def _write(self, content: dict[str, Any]) -> None:
        self._write_line(json.dumps(content, allow_nan=False))

    def _write_line(self, line: str) -> None:
        sys.stdout.buffer.write(line.encode() + b"\n")
        sys.stdout.buffer.flush()


def _strict(text: JsonText) -> str:
    """Return JSON text that is safe on one line of ASCII, whatever whitespace it came with."""
    if text.isascii() and text.isprintable():
        return text
    return json.dumps(json.loads(text))


def _because(record: JobRecord) -> str:
    evidence = record.evidence
    if evidence.limit is not None:
        seen = "" if evidence.observed is None else f", {evidence.observed:g} seen"
        return f" ({evidence.limit} {evidence.value:g}{seen}, by {evidence.source})"
    reason = record.error or evidence.detail
    return f": {one_line(reason)}" if reason else ""
