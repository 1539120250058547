"""The log of a job: the program's output, bounded in size, as text for people."""

from __future__ import annotations

import codecs
from typing import Final

_MAX_LINE_BYTES: Final = 64 * 1024
_FREE_PIECES: Final = 10_000
_PIECE_BYTES: Final = 64
"""After `_FREE_PIECES` pieces, further pieces have at least this size on average, however short
the lines:
an event costs a hundred bytes of ours, and a program can write two million empty lines."""


class Log:
    """A bounded record of one output stream: keeps its head and its tail.

    Bytes in between are dropped and counted.  Text is decoded once, here, independent of how the
    bytes were split into pieces.
    """

    def __init__(self, kept_bytes: int) -> None:
        self._half = max(1, kept_bytes // 2)
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="backslashreplace")
        self._line = ""
        self._tail = bytearray()
        self._pieces = 0
        self.bytes = 0
        self.dropped_bytes = 0

    def feed(self, data: bytes) -> str:
        """Add bytes; return the text of the head that is ready to be shown."""
        room = max(0, self._half - self.bytes)
        self.bytes += len(data)
        head, rest = data[:room], data[room:]
        if rest:
            self._keep_tail(rest)
        self._line += self._decoder.decode(head)
        if self._pieces > _FREE_PIECES + self.bytes // _PIECE_BYTES:
            return ""
        is_long = len(self._line) > _MAX_LINE_BYTES
        cut = len(self._line) if is_long else self._line.rfind("\n") + 1
        text, self._line = self._line[:cut], self._line[cut:]
        self._pieces += bool(text)
        return text

    def _keep_tail(self, data: bytes) -> None:
        self._tail += data
        surplus = max(0, len(self._tail) - self._half)
        del self._tail[:surplus]  # deleting from the front of a bytearray moves no bytes
        self.dropped_bytes += surplus

    def finish(self) -> str:
        """Return the text held back: the unfinished line, the count of dropped bytes, the tail."""
        text = self._line
        self._line = ""
        if self.dropped_bytes:
            text += self._decoder.decode(b"", final=True)
            text += f"\n[… {self.dropped_bytes} bytes of output dropped …]\n"
            self._decoder.reset()
        text += self._decoder.decode(bytes(self._tail), final=True)
        self._tail.clear()
        return text
