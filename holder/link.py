"""The protocol between the runner and the processes that hold a backend: parts over a socket.

A part is one line of JSON, its head, and as many bytes as the head's `size` says, its body, which
is the text of circuits or results.  Whoever only passes a body on never parses it.  Standard
library only: the runner uses this module, too.
"""

from __future__ import annotations

import contextlib
import json
import select
import socket
import threading
from typing import Any, Final

VERSION: Final = 1
MAX_HEAD_BYTES: Final = 64 << 10
MAX_BODY_BYTES: Final = 64 << 20
SEND_S: Final = 60.0
"""How long the other side may take to read a part, in seconds."""

_RECEIVE_BYTES: Final = 1 << 18


class LinkError(Exception):
    """The other side does not follow the protocol, or has gone."""


class Link:
    """One end of the connection.  Any thread may send; one thread receives."""

    def __init__(self, connection: socket.socket) -> None:
        connection.settimeout(SEND_S)
        self._connection = connection
        self._sending = threading.Lock()
        self._received = bytearray()

    def send(self, head: dict[str, Any], body: bytes = b"") -> None:
        """Send one part.  Raises LinkError if the other side has gone, or does not read."""
        line = json.dumps({**head, "size": len(body)}).encode() + b"\n"
        if len(line) > MAX_HEAD_BYTES or len(body) > MAX_BODY_BYTES:
            msg = f"a part of {len(line)} and {len(body)} bytes is larger than a part may be"
            raise LinkError(msg)
        with self._sending:
            try:
                self._connection.sendall(line + body)
            except OSError as error:
                msg = f"a part cannot be sent: {error}"
                raise LinkError(msg) from error

    def receive(self, timeout_s: float | None = None) -> tuple[dict[str, Any], bytes] | None:
        """Return the next part, None at the end of the connection.  Raises LinkError.

        `timeout_s` is the longest silence, in seconds.
        """
        while (end := self._received.find(b"\n")) < 0:
            if len(self._received) > MAX_HEAD_BYTES:
                msg = f"a head of more than {MAX_HEAD_BYTES} bytes"
                raise LinkError(msg)
            if not self._fill(timeout_s):
                return None
        head, size = _head_of(bytes(self._received[:end]))
        del self._received[: end + 1]
        while len(self._received) < size:
            if not self._fill(timeout_s):
                msg = "the connection ended in the middle of a part"
                raise LinkError(msg)
        body = bytes(self._received[:size])
        del self._received[:size]
        return head, body

    def _fill(self, timeout_s: float | None) -> bool:
        try:
            if not _is_readable(self._connection, timeout_s):
                msg = f"silent for {timeout_s:g} s"
                raise LinkError(msg)
            data = self._connection.recv(_RECEIVE_BYTES)
        except ConnectionError:
            data = b""
        except (OSError, ValueError) as error:  # closed by another thread
            msg = f"nothing can be received: {error}"
            raise LinkError(msg) from error
        self._received += data
        return bool(data)

    def hang_up(self) -> None:
        """End the connection; the thread that waits in `receive`, here or there, returns."""
        with contextlib.suppress(OSError):
            self._connection.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """End the connection and free its descriptor; no other thread may use it any more."""
        self.hang_up()
        self._connection.close()


def _is_readable(connection: socket.socket, timeout_s: float | None) -> bool:
    poll = select.poll()
    poll.register(connection, select.POLLIN)
    return bool(poll.poll(None if timeout_s is None else timeout_s * 1000))


def _head_of(line: bytes) -> tuple[dict[str, Any], int]:
    try:
        head = json.loads(line)
        size = head.pop("size")
    except (ValueError, TypeError, AttributeError, KeyError, RecursionError) as error:
        msg = f"a head that cannot be read: {type(error).__name__}"
        raise LinkError(msg) from None
    if type(size) is not int or not 0 <= size <= MAX_BODY_BYTES:
        msg = f"a body of {size!r:.40} bytes, and {MAX_BODY_BYTES} are the most"
        raise LinkError(msg)
    return head, size
