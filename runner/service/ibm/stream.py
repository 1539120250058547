"""The stream of a job over a WebSocket, as IBM's older clients read it.

The first frame is an acknowledgement, then comes each message, then the result, and the stream ends
with the code 1000 and only then: at any other end the client comes back and gets everything again.
A client that comes back after it has had everything is told so by an acknowledgement and the end.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable
from functools import lru_cache
from http import HTTPStatus
from typing import Final

from starlette.concurrency import run_in_threadpool
from starlette.responses import JSONResponse, Response
from starlette.websockets import WebSocket, WebSocketDisconnect

from runner.errors import RunnerError
from runner.job import Job
from runner.job.record import MessageEvent, Outcome
from runner.service.desk import Desk
from runner.service.faults import RefusedError, body_of, status_of
from runner.service.ibm.account import RUNTIME
from runner.service.ibm.jobs import message_text
from runner.service.ibm.values import Reader
from runner.service.identity import caller_of
from runner.service.routing import Call, Needs, Note, checked_user, found_for
from sandbox.wire.protocol import JsonText

log = logging.getLogger(__name__)

PATHS: Final = (f"{RUNTIME}/stream/jobs/{{job}}",)

_TEXT_BYTES: Final = 64 << 10
"""Longer frames are binary: the clients check the UTF-8 of texts byte by byte, in Python."""

_RECENT_S: Final = 60.0
_MOST_RECENT: Final = 10_000
_MOST_TRANSLATED: Final = 100
_MOST_HEARD: Final = 100
"""Messages that a client may send; IBM's send none."""

_NORMAL: Final = 1000
_GOING_AWAY: Final = 1012
_POLICY: Final = 1008


class Recent:
    """Which streams have been delivered whole a moment ago, by user and job."""

    def __init__(self) -> None:
        self._times: dict[tuple[str, str], float] = {}

    def add(self, user: str, job: str) -> None:
        """Remember a stream that has been delivered."""
        while len(self._times) >= _MOST_RECENT:
            del self._times[next(iter(self._times))]
        self._times[user, job] = time.monotonic()

    def take(self, user: str, job: str) -> bool:
        """Return True if a stream has been delivered lately, and forget it."""
        return time.monotonic() - self._times.pop((user, job), -_RECENT_S) < _RECENT_S


_recent: Final = Recent()


async def stream(desk: Desk, socket: WebSocket) -> None:
    """Serve one connection, until everything is delivered or the client has gone."""
    note = Note.of(socket, "GET", PATHS[0])
    try:
        call = await run_in_threadpool(_call, desk, socket, note)
        desk.streams.check(call.user)
    except RunnerError as error:
        status = status_of(error)
        answer = JSONResponse(body_of(status, str(error)), status)
        note.end(desk, answer)
        await socket.send_denial_response(answer)
        return
    note.end(desk, Response(status_code=HTTPStatus.SWITCHING_PROTOCOLS))
    await socket.accept()
    try:
        with desk.streams.open(call.user):
            await _deliver(call, socket)
        await socket.close(_NORMAL)
    except asyncio.CancelledError:
        if not desk.streams.are_ended:
            raise
        with contextlib.suppress(RuntimeError, WebSocketDisconnect):
            await socket.close(_GOING_AWAY)
    except _TalkativeError:
        await socket.close(_POLICY)
    except (WebSocketDisconnect, TimeoutError, RuntimeError, OSError):
        pass  # the client has gone, or takes nothing any more
    except Exception:
        log.exception("the stream of job %s failed", call.job.id)
        with contextlib.suppress(RuntimeError, WebSocketDisconnect):
            await socket.close(_POLICY)


class _TalkativeError(Exception):
    """A client that sends one message after another, which nobody wants."""


def _call(desk: Desk, socket: WebSocket, note: Note) -> Call:
    user = checked_user(Needs.JOB, caller_of(desk, socket))
    note.user = user.name
    call = Call(desk=desk, request=socket, user=user, note=note)
    found_for(Needs.JOB, call)
    call.job.events_so_far()  # read here, in a thread, if the store has them
    return call


async def _deliver(call: Call, socket: WebSocket) -> None:
    """Send everything, unless the client goes.  Raises WebSocketDisconnect, _TalkativeError."""
    delivering, is_over = asyncio.current_task(), False
    assert delivering is not None

    def stop(_: object) -> None:
        if not is_over:
            delivering.cancel()

    hearing = asyncio.ensure_future(_until_gone(socket))
    hearing.add_done_callback(stop)
    try:
        await _send_all(call.job, Reader.of(call.request), socket, call.user.name)
    except asyncio.CancelledError:
        if not hearing.done():
            raise
        delivering.uncancel()
        hearing.result()
        raise WebSocketDisconnect from None
    finally:
        is_over = True
        hearing.cancel()


async def _send_all(job: Job, reader: Reader, socket: WebSocket, user: str) -> None:
    await _send(socket, '{"type": "acknowledgement"}')
    if job.record is not None and _recent.take(user, job.id):
        return
    async for event in job.events_async():
        if isinstance(event, MessageEvent):
            await _send(socket, await _translated(message_text, reader, event.body))
    record = await job.wait_async()
    if record.outcome is Outcome.COMPLETED and record.result is not None:
        try:
            text = await _translated(Reader.text_of, reader, record.result)
        except RefusedError:
            text = None  # asking for the result tells why
        if text is not None:
            await _send(socket, text)
    _recent.add(user, job.id)


async def _translated(
    translate: Callable[[Reader, JsonText], str], reader: Reader, text: JsonText
) -> str:
    """Return a value for the client; a long one is read in a thread, so that others go on.

    A short one often goes to many clients.
    """
    if len(text) > _TEXT_BYTES:
        return await run_in_threadpool(translate, reader, text)
    return _translated_once(translate, reader, text)


@lru_cache(maxsize=_MOST_TRANSLATED)
def _translated_once(
    translate: Callable[[Reader, JsonText], str], reader: Reader, text: JsonText
) -> str:
    return translate(reader, text)


async def _send(socket: WebSocket, text: str) -> None:
    """Send a frame; a client that does not take it misses its pong in the end."""
    if len(text) > _TEXT_BYTES:
        await socket.send_bytes(text.encode())
    else:
        await socket.send_text(text)


async def _until_gone(socket: WebSocket) -> None:
    """Read what the client sends, which has no meaning, until it closes the connection."""
    for _ in range(_MOST_HEARD):
        message = await socket.receive()
        if message["type"] == "websocket.disconnect":
            return
    raise _TalkativeError
