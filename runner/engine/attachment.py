"""The three standard streams of one container, over one connection to its engine."""

from __future__ import annotations

import contextlib
import socket
import ssl
import struct
from collections.abc import Iterator
from enum import IntEnum
from typing import Any, Final

from runner.engine.forks import close_in_children
from runner.errors import EngineError

_RECEIVE_BYTES: Final = 1 << 16
"""Small messages of this size take 10 ms to process; only then is the deadline looked at again."""
_HEADER: Final = struct.Struct(">BxxxL")


class Stream(IntEnum):
    """The output streams of a container, with the engine's numbers."""

    STDOUT = 1
    STDERR = 2


class Attachment:
    """The three standard streams of one container, over one connection.

    Owned by the thread that reads it.  `fileno` makes it usable with a selector; `receive` and
    `send` never block.  Closing it closes the container's stdin, which ends the sandbox.
    """

    def __init__(self, connection: Any, response: Any) -> None:
        self._connection = connection
        self._response = response  # docker-py closes TLS sockets together with the response
        self._pending = bytearray()
        self._stream: Stream | None = None
        self._left = 0
        connection.setblocking(False)  # noqa: FBT003
        if isinstance(connection, socket.socket):
            close_in_children(connection)

    def fileno(self) -> int:
        return int(self._connection.fileno())

    def receive(self) -> list[tuple[Stream, bytes]] | None:
        """Return what has arrived, in order, or None at the end of the streams.

        An empty list means that nothing has arrived yet.  Raises EngineError if the engine sends
        data that does not follow its own framing.
        """
        try:
            data = self._connection.recv(_RECEIVE_BYTES)
            while isinstance(self._connection, ssl.SSLSocket) and self._connection.pending():
                data += self._connection.recv(self._connection.pending())
        except (BlockingIOError, ssl.SSLWantReadError):
            return []
        except OSError:  # a reset connection is an end like any other; the caller finds the reason
            return None
        if not data:
            return None
        self._pending += data
        return list(self._demultiplex())

    def is_quiet(self) -> bool:
        """Return True if the streams are open and nothing has arrived.

        Discards what has arrived.  It is meant for a container that should send nothing, and is
        unusable otherwise.
        """
        return not self._pending and self.receive() == [] and not self._pending

    def _demultiplex(self) -> Iterator[tuple[Stream, bytes]]:
        while self._pending:
            if self._left == 0:
                if len(self._pending) < _HEADER.size:
                    return
                number, self._left = _HEADER.unpack_from(self._pending)
                del self._pending[: _HEADER.size]
                try:
                    self._stream = Stream(number)
                except ValueError:
                    msg = f"the engine sent a stream numbered {number}; only 1 and 2 are known"
                    raise EngineError(msg) from None
                continue
            chunk = bytes(self._pending[: self._left])
            del self._pending[: len(chunk)]
            self._left -= len(chunk)
            assert self._stream is not None
            yield self._stream, chunk

    def send(self, data: memoryview) -> int:
        """Write what fits into the container's stdin; return the number of bytes, 0 if it is full.

        Raises EngineError if the connection is gone.
        """
        try:
            return int(self._connection.send(data))
        except (BlockingIOError, ssl.SSLWantWriteError, ssl.SSLWantReadError):
            return 0
        except OSError as error:
            msg = f"the connection to the container's stdin broke: {error}"
            raise EngineError(msg) from error

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._connection.shutdown(socket.SHUT_RDWR)
        with contextlib.suppress(OSError):
            self._connection.close()
        with contextlib.suppress(Exception):  # urllib3 may complain about the hijacked body
            self._response.close()
