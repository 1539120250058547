"""Places for requests: so many at the same time, and of each user fewer.

A request waits for its place in the event loop, where waiting costs nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator
from typing import Final

from runner.service.faults import later

WAIT_S: Final = 30.0
"""How long a request may wait for its place, in seconds."""


class Gate:
    """Places for one kind of request; used in the event loop only.

    Arguments:
        kind: what the requests are called, for a refusal.
        places: how many there may be.
        of_user: how many of them may be of one user.
    """

    def __init__(self, kind: str, places: int, of_user: int) -> None:
        self._kind = kind
        self._places = places
        self._of_user = of_user
        self._taken: Counter[str] = Counter()
        self._freed = asyncio.Event()

    @contextlib.asynccontextmanager
    async def place(self, user: str, wait_s: float = WAIT_S) -> AsyncIterator[None]:
        """Hold a place while the block runs.  Raises RefusedError (503) if none becomes free."""
        try:
            async with asyncio.timeout(wait_s):
                while self._is_full(user):
                    await self._freed.wait()
        except TimeoutError:
            msg = f"too many {self._kind} at the same time"
            raise later(msg) from None
        self._taken[user] += 1
        try:
            yield
        finally:
            self._taken[user] -= 1
            if not self._taken[user]:
                del self._taken[user]
            self._freed.set()
            self._freed = asyncio.Event()

    def _is_full(self, user: str) -> bool:
        return self._taken[user] >= self._of_user or self._taken.total() >= self._places
