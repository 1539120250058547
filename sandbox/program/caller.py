"""Calls to the backend that the host holds, and their replies.

A call goes out among the messages, and its reply comes back on a pipe.  Whoever waits for a reply
reads the pipe for everybody: there is no thread that a fork could lose.
"""

from __future__ import annotations

import itertools
import json
import os
import select
import threading
import time
from typing import Any, Final

from sandbox.program.messenger import Outbox
from sandbox.wire import protocol

_READ_BYTES: Final = 1 << 18


class Caller:
    """Sends calls and sorts their replies.  For any thread of the job's own process."""

    def __init__(self, outbox: Outbox, replies: int) -> None:
        self._outbox = outbox
        self._replies = replies
        self._process = os.getpid()
        self._numbers = itertools.count(1)
        self._changed = threading.Condition()
        self._is_reading = False
        self._pieces: list[bytes] = []
        self._open: set[int] = set()
        self._read: dict[int, dict[str, Any]] = {}

    def send(self, verb: str, body: protocol.JsonText, signature: str = "") -> int:
        """Send a call and return its number; wait first while too many have no reply.

        Raises ValueError for a call that is too large, RuntimeError in a forked process, and
        OSError if the host has closed the channel.
        """
        if self._process != os.getpid():
            msg = (
                "a held backend answers the process that main runs in, and this one was forked "
                "from it: call the backend there"
            )
            raise RuntimeError(msg)
        if len(body) > protocol.MAX_CALL_BYTES:
            msg = (
                f"the circuits take {len(body)} bytes, and a call to a held backend at most "
                f"{protocol.MAX_CALL_BYTES}: send them in several calls"
            )
            raise ValueError(msg)
        with self._changed:
            number = next(self._numbers)
            while len(self._open) >= protocol.MAX_CALLS:
                self._advance(None)
            self._open.add(number)
        self._outbox.send_call(number, verb, signature, body)
        return number

    def reply(self, number: int, timeout: float | None = None) -> dict[str, Any]:
        """Return the reply to a call, once: an object with `answer` or with `refusal`.

        Raises TimeoutError after `timeout` seconds, and OSError if the host has gone.
        """
        until = None if timeout is None else time.monotonic() + timeout
        with self._changed:
            while number not in self._read:
                left = None if until is None else until - time.monotonic()
                if left is not None and left <= 0:
                    msg = f"the held backend has not answered within {timeout:g} s"
                    raise TimeoutError(msg)
                self._advance(left)
            return self._read.pop(number)

    def _advance(self, timeout: float | None) -> None:
        """Take in what has arrived, or wait for the thread that does; the lock is held."""
        if self._is_reading:
            self._changed.wait(timeout)
            return
        self._is_reading = True
        self._changed.release()
        try:
            self._take_in(timeout)
        finally:
            self._changed.acquire()
            self._sort()
            self._is_reading = False
            self._changed.notify_all()

    def _take_in(self, timeout: float | None) -> None:
        if not select.select([self._replies], [], [], timeout)[0]:
            return
        # In one step, as in `FrameWriter`: the program may have signal handlers that raise.
        self._pieces.extend(map(os.read, (self._replies,), (_READ_BYTES,)))
        if not self._pieces[-1]:
            msg = "the host has closed the channel"
            raise ConnectionError(msg)

    def _sort(self) -> None:
        """Make replies of the whole lines that have arrived."""
        if not self._pieces or b"\n" not in self._pieces[-1]:
            return
        *lines, rest = b"".join(self._pieces).split(b"\n")
        self._pieces = [rest] if rest else []
        for line in lines:
            content = json.loads(line)
            self._open.discard(content["call"])
            self._read[content["call"]] = content["body"]
