"""Programs: what there is, what each takes, how to run it, and how to upload and share one."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache, partial
from http import HTTPStatus
from pathlib import PurePosixPath
from typing import Any, Final

from starlette.datastructures import UploadFile
from starlette.responses import Response

from runner.errors import ImageError, RequestError
from runner.job.request import Origin
from runner.programs import Program, cases_of, examples
from runner.service import archives
from runner.service.faults import RefusedError, not_found, status_of
from runner.service.own.programs import MOST_BYTES
from runner.service.pages.cases import order_of, read_cases
from runner.service.pages.excerpts import excerpt_at
from runner.service.pages.fields import Field, fields_of
from runner.service.pages.rendering import address, page, see
from runner.service.pages.running import form_of, submitted, typed
from runner.service.programs import may_read
from runner.service.routing import Call, Needs
from runner.store.rows import Query
from sandbox.wire.protocol import MAX_INPUTS_BYTES

_ROWS: Final = 50
_JOBS: Final = 10
_SEARCHED: Final = 200
"""Among so many of the user's last jobs of a program, those of its cases are found."""

_MAX_SOURCE: Final = 64 << 10
"""So much of a program's files is on its page, in bytes."""


def listed(call: Call) -> Response:
    """Show the programs that the user may run, the newest first, and examples to add."""
    skip = call.number("skip", 0)
    uploads = call.desk.programs.uploads
    found = uploads.all(call.user.name, limit=_ROWS + 1, skip=skip)
    return page(
        call,
        "programs.html",
        programs=found[:_ROWS],
        examples=[
            each.manifest
            for name, each in _examples().items()
            if uploads.find(name, call.user.name) is None
        ],
        user=call.user.name,
        earlier=max(0, skip - _ROWS) if skip else None,
        later=skip + _ROWS if len(found) > _ROWS else None,
    )


def add_example(call: Call) -> Response:
    """Upload a program that comes with this package as the user's own."""
    name = typed(call, "name")
    example = _examples().get(name)
    if example is None:
        msg = "example"
        raise not_found(msg, name)
    files = {**example.files, **cases_of(example)}
    new = call.desk.programs.put(call.user, files, name=name)
    return see(f"/programs/{new.id}")


@cache
def _examples() -> dict[str, Program]:
    return {each.name: each for each in examples()}


# --- one program ----------------------------------------------------------------------------------


def shown(call: Call) -> Response:
    """Show a program: what it takes as a form, its cases, source, versions and last jobs."""
    program = call.desk.programs.read(call.upload, call.number("version", 0) or None)
    return _shown(call, program, fields_of(program))


def _shown(
    call: Call,
    program: Program,
    fields: list[Field],
    mistakes: Sequence[str] = (),
    status: HTTPStatus = HTTPStatus.OK,
) -> Response:
    upload = call.upload
    reads = may_read(upload, call.user)
    version = call.number("version", 0) or upload.version
    jobs = call.desk.jobs.newest(call.user, Query(program_id=upload.id, limit=_SEARCHED))
    files = call.desk.programs.cases(upload, version) if reads else {}
    return page(
        call,
        "program.html",
        status,
        upload=upload,
        program=program,
        version=version,
        is_own=upload.owner == call.user.name,
        source=_source(program) if reads else None,
        versions=call.desk.programs.uploads.versions(upload) if reads else [],
        cases=read_cases(files, [job for job, _ in jobs]),
        jobs=jobs[:_JOBS],
        form=form_of(call, program, fields, mistakes),
    )


def _source(program: Program) -> list[tuple[str, str, int]]:
    """Return name, text and size of each file, the main one first; the texts are bounded."""
    found, room = [], _MAX_SOURCE
    entry = program.manifest.entry
    for name, content in sorted(program.files.items(), key=lambda each: (each[0] != entry, each)):
        found.append((name, content[:room].decode(errors="replace"), len(content)))
        room -= min(room, len(content))
    return found


def run(call: Call) -> Response:
    """Run a program with what was typed, or show the form again with what is wrong in it."""
    version = call.number("version", 0) or call.upload.version
    program = call.desk.programs.read(call.upload, version)
    origin = Origin(program_id=call.upload.id, version=version)
    return submitted(call, program, origin, partial(_shown, call, program))


def run_case(call: Call) -> Response:
    """Run a case of a program."""
    version = call.number("version", 0) or call.upload.version
    program = call.desk.programs.read(call.upload, version)
    files = call.desk.programs.cases(call.upload, version)
    wanted = call.request.path_params["case"]
    case = next((each for each in read_cases(files, []) if each.name == wanted), None)
    if case is None:
        msg = "case"
        raise not_found(msg, wanted)
    if case.obstacle:
        msg = f"case {case.name!r} cannot be run here: {case.obstacle}"
        raise RefusedError(HTTPStatus.CONFLICT, msg)
    origin = Origin(program_id=call.upload.id, version=version)
    job = call.desk.jobs.submit(call.user, program, order_of(case, origin))
    return see(f"/jobs/{job.id}")


# --- uploading ------------------------------------------------------------------------------------


def ask_for_upload(call: Call) -> Response:
    """Ask for a program to upload."""
    return page(call, "upload.html", mistake="", excerpt=None, name="")


def upload(call: Call) -> Response:
    """Upload a program, or a new version of the user's own of that name."""
    name, files = typed(call, "name"), dict[str, bytes]()
    try:
        files, stem = _files(call)
        new = call.desk.programs.put(call.user, files, name=name or stem)
    except (RequestError, ImageError) as error:
        where = excerpt_at(str(error), files)
        status = status_of(error)
        return page(call, "upload.html", status, mistake=str(error), excerpt=where, name=name)
    return see(f"/programs/{new.id}")


def _files(call: Call) -> tuple[dict[str, bytes], str]:
    """Return the files that were chosen, and the name that they suggest.  Raises RequestError."""
    chosen = [each for each in call.form.getlist("files") if isinstance(each, UploadFile)]
    named = [(each.filename or "", each.file.read()) for each in chosen if each.filename]
    if not named:
        msg = "no file was chosen: choose a .py file, an archive, or the files of a program"
        raise RefusedError(HTTPStatus.BAD_REQUEST, msg)
    first = PurePosixPath(named[0][0].replace("\\", "/"))
    if len(named) == 1 and first.suffix in {".tar", ".tgz", ".gz"}:
        return archives.from_tar(named[0][1]), first.name.partition(".")[0]
    if len(named) == 1 and first.suffix == ".py":
        return archives.from_files([("program.py", named[0][1])]), first.stem
    return archives.from_files(named), first.parts[0] if len(first.parts) > 1 else ""


# --- what the owner may do ------------------------------------------------------------------------


def publish(call: Call) -> Response:
    """Let everybody run a program, or only its owner and those it is shared with."""
    call.desk.programs.publish(call.upload, public=typed(call, "public") == "yes")
    return see(f"/programs/{call.upload.id}")


def share(call: Call) -> Response:
    """Set whom a program is shared with."""
    names = [each.strip() for each in typed(call, "users").split(",") if each.strip()]
    call.desk.programs.share(call.upload, names)
    return see(f"/programs/{call.upload.id}")


def delete(call: Call) -> Response:
    """Delete a program; its jobs stay."""
    call.desk.programs.uploads.delete(call.upload)
    return see("/programs")


_BIG: Final[dict[str, Any]] = {"most_bytes": MOST_BYTES}

ROUTES: Final = (
    address("GET", "/programs", Needs.USER, listed),
    address("POST", "/programs", Needs.USER, add_example),
    address("GET", "/upload", Needs.USER, ask_for_upload),
    address("POST", "/upload", Needs.USER, upload, **_BIG),
    address("GET", "/programs/{program}", Needs.PROGRAM, shown),
    address("POST", "/programs/{program}", Needs.PROGRAM, run, most_bytes=MAX_INPUTS_BYTES),
    address("POST", "/programs/{program}/cases/{case}", Needs.SOURCE, run_case),
    address("POST", "/programs/{program}/public", Needs.OWNER, publish),
    address("POST", "/programs/{program}/shares", Needs.OWNER, share),
    address("POST", "/programs/{program}/delete", Needs.OWNER, delete),
)
