"""Refusals as answers: which HTTP status each error of ours has, and what its body says."""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from typing import Final

from runner.errors import (
    ImageError,
    InputsError,
    RequestError,
    RunnerError,
    UnknownJobError,
    UnknownProgramError,
)
from runner.store.uploads import DuplicateError

RETRY_S: Final = 1
"""What `Retry-After` says while a service ends or its store is busy, in seconds."""


class RefusedError(RequestError):
    """A request that is refused with this HTTP status, and these headers."""

    def __init__(
        self, status: HTTPStatus, message: str, headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(message)
        self.status = status
        self.headers = dict(headers or {})


def not_found(what: str, name: str) -> RefusedError:
    """Return the refusal for what does not exist, or is hidden from the user: the same for both."""
    return RefusedError(HTTPStatus.NOT_FOUND, f"no {what} {name!r:.120}: check the id")


def later(why: str) -> RefusedError:
    """Return the refusal for a request that the client can repeat, as every client does by itself.

    Only for requests that have changed nothing.
    """
    return RefusedError(
        HTTPStatus.SERVICE_UNAVAILABLE, f"{why}: try again", {"Retry-After": str(RETRY_S)}
    )


def too_much(message: str, *, after_s: float = 60) -> RefusedError:
    """Return the refusal for a quota that is used up; `after_s` says when to try again."""
    headers = {"Retry-After": f"{after_s:.0f}"}
    return RefusedError(HTTPStatus.TOO_MANY_REQUESTS, message, headers)


_STATUS: Final[tuple[tuple[type[RunnerError], HTTPStatus], ...]] = (
    (UnknownJobError, HTTPStatus.NOT_FOUND),
    (UnknownProgramError, HTTPStatus.NOT_FOUND),
    (DuplicateError, HTTPStatus.CONFLICT),
    (InputsError, HTTPStatus.BAD_REQUEST),
    (RequestError, HTTPStatus.BAD_REQUEST),
    (ImageError, HTTPStatus.UNPROCESSABLE_ENTITY),  # in words; clients hide those of 5xx
)


def status_of(error: RunnerError) -> HTTPStatus:
    """Return the HTTP status of an error."""
    if isinstance(error, RefusedError):
        return error.status
    for kind, status in _STATUS:
        if isinstance(error, kind):
            return status
    return HTTPStatus.INTERNAL_SERVER_ERROR


def body_of(status: int, message: str) -> dict[str, object]:
    """Return the body of a refusal; IBM's clients print its `code` and `message`."""
    return {"error": {"code": status, "message": message}}
