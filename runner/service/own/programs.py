"""Programs under `/v1`: whole directories, as JSON or as a tar archive."""

from __future__ import annotations

import json
from http import HTTPStatus
from typing import Any, Final

from starlette.responses import Response

from runner.host.forms import data_of
from runner.service import archives
from runner.service.faults import RefusedError
from runner.service.jobs import MAX_PAGE
from runner.service.reading import iso, member, texts
from runner.service.routing import (
    MIB,
    PAGE,
    TEXTS,
    WHOLE,
    Call,
    Needs,
    Route,
    empty,
    json_of,
    route,
)
from runner.store.uploads import Upload

MOST_BYTES: Final = 32 * MIB
"""The largest body with a program: 16 MiB of files, which base64 makes a third larger."""

FILES: Final = {
    "type": "object",
    "additionalProperties": {"type": "string"},
    "minProperties": 1,
}
_UPLOAD: Final = {
    "type": "object",
    "properties": {
        "files": FILES,
        "name": {"type": "string"},
        "public": {"type": "boolean"},
    },
    "required": ["files"],
}


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


def cases(call: Call) -> Response:
    """Return the cases of a program, by their names."""
    found = call.desk.programs.cases(call.upload, call.number("version", 0) or None)
    return json_of({"cases": {name: json.loads(each) for name, each in found.items()}})


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
    call.desk.programs.share(call.upload, texts(call.object(), "users"))
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
    return archives.from_json(content.get("files")), member(content, "name", str, ""), public


_VERSION: Final = {"version": WHOLE}
_BIG: Final[dict[str, Any]] = {"most_bytes": MOST_BYTES, "takes": _UPLOAD}

ROUTES: Final[tuple[Route, ...]] = (
    route(
        "GET",
        "/v1/programs",
        Needs.USER,
        list_programs,
        query={**PAGE, "name": {"type": "string"}},
    ),
    route("POST", "/v1/programs", Needs.USER, add_program, 201, **_BIG),
    route("GET", "/v1/programs/{program}", Needs.PROGRAM, show_program, query=_VERSION),
    route("PUT", "/v1/programs/{program}", Needs.OWNER, update_program, **_BIG),
    route("DELETE", "/v1/programs/{program}", Needs.OWNER, delete_program, 204),
    route(
        "GET", "/v1/programs/{program}/source", Needs.SOURCE, source, query=_VERSION, is_heavy=True
    ),
    route(
        "GET", "/v1/programs/{program}/cases", Needs.SOURCE, cases, query=_VERSION, is_heavy=True
    ),
    route("GET", "/v1/programs/{program}/versions", Needs.SOURCE, versions_of),
    route("PUT", "/v1/programs/{program}/public", Needs.OWNER, publish, 204),
    route("PUT", "/v1/programs/{program}/private", Needs.OWNER, withdraw, 204),
    route(
        "PUT",
        "/v1/programs/{program}/shares",
        Needs.OWNER,
        share,
        takes={"type": "object", "properties": {"users": TEXTS}, "required": ["users"]},
    ),
)
