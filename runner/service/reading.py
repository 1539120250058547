"""What requests say, read by every form of the API: parameters of the query, members of a body."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Any

from runner.service.faults import RefusedError


def flag(query: Mapping[str, str], name: str) -> bool | None:
    """Return a parameter that is true or false, None if it is not given.  Raises RefusedError."""
    text = query.get(name)
    if text is None:
        return None
    if text.lower() not in {"true", "false"}:
        msg = f"{name} is {text!r:.40}: it must be true or false"
        raise RefusedError(HTTPStatus.BAD_REQUEST, msg)
    return text.lower() == "true"


def moment(query: Mapping[str, str], name: str) -> float | None:
    """Return a time as seconds since the epoch; without a zone it is UTC.  Raises RefusedError."""
    text = query.get(name)
    if text is None:
        return None
    try:
        # A plus that the client has not escaped arrives as a space.
        found = datetime.fromisoformat(text.replace(" 00:00", "+00:00"))
        return (found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError, OSError):
        msg = f"{name} is {text!r:.40}: it must be a time in ISO 8601"
        raise RefusedError(HTTPStatus.BAD_REQUEST, msg) from None


def member(content: Mapping[str, Any], name: str, kind: type, default: Any) -> Any:
    """Return a member of the body, which must be of this type.  Raises RefusedError."""
    value = content.get(name, default)
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        msg = f"{name} is {json.dumps(value)[:80]}: it must be of the type {kind.__name__}"
        raise RefusedError(HTTPStatus.BAD_REQUEST, msg)
    return value


def texts(content: Mapping[str, Any], name: str) -> Sequence[str]:
    """Return a member of the body that is a list of texts.  Raises RefusedError."""
    value = content.get(name)
    if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
        msg = f"{name} is {value!r:.80}: it must be a list of texts"
        raise RefusedError(HTTPStatus.BAD_REQUEST, msg)
    return value


def iso(stamp: float) -> str:
    """Return a time as ISO 8601 text in UTC."""
    return datetime.fromtimestamp(stamp, UTC).isoformat()
