"""Waiting for changes of a job: a condition for threads and, without a thread, for coroutines.

Code that changes a job notifies its condition, and need not know who waits or how.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import asyncio


class Changes(threading.Condition):
    """A condition whose `notify_all` also wakes coroutines, in any event loop.

    However many coroutines of a loop wait, it is told once: each telling is a system call.
    """

    def __init__(self) -> None:
        super().__init__()
        self._bells: dict[asyncio.AbstractEventLoop, _Bell] = {}

    def notify_all(self) -> None:
        """Wake every waiting thread and coroutine; the caller holds the lock."""
        super().notify_all()
        for each in self._bells.values():
            each.ring()

    @contextlib.contextmanager
    def sleeper(self) -> Iterator[Sleeper]:
        """Provide the running coroutine with a `Sleeper`, to be used in its event loop only."""
        # Imported here because it takes longer than all the other imports.
        import asyncio

        loop, one = asyncio.get_running_loop(), Sleeper()
        with self:
            bell = self._bells.setdefault(loop, _Bell(loop))
            bell.sleepers.add(one)
        try:
            yield one
        finally:
            with self:
                bell.sleepers.remove(one)
                if not bell.sleepers:
                    del self._bells[loop]


class Sleeper:
    """One coroutine that waits for changes.  It must check the state after each `sleep`."""

    def __init__(self) -> None:
        import asyncio

        self._event = asyncio.Event()
        self.wake = self._event.set

    async def sleep(self) -> None:
        """Wait until something has changed since the last call; may be cancelled safely.

        Others run meanwhile in any case.
        """
        import asyncio

        if self._event.is_set():
            await asyncio.sleep(0)
        else:
            await self._event.wait()
        # A later change sets it again; the caller checks the state next, and sees earlier ones.
        self._event.clear()


class _Bell:
    """Wakes the sleepers of one event loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.sleepers: set[Sleeper] = set()
        self._loop = loop
        self._is_rung = False

    def ring(self) -> None:
        """Wake all of them, from any thread; calls are merged until the loop has run."""
        if not self._is_rung:
            self._is_rung = True
            with contextlib.suppress(RuntimeError):  # the loop was closed in the meantime
                self._loop.call_soon_threadsafe(self._wake)

    def _wake(self) -> None:
        self._is_rung = False  # first: whoever rings from now on has changed something anew
        for each in list(self.sleepers):
            each.wake()
