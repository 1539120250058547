"""Jobs: their list, and one of them with all that is known of it, and what may be done with it."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from functools import partial
from http import HTTPStatus
from typing import Any, Final
from urllib.parse import urlencode

from starlette.responses import Response

from runner.display import shortened
from runner.encoded.readable import readable
from runner.host.forms import data_of
from runner.job import Job
from runner.job.handle import trace_of
from runner.job.hints import hint_for
from runner.job.record import JobRecord, Outcome
from runner.job.words import after, because
from runner.pictures.page import MAX_TROUBLE
from runner.programs import Program
from runner.programs.values import loaded
from runner.service.faults import RefusedError
from runner.service.pages import charts
from runner.service.pages.downloads import FORMS, download
from runner.service.pages.fields import Field, fields_of
from runner.service.pages.rendering import address, page, see
from runner.service.pages.running import form_of, submitted
from runner.service.reading import moment
from runner.service.routing import Call, Needs
from runner.store.rows import Query
from sandbox.wire.protocol import MAX_INPUTS_BYTES, JsonText

_ROWS: Final = 50
_MESSAGES: Final = 100
_MAX_MESSAGE: Final = 1000
_MAX_VALUE: Final = 1 << 20
"""A longer result is not laid out on the page, but can be downloaded."""

_COLUMNS: Final = 100
_LOG_BYTES: Final = 32 << 10
_PENDING: Final = "pending"
_FILTERS: Final = ("program", "outcome", "tag", "created_after", "created_before")


# --- the list -------------------------------------------------------------------------------------


def home(_: Call) -> Response:
    """Lead to the jobs."""
    return see("/jobs")


def listed(call: Call) -> Response:
    """Show the user's jobs that match, the newest first."""
    chosen = {name: call.query.get(name, "").strip() for name in _FILTERS}
    before = call.query.get("before") or None
    found = call.desk.jobs.newest(call.user, _query(chosen, before))
    given = {name: text for name, text in chosen.items() if text}
    older = None
    if len(found) > _ROWS:
        found = found[:_ROWS]
        older = f"/jobs?{urlencode({**given, 'before': found[-1][0].id})}"
    return page(
        call,
        "jobs.html",
        jobs=found,
        chosen=chosen,
        outcomes=[_PENDING, *map(str, Outcome)],
        is_filtered=bool(given),
        is_first=before is None,
        first=f"/jobs?{urlencode(given)}" if given else "/jobs",
        older=older,
        now=time.time(),
    )


def _query(chosen: Mapping[str, str], before: str | None) -> Query:
    """Return what a form asks for, one job more than fits on a page.  Raises RefusedError."""
    outcome = chosen["outcome"]
    if outcome not in {"", _PENDING, *map(str, Outcome)}:
        msg = f"outcome is {outcome!r:.80}: choose one of the list"
        raise RefusedError(HTTPStatus.BAD_REQUEST, msg)
    given = {name: text for name, text in chosen.items() if text}
    return Query(
        program=chosen["program"] or None,
        outcomes=(outcome,) if outcome not in {"", _PENDING} else (),
        pending=True if outcome == _PENDING else None,
        tags=(chosen["tag"],) if chosen["tag"] else (),
        created_after=moment(given, "created_after"),
        created_before=moment(given, "created_before"),
        before=before,
        limit=_ROWS + 1,
    )


# --- one job --------------------------------------------------------------------------------------


def shown(call: Call) -> Response:
    """Show a job: how it ended or how it goes, and all that it has said."""
    job, record = call.job, call.job.record
    start = call.number("start", 0) if "start" in call.query else None
    said = call.desk.jobs.said(job, start, most=_MESSAGES, log_bytes=_LOG_BYTES)
    messages = said.messages
    first, end = (messages[0].seq, messages[-1].seq + 1) if messages else (0, 0)
    total = record.usage.messages if record else end
    return page(
        call,
        "job.html",
        job=job,
        record=record,
        state=record.outcome.value if record else job.status().value.lower(),
        last=said.last,
        because=(after(record) + because(record)).strip() if record else "",
        advice=hint_for(record, job.request.path) if record else None,
        trouble=_end_of(record.traceback or "", MAX_TROUBLE) if record else "",
        messages=[(each.seq, each.time, _short(each.body)) for each in messages],
        total=total,
        earlier=max(0, first - _MESSAGES) if first > 0 else None,
        is_newest=start is None,
        charts=_charts(call, job, record),
        result=_laid_out(record.result if record else None),
        log=said.log,
        inputs=_laid_out(job.request.inputs),
        usage=_usage(record),
        memory=job.memory_bytes() if record is None else None,
        trace=trace_of(job).phases(),
        link=f"{call.base}/jobs/{job.id}",
        downloads=FORMS,
    )


def _charts(call: Call, job: Job, record: JobRecord | None) -> charts.Charts:
    said = call.desk.jobs.said(job, most=charts.MAX_MESSAGES, log_bytes=1)
    result = record.result if record else None
    is_short = result is not None and len(result) <= _MAX_VALUE
    return charts.charts(job.id, charts.recent(said.messages), result if is_short else None)


def _usage(record: JobRecord | None) -> list[tuple[str, Any, str]]:
    """Return name, amount and source of every figure that a job has used."""
    if record is None:
        return []
    data = data_of(record.usage)
    sources = data.pop("sources")
    return [(name, value, sources.get(name, "")) for name, value in data.items()]


def _laid_out(text: JsonText | None) -> str:
    """Return a value as text of bounded size, "" for none."""
    if text is None:
        return ""
    if len(text) > _MAX_VALUE:
        return f"{len(text)} characters: too long for this page, so download it"
    try:
        return readable(json.loads(text), _COLUMNS)
    except ValueError:  # a number with thousands of digits
        return shortened(text, _MAX_MESSAGE)


def _short(body: JsonText) -> str:
    return shortened(body, _MAX_MESSAGE)


def _end_of(text: str, most: int) -> str:
    cut = len(text) - most
    return f"… ({cut} characters)\n{text[-most:]}" if cut > 0 else text


# --- what may be done with it ---------------------------------------------------------------------


def cancel(call: Call) -> Response:
    """Cancel a job; one that has ended stays as it is."""
    call.job.cancel()
    return see(f"/jobs/{call.job.id}")


def again(call: Call) -> Response:
    """Run a job's program again, with the same inputs."""
    job = call.desk.again(call.user, call.job)
    return see(f"/jobs/{job.id}")


def edited(call: Call) -> Response:
    """Show the inputs of a job in a form, to run its program again with others."""
    program, _ = call.desk.programs.of_job(call.job, call.user)
    return _edited(call, program, fields_of(program, loaded(call.job.request.inputs)))


def run_edited(call: Call) -> Response:
    """Run the program of a job with other inputs."""
    program, origin = call.desk.programs.of_job(call.job, call.user)
    return submitted(call, program, origin, partial(_edited, call, program))


def _edited(
    call: Call,
    program: Program,
    fields: list[Field],
    mistakes: Sequence[str] = (),
    status: HTTPStatus = HTTPStatus.OK,
) -> Response:
    form = form_of(call, program, fields, mistakes)
    return page(call, "edit.html", status, job=call.job, form=form)


def delete(call: Call) -> Response:
    """Remove a job with everything that is kept of it."""
    call.desk.jobs.delete(call.job)
    return see("/jobs")


ROUTES: Final = (
    address("GET", "/", Needs.USER, home),
    address("GET", "/jobs", Needs.USER, listed),
    address("GET", "/jobs/{job}", Needs.JOB, shown),
    address("POST", "/jobs/{job}/cancel", Needs.JOB, cancel),
    address("POST", "/jobs/{job}/again", Needs.JOB, again),
    address("GET", "/jobs/{job}/edit", Needs.JOB, edited),
    address("POST", "/jobs/{job}/edit", Needs.JOB, run_edited, most_bytes=MAX_INPUTS_BYTES),
    address("POST", "/jobs/{job}/delete", Needs.JOB, delete),
    address("GET", "/jobs/{job}/download/{form}", Needs.JOB, download),
)
