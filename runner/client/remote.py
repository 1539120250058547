"""Jobs of a service, in the forms in which the store has jobs: for handles and for the commands."""

from __future__ import annotations

import json
import re
import secrets
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import Any, Final
from urllib.parse import quote

import requests
import urllib3

from runner.client.connection import PATIENCE_S, Connection
from runner.errors import InputsError, RunnerError, UnknownJobError
from runner.job import Job
from runner.job.form import on_one_line, record_of, request_of
from runner.job.history import History
from runner.job.life import Keeper, Life, lost
from runner.job.record import Event, Evidence, JobRecord, JobStatus, Outcome, StartedEvent
from runner.job.request import Request
from runner.programs import values
from runner.sites import wire
from runner.store.rows import Kept, Query, Summary
from sandbox.wire.protocol import JsonText

_ID: Final = re.compile(r"job-[0-9a-f]{16}")
_PAGE: Final = 200
_PAUSE_S: Final = 0.2


class RemoteJobs:
    """The user's jobs on a service, read as those in a store are.

    Every method raises RunnerError if the service cannot be reached, or refuses.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def find(self, text: str) -> str:
        """Return the id of the job that `text` names: an id, a unique beginning, or `last`.

        Only the newest `_PAGE` jobs are searched for a beginning.  Raises UnknownJobError.
        """
        if _ID.fullmatch(text):
            return text
        if text == "last":
            found = [each.id for each in self.summaries(Query(limit=1))]
        else:
            begin = text if text.startswith("job-") else f"job-{text}"
            newest = self.summaries(Query(limit=_PAGE))
            found = [each.id for each in newest if each.id.startswith(begin)]
        if len(found) == 1:
            return found[0]
        if found:
            msg = f"{text!r} begins more than one job: {', '.join(found[:6])}"
        else:
            msg = f"no job {text!r} at {self._connection.url}: `qrunner jobs` lists them"
        raise UnknownJobError(msg)

    def summaries(self, query: Query) -> list[Summary]:
        """Return the summaries of the jobs that match."""
        found: list[Summary] = []
        while (left := _PAGE if query.limit is None else query.limit - len(found)) > 0:
            most = min(left, _PAGE)
            page = self._page(query, most, query.skip + len(found))
            found += page
            if len(page) < most:
                break
        return found

    def _page(self, query: Query, limit: int, skip: int) -> list[Summary]:
        asked: dict[str, Any] = {
            "program": query.program,
            "outcome": list(query.outcomes),
            "pending": None if query.pending is None else str(query.pending).lower(),
            "tag": list(query.tags),
            "created_after": _iso(query.created_after),
            "created_before": _iso(query.created_before),
            "limit": limit,
            "skip": skip,
            "order": "descending" if query.descending else "ascending",
        }
        given = {name: value for name, value in asked.items() if value is not None}
        found = self._connection.json("GET", "/v1/jobs", query=given)
        return [_summary(each) for each in found["jobs"]]

    def summary(self, job_id: str) -> Summary:
        """Return the summary of a job.  Raises UnknownJobError."""
        return self.load(job_id).summary

    def load(self, job_id: str) -> Kept:
        """Return a job without its events.  Raises UnknownJobError."""
        data = json.loads(self.whole(job_id))
        result = data.pop("result")
        record = None
        if data["outcome"] is not None:
            completed = data["outcome"] == Outcome.COMPLETED
            text = _json(result) if result is not None or completed else None
            record = record_of(data, text)
        return Kept(
            summary=_summary(data),
            request=request_of(data, on_one_line(_json(data.pop("inputs")))),
            record=record,
            bundle=None,
        )

    def whole(self, job_id: str) -> str:
        """Return the whole job as a line of JSON.  Raises UnknownJobError."""
        return self._connection.text("GET", path_of(job_id))

    def events(self, job_id: str, start: int = 0, limit: int | None = None) -> list[Event]:
        """Return the events so far of a job, from position `start` on."""
        del limit
        data = json.loads(self.whole(job_id))
        found: list[Event] = []
        if data["timestamps"]["started"]:
            found.append(StartedEvent(job=job_id, program=data["program"], image=data["image"]))
        for each in data["messages"]:
            line = {"event": "message", "seq": each["seq"], "time": each["time"]}
            found.append(_event({**line, "body": each["body"]}))
        if data["log"]:
            found.append(_event({"event": "log", "stream": "stderr", "text": data["log"]}))
        return found[start:]

    def open(self, job_id: str) -> Job:
        """Return the handle of a job, which is followed if it has not ended."""
        return open_job(self._connection, self.load(job_id))

    def started(self, data: Mapping[str, Any], request: Request) -> Job:
        """Return the handle of a job that has just been submitted."""
        kept = Kept(summary=_summary(data), request=request, record=None, bundle=None)
        return open_job(self._connection, kept)

    def request_cancel(self, job_id: str) -> bool:
        """Ask a job to end; return False if it has ended already."""
        if self.summary(job_id).outcome is not None:
            return False
        self._connection.text("POST", f"{path_of(job_id)}/cancel")
        return True

    def delete(self, job_id: str, *, even_running: bool = False) -> bool:
        """Remove a job; return False if it runs and `even_running` is False."""
        if not even_running and self.summary(job_id).outcome is None:
            return False
        self._connection.text("DELETE", path_of(job_id))
        return True

    def mark_interrupted(self) -> int:
        """Do nothing: the service knows which of its jobs are dead."""
        return 0


def path_of(job_id: str) -> str:
    """Return the address of a job."""
    return f"/v1/jobs/{quote(job_id, safe='')}"


class _Tags(Keeper):
    """Sends new tags to the service, which keeps the job."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def retag(self, job: Life, tags: tuple[str, ...]) -> None:
        self._connection.text("PUT", f"{path_of(job.id)}/tags", content={"tags": list(tags)})


def open_job(connection: Connection, kept: Kept) -> Job:
    """Return the handle of a job; a thread follows it until it has ended.

    The events of one that has ended are fetched on first use.
    """
    summary = kept.summary
    history = None
    if kept.record is not None:
        history = History(load=lambda: list(_all_events(connection, summary.id)))
    life = Life(
        summary.id,
        summary.program,
        decode=values.decode,
        on_cancel=partial(_cancel, connection, summary.id),
        request=kept.request,
        keeper=_Tags(connection),
        history=history,
    )
    life.created = datetime.fromtimestamp(summary.created, UTC)
    started = summary.started
    start = None if started is None else datetime.fromtimestamp(started, UTC)
    life.follow(summary.status, summary.image, start)
    if kept.record is not None:
        life.settle(kept.record)
        return Job(life)
    try:
        threading.Thread(
            target=_follow, args=(connection, life), name="qrunner-remote", daemon=True
        ).start()
    except RuntimeError as error:
        msg = f"this process cannot start a thread to follow job {summary.id}: {error}"
        raise RunnerError(msg) from error
    return Job(life)


def refused(name: str, error: InputsError, *, user: str) -> Job:
    """Return a job of `user` that has ended as `invalid_inputs`; `error` is the reason."""
    request = Request(program=name, user=user)
    life = Life(
        f"job-{secrets.token_hex(8)}",
        name,
        decode=values.decode,
        on_cancel=lambda: None,
        request=request,
    )
    record = JobRecord(
        job=life.id,
        program=name,
        outcome=Outcome.INVALID_INPUTS,
        error=str(error),
        evidence=Evidence(source="host", detail=str(error)),
        user=user,
    )
    life.settle(record)
    return Job(life)


def _cancel(connection: Connection, job_id: str) -> None:
    connection.text("POST", f"{path_of(job_id)}/cancel")


def _follow(connection: Connection, life: Life) -> None:
    """Copy a job's events from the service until the job has ended or cannot be followed."""
    last: int | None = None
    lost_at: float | None = None
    while True:
        try:
            for number, event in _stream(connection, life.id, last):
                lost_at, last = None, number
                if isinstance(event, wire.Finished):
                    life.compare = _said(event.mismatches)
                    life.settle(event.record)
                    return
                if isinstance(event, StartedEvent):
                    life.follow(JobStatus.RUNNING, event.image, datetime.now(UTC))
                life.history.extend([event])
        except RunnerError as error:
            life.settle(lost(life, str(error)))
            return
        except (
            OSError,
            urllib3.exceptions.HTTPError,
            requests.exceptions.RequestException,
        ) as error:
            reason: object = error
        else:
            reason = "the stream has ended before the job"
        lost_at = lost_at or time.monotonic()
        if time.monotonic() - lost_at > PATIENCE_S:
            life.settle(lost(life, f"{connection.url} cannot be reached: {reason}"))
            return
        time.sleep(_PAUSE_S)


def _said(mismatches: Sequence[str]) -> Callable[..., list[str]]:
    """Return the comparison with the manifest, which the service has made."""
    return lambda *_: list(mismatches)


def _all_events(connection: Connection, job_id: str) -> Iterator[Event]:
    """Yield all events of a job that has ended."""
    for _, event in _stream(connection, job_id, None):
        if isinstance(event, wire.Finished):
            return
        yield event


def _stream(
    connection: Connection, job_id: str, last: int | None
) -> Iterator[tuple[int, Event | wire.Finished]]:
    number = -1
    with connection.lines(f"{path_of(job_id)}/events", last) as lines:
        for line in lines:
            if line.startswith(b"id: "):
                number = int(line[4:])
            elif line.startswith(b"data: "):
                yield number, _event_of(line[6:])


def _event_of(line: bytes) -> Event | wire.Finished:
    event = wire.event_of(line)
    if isinstance(event, (wire.Hello, wire.Heartbeat, wire.Asked, wire.Ended)):
        msg = f"the service sent {type(event).__name__}, which is no event of a job"
        raise RunnerError(msg)
    return event


def _event(data: Mapping[str, Any]) -> Event:
    event = _event_of(json.dumps(data).encode())
    assert not isinstance(event, wire.Finished)
    return event


def _summary(data: Mapping[str, Any]) -> Summary:
    times, outcome = data["timestamps"], data["outcome"]
    return Summary(
        id=data["job"],
        program=data["program"],
        process="",
        created=_seconds(times["created"]) or 0.0,
        started=_seconds(times["started"]),
        finished=_seconds(times["finished"]),
        status=JobStatus(data["status"]),
        outcome=None if outcome is None else Outcome(outcome),
        image=data.get("image"),
        replay_of=data.get("replay_of"),
        bytes=data.get("bytes") or 0,
        user=data.get("user") or "",
        tags=tuple(data["tags"]),
    )


def _seconds(stamp: str | None) -> float | None:
    return None if stamp is None else datetime.fromisoformat(stamp).timestamp()


def _iso(stamp: float | None) -> str | None:
    return None if stamp is None else datetime.fromtimestamp(stamp, UTC).isoformat()


def _json(data: Any) -> JsonText:
    return JsonText(json.dumps(data))
