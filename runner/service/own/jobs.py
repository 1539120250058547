"""Jobs under `/v1`: submitted, listed, streamed and shown as `--format json` has them."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import AsyncIterator, Mapping
from http import HTTPStatus
from typing import Any, Final

from starlette.concurrency import run_in_threadpool
from starlette.responses import Response, StreamingResponse

from runner.host.forms import data_of
from runner.job import Job, form
from runner.job.form import strict
from runner.job.options import checked_tags
from runner.job.request import Origin
from runner.programs.values import as_sent
from runner.service import archives
from runner.service.faults import RefusedError
from runner.service.jobs import MAX_KEY_CHARS, MAX_PAGE, Order
from runner.service.own.programs import FILES, MOST_BYTES
from runner.service.reading import flag, member, moment, texts
from runner.service.routing import (
    PAGE,
    TEXTS,
    Call,
    Needs,
    Route,
    empty,
    json_of,
    json_text,
    route,
)
from runner.service.streams import beating
from runner.store.rows import OUTCOMES, Query
from runner.store.whole import summary_data
from sandbox.wire.protocol import MAX_INPUTS_BYTES

_ORDERS: Final = ("ascending", "descending")
_ORDER: Final[dict[str, Any]] = {
    "type": "object",
    "properties": {
        "program": {"type": "string"},
        "program_of": {"type": "string"},
        "name": {"type": "string"},
        "path": {"type": "string"},
        "version": {"type": "integer", "minimum": 1},
        "files": FILES,
        "inputs": {"type": "object"},
        "backend": {"type": ["string", "object", "null"]},
        "options": {"type": "object"},
        "limits": {"type": "object", "additionalProperties": {"type": "number"}},
        "session": {"type": "string"},
    },
}


def add_job(call: Call) -> Response:
    """Run a program: one at the service, the files in the body, or those of an earlier job.

    Repeating the request with the same header `Idempotency-Key` gives the same job.
    """
    content = call.object()
    if unknown := sorted(set(content) - set(_ORDER["properties"])):
        msg = f"unknown key {unknown[0]!r:.80}; known are {', '.join(_ORDER['properties'])}"
        raise RefusedError(HTTPStatus.BAD_REQUEST, msg)
    programs = call.desk.programs
    key = call.request.headers.get("idempotency-key", "")
    origin = Origin(
        session=member(content, "session", str, ""),
        key=key,
        digest=hashlib.sha256(call.body).hexdigest() if key else "",
    )
    if len(origin.session) > MAX_KEY_CHARS:
        msg = f"session is longer than {MAX_KEY_CHARS} characters"
        raise RefusedError(HTTPStatus.BAD_REQUEST, msg)
    if "files" in content:
        files = archives.from_json(content["files"])
        names = (member(content, each, str, "") for each in ("name", "path"))
        program = programs.given(files, *names)
    elif "program_of" in content:
        earlier = call.desk.jobs.find(member(content, "program_of", str, ""), call.user)
        program, source = programs.of_job(earlier, call.user)
        origin = dataclasses.replace(origin, program_id=source.program_id, version=source.version)
    else:
        upload = programs.find(member(content, "program", str, ""), call.user)
        version = member(content, "version", int, upload.version)
        program = programs.read(upload, version)
        origin = dataclasses.replace(origin, program_id=upload.id, version=version)
    backend = content.get("backend")
    if not isinstance(backend, (str, dict, type(None))):
        msg = f"backend is {backend!r:.80}: it must be a name or a description"
        raise RefusedError(HTTPStatus.BAD_REQUEST, msg)
    order = Order(
        inputs=as_sent(member(content, "inputs", dict, {})),
        backend=backend,
        options=member(content, "options", dict, {}),
        limits=member(content, "limits", dict, {}),
        origin=origin,
    )
    job = call.desk.jobs.submit(call.user, program, order)
    return json_of(job_data(job), HTTPStatus.CREATED)


def list_jobs(call: Call) -> Response:
    """Return the user's jobs that match, the newest first."""
    query = call.query
    found, count = call.desk.jobs.summaries(
        call.user,
        Query(
            program=query.get("program"),
            program_id=query.get("program_id"),
            session=query.get("session"),
            outcomes=tuple(call.request.query_params.getlist("outcome")),
            pending=flag(query, "pending"),
            tags=tuple(call.request.query_params.getlist("tag")),
            created_after=moment(query, "created_after"),
            created_before=moment(query, "created_before"),
            limit=call.number("limit", 20, most=MAX_PAGE),
            skip=call.number("skip", 0),
            descending=_is_descending(query.get("order", "descending")),
        ),
    )
    # Which process of this host runs a job is nothing to its user.
    jobs = [{**summary_data(each), "process": None} for each in found]
    return json_of({"jobs": jobs, "count": count})


def show_job(call: Call) -> Response:
    """Return everything that is known of a job, as `qrunner show --format json` does."""
    return json_text(call.desk.jobs.whole(call.job))


def events(call: Call) -> Response:
    """Stream the events of a job from its beginning, or after the header `Last-Event-ID`."""
    text = call.request.headers.get("last-event-id", "")
    if text and not (text.isascii() and text.isdecimal() and len(text) < 16):
        msg = f"Last-Event-ID is {text!r:.40}: it must be the number of an event"
        raise RefusedError(HTTPStatus.BAD_REQUEST, msg)
    call.desk.streams.check(call.user)
    call.job.events_so_far()  # read here, in a thread, if the store has them
    stream = _stream(call, int(text) + 1 if text else 0)
    headers = {"X-Accel-Buffering": "no"}
    return StreamingResponse(stream, media_type="text/event-stream", headers=headers)


async def _stream(call: Call, start: int) -> AsyncIterator[str]:
    """Yield events as the browser's EventSource reads them; a comment when nothing happens."""
    job = call.job
    with call.desk.streams.open(call.user):
        number = start
        async for event in beating(job.events_async(start)):
            if event is None:
                yield ": still running\n\n"
                continue
            yield f"id: {number}\ndata: {form.event_text(event, strict)}\n\n"
            number += 1
        record = await job.wait_async()
        mismatches = await run_in_threadpool(job.mismatches)
        text = form.finished_text(record, strict, mismatches=mismatches)
        yield f"id: {number}\ndata: {text}\n\n"


def result(call: Call) -> Response:
    """Return the result of a job, 204 while it runs, 409 if it has none."""
    record = call.job.record
    if record is None:
        return empty()
    if record.result is None:
        msg = f"job {call.job.id} has no result: it ended as {record.outcome}"
        raise RefusedError(HTTPStatus.CONFLICT, msg)
    return json_text(strict(record.result))


def messages(call: Call) -> Response:
    """Return the messages so far, from number `start` on."""
    start, limit = call.number("start", 0), call.number("limit", MAX_PAGE, most=MAX_PAGE)
    found = [each for each in call.job.message_events() if each.seq >= start][:limit]
    bodies = [
        form.object_text({"seq": each.seq, "time": each.time}, body=strict(each.body))
        for each in found
    ]
    return json_text(f'{{"messages": [{", ".join(bodies)}]}}')


def logs(call: Call) -> Response:
    """Return the log so far, as text."""
    return Response(
        call.job.logs().encode(errors="surrogatepass"), media_type="text/plain; charset=utf-8"
    )


def cancel(call: Call) -> Response:
    """Cancel a job."""
    if call.job.record is not None:
        msg = f"job {call.job.id} has ended already, as {call.job.outcome}"
        raise RefusedError(HTTPStatus.CONFLICT, msg)
    call.job.cancel()
    return empty(HTTPStatus.ACCEPTED)


def tag(call: Call) -> Response:
    """Replace the tags of a job."""
    call.job.update_tags(list(checked_tags(texts(call.object(), "tags"))))
    return json_of({"tags": call.job.tags})


def delete_job(call: Call) -> Response:
    """Remove a job; one that runs is cancelled first."""
    call.desk.jobs.delete(call.job)
    return empty()


def job_data(job: Job) -> dict[str, Any]:
    """Return a job that has just been submitted."""
    record, origin = job.record, job.request.origin
    finished = record.timestamps.get("finished") if record else None
    return {
        "job": job.id,
        "program": job.program,
        "program_id": origin.program_id or None,
        "version": origin.version or None,
        "status": job.status().value,
        "outcome": record.outcome.value if record else None,
        "user": job.request.user or None,
        "tags": job.tags,
        "timestamps": {
            "created": job.created.isoformat(),
            "started": job.started.isoformat() if job.started else None,
            "finished": finished,
        },
        "limits": data_of(job.request.limits),
    }


def _is_descending(order: str) -> bool:
    if order not in _ORDERS:
        msg = f"order is {order!r:.40}: one of {', '.join(_ORDERS)}"
        raise RefusedError(HTTPStatus.BAD_REQUEST, msg)
    return order == _ORDERS[1]


_FILTERS: Final[dict[str, Mapping[str, Any]]] = {
    **PAGE,
    **{name: {"type": "string"} for name in ("program", "program_id", "session")},
    "outcome": {"type": "array", "items": {"enum": list(OUTCOMES)}},
    "pending": {"type": "boolean"},
    "tag": TEXTS,
    "created_after": {"type": "string", "format": "date-time"},
    "created_before": {"type": "string", "format": "date-time"},
    "order": {"enum": list(_ORDERS)},
}
_ORDER_BYTES: Final = MAX_INPUTS_BYTES + MOST_BYTES

ROUTES: Final[tuple[Route, ...]] = (
    route("POST", "/v1/jobs", Needs.USER, add_job, 201, most_bytes=_ORDER_BYTES, takes=_ORDER),
    route("GET", "/v1/jobs", Needs.USER, list_jobs, query=_FILTERS),
    route("GET", "/v1/jobs/{job}", Needs.JOB, show_job, is_heavy=True),
    route("DELETE", "/v1/jobs/{job}", Needs.JOB, delete_job, 204),
    route("GET", "/v1/jobs/{job}/events", Needs.JOB, events, kind="text/event-stream"),
    route("GET", "/v1/jobs/{job}/result", Needs.JOB, result, is_heavy=True),
    route(
        "GET",
        "/v1/jobs/{job}/messages",
        Needs.JOB,
        messages,
        query={"start": PAGE["skip"], "limit": PAGE["limit"]},
        is_heavy=True,
    ),
    route("GET", "/v1/jobs/{job}/logs", Needs.JOB, logs, kind="text/plain"),
    route("POST", "/v1/jobs/{job}/cancel", Needs.JOB, cancel, 202, kind=""),
    route(
        "PUT",
        "/v1/jobs/{job}/tags",
        Needs.JOB,
        tag,
        takes={"type": "object", "properties": {"tags": TEXTS}, "required": ["tags"]},
    ),
)
