"""A job as a file: everything, its events, its arrays, its picture; and the files it has left."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from http import HTTPStatus
from pathlib import PurePosixPath
from typing import Final
from urllib.parse import quote

from starlette.responses import Response, StreamingResponse

from runner.encoded import exports
from runner.job import Job, form
from runner.job.form import strict
from runner.service.faults import RefusedError, not_found
from runner.service.routing import Call
from sandbox.wire.protocol import JsonText

FORMS: Final = (
    ("json", "Everything as JSON"),
    ("jsonl", "Events as JSON lines"),
    ("npz", "Arrays as NPZ"),
    ("svg", "Picture as SVG"),
)
"""What a job can be downloaded as, and what that is in words."""

MAX_RESULT: Final = 16 << 20
"""A longer result is neither drawn nor searched for arrays, in characters."""

MAX_ARRAYS_BYTES: Final = 128 << 20
"""The most that all arrays in a result may have unpacked."""

_ANY: Final = "application/octet-stream"
_HEADERS: Final = {"Content-Security-Policy": "default-src 'none'; sandbox"}


def download(call: Call) -> Response:
    """Return a job as a file, in one of `FORMS`."""
    form_, job = call.request.path_params["form"], call.job
    if form_ not in _MAKERS:
        msg = "download"
        raise not_found(msg, form_)
    response = _MAKERS[form_](call)
    response.headers.update(_HEADERS)
    response.headers["Content-Disposition"] = f'attachment; filename="{job.id}.{form_}"'
    return response


def file(call: Call) -> Response:
    """Return a file that a program has left in `/out`."""
    name = call.request.path_params["file"]
    content = call.desk.jobs.file(call.job, name)
    if content is None:
        msg = "file"
        raise not_found(msg, name)
    last = quote(PurePosixPath(name).name)
    headers = {**_HEADERS, "Content-Disposition": f"attachment; filename*=UTF-8''{last}"}
    return Response(content, media_type=_ANY, headers=headers)


def _json(call: Call) -> Response:
    return Response(call.desk.jobs.whole(call.job), media_type="application/json")


def _jsonl(call: Call) -> Response:
    return StreamingResponse(_lines(call.job), media_type="application/jsonl")


def _lines(job: Job) -> Iterator[str]:
    """Yield the events so far as lines, as `qrunner run --format json` does."""
    record = job.record
    for each in job.events_so_far():
        yield f"{form.event_text(each, strict)}\n"
    if record is not None:
        yield f"{form.finished_text(record, strict, mismatches=[])}\n"


def _npz(call: Call) -> Response:
    result = _result(call.job)
    if result is None:
        msg = f"job {call.job.id} has no result"
        raise RefusedError(HTTPStatus.CONFLICT, msg)
    try:
        content = exports.npz(json.loads(result), MAX_ARRAYS_BYTES)
    except ValueError as error:
        msg = f"the result of {call.job.id} {error}"
        raise RefusedError(HTTPStatus.CONFLICT, msg) from None
    return Response(content, media_type=_ANY)


def _svg(call: Call) -> Response:
    _result(call.job)
    return Response(call.job.plot().drawn("svg"), media_type="image/svg+xml")


def _result(job: Job) -> JsonText | None:
    """Return the result of a job, None if it has none.  Raises RefusedError if it is too long."""
    result = job.record.result if job.record else None
    if result is not None and len(result) > MAX_RESULT:
        msg = (
            f"the result of {job.id} has {len(result)} characters, more than the {MAX_RESULT} that "
            "are read here: download everything, or use `qrunner result`"
        )
        raise RefusedError(HTTPStatus.CONFLICT, msg)
    return result


_MAKERS: Final[dict[str, Callable[[Call], Response]]] = {
    "json": _json,
    "jsonl": _jsonl,
    "npz": _npz,
    "svg": _svg,
}
