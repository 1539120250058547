"""Accounts as IBM's clients see them: login, the one instance there is, and its usage.

The older clients exchange a token for the addresses of the service, the newer one for an access
token that it can read.  No address is ever anything but the one the client has used.
"""

from __future__ import annotations

from http import HTTPStatus
from typing import Any, Final
from urllib.parse import parse_qs

from starlette.responses import Response

from runner.running.versions import versions
from runner.service.faults import RefusedError
from runner.service.identity import access_token
from runner.service.routing import Call, Needs, Route, checked_user, empty, json_of, route

AUTH: Final = "/api"
"""Where the older clients are told to log in."""

RUNTIME: Final = "/api/v1"
"""Where programs and jobs are, for all of IBM's clients."""

INSTANCE: Final = ("qrunner", "open", "main")
"""Hub, group and project: the one instance that every user has."""

CRN: Final = "crn:v1:bluemix:public:quantum-computing:us-east:a/local:local::"
"""The same instance, by the name that the newer client uses."""

PLAN: Final = "qrunner"


def version(_: Call) -> Response:
    """Say which kind of service this is."""
    return json_of({"api-auth": versions()["runner"]})


def login(call: Call) -> Response:
    """Let an older client in with its token."""
    token = call.object().get("apiToken")
    user = call.desk.users.of_token(token) if isinstance(token, str) else None
    checked_user(Needs.USER, user)
    return json_of({"id": token, "ttl": 0, "userId": user.name if user else ""})


def addresses(call: Call) -> Response:
    """Tell an older client the addresses of the service."""
    http, runtime = f"{call.base}{AUTH}", f"{call.base}{RUNTIME}"
    urls = {"http": http, "ws": http.replace("http", "ws", 1), "services": {"runtime": runtime}}
    return json_of({"urls": urls, "email": "", "id": call.user.name})


def instances(_: Call) -> Response:
    """Tell an older client which instance there is."""
    hub, group, project = INSTANCE
    projects = {project: {"name": project, "isDefault": True}}
    groups = {group: {"name": group, "projects": projects}}
    return json_of([{"name": hub, "title": hub, "groups": groups}])


def exchange(call: Call) -> Response:
    """Exchange a token for an access token; whether it is valid is found out when it is used.

    The newer client takes a refusal here for a lost connection, and waits a minute.
    """
    try:
        form = parse_qs(call.body.decode(), max_num_fields=20)
    except ValueError:
        form = {}
    token = form.get("apikey", [""])[0]
    if not token:
        msg = "the form has no apikey"
        raise RefusedError(HTTPStatus.BAD_REQUEST, msg)
    return json_of(access_token(token))


def found(_: Call) -> Response:
    """Tell the newer client which instance there is."""
    item: dict[str, Any] = {
        "crn": CRN,
        "name": PLAN,
        "service_plan_unique_id": PLAN,
        "doc": {"extensions": [{"name": PLAN}]},
        "tags": [],
    }
    return json_of({"items": [item], "limit": 100})


def plan(_: Call) -> Response:
    """Describe the plan of the one instance."""
    content = {"overview_ui": {"en": {"display_name": PLAN}}, "id": PLAN, "name": PLAN}
    return json_of({**content, "metadata": {"pricing": {"type": "free"}}})


def usage(_: Call) -> Response:
    """Say that the instance has no budget of seconds."""
    return json_of({})


def qctrl(_: Call) -> Response:
    """Say that the instance uses none of Q-CTRL's error mitigation."""
    return json_of({"qctrl_enabled": False})


def logout(_: Call) -> Response:
    """Forget nothing, because nothing is remembered of a login."""
    return empty()


ROUTES: Final[tuple[Route, ...]] = (
    route("GET", f"{AUTH}/version", Needs.NOTHING, version),
    route("POST", f"{AUTH}/users/loginWithToken", Needs.NOTHING, login),
    route("GET", f"{AUTH}/users/me", Needs.USER, addresses),
    route("GET", f"{AUTH}/Network", Needs.USER, instances),
    route("POST", "/identity/token", Needs.NOTHING, exchange),
    route("POST", "/v3/resources/search", Needs.USER, found),
    route("GET", f"/{PLAN}", Needs.USER, plan),
    route("GET", f"{RUNTIME}/instances/usage", Needs.USER, usage),
    route("GET", f"{RUNTIME}/instance", Needs.USER, qctrl),
    route("POST", f"{RUNTIME}/logout", Needs.USER, logout),
)
