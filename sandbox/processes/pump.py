"""Passes a sandbox's output on to the engine, in pieces that are large enough to be efficient.

Engine and host work for each write to a container's stdout or stderr, several times as long as a
program that writes a single byte.  So a program writes into a pipe of the first process.  This
process passes short pieces on at once only while they are rare, and otherwise collects them for
milliseconds.  Its CPU time is the sandbox's own.
"""

from __future__ import annotations

import os
import select
import time
from typing import Final

_PIECE_BYTES: Final = 64 * 1024
"""The capacity of a pipe."""

_SHORT_BYTES: Final = 4096
_BURST: Final = 64
_REST_S: Final = 0.005
"""Of pieces below `_SHORT_BYTES`, `_BURST` pass at once, and one more every `_REST_S` seconds."""

_DRAINED_AT_ONCE: Final = 32
"""Pieces between two checks of the clock, in case a process keeps writing."""


class Pump:
    """One output stream.  Owned by the first process; none of its methods blocks."""

    def __init__(self, target: int) -> None:
        self._target = target
        self._source, self._inlet = os.pipe()
        self._poll = select.poll()
        self._watched: int | None = None
        self._held = b""
        self._credit = float(_BURST)
        self._credited = 0.0
        self._is_open = True

    def give(self) -> None:
        """In the worker: make the stream start here."""
        os.dup2(self._inlet, self._target)
        os.close(self._inlet)
        os.close(self._source)

    def start(self, poll: select.poll) -> None:
        """In the first process: register with `poll` for what `move` handles."""
        os.close(self._inlet)
        os.set_blocking(self._source, False)
        os.set_blocking(self._target, False)
        self._poll = poll
        self._credited = time.monotonic()
        self._watch(self._source)

    def owns(self, descriptor: int) -> bool:
        """Return True if it waits for `descriptor`."""
        return descriptor == self._watched

    def rest_s(self) -> float | None:
        """Return the seconds until it reads again; None if it does not rest."""
        if self._watched is not None or not self._is_open:
            return None
        return max(0.0, (1.0 - self._credit) * _REST_S - (time.monotonic() - self._credited))

    def move(self) -> None:
        """Pass one piece on, if there is one, its time has come, and there is room."""
        now = time.monotonic()
        self._credit = min(float(_BURST), self._credit + (now - self._credited) / _REST_S)
        self._credited = now
        if not self._held and self._credit >= 1:
            self._read()
        self._write()
        self._wait()

    def drain(self) -> bool:
        """Pass on everything present, without rest; return True if nothing is left."""
        self._credit = float(_BURST)
        is_empty = False
        for _ in range(_DRAINED_AT_ONCE):
            self._write()
            if self._held or is_empty:
                break
            is_empty = not self._read()
        self._wait()
        return is_empty

    def stop(self) -> None:
        """Stop watching."""
        self._watch(None)

    def _read(self) -> bool:
        """Read the next piece; return True if there was one."""
        try:
            self._held = os.read(self._source, _PIECE_BYTES)
        except BlockingIOError:
            return False
        self._is_open = bool(self._held)
        if len(self._held) < _SHORT_BYTES:
            self._credit -= 1
        return self._is_open

    def _write(self) -> None:
        try:
            while self._held:
                self._held = self._held[os.write(self._target, self._held) :]
        except BlockingIOError:
            return
        except OSError:  # the reader has gone for good
            self._held = b""

    def _wait(self) -> None:
        if self._held:
            self._watch(self._target)
        elif self._is_open and self._credit >= 1:
            self._watch(self._source)
        else:
            self._watch(None)

    def _watch(self, descriptor: int | None) -> None:
        if descriptor == self._watched:
            return
        if self._watched is not None:
            self._poll.unregister(self._watched)
        if descriptor is not None:
            event = select.POLLIN if descriptor == self._source else select.POLLOUT
            self._poll.register(descriptor, event)
        self._watched = descriptor
