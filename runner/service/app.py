"""The ASGI application: every form of the API as routes, and what holds for all of them."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping
from functools import cache
from http import HTTPStatus
from typing import Any, Final

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, WebSocketRoute
from starlette.routing import Route as StarletteRoute
from starlette.types import ASGIApp, Receive, Scope, Send
from starlette.websockets import WebSocket

from runner.service import own
from runner.service.desk import Desk
from runner.service.ibm import ROUTES as IBM_ROUTES
from runner.service.ibm.stream import PATHS as STREAM_PATHS
from runner.service.ibm.stream import stream
from runner.service.openapi import described
from runner.service.pages import ROUTES as PAGES
from runner.service.pages.rendering import prepare, refusal
from runner.service.routing import (
    Call,
    Needs,
    Note,
    Route,
    answered,
    json_of,
    refusal_as_json,
    without_tokens,
)

UNKNOWN: Final = "unknown"
"""What the log and the metrics call every address that no route has."""

_SLASHES: Final = re.compile(r"/{2,}")


@cache
def _description() -> dict[str, Any]:
    return described((*own.ROUTES, DESCRIPTION))


def description(_: Call) -> Response:
    """Return the description of this API as OpenAPI 3.1."""
    return json_of(_description())


DESCRIPTION: Final = Route(
    method="GET",
    path="/v1/openapi.json",
    needs=Needs.NOTHING,
    answer=description,
    does="Return the description of this API as OpenAPI 3.1.",
    gives=(200, "application/json"),
)

ROUTES: Final[tuple[Route, ...]] = (*own.ROUTES, DESCRIPTION, *IBM_ROUTES, *PAGES)
"""Every address with the right that it needs; the streams of IBM's older clients come besides."""


def application(desk: Desk) -> ASGIApp:
    """Return the application that serves all routes."""
    prepare()
    by_path: dict[str, dict[str, Route]] = {}
    for each in ROUTES:
        by_path.setdefault(each.path, {})[each.method] = each
    found: list[BaseRoute] = [
        StarletteRoute(path, _endpoint(methods, desk), methods=list(methods))
        for path, methods in by_path.items()
    ]
    found += [WebSocketRoute(path, _socket(desk)) for path in STREAM_PATHS]
    app = Starlette(routes=found, exception_handlers={HTTPException: _refusing(desk)})
    app.router.redirect_slashes = False
    return _normalised(app)


def _endpoint(methods: Mapping[str, Route], desk: Desk) -> Callable[[Request], Awaitable[Response]]:
    async def endpoint(request: Request) -> Response:
        route = methods["GET" if request.method == "HEAD" else request.method]
        return await answered(route, desk, request)

    return endpoint


def _socket(desk: Desk) -> Callable[[WebSocket], Awaitable[None]]:
    async def endpoint(socket: WebSocket) -> None:
        await stream(desk, socket)

    return endpoint


def _refusing(desk: Desk) -> Callable[[Request, Exception], Awaitable[Response]]:
    """Answer an address or a method that no route has, in the form of every other refusal."""

    async def refused(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        message = f"{request.method} {without_tokens(request.url.path)}: {error.detail}"
        is_visit = "text/html" in request.headers.get("accept", "")
        answer = refusal if is_visit else refusal_as_json
        response = answer(request, HTTPStatus(error.status_code), message)
        response.headers.update({**(error.headers or {}), "X-Content-Type-Options": "nosniff"})
        Note.of(request, request.method, UNKNOWN).end(desk, response)
        return response

    return refused


def _normalised(app: ASGIApp) -> ASGIApp:
    """Take several slashes in a path for one: IBM's older clients join addresses so."""

    async def normalised(scope: Scope, receive: Receive, send: Send) -> None:
        if "path" in scope and "//" in scope["path"]:
            path = _SLASHES.sub("/", scope["path"])
            scope = {**scope, "path": path, "raw_path": path.encode()}
        await app(scope, receive, send)

    return normalised
