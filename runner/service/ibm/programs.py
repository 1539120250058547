"""Programs in IBM's form: one file in base64, and metadata that are kept as they were sent."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, Final

from starlette.responses import Response

from runner.programs import Program
from runner.programs.manifest import DEFAULT_ENTRY, MANIFEST_NAMES
from runner.service.archives import decoded
from runner.service.faults import RefusedError
from runner.service.ibm.account import RUNTIME
from runner.service.programs import may_read
from runner.service.reading import iso
from runner.service.routing import MIB, Call, Needs, Route, empty, json_of, route
from runner.store.uploads import Upload

_ALL: Final = f"{RUNTIME}/programs"
_ONE: Final = f"{_ALL}/{{program}}"
_METADATA: Final = "program_metadata.json"
_PAGE: Final = 20
_MOST: Final = 200
_SPEC: Final = ("backend_requirements", "parameters", "return_values", "interim_results")
_KEPT: Final = ("name", "description", "cost", "spec")
_PROGRAM_BYTES: Final = 24 * MIB


def listed(call: Call) -> Response:
    """List the programs that the user may run.

    On an empty page the count is the offset: the older clients stop only when both are equal.
    """
    limit = min(call.number("limit", _PAGE), _MOST) or _PAGE
    offset = call.number("offset", 0)
    programs = call.desk.programs
    found = programs.uploads.all(call.user.name, limit=limit, skip=offset)
    count = programs.uploads.count(call.user.name) if found else offset
    shown = [_data(each, programs.read(each)) for each in found]
    return json_of({"programs": shown, "count": count, "limit": limit, "offset": offset})


def uploaded(call: Call) -> Response:
    """Upload a program."""
    content = call.object()
    data = content.pop("data", None)
    public = content.pop("is_public", None)
    if not isinstance(data, str) or not isinstance(public, (bool, type(None))):
        msg = "data must be the program in base64, is_public true or false"
        raise RefusedError(HTTPStatus.BAD_REQUEST, msg)
    files = {DEFAULT_ENTRY: decoded(data, "data"), _METADATA: _metadata({}, content)}
    upload = call.desk.programs.add(call.user, files, public=bool(public))
    return json_of({"id": upload.id, "name": upload.name}, HTTPStatus.CREATED)


def shown(call: Call) -> Response:
    """Return a program, with its source for those who may read it."""
    program = call.desk.programs.read(call.upload)
    data = _data(call.upload, program)
    if may_read(call.upload, call.user):
        data["data"] = program.files[program.manifest.entry].decode(errors="replace")
    return json_of(data)


def changed(call: Call) -> Response:
    """Change the metadata of a program: a new version."""
    program = call.desk.programs.read(call.upload)
    _update(call, program, {_METADATA: _metadata(_said(program), call.object())})
    return empty()


def replaced(call: Call) -> Response:
    """Replace the source of a program: a new version."""
    program = call.desk.programs.read(call.upload)
    _update(call, program, {program.manifest.entry: _source(call.body)})
    return empty()


def published(call: Call) -> Response:
    """Let everybody run a program."""
    call.desk.programs.publish(call.upload, public=True)
    return empty()


def withdrawn(call: Call) -> Response:
    """Let only its owner, and those whom it is shared with, run a program."""
    call.desk.programs.publish(call.upload, public=False)
    return empty()


def deleted(call: Call) -> Response:
    """Delete a program; its jobs stay."""
    call.desk.programs.uploads.delete(call.upload)
    return empty()


def _source(body: bytes) -> bytes:
    """Return a program out of a body in base64; the newest of the older clients sends text."""
    try:
        return base64.b64decode(body, validate=True)
    except (binascii.Error, ValueError):
        return body


def _update(call: Call, program: Program, files: Mapping[str, bytes]) -> None:
    if _METADATA in files and set(MANIFEST_NAMES) & set(program.files):
        msg = (
            f"program {call.upload.id} has a manifest among its files, which these metadata would "
            "contradict: upload its directory again"
        )
        raise RefusedError(HTTPStatus.CONFLICT, msg)
    programs = call.desk.programs
    programs.update(call.upload, {**program.files, **files}, programs.cases(call.upload))


def _metadata(before: Mapping[str, Any], content: Mapping[str, Any]) -> bytes:
    """Return the metadata file with what the client has sent; other members have no meaning."""
    found = {name: content[name] for name in _KEPT if content.get(name) is not None}
    merged = {**before, **found}
    if isinstance(before.get("spec"), dict) and isinstance(found.get("spec"), dict):
        merged["spec"] = {**before["spec"], **found["spec"]}
    if not isinstance(merged.get("name"), str) or not merged["name"]:
        msg = "name: a program needs one, as text"
        raise RefusedError(HTTPStatus.BAD_REQUEST, msg)
    return json.dumps(merged, indent=2).encode()


def _said(program: Program) -> dict[str, Any]:
    """Return the metadata that came with a program, {} if it came in another form."""
    content: dict[str, Any] = json.loads(program.files.get(_METADATA, b"{}"))
    return content


def _data(upload: Upload, program: Program) -> dict[str, Any]:
    said, manifest = _said(program), program.manifest
    spec = said.get("spec")
    if not isinstance(spec, dict):
        spec = {name: getattr(manifest, name) for name in _SPEC if getattr(manifest, name)}
    return {
        "id": upload.id,
        "name": upload.name,
        "description": manifest.description,
        "cost": int(said.get("cost") or manifest.limits.get("timeout_s") or 300),
        "is_public": upload.public,
        "creation_date": iso(upload.created),
        "update_date": iso(upload.updated),
        "spec": spec,
    }


ROUTES: Final[tuple[Route, ...]] = (
    route("GET", _ALL, Needs.USER, listed),
    route("POST", _ALL, Needs.USER, uploaded, most_bytes=_PROGRAM_BYTES),
    route("GET", _ONE, Needs.PROGRAM, shown),
    route("PATCH", _ONE, Needs.OWNER, changed, most_bytes=MIB),
    route("PUT", f"{_ONE}/data", Needs.OWNER, replaced, most_bytes=_PROGRAM_BYTES),
    route("PUT", f"{_ONE}/public", Needs.OWNER, published),
    route("PUT", f"{_ONE}/private", Needs.OWNER, withdrawn),
    route("DELETE", _ONE, Needs.OWNER, deleted),
)
