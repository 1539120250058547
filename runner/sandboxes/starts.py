"""The capacity of this machine: parallel starts of sandboxes, their order, and memory.

Starting more sandboxes than there are cores makes all of them slower.  A job that waits for its
sandbox goes before the pool, which only refills.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterator
from typing import Final

from runner.host import interrupt

CORES: Final = os.cpu_count() or 1


_MEMORY_SHARE: Final = 0.9


def memory_share() -> int:
    """Return the bytes of this machine's memory that all jobs may use together by default."""
    return int(_MEMORY_SHARE * os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))


class Starts:
    """A semaphore with one place per core; may be used from any thread."""

    def __init__(self, places: int = CORES) -> None:
        self._changed = threading.Condition()
        self._free = places
        self._urgent = 0

    @contextlib.contextmanager
    def slot(self, *, urgent: bool = True) -> Iterator[None]:
        """Hold a place while the block runs; callers that are not urgent let others pass.

        Raises CancelledError if the thread's task is cancelled while it waits.
        """
        with interrupt.calling(self._wake):
            self._enter(urgent=urgent)
        try:
            yield
        finally:
            with self._changed:
                self._free += 1
                self._changed.notify_all()

    def _enter(self, *, urgent: bool) -> None:
        with self._changed:
            self._urgent += urgent
            try:
                while not self._free or (self._urgent and not urgent):
                    interrupt.check()
                    self._changed.wait()
                interrupt.check()
                self._free -= 1
            finally:
                self._urgent -= urgent
                self._changed.notify_all()

    def _wake(self) -> None:
        with self._changed:
            self._changed.notify_all()
