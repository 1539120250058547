"""Who asks: the token of a request, in any of the ways in which clients send theirs.

A token is a token wherever it stands: as a bearer, in the header of IBM's older clients, or inside
of an access token that IBM's newer client got in exchange for it.  It is never read from an
address, which logs and proxies keep.
"""

from __future__ import annotations

import base64
import ipaddress
import json
import time
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from starlette.requests import HTTPConnection

from runner.store.users import Role, User

if TYPE_CHECKING:
    from runner.service.desk import Desk

MAX_TOKEN_CHARS: Final = 4096
ACCESS_S: Final = 3600
"""How long a client uses an access token before it asks for another, in seconds."""

_LOCAL: Final = User(name="", role=Role.OPERATOR, created=0)
"""Whoever may open the service's own socket: the jobs are those of the local command line."""


def caller_of(desk: Desk, request: HTTPConnection) -> User | None:
    """Return who asks; None for a token that is not valid, and for no token."""
    token = token_of(request)
    if token:
        return desk.users.of_token(token)
    if _is_local_socket(request) or (desk.is_single_user and _is_from_here(request)):
        return _LOCAL
    return None


def token_of(request: HTTPConnection) -> str:
    """Return the token of a request, "" if it has none."""
    token = request.headers.get("x-access-token", "")
    scheme, _, value = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() in {"bearer", "apikey"}:
        token = value.strip()
    if len(token) > MAX_TOKEN_CHARS:
        return ""
    return _inside(token) or token


def access_token(token: str) -> dict[str, Any]:
    """Return the answer that IBM's newer client wants for a token: a JWT which holds it.

    The client reads the times in it; nothing trusts them, or anything else in it but the token.
    """
    now = int(time.time())
    content = {"iat": now, "exp": now + ACCESS_S, "token": token}
    parts = ({"typ": "JWT", "alg": "none"}, content)
    text = ".".join(base64.urlsafe_b64encode(_text(part)).decode().rstrip("=") for part in parts)
    return {
        "access_token": f"{text}.",
        "refresh_token": "not_supported",
        "token_type": "Bearer",
        "expires_in": ACCESS_S,
        "expiration": now + ACCESS_S,
    }


def _inside(token: str) -> str:
    """Return the token inside of an access token, "" if it is none."""
    parts = token.split(".")
    if len(parts) != 3:
        return ""
    try:
        content = json.loads(base64.urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4)))
    except (ValueError, RecursionError):
        return ""
    inside = content.get("token") if isinstance(content, dict) else None
    return inside if isinstance(inside, str) else ""


def _text(part: dict[str, Any]) -> bytes:
    return json.dumps(part, separators=(",", ":")).encode()


def _is_local_socket(request: HTTPConnection) -> bool:
    """Return True for a connection over the service's Unix socket, which has mode 0600."""
    return bool(request.scope.get("qrunner.unix"))


def _is_from_here(request: HTTPConnection) -> bool:
    """Return True if a program on this machine asks, and not a web page that it shows.

    A page of another site can make a browser send requests here, but not with our name as the
    host, and not without its origin.
    """
    client = request.client
    if client is None or not _is_loopback(client.host):
        return False
    host = request.headers.get("host", "")
    if not _is_loopback(urlsplit(f"//{host}").hostname or ""):
        return False
    origin = request.headers.get("origin")
    return origin is None or urlsplit(origin).netloc == host


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
