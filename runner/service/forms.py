"""The body of a request as a form, with the files that stand in it; all of it in memory."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from http import HTTPStatus
from typing import Final
from urllib.parse import parse_qsl

from starlette.datastructures import FormData, Headers
from starlette.formparsers import MultiPartException, MultiPartParser

from runner.service.faults import RefusedError

MAX_FIELDS: Final = 1000
MAX_ENCODED: Final = 64 << 10
"""The longest form of the other kind, in bytes: reading one takes eighty times as much memory."""

MULTIPART: Final = "multipart/form-data"


class _InMemory(MultiPartParser):
    spool_max_size = 1 << 30  # the body is in memory already, and bounded


def form_of(headers: Headers, body: bytes) -> FormData:
    """Return the form that a body holds.  Raises RefusedError for one that cannot be read.

    Call it in a thread: a body can be written so that each MiB takes a tenth of a second.
    """
    if not headers.get("content-type", "").startswith(MULTIPART):
        if len(body) > MAX_ENCODED:
            msg = f"a form of {len(body)} bytes must be sent as {MULTIPART}"
            raise RefusedError(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, msg)
        try:
            text = body.decode()
            pairs = parse_qsl(text, keep_blank_values=True, max_num_fields=MAX_FIELDS)
            return FormData(dict(pairs))
        except ValueError as error:
            raise _unreadable(error) from None
    parser = _InMemory(
        headers,
        _whole(body),
        max_files=MAX_FIELDS,
        max_fields=MAX_FIELDS,
        max_part_size=len(body),
    )
    try:
        return asyncio.run(parser.parse())
    except (MultiPartException, ValueError, LookupError) as error:
        raise _unreadable(error) from None


async def _whole(body: bytes) -> AsyncGenerator[bytes, None]:
    yield body


def _unreadable(error: Exception) -> RefusedError:
    return RefusedError(HTTPStatus.BAD_REQUEST, f"the body is no readable form: {error!s:.200}")
