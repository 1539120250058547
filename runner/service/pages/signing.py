"""Signing in with a token, or with the link that `qrunner serve --single-user` prints; and out."""

from __future__ import annotations

import secrets
from http import HTTPStatus
from typing import Final

from starlette.responses import Response

from runner.service.identity import proof_of, session_of, set_session
from runner.service.pages.rendering import SIGN_IN, address, page, see
from runner.service.routing import Call, Needs
from runner.store.users import User

ONCE: Final = "once"
"""The parameter of the link that lets a single user in."""

_FIRST: Final = "/jobs"


def ask(call: Call) -> Response:
    """Ask for a token; let in who comes with a link that has not been used."""
    if call.request.scope["method"] == "GET" and (once := call.query.get(ONCE)):
        call.desk.attempts.check(_address(call))
        if call.desk.link.take(once):
            return _let_in(call, None, call.user)
        _refuse(call)
        msg = "this link has been used, or is of a service that has ended: it prints another one"
        return _form(call, msg, HTTPStatus.FORBIDDEN)
    return _form(call)


def sign_in(call: Call) -> Response:
    """Let in who has a valid token."""
    call.desk.attempts.check(_address(call))
    token = str(call.form.get("token", "")).strip()
    user = call.desk.users.of_token(token)
    if user is None:
        _refuse(call)
        msg = "this token is not valid: it may be mistyped, expired or revoked"
        return _form(call, msg, HTTPStatus.FORBIDDEN)
    return _let_in(call, token, user)


def sign_out(call: Call) -> Response:
    """End the session."""
    call.desk.sessions.close(session_of(call.request))
    response = see(SIGN_IN)
    set_session(call.request, response, "")
    return response


def _refuse(call: Call) -> None:
    """Count and note a sign-in that has failed."""
    call.desk.attempts.failed(_address(call))
    _note(call, "", HTTPStatus.FORBIDDEN)


def _note(call: Call, user: str, status: HTTPStatus) -> None:
    """Note a sign-in in the audit log."""
    call.desk.audit.add(user, "sign in", "", status=status, address=_address(call))


def _let_in(call: Call, token: str | None, user: User) -> Response:
    _note(call, user.name, HTTPStatus.OK)
    # Another name than the one before: whoever knew that one is still outside.
    call.desk.sessions.close(session_of(call.request))
    response = see(_next(call))
    set_session(call.request, response, call.desk.sessions.open(token))
    return response


def _form(call: Call, mistake: str = "", status: HTTPStatus = HTTPStatus.OK) -> Response:
    # The form is proved like every other, so the browser gets a session that stands for nobody.
    session = session_of(call.request) or secrets.token_urlsafe()
    response = page(
        call,
        "sign-in.html",
        status,
        who=None,
        proof=proof_of(session),
        mistake=mistake,
        next=_next(call),
        is_single_user=call.desk.is_single_user,
    )
    set_session(call.request, response, session)
    return response


def _next(call: Call) -> str:
    """Return where to go after signing in: an address of these pages, and of no other site."""
    text = str(call.form.get("next") or call.query.get("next") or _FIRST)
    is_here = text.startswith("/") and not text.startswith(("//", "/\\"))
    return text if is_here and text.isprintable() else _FIRST


def _address(call: Call) -> str:
    client = call.request.client
    return client.host if client else "this machine"


ROUTES: Final = (
    address("GET", SIGN_IN, Needs.NOTHING, ask),
    address("POST", SIGN_IN, Needs.NOTHING, sign_in),
    address("POST", "/sign-out", Needs.NOTHING, sign_out),
)
