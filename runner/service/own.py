"""Our own form of the API, `/v1`: programs, jobs as `--format json` has them, event streams."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Any, Final

from starlette.responses import Response, StreamingResponse

from runner import backends
from runner.host.forms import data_of
from runner.job import Job, form
from runner.job.form import strict
from runner.job.options import checked_tags
from runner.job.record import JobStatus, Outcome
from runner.job.request import Origin
from runner.programs.values import as_sent
from runner.running.versions import versions
from runner.service import archives
from runner.service.faults import RefusedError
from runner.service.jobs import MAX_KEY_CHARS, MAX_PAGE, Order
from runner.service.routing import MIB, SMALL, Call, Needs, Route, empty, json_of, json_text
from runner.service.streams import beating
from runner.store.rows import Query
from runner.store.uploads import Upload
from runner.store.whole import summary_data
from sandbox.wire.protocol import MAX_INPUTS_BYTES

PROGRAM_BYTES: Final = 32 * MIB
"""The largest body with a program: 16 MiB of files, which base64 makes a third larger."""

_PAGE: Final = {
    "limit": {"type": "integer", "minimum": 0, "maximum": MAX_PAGE},
    "skip": {"type": "integer", "minimum": 0},
}
_TEXTS: Final = {"type": "array", "items": {"type": "string"}}
_FILES: Final = {
    "type": "object",
    "additionalProperties": {"type": "string"},
    "minProperties": 1,
}
_ORDERS: Final = ("ascending", "descending")
_UPLOAD: Final = {
    "type": "object",
    "properties": {
        "files": _FILES,
        "name": {"type": "string"},
        "public": {"type": "boolean"},
    },
    "required": ["files"],
}
_ORDER: Final[dict[str, Any]] = {
    "type": "object",
    "properties": {
        "program": {"type": "string"},
        "name": {"type": "string"},
        "path": {"type": "string"},
        "version": {"type": "integer", "minimum": 1},
        "files": _FILES,
        "inputs": {"type": "object"},
        "backend": {"type": ["string", "object", "null"]},
        "options": {"type": "object"},
        "limits": {"type": "object", "additionalProperties": {"type": "number"}},
        "session": {"type": "string"},
    },
}


# --- the service ----------------------------------------------------------------------------------


def health(_: Call) -> Response:
    """Say that the process lives."""
    return json_of({"status": "alive"})


def readiness(call: Call) -> Response:
    """Say if the service takes jobs."""
    if call.desk.is_ready:
        return json_of({"status": "ready", "version": versions()["runner"]})
    return json_of({"status": "ending"}, HTTPStatus.SERVICE_UNAVAILABLE)


def metrics(call: Call) -> Response:
    """Return the metrics for Prometheus."""
    text = call.desk.metrics.text(call.desk.gauges())
    return Response(text, media_type="text/plain; version=0.0.4; charset=utf-8")


def me(call: Call) -> Response:
    """Return who asks."""
    return json_of({"user": call.user.name or None, "role": call.user.role.value})


def users(call: Call) -> Response:
    """Return all users; their tokens are not known here."""
    return json_of({"users": [dataclasses.asdict(each) for each in call.desk.users.all()]})


def audit(call: Call) -> Response:
    """Return the newest entries of the audit log."""
    limit = call.number("limit", 100, most=MAX_PAGE)
    found = call.desk.audit.entries(user=call.query.get("user"), limit=limit)
    return json_of({"entries": [dataclasses.asdict(each) for each in found]})


def backends_(_: Call) -> Response:
    """Return the backends that a job can ask for."""
    known = [{**dataclasses.asdict(b), "is_default": b.is_default} for b in backends.known()]
    return json_of({"backends": known})


# --- programs -------------------------------------------------------------------------------------


def list_programs(call: Call) -> Response:
    """Return the programs that the user may run, the newest first."""
    limit, skip = call.number("limit", 20, most=MAX_PAGE), call.number("skip", 0)
    uploads = call.desk.programs.uploads
    if name := call.query.get("name"):
        found = uploads.named(name, call.user.name)
        count = len(found)
    else:
        found = uploads.all(call.user.name, limit=limit, skip=skip)
        count = uploads.count(call.user.name)
    return json_of({"programs": [upload_data(each, call) for each in found], "count": count})


def add_program(call: Call) -> Response:
    """Upload a program."""
    files, name, public = _files(call)
    upload = call.desk.programs.add(call.user, files, name=name, public=public)
    return json_of(upload_data(upload, call), HTTPStatus.CREATED)


def update_program(call: Call) -> Response:
    """Upload a new version of a program."""
    files, _, _ = _files(call)
    call.desk.programs.update(call.upload, files)
    return json_of(upload_data(call.desk.programs.find(call.upload.id, call.user), call))


def show_program(call: Call) -> Response:
    """Return what a program says of itself."""
    program = call.desk.programs.read(call.upload, call.number("version", 0) or None)
    manifest = data_of(program.manifest)
    return json_of({**upload_data(call.upload, call), "manifest": manifest})


def source(call: Call) -> Response:
    """Return all files of a program."""
    program = call.desk.programs.read(call.upload, call.number("version", 0) or None)
    return json_of({"files": archives.to_json(program.files)})


def versions_of(call: Call) -> Response:
    """Return the versions of a program, the newest first."""
    found = call.desk.programs.uploads.versions(call.upload)
    return json_of(
        {
            "versions": [
                {"version": version, "created": iso(created), "digest": digest}
                for version, created, digest in found
            ]
        }
    )


def delete_program(call: Call) -> Response:
    """Delete a program; its jobs stay."""
    call.desk.programs.uploads.delete(call.upload)
    return empty()


def publish(call: Call) -> Response:
    """Let everybody run a program."""
    call.desk.programs.publish(call.upload, public=True)
    return empty()


def withdraw(call: Call) -> Response:
    """Let only its owner, and those whom it is shared with, run a program."""
    call.desk.programs.publish(call.upload, public=False)
    return empty()


def share(call: Call) -> Response:
    """Set whom a program is shared with."""
    call.desk.programs.share(call.upload, _texts(call.object().get("users"), "users"))
    return json_of(upload_data(call.desk.programs.find(call.upload.id, call.user), call))


def upload_data(upload: Upload, call: Call) -> dict[str, Any]:
    """Return an uploaded program as data; whom it is shared with is for its owner only."""
    is_own = upload.owner == call.user.name
    return {
        "id": upload.id,
        "name": upload.name,
        "owner": upload.owner or None,
        "public": upload.public,
        "version": upload.version,
        "created": iso(upload.created),
        "updated": iso(upload.updated),
        **({"shared_with": list(upload.shared_with)} if is_own else {}),
    }


def _files(call: Call) -> tuple[dict[str, bytes], str, bool]:
    """Return the files in the body, the program's name, and whether everybody may run it."""
    if call.body.lstrip()[:1] != b"{":
        return archives.from_tar(call.body), call.query.get("name", ""), False
    content = call.object()
    public = content.get("public", False)
    if not isinstance(public, bool):
        msg = f"public is {public!r:.80}: it must be true or false"
        raise RefusedError(HTTPStatus.BAD_REQUEST, msg)
    return archives.from_json(content.get("files")), _member(content, "name", str, ""), public


# --- jobs -----------------------------------------------------------------------------------------


def add_job(call: Call) -> Response:
    """Run a program.

    Repeating the request with the same header `Idempotency-Key` gives the same job.
    """
    content = call.object()
    if unknown := sorted(set(content) - set(_ORDER["properties"])):
        msg = f"unknown key {unknown[0]!r:.80}; known are {', '.join(_ORDER['properties'])}"
        raise RefusedError(HTTPStatus.BAD_REQUEST, msg)
    programs = call.desk.programs
    origin = Origin(
        session=_member(content, "session", str, ""),
        key=call.request.headers.get("idempotency-key", ""),
    )
    if len(origin.session) > MAX_KEY_CHARS:
        msg = f"session is longer than {MAX_KEY_CHARS} characters"
        raise RefusedError(HTTPStatus.BAD_REQUEST, msg)
    if "files" in content:
        files = archives.from_json(content["files"])
        names = (_member(content, each, str, "") for each in ("name", "path"))
        program = programs.given(files, *names)
    else:
        upload = programs.find(_member(content, "program", str, ""), call.user)
        version = _member(content, "version", int, upload.version)
        program = programs.read(upload, version)
        origin = dataclasses.replace(origin, program_id=upload.id, version=version)
    backend = content.get("backend")
    if not isinstance(backend, (str, dict, type(None))):
        msg = f"backend is {backend!r:.80}: it must be a name or a description"
        raise RefusedError(HTTPStatus.BAD_REQUEST, msg)
    order = Order(
        inputs=as_sent(_member(content, "inputs", dict, {})),
        backend=backend,
        options=_member(content, "options", dict, {}),
        limits=_member(content, "limits", dict, {}),
        origin=origin,
    )
    job = call.desk.jobs.submit(call.user, program, order)
    return json_of(job_data(job), HTTPStatus.CREATED)


def list_jobs(call: Call) -> Response:
    """Return the user's jobs that match, the newest first."""
    query, known = call.query, [*map(str, Outcome), *map(str, JobStatus)]
    outcome = query.get("outcome")
    if outcome is not None and outcome not in known:
        msg = f"outcome is {outcome!r:.80}: one of {', '.join(known)}"
        raise RefusedError(HTTPStatus.BAD_REQUEST, msg)
    found, count = call.desk.jobs.summaries(
        call.user,
        Query(
            program=query.get("program"),
            program_id=query.get("program_id"),
            session=query.get("session"),
            outcomes=() if outcome is None else (outcome,),
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
        yield f"id: {number}\ndata: {form.finished_text(record, strict, mismatches=[])}\n\n"


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
    call.job.update_tags(list(checked_tags(_texts(call.object().get("tags"), "tags"))))
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


# --- reading --------------------------------------------------------------------------------------


def iso(stamp: float) -> str:
    """Return a time as ISO 8601 text in UTC."""
    return datetime.fromtimestamp(stamp, UTC).isoformat()


def flag(query: Mapping[str, str], name: str) -> bool | None:
    """Return a parameter that is true or false, None if it is not given.  Raises RefusedError."""
    text = query.get(name)
    if text is None:
        return None
    if text.lower() not in {"true", "false"}:
        msg = f"{name} is {text!r:.40}: it must be true or false"
        raise RefusedError(HTTPStatus.BAD_REQUEST, msg)
    return text.lower() == "true"


def moment(query: Mapping[str, str], name: str) -> float | None:
    """Return a time as seconds since the epoch; without a zone it is UTC.  Raises RefusedError."""
    text = query.get(name)
    if text is None:
        return None
    try:
        # A plus that the client has not escaped arrives as a space.
        found = datetime.fromisoformat(text.replace(" 00:00", "+00:00"))
        return (found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError, OSError):
        msg = f"{name} is {text!r:.40}: it must be a time in ISO 8601"
        raise RefusedError(HTTPStatus.BAD_REQUEST, msg) from None


def _is_descending(order: str) -> bool:
    if order not in _ORDERS:
        msg = f"order is {order!r:.40}: one of {', '.join(_ORDERS)}"
        raise RefusedError(HTTPStatus.BAD_REQUEST, msg)
    return order == _ORDERS[1]


def _member(content: Mapping[str, Any], name: str, kind: type, default: Any) -> Any:
    """Return a member of the body, which must be of this type.  Raises RefusedError."""
    value = content.get(name, default)
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        msg = f"{name} is {json.dumps(value)[:80]}: it must be of the type {kind.__name__}"
        raise RefusedError(HTTPStatus.BAD_REQUEST, msg)
    return value


def _texts(value: object, name: str) -> Sequence[str]:
    if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
        msg = f"{name} is {value!r:.80}: it must be a list of texts"
        raise RefusedError(HTTPStatus.BAD_REQUEST, msg)
    return value


_OUTCOMES: Final = [*map(str, Outcome), *map(str, JobStatus)]
_FILTERS: Final[dict[str, Mapping[str, Any]]] = {
    **_PAGE,
    **{name: {"type": "string"} for name in ("program", "program_id", "session")},
    "outcome": {"enum": _OUTCOMES},
    "pending": {"type": "boolean"},
    "tag": _TEXTS,
    "created_after": {"type": "string", "format": "date-time"},
    "created_before": {"type": "string", "format": "date-time"},
    "order": {"enum": list(_ORDERS)},
}
_VERSION: Final = {"version": {"type": "integer", "minimum": 0}}


def _route(
    method: str, path: str, needs: Needs, answer: Any, gives: int = 200, **more: Any
) -> Route:
    does = (answer.__doc__ or "").partition("\n")[0]
    kind = more.pop("kind", "application/json" if gives != HTTPStatus.NO_CONTENT else "")
    return Route(
        method=method, path=path, needs=needs, answer=answer, does=does, gives=(gives, kind), **more
    )


_BIG: Final[dict[str, Any]] = {"most_bytes": PROGRAM_BYTES, "takes": _UPLOAD}
_ORDER_BYTES: Final = MAX_INPUTS_BYTES + PROGRAM_BYTES

ROUTES: Final = (
    _route("GET", "/healthz", Needs.NOTHING, health),
    _route("GET", "/readyz", Needs.NOTHING, readiness),
    _route("GET", "/metrics", Needs.OPERATOR, metrics, kind="text/plain"),
    _route("GET", "/v1/me", Needs.USER, me),
    _route("GET", "/v1/users", Needs.OPERATOR, users),
    _route(
        "GET",
        "/v1/audit",
        Needs.OPERATOR,
        audit,
        query={"user": {"type": "string"}, "limit": _PAGE["limit"]},
    ),
    _route("GET", "/v1/backends", Needs.USER, backends_),
    _route(
        "GET",
        "/v1/programs",
        Needs.USER,
        list_programs,
        query={**_PAGE, "name": {"type": "string"}},
    ),
    _route("POST", "/v1/programs", Needs.USER, add_program, 201, **_BIG),
    _route("GET", "/v1/programs/{program}", Needs.PROGRAM, show_program, query=_VERSION),
    _route("PUT", "/v1/programs/{program}", Needs.OWNER, update_program, **_BIG),
    _route("DELETE", "/v1/programs/{program}", Needs.OWNER, delete_program, 204),
    _route("GET", "/v1/programs/{program}/source", Needs.SOURCE, source, query=_VERSION),
    _route("GET", "/v1/programs/{program}/versions", Needs.SOURCE, versions_of),
    _route("PUT", "/v1/programs/{program}/public", Needs.OWNER, publish, 204),
    _route("PUT", "/v1/programs/{program}/private", Needs.OWNER, withdraw, 204),
    _route(
        "PUT",
        "/v1/programs/{program}/shares",
        Needs.OWNER,
        share,
        takes={"type": "object", "properties": {"users": _TEXTS}, "required": ["users"]},
    ),
    _route("POST", "/v1/jobs", Needs.USER, add_job, 201, most_bytes=_ORDER_BYTES, takes=_ORDER),
    _route("GET", "/v1/jobs", Needs.USER, list_jobs, query=_FILTERS),
    _route("GET", "/v1/jobs/{job}", Needs.JOB, show_job),
    _route("DELETE", "/v1/jobs/{job}", Needs.JOB, delete_job, 204),
    _route("GET", "/v1/jobs/{job}/events", Needs.JOB, events, kind="text/event-stream"),
    _route("GET", "/v1/jobs/{job}/result", Needs.JOB, result),
    _route(
        "GET",
        "/v1/jobs/{job}/messages",
        Needs.JOB,
        messages,
        query={"start": _PAGE["skip"], "limit": _PAGE["limit"]},
    ),
    _route("GET", "/v1/jobs/{job}/logs", Needs.JOB, logs, kind="text/plain"),
    _route("POST", "/v1/jobs/{job}/cancel", Needs.JOB, cancel, 202, most_bytes=SMALL, kind=""),
    _route(
        "PUT",
        "/v1/jobs/{job}/tags",
        Needs.JOB,
        tag,
        takes={"type": "object", "properties": {"tags": _TEXTS}, "required": ["tags"]},
    ),
)
