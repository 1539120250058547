"""The description of our own form of the API as OpenAPI 3.1, made from its routes."""

from __future__ import annotations

import re
from collections.abc import Sequence
from http import HTTPStatus
from typing import Any, Final

from runner.running.versions import versions
from runner.service.routing import Needs, Route

_NAMES: Final = {
    "job": {"type": "string", "pattern": "^job-[0-9a-f]{16}$"},
    "program": {"type": "string", "pattern": "^[A-Za-z0-9_-]+$"},
}
_ERROR: Final = {
    "type": "object",
    "properties": {
        "error": {
            "type": "object",
            "properties": {"code": {"type": "integer"}, "message": {"type": "string"}},
            "required": ["code", "message"],
        }
    },
    "required": ["error"],
}
_REFUSED: Final = {
    "description": "refused; `error.message` says what is wrong, why, and what to do",
    "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}},
}


def described(routes: Sequence[Route]) -> dict[str, Any]:
    """Return the description of the routes."""
    paths: dict[str, dict[str, Any]] = {}
    for route in routes:
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "qiskit-program-runner",
            "version": versions()["runner"],
            "description": "Programs and jobs of a service, for their users.",
        },
        "paths": paths,
        "components": {
            "schemas": {"Error": _ERROR},
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
    }


def _operation(route: Route) -> dict[str, Any]:
    status, kind = route.gives
    fine: dict[str, Any] = {"description": HTTPStatus(status).phrase}
    if kind:
        fine["content"] = {kind: {"schema": {} if kind == "application/json" else _TEXT}}
    named = re.findall(r"\{(\w+)\}", route.path)
    operation: dict[str, Any] = {
        "operationId": f"{route.method.lower()}{re.sub(r'[^a-z0-9]+', '_', route.path)}",
        "summary": route.does,
        "x-needs": route.needs.value,
        "security": [] if route.needs is Needs.NOTHING else [{"token": []}],
        "parameters": [
            *(_parameter(name, "path", _NAMES[name]) for name in named),
            *(_parameter(name, "query", schema) for name, schema in route.query.items()),
        ],
        "responses": {str(status): fine, "4XX": _REFUSED, "503": _REFUSED},
    }
    if status == HTTPStatus.OK:
        operation["responses"]["204"] = {"description": "nothing yet"}
    if route.takes is not None:
        content = {"application/json": {"schema": dict(route.takes)}}
        operation["requestBody"] = {"content": content}
    return operation


_TEXT: Final = {"type": "string"}


def _parameter(name: str, place: str, schema: Any) -> dict[str, Any]:
    return {"name": name, "in": place, "required": place == "path", "schema": dict(schema)}
