"""Jobs as rows: how each value of a kept job is written, and read again.

Whatever a program wrote is a bound parameter going in and bytes or strict JSON coming out, never
part of a statement.  Every function here works inside a transaction of `runner/store/jobs.py`.
"""

from __future__ import annotations

import dataclasses
import json
import sqlite3
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from runner.host.processes import Owner
from runner.job.record import (
    Event,
    Evidence,
    JobRecord,
    JobStatus,
    LogEvent,
    MessageEvent,
    Outcome,
    Request,
    StartedEvent,
    Usage,
)
from sandbox.wire.protocol import JsonText

ROW_BYTES: Final = 64
"""What a row costs in the file beyond its content, roughly."""

SUMMARY: Final = (
    "id, program, owner, created, started, finished, status, outcome, image, replay_of, bytes"
)
"""The columns of a `Summary`, all but its tags."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """What lists show of a job; times in seconds since the epoch, `bytes` its size in the store."""

    id: str
    program: str
    owner: str
    created: float
    status: JobStatus
    started: float | None = None
    finished: float | None = None
    outcome: Outcome | None = None
    image: str | None = None
    replay_of: str | None = None
    bytes: int = 0
    tags: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """A job as it is in the store, all but its events; `record` is None while it runs."""

    summary: Summary
    request: Request
    record: JobRecord | None
    bundle: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """Which jobs, the newest first; every condition that is set must hold.

    `outcomes` are words of the outcome table or of `JobStatus`; times are seconds since the epoch.
    """

    program: str | None = None
    outcomes: tuple[str, ...] = ()
    pending: bool | None = None
    tags: tuple[str, ...] = ()
    created_after: float | None = None
    created_before: float | None = None
    limit: int | None = 10
    skip: int = 0
    descending: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """What is new of a job: events from `position` on, and its record if it has ended."""

    number: int
    id: str
    status: JobStatus
    started: datetime | None
    image: str | None
    position: int
    events: Sequence[Event]
    record: JobRecord | None = None


def save(db: sqlite3.Connection, change: Progress) -> bool:
    """Write what is new of a job; False if it has been deleted."""
    events = [_event_row(each) for each in change.events]
    db.executemany(
        "INSERT INTO events (job, position, kind, seq, time, content) "
        "SELECT number, ?, ?, ?, ?, ? FROM jobs WHERE number = ? AND id = ?",
        (
            (change.position + index, *row, change.number, change.id)
            for index, row in enumerate(events)
        ),
    )
    size = sum(len(row[3]) + ROW_BYTES for row in events)
    ended: tuple[Any, ...] = (None, None, None, None)
    if (record := change.record) is not None:
        result = None if record.result is None else _bytes(record.result)
        text = record_text(record)
        size += len(text) + len(result or b"")
        ended = (record.outcome.value, time.time(), text, result)
    done = db.execute(
        "UPDATE jobs SET status = ?, started = ?, image = ?, bytes = bytes + ?, outcome = ?, "
        "finished = ?, record = ?, result = ? WHERE number = ? AND id = ? AND outcome IS NULL",
        (
            *(change.status.value, change.started.timestamp() if change.started else None),
            *(change.image, size, *ended, change.number, change.id),
        ),
    )
    return done.rowcount > 0


def interrupt(db: sqlite3.Connection, job: Summary) -> None:
    """Give the job of a dead process its outcome."""
    now = time.time()
    owner = Owner.parse(job.owner)
    who = f"the supervisor, process {owner.pid if owner else '?'},"
    detail = f"{who} died before the job had ended, or could not keep its end"
    stamps = {"created": job.created, "started": job.started, "finished": now}
    record = JobRecord(
        job=job.id,
        program=job.program,
        outcome=Outcome.INTERRUPTED,
        error=detail,
        evidence=Evidence(source="host", detail=detail),
        image=job.image,
        timestamps={
            name: None if each is None else datetime.fromtimestamp(each, UTC).isoformat()
            for name, each in stamps.items()
        },
        stored=True,
    )
    db.execute(
        "UPDATE jobs SET outcome = ?, status = ?, finished = ?, record = ? "
        "WHERE id = ? AND outcome IS NULL",
        (record.outcome.value, JobStatus.ERROR.value, now, record_text(record), job.id),
    )


def drop_bundles(db: sqlite3.Connection) -> None:
    """Remove the programs that no job needs any more."""
    db.execute(
        "DELETE FROM bundles WHERE NOT EXISTS (SELECT 1 FROM jobs WHERE bundle = bundles.digest)"
    )


def put_tags(db: sqlite3.Connection, number: int, tags: Sequence[str]) -> None:
    """Write the tags of a job that has none."""
    db.executemany(
        "INSERT INTO tags VALUES (?, ?, ?)",
        ((number, position, tag) for position, tag in enumerate(tags)),
    )


def tags_of(db: sqlite3.Connection, number: int) -> tuple[str, ...]:
    """Return the tags of a job."""
    rows = db.execute("SELECT tag FROM tags WHERE job = ? ORDER BY position", (number,))
    return tuple(tag for (tag,) in rows)


def conditions(query: Query) -> tuple[str, list[Any]]:
    """Return what a `WHERE` needs: the conditions, and the values of their parameters."""
    conditions = ["1"]
    values: list[Any] = []
    if query.pending is not None:
        conditions.append(f"outcome IS {'' if query.pending else 'NOT '}NULL")
    if query.outcomes:
        marks = ", ".join("?" * len(query.outcomes))
        conditions.append(f"(outcome IN ({marks}) OR status IN ({marks}))")
        values += [*query.outcomes, *query.outcomes]
    for condition, value in (
        ("program = ?", query.program),
        ("created >= ?", query.created_after),
        ("created < ?", query.created_before),
        *(("number IN (SELECT job FROM tags WHERE tag = ?)", tag) for tag in query.tags),
    ):
        if value is not None:
            conditions.append(condition)
            values.append(value)
    return " AND ".join(conditions), values


def summary(row: Sequence[Any], tags: tuple[str, ...] = ()) -> Summary:
    """Return a summary from its columns."""
    names = SUMMARY.split(", ")
    content = dict(zip(names, row, strict=True))
    outcome = content["outcome"]
    content["status"] = JobStatus(content["status"])
    content["outcome"] = None if outcome is None else Outcome(outcome)
    return Summary(**content, tags=tags)


def _event_row(event: Event) -> tuple[str, int | None, float | None, bytes]:
    match event:
        case StartedEvent():
            where = {"image": event.image, "node": event.node, "attempt": event.attempt}
            return ("started", None, None, json.dumps(where).encode())
        case MessageEvent():
            return ("message", event.seq, event.time, _bytes(event.body))
        case LogEvent():
            return (event.stream, None, None, _bytes(event.text))


def event(row: Sequence[Any]) -> Event:
    """Return an event from its columns, and from two of its job."""
    kind, seq, when, content, job_id, program = row
    if kind == "started":
        return StartedEvent(job=job_id, program=program, **json.loads(content))
    text = bytes(content).decode(errors="surrogatepass")
    if kind == "message":
        return MessageEvent(seq=seq, time=when, body=JsonText(text))
    return LogEvent(stream=kind, text=text)


def record_text(record: JobRecord) -> str:
    """Return the record without its result, as ASCII: lone surrogates are escapes there."""
    content = dataclasses.asdict(record)
    del content["result"]
    return json.dumps(content)


def record(text: str, result: bytes | None) -> JobRecord:
    """Return a record from what `record_text` wrote, and its result."""
    known = {each.name for each in dataclasses.fields(JobRecord)}
    content = {name: value for name, value in json.loads(text).items() if name in known}
    content["outcome"] = Outcome(content["outcome"])
    content["evidence"] = Evidence(**content["evidence"])
    content["usage"] = Usage(**content["usage"])
    content["exceptions"] = tuple(content["exceptions"])
    value = None if result is None else JsonText(bytes(result).decode(errors="surrogatepass"))
    return JobRecord(**content, result=value)


def _bytes(text: str) -> bytes:
    return text.encode(errors="surrogatepass")
