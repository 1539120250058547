"""Waiting for what happens to a job: a condition for threads and, without a thread, for coroutines.

Whoever changes a job notifies its condition and needs to know nothing of who waits, or how.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import asyncio


class Changes(threading.Condition):
    """A condition whose `notify_all` wakes coroutines as well, in whatever loops they run."""

    def __init__(self) -> None:
        super().__init__()
        self._sleepers: list[Sleeper] = []

    def notify_all(self) -> None:
        """Wake every thread and every coroutine that waits; the lock is held."""
        super().notify_all()
        for each in self._sleepers:
            each.wake()

    @contextlib.contextmanager
    def sleeper(self) -> Iterator[Sleeper]:
        """Lend the running coroutine what it waits with; to be used in its event loop only."""
        one = Sleeper()
        with self:
            self._sleepers.append(one)
        try:
            yield one
        finally:
            with self:
                self._sleepers.remove(one)


class Sleeper:
    """One coroutine that waits for changes.  It looks at what has changed after each `sleep`."""

    def __init__(self) -> None:
        # Here and not above: it takes longer to import than all of the rest.
        import asyncio

        self._loop: asyncio.AbstractEventLoop = asyncio.get_running_loop()
        self._event = asyncio.Event()
        self._is_called = False

    async def sleep(self) -> None:
        """Wait until there has been a change since the last time; cancelling is harmless."""
        await self._event.wait()
        self._event.clear()
        # A change from now on calls again; one before it is seen by who looks after this.
        self._is_called = False

    def wake(self) -> None:
        """Call from any thread, once for as many changes as come before the loop has time."""
        if not self._is_called:
            self._is_called = True
            with contextlib.suppress(RuntimeError):  # a loop that was closed meanwhile
                self._loop.call_soon_threadsafe(self._event.set)
