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
    """A condition whose `notify_all` also wakes coroutines, in any event loop."""

    def __init__(self) -> None:
        super().__init__()
        self._sleepers: list[Sleeper] = []

    def notify_all(self) -> None:
        """Wake every waiting thread and coroutine; the caller holds the lock."""
        super().notify_all()
        for each in self._sleepers:
            each.wake()

    @contextlib.contextmanager
    def sleeper(self) -> Iterator[Sleeper]:
        """Provide the running coroutine with a `Sleeper`, to be used in its event loop only."""
        one = Sleeper()
        with self:
            self._sleepers.append(one)
        try:
            yield one
        finally:
            with self:
                self._sleepers.remove(one)


class Sleeper:
    """One coroutine that waits for changes.  It must check the state after each `sleep`."""

    def __init__(self) -> None:
        # Imported here because it takes longer than all the other imports.
        import asyncio

        self._loop: asyncio.AbstractEventLoop = asyncio.get_running_loop()
        self._event = asyncio.Event()
        self._is_called = False

    async def sleep(self) -> None:
        """Wait until something has changed since the last call; may be cancelled safely."""
        await self._event.wait()
        self._event.clear()
        # A later change sets it again; the caller checks the state next, and sees earlier ones.
        self._is_called = False

    def wake(self) -> None:
        """Wake the coroutine from any thread; calls are merged until the loop has run."""
        if not self._is_called:
            self._is_called = True
            with contextlib.suppress(RuntimeError):  # the loop was closed in the meantime
                self._loop.call_soon_threadsafe(self._event.set)
