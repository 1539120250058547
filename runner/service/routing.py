"""Routes that declare what they need, and the one way from a request to an answer.

A `Route` names the right that its caller needs.  Before its function runs, the caller is known, the
right is checked, the job or program in the path is found for that caller, and the body has been
read within its bounds; the function only translates.  What the caller may not see is not found.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import re
import secrets
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final

from starlette.concurrency import run_in_threadpool
from starlette.datastructures import FormData
from starlette.requests import ClientDisconnect, HTTPConnection, Request
from starlette.responses import JSONResponse, Response
from starlette.types import Message, Receive, Scope, Send

from runner.errors import RunnerError, StoreError, our_own
from runner.job import Job
from runner.service.faults import RefusedError, body_of, later, status_of
from runner.service.forms import form_of
from runner.service.identity import (
    PROOF,
    caller_of,
    is_by_cookie,
    proof_of,
    proves,
    reader_of_pages,
    session_of,
    token_of,
)
from runner.service.jobs import MAX_PAGE
from runner.service.programs import may_read
from runner.store.uploads import Upload
from runner.store.users import PREFIX, Role, User
from sandbox.wire.protocol import MAX_NODES

if TYPE_CHECKING:
    from runner.service.desk import Desk

log = logging.getLogger(__name__)
access: Final = logging.getLogger("runner.service.access")

KIB: Final = 1 << 10
MIB: Final = 1 << 20
SMALL: Final = 64 * KIB
"""The largest body of requests that carry neither a program nor inputs."""

WHOLE: Final = {"type": "integer", "minimum": 0}
TEXTS: Final = {"type": "array", "items": {"type": "string"}}
PAGE: Final = {"limit": {**WHOLE, "maximum": MAX_PAGE}, "skip": WHOLE}
"""Schemas of what several routes take."""

NOBODY: Final = User(name="", role=Role.USER, created=0)
_WIDEST: Final = 1 << 53
_PIECE_BYTES: Final = 256 * KIB
_SEND_S: Final = 60.0
_SLOWEST: Final = 128 * KIB
"""Bytes a second below which a client counts as gone."""

_WITH_BODY: Final = frozenset({"POST", "PUT", "PATCH"})

_TOKEN: Final = re.compile(rf"{PREFIX}[\w-]+")
_MAX_NAME_CHARS: Final = 128


class Needs(StrEnum):
    """The right that a route needs, and what its path names."""

    NOTHING = "nothing"
    """Anybody may ask."""

    USER = "user"
    """A user."""

    OPERATOR = "operator"
    """A user with the role of an operator."""

    JOB = "job"
    """The user for whom the job `{job}` runs."""

    PROGRAM = "program"
    """A user who may run the program `{program}`: it is theirs, shared with them, or public."""

    SOURCE = "source"
    """A user who may read the program's source: it is theirs, or shared with them."""

    OWNER = "owner"
    """The user who has uploaded the program."""


@dataclass(slots=True, kw_only=True)
class Call:
    """One request whose caller has the right that its route needs.

    `job` and `upload` are those in the path, None where it names none; `form` is the form in the
    body, if it is one.
    """

    desk: Desk
    request: HTTPConnection
    user: User
    note: Note
    body: bytes = b""
    form: FormData = field(default_factory=FormData)
    _job: Job | None = None
    _upload: Upload | None = None

    @property
    def job(self) -> Job:
        """The job in the path."""
        assert self._job is not None
        return self._job

    @property
    def upload(self) -> Upload:
        """The program in the path."""
        assert self._upload is not None
        return self._upload

    @property
    def proof(self) -> str:
        """What a form has to send back to change anything."""
        return proof_of(session_of(self.request))

    @property
    def query(self) -> Mapping[str, str]:
        """The parameters of the query, the last of each name."""
        return self.request.query_params

    @property
    def base(self) -> str:
        """The address at which the client has reached this service, without a path."""
        return str(self.request.base_url).rstrip("/")

    def object(self) -> dict[str, Any]:
        """Return the body, a JSON object, whatever its content type.  Raises RefusedError."""
        from runner.programs.values import loaded

        if sum(map(self.body.count, (b"[", b"{", b","))) > MAX_NODES:  # each takes 64 bytes here
            msg = f"the body has more than {MAX_NODES} values (commas and brackets count)"
            raise RefusedError(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, msg)
        try:
            found = loaded(self.body) if self.body.strip() else {}
        except (ValueError, RecursionError) as error:
            msg = f"the body is not JSON: {error!s:.200}"
            raise RefusedError(HTTPStatus.BAD_REQUEST, msg) from None
        if not isinstance(found, dict):
            msg = f"the body is a JSON {type(found).__name__}: it must be an object"
            raise RefusedError(HTTPStatus.BAD_REQUEST, msg)
        return found

    def number(self, name: str, default: int, *, most: int = _WIDEST) -> int:
        """Return a whole number of the query.  Raises RefusedError if it is above `most`, too."""
        text = self.query.get(name)
        if text is None:
            return default
        if not (text.isascii() and text.isdecimal() and len(text) < len(str(_WIDEST))):
            msg = f"{name} is {text!r:.40}: it must be a whole number, 0 or more"
            raise RefusedError(HTTPStatus.BAD_REQUEST, msg)
        if int(text) > most:
            msg = f"{name} is {text}: it may be {most} at most"
            raise RefusedError(HTTPStatus.BAD_REQUEST, msg)
        return int(text)


def refusal_as_json(_: HTTPConnection, status: HTTPStatus, message: str) -> Response:
    """Return a refusal as every client of the API reads it."""
    return JSONResponse(body_of(status, message), status)


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """One address of the service.

    Attributes:
        method, path: what is asked; `{job}` and `{program}` in the path name what `needs` is about.
        needs: the right that the caller must have.
        answer: the function that answers; it runs in a thread, and may return a streaming response.
        does: what it does, in one line for the description of the API.
        most_bytes: the largest body.
        takes: a JSON Schema of the body, None if it has none.
        gives: what it answers: a status, and a name in the description's schemas, "" for none.
        is_repeated: True if clients ask again where they got no answer, and it must count once.
        is_page: True for what people see in a browser: its body is a form.
        refusal: the function that makes a refusal a response.
        is_heavy: True if the answer may be large.
    """

    method: str
    path: str
    needs: Needs
    answer: Callable[[Call], Response]
    does: str
    most_bytes: int = SMALL
    takes: Mapping[str, Any] | None = None
    query: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    gives: tuple[int, str] = (200, "")
    is_repeated: bool = False
    is_page: bool = False
    refusal: Callable[[HTTPConnection, HTTPStatus, str], Response] = refusal_as_json
    is_heavy: bool = False

    @property
    def is_audited(self) -> bool:
        """Return True if the audit log has its requests: they change something."""
        return self.method != "GET" and self.needs is not Needs.NOTHING


def route(
    method: str,
    path: str,
    needs: Needs,
    answer: Callable[[Call], Response],
    status: int = HTTPStatus.OK,
    *,
    kind: str | None = None,
    **more: Any,
) -> Route:
    """Return a route that does what the first line of its function says.

    `kind` is the content type of its answer, "" for none (default: JSON, none for 204); `more` are
    further attributes of `Route`.
    """
    does = (answer.__doc__ or "").partition("\n")[0]
    if kind is None:
        kind = "" if status == HTTPStatus.NO_CONTENT else "application/json"
    gives = (int(status), kind)
    return Route(
        method=method, path=path, needs=needs, answer=answer, does=does, gives=gives, **more
    )


async def answered(route: Route, desk: Desk, request: Request) -> Response:
    """Answer one request.  Every fault of ours or of the caller becomes a response with its words.

    The response says under which name the service's log has the request.
    """
    note, held = Note.of(request, route.method, route.path), contextlib.AsyncExitStack()
    try:
        if _is_light(route, request):
            response = await _at_once(route, desk, request, note)
        else:
            call = await _call(route, desk, request, held, note)
            answer = _once if route.is_repeated else _answer
            response = await answer(route, call, request)
    except ClientDisconnect:
        response = Response(status_code=HTTPStatus.BAD_REQUEST)
    except RunnerError as error:
        response = _refusal(route, request, error, note.name)
    except BaseException as error:
        if not isinstance(error, Exception):
            await held.aclose()
            raise
        log.exception("request %s failed inside the service", note.name)
        response = _refusal(route, request, RunnerError(our_own(error)), note.name)
    response.headers.setdefault("Cache-Control", "no-store")
    response.headers["X-Content-Type-Options"] = "nosniff"
    note.end(desk, response)
    # Refused before anything was tried. Whoever is nobody could push others' entries out.
    is_known = response.status_code != HTTPStatus.UNAUTHORIZED
    if route.is_audited and not note.is_audited and is_known:
        await run_in_threadpool(_audit, desk, note, response.status_code)
    return _Delivered(response, held)


@dataclass(slots=True, kw_only=True)
class Note:
    """What the log says of one request; `name` is how its client can speak of it.

    What stands in the path is logged, but for tokens; the query and the headers never are.
    """

    name: str
    method: str
    path: str
    what: str
    address: str
    started: float
    user: str = ""
    is_audited: bool = False

    @classmethod
    def of(cls, request: HTTPConnection, method: str, path: str) -> Note:
        """Return the note of a request that has just come; `path` is that of its route."""
        named = request.path_params
        return cls(
            name=secrets.token_hex(8),
            method=method,
            path=path,
            what=without_tokens(named.get("job") or named.get("program") or ""),
            address=request.client.host if request.client else "socket",
            started=time.monotonic(),
        )

    def end(self, desk: Desk, response: Response) -> None:
        """Write the line of a request that has this answer, and count it."""
        took_s, status = time.monotonic() - self.started, response.status_code
        response.headers["uber-trace-id"] = self.name
        desk.metrics.answered(self.method, self.path, status, took_s)
        entry = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            "request": self.name,
            "user": self.user,
            "method": self.method,
            "route": self.path,
            "what": self.what,
            "status": status,
            "ms": round(took_s * 1000, 1),
            "address": self.address,
        }
        access.info("%s", json.dumps(entry))


def without_tokens(text: str) -> str:
    """Return the beginning of a text out of an address, without tokens, which belong elsewhere."""
    return _TOKEN.sub(f"{PREFIX}…", text)[:_MAX_NAME_CHARS]


class _Delivered(Response):
    """A response that is sent in pieces, as its client takes them, and then frees its place."""

    def __init__(self, response: Response, held: contextlib.AsyncExitStack) -> None:
        self._response = response
        self._held = held
        self.status_code = response.status_code

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def in_pieces(message: Message) -> None:
            body = message.get("body", b"")
            if len(body) <= _PIECE_BYTES:
                await send(message)
                return
            async with asyncio.timeout(_SEND_S + len(body) / _SLOWEST):
                for start in range(0, len(body), _PIECE_BYTES):
                    end = start + _PIECE_BYTES
                    more = end < len(body) or message.get("more_body", False)
                    await send({**message, "body": body[start:end], "more_body": more})

        async with self._held:
            try:
                await self._response(scope, receive, in_pieces)
            except TimeoutError:
                log.warning("a client takes its answer too slowly, and is left")


def _is_light(route: Route, request: Request) -> bool:
    """Return True for a request that may be read before anything is known of its caller."""
    if route.is_page or route.is_repeated or route.is_heavy:
        return False
    said = request.headers.get("content-length", "")
    if said:
        return said.isdecimal() and int(said) <= SMALL
    return "transfer-encoding" not in request.headers


async def _at_once(route: Route, desk: Desk, request: Request, note: Note) -> Response:
    """Answer a light request in one visit to a thread; most of its time would be the visits."""
    body = b""
    if request.method in _WITH_BODY:
        body = await _body(request, route.most_bytes, desk.rules.request_s)
    call = Call(desk=desk, request=request, user=NOBODY, note=note, body=body)

    def perform() -> Response:
        _identify(route, call)
        _check_proof(route, call)
        return _perform(route, call)

    async with desk.working.place(token_of(request) or session_of(request)):
        return await run_in_threadpool(perform)


def _identify(route: Route, call: Call) -> None:
    """Set who asks.  Raises RefusedError if they may not."""
    who = reader_of_pages if route.is_page else caller_of
    user = who(call.desk, call.request)
    if route.needs is not Needs.NOTHING:
        user = checked_user(route.needs, user)
    call.user = user or NOBODY
    call.note.user = call.user.name


async def _answer(route: Route, call: Call, _: Request) -> Response:
    async with call.desk.working.place(call.user.name):
        return await run_in_threadpool(_perform, route, call)


async def _once(route: Route, call: Call, request: Request) -> Response:
    """Answer a request, or one that repeats it because its client did not get the answer."""
    repeats = call.desk.repeats
    async with repeats.turn(call.user.name, call.body) as name:
        response = repeats.take(name) or await _answer(route, call, request)
        if await request.is_disconnected():
            repeats.keep(name, response)
    return response


def _audit(desk: Desk, note: Note, status: int) -> None:
    """Write what was asked to be changed, by whom and with which success, into the audit log."""
    note.is_audited = True
    action = f"{note.method} {note.path}"
    try:
        desk.audit.add(note.user, action, note.what, status=status, address=note.address)
    except StoreError as error:
        log.warning("request %s is not in the audit log: %s", note.name, error)


def _perform(route: Route, call: Call) -> Response:
    """Find what the path names, for this caller and in a worker's thread, and answer."""
    status: int = HTTPStatus.INTERNAL_SERVER_ERROR
    try:
        found_for(route.needs, call)
        response = route.answer(call)
        status = response.status_code
    except RunnerError as error:
        status = status_of(error)
        raise
    finally:
        if route.is_audited:
            _audit(call.desk, call.note, status)
    return response


def found_for(needs: Needs, call: Call) -> None:
    """Find what the path names, if the caller has the right to it.  Raises RefusedError (404)."""
    path = call.request.path_params
    if needs is Needs.JOB:
        call._job = call.desk.jobs.find(path["job"], call.user)
    elif needs in {Needs.PROGRAM, Needs.SOURCE, Needs.OWNER}:
        upload = call.desk.programs.find(path["program"], call.user)
        is_own = upload.owner == call.user.name
        if needs is Needs.OWNER and not is_own:
            msg = f"program {upload.id} belongs to another user: only its owner may do this"
            raise RefusedError(HTTPStatus.FORBIDDEN, msg)
        if needs is Needs.SOURCE and not may_read(upload, call.user):
            msg = f"program {upload.id}: its source is not shared with you"
            raise RefusedError(HTTPStatus.FORBIDDEN, msg)
        call._upload = upload


async def _call(
    route: Route, desk: Desk, request: Request, held: contextlib.AsyncExitStack, note: Note
) -> Call:
    """Return a request of somebody who may ask, with its body; `held` then holds its place."""
    call = Call(desk=desk, request=request, user=NOBODY, note=note)
    await run_in_threadpool(_identify, route, call)
    takes_body = request.method in _WITH_BODY
    if route.is_heavy or (takes_body and route.most_bytes > MIB and _is_large(request)):
        await held.enter_async_context(desk.heavy.place(call.user.name))
    if takes_body:
        call.body = await _body(request, route.most_bytes, desk.rules.request_s)
        if route.is_page:
            call.form = await run_in_threadpool(form_of, request.headers, call.body)
    _check_proof(route, call)
    return call


def _is_large(request: Request) -> bool:
    """Return True if the body may be large; one of unknown length may."""
    said = request.headers.get("content-length", "")
    return not said.isdecimal() or int(said) > MIB


def _check_proof(route: Route, call: Call) -> None:
    """Raise RefusedError (403) for a change that a page of another site may have asked for."""
    session = session_of(call.request)
    if route.method == "GET" or not (route.is_page or session):
        return
    given = call.request.headers.get("x-csrf-token") or call.form.get(PROOF, "")
    if is_by_cookie(call.request) and not proves(session, str(given)):
        msg = (
            "this did not come from a page of this service, or the page is too old: reload it and "
            "try again; the browser must take cookies, and a proxy set X-Forwarded-Proto"
        )
        raise RefusedError(HTTPStatus.FORBIDDEN, msg)


def checked_user(needs: Needs, user: User | None) -> User:
    """Return a caller who may ask at all.  Raises RefusedError (401, 403)."""
    if user is None:
        msg = "no valid token: send yours as `Authorization: Bearer TOKEN`"
        raise RefusedError(HTTPStatus.UNAUTHORIZED, msg, {"WWW-Authenticate": "Bearer"})
    if needs is Needs.OPERATOR and user.role is not Role.OPERATOR:
        msg = "this is for operators of the service only"
        raise RefusedError(HTTPStatus.FORBIDDEN, msg)
    return user


async def _body(request: Request, most: int, within_s: float) -> bytes:
    """Return the body of a request.  Raises RefusedError for one that is too long, or too slow."""
    said = request.headers.get("content-length", "0")
    if said.isdecimal() and int(said) > most:
        raise _too_long(most)
    pieces, size = [], 0
    try:
        async with asyncio.timeout(within_s + most / MIB):
            async for piece in request.stream():
                size += len(piece)
                if size > most:
                    raise _too_long(most)
                pieces.append(piece)
    except TimeoutError:
        msg = f"the body has not arrived within {within_s:g} s"
        raise RefusedError(HTTPStatus.REQUEST_TIMEOUT, msg, {"Connection": "close"}) from None
    return b"".join(pieces)


def _too_long(most: int) -> RefusedError:
    msg = f"the body is longer than {most} bytes, the most that is taken here"
    return RefusedError(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, msg, {"Connection": "close"})


def _refusal(route: Route, request: HTTPConnection, error: RunnerError, name: str) -> Response:
    if isinstance(error, StoreError):
        log.warning("request %s: %s", name, error)
        error = later("the service's store cannot be used now")
    status = status_of(error)
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        log.warning("request %s: %s", name, error)
    response = route.refusal(request, status, str(error))
    response.headers.update(error.headers if isinstance(error, RefusedError) else {})
    return response


def empty(status: HTTPStatus = HTTPStatus.NO_CONTENT) -> Response:
    """Return an answer without a body."""
    return Response(status_code=status)


def json_text(text: str) -> Response:
    """Return an answer whose body is JSON text already."""
    return Response(text, media_type="application/json")


def json_of(data: Any, status: HTTPStatus = HTTPStatus.OK) -> Response:
    """Return JSON data as an answer."""
    return Response(json.dumps(data), status, media_type="application/json")
