"""Jobs as database rows: how each value of a stored job is written and read.

Text from a program is always a bound parameter when written, and bytes or strict JSON when read,
never part of a statement.  Every function here runs inside a transaction of `runner/store/jobs.py`.
"""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from runner.errors import RequestError
from runner.host.forms import value_of
from runner.host.processes import HostProcess
from runner.job.device import Answer
from runner.job.form import (
    event_data,
    on_one_line,
    record_data,
    record_of,
    request_data,
    request_of,
)
from runner.job.options import MAX_TAGS
from runner.job.record import (
    Event,
    Evidence,
    FileEvent,
    JobRecord,
    JobStatus,
    LogEvent,
    MessageEvent,
    Outcome,
    StartedEvent,
)
from runner.job.request import Request
from sandbox.wire.protocol import JsonText, check_json

_HOUR_S: Final = 3600
_KEPT_HOURS: Final = 48

ROW_BYTES: Final = 64
"""Approximate size of a row in the file beyond its content."""

SUMMARY: Final = (
    "id, program, user, process, created, started, finished, status, outcome, image, replay_of, "
    "bytes"
)
"""The columns of a `Summary`, except its tags."""

_STATES: Final = {
    "outcome": frozenset(map(str, Outcome)).__contains__,
    "status": frozenset(map(str, JobStatus)).__contains__,
}
"""Which column has a word that may be an outcome or a status."""

_OF_A_REQUEST: Final = ("program", "user", "tags", "replay_of")
"""Members of a request that have columns, for searching, and so are not in its text."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """The columns that lists of jobs show.

    Times are in seconds since the epoch, and `bytes` is the size in the store.  `process` executes
    the job; `user` is the person for whom it runs.
    """

    id: str
    program: str
    process: str
    created: float
    status: JobStatus
    started: float | None = None
    finished: float | None = None
    outcome: Outcome | None = None
    image: str | None = None
    replay_of: str | None = None
    bytes: int = 0
    user: str = ""
    tags: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """A stored job without its events; `record` is None while the job runs."""

    summary: Summary
    request: Request
    record: JobRecord | None
    bundle: str | None


OUTCOMES: Final = (*(each.value for each in Outcome), *(each.value for each in JobStatus))
"""The words for how a job stands or has ended."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """Conditions that a job must meet, all that are set; the newest job comes first.

    `outcomes` are values of `Outcome` or of `JobStatus`; times are seconds since the epoch.
    `program_id`, `session` and `key` are those of the request's `Origin`, `backend` is a name.
    `beyond` is a job: only those match that come after it in this order, none if it is unknown.
    Raises RequestError for an unknown outcome, a negative number, and more tags than a job has.
    """

    program: str | None = None
    user: str | None = None
    outcomes: tuple[str, ...] = ()
    pending: bool | None = None
    tags: tuple[str, ...] = ()
    created_after: float | None = None
    created_before: float | None = None
    program_id: str | None = None
    session: str | None = None
    key: str | None = None
    backend: str | None = None
    beyond: str | None = None
    limit: int | None = 10
    skip: int = 0
    descending: bool = True

    def __post_init__(self) -> None:
        for name, value in (("limit", self.limit), ("skip", self.skip)):
            if value is not None and value < 0:
                msg = f"{name} is {value}: it must be at least 0"
                raise RequestError(msg)
        if len(self.tags) > MAX_TAGS:
            msg = f"{len(self.tags)} tags: a job has at most {MAX_TAGS}"
            raise RequestError(msg)
        for each in self.outcomes:
            if each not in OUTCOMES:
                msg = f"outcome {each!r:.100}: one of {', '.join(OUTCOMES)}"
                raise RequestError(msg)


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """Changes of a job: its events from `position` on, and its record if it has ended.

    `answers` are those of its held backend; they are written with the record.
    """

    number: int
    id: str
    status: JobStatus
    started: datetime | None
    image: str | None
    position: int
    events: Sequence[Event]
    record: JobRecord | None = None
    answers: Sequence[Answer] = ()


def save(db: sqlite3.Connection, change: Change) -> bool:
    """Write the changes of a job; return False if it has been deleted."""
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
    size += sum(len(each.body) + ROW_BYTES for each in change.answers)
    db.executemany(
        "INSERT INTO answers (job, position, verb, signature, body) "
        "SELECT number, ?, ?, ?, ? FROM jobs WHERE number = ? AND id = ? AND outcome IS NULL",
        (
            (index, each.verb, each.signature, _bytes(each.body), change.number, change.id)
            for index, each in enumerate(change.answers)
        ),
    )
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
    if change.record is not None:
        book(db, change.record)
    return done.rowcount > 0


def book(db: sqlite3.Connection, record: JobRecord) -> None:
    """Count what a job has used, also one that has been deleted, by its user and the hour."""
    hour = int(time.time()) // _HOUR_S
    if record.usage.cpu_s:
        db.execute(
            "INSERT INTO used VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET cpu_s = cpu_s + "
            "excluded.cpu_s",
            (record.user, hour, record.usage.cpu_s),
        )
        db.execute(
            "DELETE FROM used WHERE user = ? AND hour < ?", (record.user, hour - _KEPT_HOURS)
        )


def used_cpu_s(db: sqlite3.Connection, user: str, since: float) -> float:
    """Return the CPU seconds that jobs of a user have used since the hour of then."""
    (used,) = db.execute(
        "SELECT coalesce(sum(cpu_s), 0) FROM used WHERE user = ? AND hour >= ?",
        (user, int(since) // _HOUR_S),
    ).fetchone()
    return float(used)


def interrupt(db: sqlite3.Connection, job: Summary) -> None:
    """Mark the job of a dead process as interrupted."""
    now = time.time()
    process = HostProcess.parse(job.process)
    who = f"the supervisor, process {process.pid if process else '?'},"
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
        user=job.user,
    )
    db.execute(
        "UPDATE jobs SET outcome = ?, status = ?, finished = ?, record = ? "
        "WHERE id = ? AND outcome IS NULL",
        (record.outcome.value, JobStatus.ERROR.value, now, record_text(record), job.id),
    )


def drop_bundles(db: sqlite3.Connection) -> None:
    """Remove the programs that neither a job nor an upload refers to any more."""
    db.execute(
        "DELETE FROM bundles WHERE NOT EXISTS (SELECT 1 FROM jobs WHERE bundle = bundles.digest) "
        "AND NOT EXISTS (SELECT 1 FROM versions WHERE bundle = bundles.digest)"
    )


def put_tags(db: sqlite3.Connection, number: int, tags: Sequence[str]) -> None:
    """Write the tags of a job that has none yet."""
    db.executemany(
        "INSERT INTO tags VALUES (?, ?, ?)",
        ((number, position, tag) for position, tag in enumerate(tags)),
    )


def tags_of(db: sqlite3.Connection, number: int) -> tuple[str, ...]:
    """Return the tags of a job."""
    rows = db.execute("SELECT tag FROM tags WHERE job = ? ORDER BY position", (number,))
    return tuple(tag for (tag,) in rows)


_PLACE: Final = "(SELECT created, number FROM jobs WHERE id = ?)"
_BEYOND: Final = {
    True: f"(created, number) < {_PLACE}",
    False: f"(created, number) > {_PLACE}",
}
"""What is true of a job that comes after another, in descending order and in ascending."""


def table(query: Query) -> str:
    """Return the table of jobs, with the index to use where SQLite would choose a worse one."""
    if query.user is not None and query.key:
        return "jobs INDEXED BY jobs_by_key"
    return "jobs INDEXED BY jobs_pending" if query.user is not None and query.pending else "jobs"


def conditions(query: Query) -> tuple[str, list[Any]]:
    """Return the conditions of a `WHERE` clause, and the values of their parameters."""
    conditions = ["1"]
    values: list[Any] = []
    if query.pending is not None:
        conditions.append(f"outcome IS {'' if query.pending else 'NOT '}NULL")
    if query.outcomes:
        known = {column: [*filter(each, query.outcomes)] for column, each in _STATES.items()}
        marks = {column: ", ".join("?" * len(found)) for column, found in known.items() if found}
        either = " OR ".join(f"{column} IN ({mark})" for column, mark in marks.items())
        conditions.append(f"({either or '0'})")
        values += [value for found in known.values() for value in found]
    for condition, value in (
        ("program = ?", query.program),
        ("user = ?", query.user),
        ("created >= ?", query.created_after),
        ("created < ?", query.created_before),
        ("program_id = ?", query.program_id),
        ("session = ?", query.session),
        ("key = ? AND key != ''", query.key),
        ("json_extract(request, '$.backend.name') = ?", query.backend),
        (_BEYOND[query.descending], query.beyond),
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
            return ("started", None, None, json.dumps(event_data(event)).encode())
        case MessageEvent():
            return ("message", event.seq, event.time, _bytes(event.body))
        case FileEvent():
            return ("file", None, None, json.dumps(event_data(event)).encode())
        case LogEvent():
            return (event.stream, None, None, _bytes(event.text))


def event(row: Sequence[Any]) -> Event:
    """Return an event from its columns, and from two columns of its job."""
    kind, seq, when, content, job_id, program = row
    if kind == "started":
        return value_of(StartedEvent, {"job": job_id, "program": program, **json.loads(content)})
    if kind == "file":
        return value_of(FileEvent, json.loads(content))
    text = bytes(content).decode(errors="surrogatepass")
    if kind == "message":
        return MessageEvent(seq=seq, time=when, body=JsonText(text))
    return LogEvent(stream=kind, text=text)


def request_text(request: Request) -> str:
    """Return the text of the members of a request that have no column of their own."""
    data = request_data(request)
    return json.dumps({name: data[name] for name in data if name not in _OF_A_REQUEST})


def request(text: str, inputs: str, job: Summary) -> Request:
    """Return a request from the text of `request_text`, its inputs, and its columns.

    Raises ValueError if the data is damaged, RequestError for an impossible limit.
    """
    columns = {name: getattr(job, name) for name in _OF_A_REQUEST}
    return request_of({**json.loads(text), **columns}, on_one_line(check_json(inputs)))


def record_text(record: JobRecord) -> str:
    """Return a record without its result, as ASCII: lone surrogates are escaped there."""
    return json.dumps(record_data(record))


def record(text: str, result: bytes | None) -> JobRecord:
    """Return the record from the text of `record_text`, and its result."""
    value = None if result is None else JsonText(bytes(result).decode(errors="surrogatepass"))
    return record_of(json.loads(text), value)


def _bytes(text: str) -> bytes:
    return text.encode(errors="surrogatepass")
