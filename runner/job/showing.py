"""The data that pictures and notebooks need to show a job."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime

from runner.job.history import History
from runner.job.life import Life
from runner.job.record import JobRecord, Outcome
from runner.job.words import after, because
from runner.pictures.contents import Wanted, contents
from runner.pictures.drawing import Picture
from runner.pictures.page import MAX_MESSAGES, View
from sandbox.wire.protocol import JsonText


def picture(
    job_id: str,
    program: str,
    history: History,
    record: JobRecord | None,
    wanted: Wanted,
    bars: int,
) -> Picture:
    """Return the picture of a job as it is now.  Raises RequestError if it has none."""
    messages = ((event.seq, event.body) for event in history.messages())
    state = f"{record.outcome.value}{after(record)}" if record else "has not ended yet"
    return Picture(
        heading=program,
        below=f"{job_id} · {state}",
        contents=contents(job_id, messages, record.result if record else None, wanted),
        bars=bars,
    )


def picture_of_jobs(
    name: str, jobs: Iterable[tuple[JsonText, JsonText | None]], wanted: Wanted, bars: int
) -> Picture:
    """Return the picture of what the results of several jobs hold, job by job.

    `jobs` are inputs and result of each, None without one.  Raises RequestError if there is nothing
    to draw.
    """
    found = contents(name, _bodies(jobs), None, wanted, unit="job")
    return Picture(heading=name, below="the results of its jobs", contents=found, bars=bars)


def _bodies(jobs: Iterable[tuple[JsonText, JsonText | None]]) -> Iterator[tuple[int, JsonText]]:
    """Yield the number of each job that has a result, and the result with its inputs beside it."""
    for number, (given, said) in enumerate(jobs):
        if said is None:
            continue
        inputs, result = json.loads(given), json.loads(said)
        is_plain = isinstance(result, dict) and "__type__" not in result
        named = {f"inputs.{name}": value for name, value in inputs.items()}
        body = {**named, **(result if is_plain else {"result": result})}
        yield number, JsonText(json.dumps(body))


def view(job: Life) -> View:
    """Return the current content of a job's page."""
    record = job.record
    latest = job.history.messages()[-MAX_MESSAGES:]
    if record is not None:
        state, words = record.outcome.value, f"{after(record)}{because(record)}"
    else:
        state, words = job.status.value, _running_for(job.started)
    return View(
        program=job.program,
        job=job.id,
        state=state,
        words=words,
        is_good=None if record is None else record.outcome is Outcome.COMPLETED,
        messages=[(event.seq, event.body) for event in latest],
        message_count=latest[-1].seq + 1 if latest else 0,
        result=record.result if record else None,
        trouble=record.traceback if record else None,
    )


def _running_for(started: datetime | None) -> str:
    return "" if started is None else f" for {(datetime.now(UTC) - started).total_seconds():.0f} s"
