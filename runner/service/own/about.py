"""The service itself under `/v1`: who asks, its users and backends, its state and measurements."""

from __future__ import annotations

import dataclasses
from http import HTTPStatus
from typing import Final

from starlette.responses import Response

from runner import backends
from runner.running.versions import versions
from runner.service.jobs import MAX_PAGE
from runner.service.routing import WHOLE, Call, Needs, Route, json_of, route


def health(_: Call) -> Response:
    """Say that the process lives."""
    return json_of({"status": "alive"})


def readiness(call: Call) -> Response:
    """Say if the service takes jobs."""
    if call.desk.is_ready:
        return json_of({"status": "ready", "version": versions()["runner"]})
    return json_of({"status": "ending"}, HTTPStatus.SERVICE_UNAVAILABLE)


def metrics(call: Call) -> Response:
    """Return the metrics for Prometheus."""
    text = call.desk.metrics.text(call.desk.gauges())
    return Response(text, media_type="text/plain; version=0.0.4; charset=utf-8")


def me(call: Call) -> Response:
    """Return who asks."""
    return json_of({"user": call.user.name or None, "role": call.user.role.value})


def users(call: Call) -> Response:
    """Return all users; their tokens are not known here."""
    return json_of({"users": [dataclasses.asdict(each) for each in call.desk.users.all()]})


def audit(call: Call) -> Response:
    """Return the newest entries of the audit log."""
    limit = call.number("limit", 100, most=MAX_PAGE)
    found = call.desk.audit.entries(user=call.query.get("user"), limit=limit)
    return json_of({"entries": [dataclasses.asdict(each) for each in found]})


def backends_(call: Call) -> Response:
    """Return the backends that a job can ask for; `held` are those of the host."""
    known = [{**dataclasses.asdict(b), "is_default": b.is_default} for b in backends.known()]
    return json_of({"backends": known, "held": call.desk.jobs.held_backends(call.user)})


ROUTES: Final[tuple[Route, ...]] = (
    route("GET", "/healthz", Needs.NOTHING, health),
    route("GET", "/readyz", Needs.NOTHING, readiness),
    route("GET", "/metrics", Needs.OPERATOR, metrics, kind="text/plain"),
    route("GET", "/v1/me", Needs.USER, me),
    route("GET", "/v1/users", Needs.OPERATOR, users),
    route(
        "GET",
        "/v1/audit",
        Needs.OPERATOR,
        audit,
        query={"user": {"type": "string"}, "limit": {**WHOLE, "maximum": MAX_PAGE}},
    ),
    route("GET", "/v1/backends", Needs.USER, backends_),
)
