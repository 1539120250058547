"""The style sheet and the script, which browsers keep for as long as they do not change."""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path
from typing import Final

from starlette.responses import Response

from runner.service.faults import not_found
from runner.service.routing import Call, Needs, Route

_DIRECTORY: Final = Path(__file__).with_name("static")
_KINDS: Final = {
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}


@cache
def _files() -> dict[str, bytes]:
    return {each.name: each.read_bytes() for each in sorted(_DIRECTORY.glob("*"))}


@cache
def edition() -> str:
    """Return what stands in the addresses of all files, and changes when any of them does."""
    found = hashlib.sha256()
    for name, content in _files().items():
        found.update(f"{name} {len(content)} ".encode() + content)
    return found.hexdigest()[:16]


def address(name: str) -> str:
    """Return where a file is."""
    return f"/static/{edition()}/{name}"


def asset(call: Call) -> Response:
    """Return a file of the pages."""
    path = call.request.path_params
    kind, content = _KINDS.get(Path(path["file"]).suffix), _files().get(path["file"])
    if kind is None or content is None:
        msg = "file"
        raise not_found(msg, path["file"])
    is_current = path["edition"] == edition()
    kept = "public, max-age=31536000, immutable" if is_current else "no-cache"
    return Response(content, headers={"Content-Type": kind, "Cache-Control": kept})


ROUTES: Final = (
    Route(
        method="GET",
        path="/static/{edition}/{file}",
        needs=Needs.NOTHING,
        answer=asset,
        does="Return a file of the pages.",
    ),
)
