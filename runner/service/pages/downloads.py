"""A job as a file: everything, its events, its arrays, or its picture."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from http import HTTPStatus
from typing import Final

from starlette.responses import Response, StreamingResponse

from runner.encoded import exports
from runner.job import Job, form
from runner.job.form import strict
from runner.service.faults import RefusedError, not_found
from runner.service.routing import Call

FORMS: Final = (
    ("json", "Everything as JSON"),
    ("jsonl", "Events as JSON lines"),
    ("npz", "Arrays as NPZ"),
    ("svg", "Picture as SVG"),
)
"""What a job can be downloaded as, and what that is in words."""

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
    record = call.job.record
    if record is None or record.result is None:
        msg = f"job {call.job.id} has no result"
        raise RefusedError(HTTPStatus.CONFLICT, msg)
    try:
        content = exports.npz(json.loads(record.result))
    except ValueError as error:
        msg = f"the result of {call.job.id} {error}"
        raise RefusedError(HTTPStatus.CONFLICT, msg) from None
    return Response(content, media_type="application/octet-stream")


def _svg(call: Call) -> Response:
    return Response(call.job.plot().drawn("svg"), media_type="image/svg+xml")


_MAKERS: Final[dict[str, Callable[[Call], Response]]] = {
    "json": _json,
    "jsonl": _jsonl,
    "npz": _npz,
    "svg": _svg,
}
