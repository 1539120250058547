"""The host's stream as PID 1 reads it: its own frames are taken out, all others passed on.

A frame that PID 1 does not need for itself goes on to the worker in the pieces in which it comes,
whatever its length: a request may have 64 MiB.
"""

from __future__ import annotations

import os
import re
from typing import Final

from sandbox.wire import protocol
from sandbox.wire.protocol import Begin, Pause, Resume, Stop

READ_BYTES: Final = 64 * protocol.KIB
"""What is taken from the host at once, and the most that waits here for the worker."""

_KIND: Final = re.compile(rb'\{"type":"([a-z]{1,16})"')
_KIND_BYTES: Final = 32


class Switch:
    """Sorts the host's bytes; `outlet` is the pipe to the worker, which is never waited for.

    The words for the clocks are for PID 1 alone.  Where a session's parent has jobs of its own to
    begin and to stop, it hears of these, too.
    """

    def __init__(self, outlet: int, *, is_session: bool) -> None:
        os.set_blocking(outlet, False)
        self._outlet = outlet
        self._own = {"begin", "stop", "pause", "resume"}
        self._not_passed = {"pause", "resume"} if is_session else self._own
        self._kind = ""
        self._kept = bytearray()
        self._unsent = b""

    @property
    def is_full(self) -> bool:
        """Whether something waits for room in the pipe: then nothing more should be read."""
        return bool(self._unsent)

    def feed(self, data: bytes) -> list[Begin | Stop | Pause | Resume]:
        """Take what was read and return PID 1's frames.  Raises ProtocolError for other bytes."""
        own = []
        for piece in data.splitlines(keepends=True):
            self._kept += piece
            if not self._kind and not self._find_kind():
                continue
            is_whole = piece.endswith(b"\n")
            if self._kind not in self._own:
                self._unsent += self._kept
                self._kept.clear()
            elif len(self._kept) > protocol.MAX_ORDER_BYTES:
                msg = f"a frame of the host of more than {protocol.MAX_ORDER_BYTES} bytes"
                raise protocol.ProtocolError(msg)
            if is_whole:
                if self._kind in self._own:
                    own.append(self._take_own())
                self._kind = ""
        self.flush()  # first: the worker waits for it
        return [protocol.decode_order(each) for each in own]

    def _find_kind(self) -> bool:
        """Find out which frame begins; False while too little of it has come."""
        match = _KIND.match(self._kept)
        if match is not None:
            self._kind = match[1].decode()
        elif len(self._kept) >= _KIND_BYTES or b"\n" in self._kept:
            msg = "the host says something that is no frame"
            raise protocol.ProtocolError(msg)
        return match is not None

    def _take_own(self) -> bytes:
        line = bytes(self._kept)
        self._kept.clear()
        if self._kind not in self._not_passed:
            self._unsent += line
        return line

    def flush(self) -> None:
        """Write what the pipe takes; what nobody will read any more is dropped."""
        try:
            while self._unsent:
                self._unsent = self._unsent[os.write(self._outlet, self._unsent) :]
        except BlockingIOError:
            pass
        except OSError:
            self._unsent = b""
