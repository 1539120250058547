"""Jobs in IBM's form: how they are asked for, their states and results in its words."""

from __future__ import annotations

import dataclasses
import json
import secrets
from collections.abc import Mapping
from datetime import UTC
from http import HTTPStatus
from typing import Any, Final

from starlette.responses import Response

from runner.job import Job
from runner.job.options import checked_tags
from runner.job.record import JobRecord, JobStatus, Outcome
from runner.job.request import Origin
from runner.service.faults import RefusedError
from runner.service.ibm.account import INSTANCE, RUNTIME
from runner.service.ibm.backends import hub_fits, names
from runner.service.ibm.values import Reader, from_client
from runner.service.jobs import Order
from runner.service.reading import flag, moment
from runner.service.routing import MIB, Call, Needs, Route, empty, json_of, json_text, route
from runner.store.rows import Query
from sandbox.wire.protocol import MAX_INPUTS_BYTES

_JOB: Final = f"{RUNTIME}/jobs/{{job}}"
_SESSION: Final = f"{RUNTIME}/sessions/{{session}}"
_PAGE: Final = 10
_MOST: Final = 200
_NEW: Final = "new"
"""The session of a job that begins one: the session's id is that of the job."""

_MAX_SESSION_CHARS: Final = 128
_RAN_TOO_LONG: Final = 1305
_STATES: Final = {
    JobStatus.INITIALIZING: "Queued",
    JobStatus.QUEUED: "Queued",
    JobStatus.RUNNING: "Running",
    JobStatus.DONE: "Completed",
    JobStatus.CANCELLED: "Cancelled",
    JobStatus.ERROR: "Failed",
}


def submitted(call: Call) -> Response:
    """Run a program."""
    content = call.object()
    name = _text(content, "program_id")
    upload = call.desk.programs.find(name, call.user)
    program = call.desk.programs.read(upload)
    order = _order(content, Origin(program_id=upload.id, version=upload.version))
    job = call.desk.jobs.submit(call.user, program, order)
    return json_of({"id": job.id, "backend": _backend(job)})


def listed(call: Call) -> Response:
    """List the user's jobs that match.

    A page may be shorter than it was asked for; the clients ask for the rest.  On an empty page the
    count is the offset: they stop only when both are equal.
    """
    query = call.query
    offset = call.number("offset", 0)
    limit = min(call.number("limit", _PAGE), _MOST) or _PAGE
    if not hub_fits(query.get("provider")):
        return json_of({"jobs": [], "count": offset, "limit": limit, "offset": offset})
    found, count = call.desk.jobs.search(
        call.user,
        Query(
            program_id=query.get("program"),
            backend=query.get("backend"),
            session=query.get("session_id"),
            pending=flag(query, "pending"),
            tags=tuple(call.request.query_params.getlist("tags")),
            created_after=moment(query, "created_after"),
            created_before=moment(query, "created_before"),
            limit=limit,
            skip=offset,
            descending=query.get("sort", "DESC").upper() != "ASC",
        ),
    )
    reader, with_inputs = Reader.of(call.request), not flag(query, "exclude_params")
    jobs = [_data(each, reader, with_inputs=with_inputs) for each in found]
    content = {"jobs": jobs, "count": count if found else offset, "limit": limit, "offset": offset}
    return json_of(content)


def shown(call: Call) -> Response:
    """Return a job."""
    with_inputs = not flag(call.query, "exclude_params")
    return json_of(_data(call.job, Reader.of(call.request), with_inputs=with_inputs))


def results(call: Call) -> Response:
    """Return the result of a job, or why it has failed; nothing while it runs."""
    job, record = call.job, call.job.record
    if record is None:
        return empty()
    if record.outcome is Outcome.CANCELLED:
        msg = f"job {job.id} was cancelled and has no result"
        raise RefusedError(HTTPStatus.CONFLICT, msg)
    if record.outcome is not Outcome.COMPLETED or record.result is None:
        return Response(_why(record), media_type="text/plain; charset=utf-8")
    text = Reader.of(call.request).text_of(record.result, raw=True)
    return Response(text, media_type="text/plain; charset=utf-8")


def interim(call: Call) -> Response:
    """Return the messages so far, as a list."""
    reader = Reader.of(call.request)
    bodies = [message_text(reader, each.body) for each in call.job.message_events()]
    return json_text(f"[{', '.join(bodies)}]")


def message_text(reader: Reader, body: Any) -> str:
    """Return a message for a client, or instead of it the reason why the client cannot get it."""
    try:
        return reader.text_of(body)
    except RefusedError as error:
        return json.dumps({"withheld": str(error)})


def logs(call: Call) -> Response:
    """Return the log of a job."""
    text = call.job.logs().encode(errors="surrogatepass").decode(errors="replace")
    return Response(text, media_type="text/plain; charset=utf-8")


def metrics(call: Call) -> Response:
    """Return the measurements of a job."""
    measured = call.job.metrics()
    record = call.job.record
    wall_s = (record.usage.wall_s if record else None) or 0.0
    usage = {
        **(measured["usage"] or {}),
        "quantum_seconds": wall_s,
        "seconds": wall_s,
        "qpu_charge_time_seconds": wall_s,
        "status": "pending" if record is None else "final",
    }
    times = {name: _zulu(stamp) for name, stamp in measured["timestamps"].items()}
    return json_of({**measured, "usage": usage, "timestamps": times, "bss": {"seconds": wall_s}})


def cancelled(call: Call) -> Response:
    """Cancel a job."""
    if call.job.record is not None:
        msg = f"job {call.job.id} has ended already, as {call.job.outcome}"
        raise RefusedError(HTTPStatus.CONFLICT, msg)
    call.job.cancel()
    return empty()


def tagged(call: Call) -> Response:
    """Replace the tags of a job."""
    call.job.update_tags(list(checked_tags(call.object().get("tags"))))
    return empty()


def deleted(call: Call) -> Response:
    """Remove a job; one that runs is cancelled first."""
    call.desk.jobs.delete(call.job)
    return empty()


# --- sessions -------------------------------------------------------------------------------------


def session_opened(call: Call) -> Response:
    """Open a session: it groups jobs, and reserves nothing."""
    content = call.object()
    return json_of(_session(f"session-{secrets.token_hex(8)}", content.get("backend")))


def session_shown(call: Call) -> Response:
    """Return a session."""
    return json_of(_session(call.request.path_params["session"], None))


def session_changed(call: Call) -> Response:
    """Let a session take no more jobs: nothing is to be done for that."""
    del call
    return empty()


def session_closed(call: Call) -> Response:
    """Cancel the jobs of a session that have not ended."""
    session = call.request.path_params["session"]
    found, _ = call.desk.jobs.search(call.user, Query(session=session, pending=True, limit=_MOST))
    for job in found:
        job.cancel()
    return empty()


def _session(session: str, backend: object) -> dict[str, Any]:
    return {
        "id": session,
        "backend_name": backend,
        "mode": "dedicated",
        "state": "open",
        "accepting_jobs": True,
        "max_ttl": 28800,
        "interactive_ttl": 60,
    }


# --- reading --------------------------------------------------------------------------------------


def _order(content: Mapping[str, Any], origin: Origin) -> Order:
    """Return what a client asks of a job.  Raises RefusedError."""
    if content.get("private"):
        msg = "private jobs are not offered here: every job is for its user only, and is kept"
        raise RefusedError(HTTPStatus.BAD_REQUEST, msg)
    inputs = content.get("params") or {}
    if isinstance(inputs, list):
        inputs = inputs[0] if inputs else {}
    if isinstance(inputs, str):
        inputs = _parsed(inputs)
    if not isinstance(inputs, dict):
        msg = f"params are a JSON {type(inputs).__name__}: they must be an object"
        raise RefusedError(HTTPStatus.BAD_REQUEST, msg)
    session = _text(content, "session_id")[:_MAX_SESSION_CHARS]
    if content.get("start_session"):
        session = _NEW
    options: dict[str, Any] = {"tags": content.get("tags") or ()}
    if level := content.get("log_level"):
        options["log_level"] = str(level).upper()
    cost = content.get("cost")
    if cost is not None and (isinstance(cost, bool) or not isinstance(cost, (int, float))):
        msg = f"cost, the max_execution_time, is {cost!r:.40}: it must be a number of seconds"
        raise RefusedError(HTTPStatus.BAD_REQUEST, msg)
    return Order(
        inputs=from_client(inputs),
        backend=_text(content, "backend") or None,
        options=options,
        limits={"timeout_s": cost} if cost else {},
        origin=dataclasses.replace(origin, session=session, image=_text(content, "runtime")[:200]),
    )


def _parsed(text: str) -> Any:
    from runner.programs.values import loaded

    try:
        return loaded(text)
    except (ValueError, RecursionError) as error:
        msg = f"params are not JSON: {error!s:.100}"
        raise RefusedError(HTTPStatus.BAD_REQUEST, msg) from None


def _text(content: Mapping[str, Any], name: str) -> str:
    value = content.get(name)
    if value is not None and not isinstance(value, str):
        msg = f"{name} is {value!r:.80}: it must be a text"
        raise RefusedError(HTTPStatus.BAD_REQUEST, msg)
    return value or ""


# --- writing --------------------------------------------------------------------------------------


def _data(job: Job, reader: Reader, *, with_inputs: bool) -> dict[str, Any]:
    record, request = job.record, job.request
    origin = request.origin
    status, state = _state(job.status(), record)
    hub, group, project = INSTANCE
    created = job.created.astimezone(UTC)
    data = {
        "id": job.id,
        "backend": _backend(job),
        "status": status,
        "state": state,
        "created": _zulu(created.isoformat()),
        "program": {"id": origin.program_id or job.program},
        "tags": job.tags,
        "cost": int(request.limits.timeout_s),
        "runtime": origin.image,
        "hub": hub,
        "group": group,
        "project": project,
        "session_id": job.id if origin.session == _NEW else origin.session or None,
        "usage": {"seconds": (record.usage.wall_s if record else None) or 0},
    }
    if record is not None:
        data["ended"] = _zulu(record.timestamps.get("finished"))
    if with_inputs:
        try:
            data["params"] = json.loads(reader.text_of(request.inputs))
        except RefusedError as error:
            data["params"] = {"withheld": str(error)}
    return data


def _state(status: JobStatus, record: JobRecord | None) -> tuple[str, dict[str, Any]]:
    """Return the state of a job in the words of the oldest client, and of the others."""
    if record is not None and record.outcome is Outcome.TIME_LIMIT:
        state = {"status": "Cancelled", "reason": "Ran too long", "reasonCode": _RAN_TOO_LONG}
        return "Cancelled - Ran too long", state
    word = _STATES[status]
    return word, {"status": word}


def _why(record: JobRecord) -> str:
    """Return why a job has failed: its traceback, or the reason in words."""
    if record.traceback:
        return record.traceback
    return f"{record.outcome}: {record.reason or record.evidence.in_words()}"


def _backend(job: Job) -> str | None:
    """Return the backend's name if clients can look it up, else None: they fail on others."""
    name = str(job.request.backend.get("name"))
    return name if name in names() else None


def _zulu(stamp: str | None) -> str | None:
    return None if stamp is None else stamp.replace("+00:00", "Z")


ROUTES: Final[tuple[Route, ...]] = (
    route(
        "POST",
        f"{RUNTIME}/jobs",
        Needs.USER,
        submitted,
        most_bytes=MAX_INPUTS_BYTES + MIB,
        is_repeated=True,
    ),
    route("GET", f"{RUNTIME}/jobs", Needs.USER, listed, is_heavy=True),
    route("GET", _JOB, Needs.JOB, shown, is_heavy=True),
    route("DELETE", _JOB, Needs.JOB, deleted),
    route("GET", f"{_JOB}/results", Needs.JOB, results, is_heavy=True),
    route("GET", f"{_JOB}/interim_results", Needs.JOB, interim, is_heavy=True),
    route("GET", f"{_JOB}/logs", Needs.JOB, logs),
    route("GET", f"{_JOB}/metrics", Needs.JOB, metrics),
    route("POST", f"{_JOB}/cancel", Needs.JOB, cancelled),
    route("PUT", f"{_JOB}/tags", Needs.JOB, tagged),
    route("POST", f"{RUNTIME}/sessions", Needs.USER, session_opened),
    route("GET", _SESSION, Needs.USER, session_shown),
    route("PATCH", _SESSION, Needs.USER, session_changed),
    route("DELETE", f"{_SESSION}/close", Needs.USER, session_closed),
)
