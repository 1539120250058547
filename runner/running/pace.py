"""Decides how often to read a stream that another party may fill byte by byte."""

from __future__ import annotations

import time
from typing import Final

_SHORT_BYTES: Final = 4096
_BURST: Final = 64
_REST_S: Final = 0.005


class Pace:
    """Decides when to read next: at once, unless short reads have become frequent.

    Reading a single byte costs the reader more than the writer.  So `_BURST` reads of fewer than
    `_SHORT_BYTES` are free, and one more every `_REST_S` seconds; in between, bytes collect.
    """

    def __init__(self) -> None:
        self._credit = float(_BURST)
        self._at = time.monotonic()

    def note(self, size: int) -> None:
        """Count a read of `size` bytes."""
        now = time.monotonic()
        self._credit = min(float(_BURST), self._credit + (now - self._at) / _REST_S)
        self._at = now
        if size < _SHORT_BYTES:
            self._credit -= 1

    def rest_s(self) -> float:
        """Return how many seconds to wait before the next read; 0 for none."""
        if self._credit >= 1:
            return 0.0
        return max(0.0, (1 - self._credit) * _REST_S - (time.monotonic() - self._at))
