"""Jobs: their list, and one of them with all that is known of it, and what may be done with it."""

from __future__ import annotations

import contextlib
import json
import re
import time
from collections.abc import Mapping, Sequence
from functools import partial
from http import HTTPStatus
from typing import Any, Final
from urllib.parse import urlencode

from starlette.responses import Response

from runner.display import shortened
from runner.host.forms import data_of
from runner.job import Job
from runner.job.handle import trace_of
from runner.job.hints import hint_for
from runner.job.record import JobRecord, MessageEvent, Outcome
from runner.job.words import after, because
from runner.pictures.page import MAX_TROUBLE
from runner.programs import Program
from runner.programs.drawing import pictures_of
from runner.programs.values import loaded
from runner.service.faults import RefusedError
from runner.service.pages import charts
from runner.service.pages.downloads import FORMS, download, file
from runner.service.pages.fields import Field, fields_of
from runner.service.pages.rendering import address, page, see
from runner.service.pages.running import form_of, submitted
from runner.service.pages.values import COLUMNS, MAX_READ, circuits_of, laid_out
from runner.service.reading import moment
from runner.service.routing import Call, Needs
from runner.store.rows import Query
from sandbox.wire.protocol import MAX_INPUTS_BYTES, JsonText

_ROWS: Final = 50
_MESSAGES: Final = 50
_MAX_MESSAGE: Final = 500
_PACKED: Final = re.compile(r'("__value__": ?")[^"]{25,}(?=")')
_MAX_PACKED: Final = 1 << 16
_MAX_EDITED: Final = 64 << 10
"""Longer inputs do not fit into a form."""

_LOG_BYTES: Final = 32 << 10
_DRAWN_WITHIN_S: Final = 20.0
_PENDING: Final = "pending"
_FILTERS: Final = ("program", "outcome", "tag", "created_after", "created_before", "order")
_OLDEST: Final = "ascending"


# --- the list -------------------------------------------------------------------------------------


def home(_: Call) -> Response:
    """Lead to the jobs."""
    return see("/jobs")


def listed(call: Call) -> Response:
    """Show the user's jobs that match, the newest or the oldest first."""
    chosen = {name: call.query.get(name, "").strip() for name in _FILTERS}
    beyond = call.query.get("beyond") or None
    found = call.desk.jobs.newest(call.user, _query(chosen, beyond))
    given = {name: text for name, text in chosen.items() if text}
    following = None
    if len(found) > _ROWS:
        found = found[:_ROWS]
        following = f"/jobs?{urlencode({**given, 'beyond': found[-1][0].id})}"
    return page(
        call,
        "jobs.html",
        jobs=found,
        chosen=chosen,
        outcomes=[_PENDING, *map(str, Outcome)],
        is_filtered=bool(given),
        is_first=beyond is None,
        is_descending=chosen["order"] != _OLDEST,
        first=f"/jobs?{urlencode(given)}" if given else "/jobs",
        following=following,
        now=time.time(),
    )


def _query(chosen: Mapping[str, str], beyond: str | None) -> Query:
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
        tags=tuple(each.strip() for each in chosen["tag"].split(",") if each.strip()),
        created_after=moment(given, "created_after"),
        created_before=moment(given, "created_before"),
        beyond=beyond,
        descending=chosen["order"] != _OLDEST,
        limit=_ROWS + 1,
    )


# --- one job --------------------------------------------------------------------------------------


def shown(call: Call) -> Response:
    """Show a job: how it ended or how it goes, and all that it has said."""
    job, record = call.job, call.job.record
    start = call.number("start", 0) if "start" in call.query else None
    # Read at once: the lines go on with the event after the last one that they have.
    said = call.desk.jobs.said(job, most=charts.MAX_MESSAGES, log_bytes=_LOG_BYTES)
    messages = said.messages[-_MESSAGES:]
    if start is not None:
        messages = call.desk.jobs.said(job, start, most=_MESSAGES, log_bytes=1).messages
    first, end = (messages[0].seq, messages[-1].seq + 1) if messages else (0, 0)
    total = record.usage.messages if record else end
    result = record.result if record else None
    can_draw = bool(circuits_of(result))
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
        charts=_charts(job, said.messages),
        drawn_messages=charts.MAX_MESSAGES,
        result=laid_out(result, _pictures(call, job) if can_draw else ()),
        can_draw=can_draw,
        log=said.log,
        inputs=laid_out(job.request.inputs),
        usage=_usage(record),
        memory=job.memory_bytes() if record is None else None,
        trace=trace_of(job).phases(),
        link=f"{call.base}/jobs/{job.id}",
        downloads=FORMS,
        files=call.desk.jobs.files(job) if record else [],
    )


def _charts(job: Job, messages: Sequence[MessageEvent]) -> charts.Charts:
    result = job.record.result if job.record else None
    is_short = result is not None and len(result) <= MAX_READ
    return charts.charts(job.id, charts.recent(messages), result if is_short else None)


def _usage(record: JobRecord | None) -> list[tuple[str, Any, str]]:
    """Return name, amount and source of every figure that a job has used."""
    if record is None:
        return []
    data = data_of(record.usage)
    sources = data.pop("sources")
    return [(name, value, sources.get(name, "")) for name, value in data.items()]


def _pictures(call: Call, job: Job) -> list[str]:
    """Return the pictures of a job's circuits, none if they have not been drawn."""
    found = call.desk.drawing(call.user, job)
    result = found.record.result if found and found.record else None
    return pictures_of(json.loads(result)) if result is not None and len(result) <= MAX_READ else []


def _short(body: JsonText) -> str:
    """Return a message without the bytes of arrays, and cut, as static/text.js does."""
    text = body if len(body) > _MAX_PACKED else _PACKED.sub(r"\1…", body)
    return shortened(text, _MAX_MESSAGE)


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
    inputs = call.job.request.inputs
    if len(inputs) > _MAX_EDITED:
        msg = (
            f"the inputs of {call.job.id} are {len(inputs)} characters, too long for a form of "
            f"{_MAX_EDITED}: download the job, and run its program with `qrunner run --inputs`"
        )
        raise RefusedError(HTTPStatus.CONFLICT, msg)
    program, _ = call.desk.programs.of_job(call.job, call.user)
    return _edited(call, program, fields_of(program, loaded(inputs)))


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


def draw(call: Call) -> Response:
    """Draw the circuits of a result, in a sandbox."""
    record = call.job.record
    circuits = circuits_of(record.result if record else None)
    if not circuits:
        msg = f"the result of {call.job.id} has no circuits that can be drawn"
        raise RefusedError(HTTPStatus.CONFLICT, msg)
    drawing = call.desk.draw(call.user, call.job, circuits, COLUMNS)
    with contextlib.suppress(TimeoutError):
        drawing.wait(_DRAWN_WITHIN_S)
    return see(f"/jobs/{call.job.id}#result")


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
    address("POST", "/jobs/{job}/draw", Needs.JOB, draw),
    address("GET", "/jobs/{job}/edit", Needs.JOB, edited),
    address("POST", "/jobs/{job}/edit", Needs.JOB, run_edited, most_bytes=MAX_INPUTS_BYTES),
    address("POST", "/jobs/{job}/delete", Needs.JOB, delete),
    address("GET", "/jobs/{job}/download/{form}", Needs.JOB, download, is_heavy=True),
    address("GET", "/jobs/{job}/files/{file:path}", Needs.JOB, file, is_heavy=True),
)
