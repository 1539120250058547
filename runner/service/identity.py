"""Who asks: the token of a request in any of the ways in which clients send theirs, or a session.

A token is a token wherever it stands: as a bearer, in the header of IBM's older clients, or inside
of an access token that IBM's newer client got in exchange for it.  It is never read from an
address, which logs and proxies keep.

A browser has a cookie instead, which it sends with whatever any page makes it ask.  So a cookie
alone may only read; a change needs the proof that only a page of this service can have.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import ipaddress
import json
import time
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from starlette.requests import HTTPConnection
from starlette.responses import Response

from runner.store.sessions import LOCAL, SESSION_S
from runner.store.users import User

if TYPE_CHECKING:
    from runner.service.desk import Desk

MAX_TOKEN_CHARS: Final = 4096
ACCESS_S: Final = 3600
"""How long a client uses an access token before it asks for another, in seconds."""

PROOF: Final = "csrf"
"""The field of a form that holds the proof; a script sends the header `X-CSRF-Token`."""

_DEFAULT_PORTS: Final = {"http": 80, "https": 443}


def caller_of(desk: Desk, request: HTTPConnection) -> User | None:
    """Return who asks; None for a token that is not valid, and for no token."""
    token = token_of(request)
    if token:
        return desk.users.of_token(token)
    if is_local_socket(request) or (desk.is_single_user and _is_from_here(request)):
        return LOCAL
    # Browsers let a page of any other site open a WebSocket, and keep no cookie back from a page of
    # another host of the same domain.
    return None if request.scope["type"] == "websocket" else visitor_of(desk, request)


def reader_of_pages(desk: Desk, request: HTTPConnection) -> User | None:
    """Return who asks for a page: as `caller_of`, but a single user too has to sign in."""
    if token_of(request) or is_local_socket(request):
        return caller_of(desk, request)
    return visitor_of(desk, request)


# --- sessions of browsers -------------------------------------------------------------------------


def visitor_of(desk: Desk, request: HTTPConnection) -> User | None:
    """Return whose session the cookie of a request names, None for none."""
    session = session_of(request)
    user = desk.sessions.user_of(session) if session else None
    if user is LOCAL and not (desk.is_single_user and _is_from_here(request)):
        return None
    return user


def is_by_cookie(request: HTTPConnection) -> bool:
    """Return True if nothing but a cookie could say who asks."""
    return not token_of(request) and not is_local_socket(request)


def session_of(request: HTTPConnection) -> str:
    """Return the session that the cookie of a request names, "" for none."""
    return request.cookies.get(_cookie(request), "")[:MAX_TOKEN_CHARS]


def set_session(request: HTTPConnection, response: Response, session: str) -> None:
    """Let a response give the browser its session; "" takes it away."""
    response.set_cookie(
        _cookie(request),
        session,
        max_age=int(SESSION_S) if session else 0,
        secure=_is_secure(request),
        httponly=True,
        samesite="strict",
    )


def proof_of(session: str) -> str:
    """Return the proof that a form comes from a page that this session was shown."""
    return hashlib.sha256(f"{PROOF} {session}".encode(errors="surrogatepass")).hexdigest()


def proves(session: str, given: str) -> bool:
    """Return True if a request comes from a page that this session was shown."""
    wanted = proof_of(session)
    return bool(session) and hmac.compare_digest(wanted.encode(), given.encode(errors="replace"))


def _cookie(request: HTTPConnection) -> str:
    """Return the name of the cookie: browsers do not tell the ports of a host apart."""
    port = request.url.port or _DEFAULT_PORTS.get(request.url.scheme, 0)
    return f"{'__Host-' if _is_secure(request) else ''}qrunner-{port}"


def _is_secure(request: HTTPConnection) -> bool:
    return request.url.scheme == "https" or not _is_loopback(request.url.hostname or "")


# --- tokens ---------------------------------------------------------------------------------------


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


def is_local_socket(request: HTTPConnection) -> bool:
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
    if not _is_loopback(_without_port(host)):
        return False
    origin = request.headers.get("origin")
    return origin is None or origin.partition("://")[2] == host


def _without_port(host: str) -> str:
    """Return the name or the address in the header `Host`, "" for none that can be read."""
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
