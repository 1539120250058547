"""Templates → pages: what every page has in common, and what keeps foreign text in it text.

Jinja escapes all values for HTML.  Before that, `finalize` makes visible what a browser would obey
or hide: control characters and changes of the writing direction.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Any, Final
from urllib.parse import quote

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from markupsafe import escape as as_html
from starlette.requests import HTTPConnection
from starlette.responses import HTMLResponse, RedirectResponse, Response

from runner.display import escape
from runner.policy import size
from runner.running.versions import versions
from runner.service.pages import assets
from runner.service.routing import Call, Needs, Route, route
from runner.store.uploads import Upload
from runner.store.users import Role

SIGN_IN: Final = "/sign-in"

_POLICY: Final = "; ".join(
    (
        "default-src 'none'",
        "style-src 'self'",
        "script-src 'self'",
        "img-src 'self' data:",
        "connect-src 'self'",
        "form-action 'self'",
        "base-uri 'none'",
        "frame-ancestors 'none'",
        "require-trusted-types-for 'script'",  # no string becomes markup, not even by our script
        "trusted-types 'none'",
    )
)
HEADERS: Final = {
    "Content-Security-Policy": _POLICY,
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}
"""What every page says to the browser: nothing from elsewhere, nothing inline, in no frame."""


def page(
    call: Call, template: str, status: HTTPStatus = HTTPStatus.OK, **values: Any
) -> HTMLResponse:
    """Return a page for whoever asks."""
    who = call.user.name or "this machine"
    known = {"who": who, "is_operator": call.user.role is Role.OPERATOR, "proof": call.proof}
    return _rendered(template, status, **{**known, **values})


def refusal(request: HTTPConnection, status: HTTPStatus, message: str) -> Response:
    """Return a refusal as a page; a visitor who has not signed in is led to where that is done."""
    is_visit = request.scope["method"] == "GET" and "text/html" in request.headers.get("accept", "")
    if status == HTTPStatus.UNAUTHORIZED and is_visit:
        if request.headers.get("sec-fetch-site") == "cross-site":
            # The browser keeps the cookie from who follows a link of another site, until we ask.
            return _rendered("continue.html", status, address=str(request.url.path))
        wanted = request.url.path + (f"?{request.url.query}" if request.url.query else "")
        query = "" if wanted == "/" else f"?next={quote(wanted)}"
        return RedirectResponse(f"{SIGN_IN}{query}", HTTPStatus.SEE_OTHER)
    if status == HTTPStatus.UNAUTHORIZED:
        message = "you are not signed in, or no longer: sign in, and try again"
    return _rendered("refused.html", status, title=status.phrase, code=int(status), message=message)


def see(path: str) -> Response:
    """Return the answer to a form that has been obeyed: look there."""
    return RedirectResponse(path, HTTPStatus.SEE_OTHER, HEADERS)


def address(
    method: str, path: str, needs: Needs, answer: Callable[[Call], Response], **more: Any
) -> Route:
    """Return the route of a page."""
    return route(method, path, needs, answer, kind="", is_page=True, refusal=refusal, **more)


def prepare() -> None:
    """Compile all templates, so that nobody waits for that with the first page."""
    for name in _environment.list_templates():
        _environment.get_template(name)


def _rendered(template: str, status: HTTPStatus, **values: Any) -> HTMLResponse:
    text = _environment.get_template(template).render({"who": None, "proof": "", **values})
    return HTMLResponse(text.encode(errors="replace"), status, HEADERS)


# --- what templates can say -----------------------------------------------------------------------


def _visible(value: Any) -> Any:
    """Return a value that is put into a page; text that is no HTML of ours is made visible."""
    return escape(value) if type(value) is str else value


def as_typed(text: str) -> Markup:
    """Return text for a field that somebody may send back: escaped for HTML, else unchanged."""
    return Markup(as_html(text))  # noqa: S704  it is escaped


def when(stamp: float | datetime | None) -> str:
    """Return a time in UTC, to the second; a hyphen for none."""
    if stamp is None:
        return "-"
    found = stamp if isinstance(stamp, datetime) else datetime.fromtimestamp(stamp, UTC)
    return f"{found.astimezone(UTC):%Y-%m-%d %H:%M:%S}"


def iso(stamp: float | datetime) -> str:
    """Return a time for the attribute of an element, in ISO 8601."""
    found = stamp if isinstance(stamp, datetime) else datetime.fromtimestamp(stamp, UTC)
    return found.isoformat()


def clock(stamp: float) -> str:
    """Return the time of day in UTC."""
    return f"{datetime.fromtimestamp(stamp, UTC):%H:%M:%S}"


def visibility(upload: Upload, user: str | None) -> str:
    """Return who may run a program; whom it is shared with is for its owner to know."""
    if upload.public:
        return "everybody"
    if user != upload.owner:
        return "those it is shared with"
    others = ", ".join(upload.shared_with)
    return f"you, {others}" if others else "you"


def age(seconds: float) -> str:
    """Return a time span in its largest unit."""
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= length:
            return f"{seconds / length:.0f} {unit}"
    return f"{max(0.0, seconds):.0f} s"


def in_words(name: object) -> str:
    """Return an outcome or a status as words."""
    return str(name).replace("_", " ").lower()


_environment: Final = Environment(
    loader=PackageLoader(__package__),
    autoescape=True,
    undefined=StrictUndefined,
    finalize=_visible,
    trim_blocks=True,
    lstrip_blocks=True,
)
_environment.filters |= {
    "age": age,
    "as_typed": as_typed,
    "clock": clock,
    "in_words": in_words,
    "iso": iso,
    "size": size,
    "visibility": visibility,
    "when": when,
}
_environment.globals |= {"asset": assets.address, "release": versions()["runner"]}
