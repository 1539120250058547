"""Open streams of events: counted for each user, and ended together when the service ends.

A stream reads from the job's bounded record at its client's pace, so a slow client costs a place
here and no memory.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from typing import Final, TypeVar

from runner.policy.rules import Rules
from runner.service.faults import too_much
from runner.store.users import User

T = TypeVar("T")

BEAT_S: Final = 15.0
"""How often a silent stream says that it is alive, in seconds."""


class Streams:
    """The open streams of one service; used in its event loop only, but for `number`."""

    def __init__(self, rules: Rules) -> None:
        self._rules = rules
        self._of_users: Counter[str] = Counter()
        self._tasks: set[asyncio.Task[object]] = set()
        self.number = 0
        self.are_ended = False

    @contextlib.contextmanager
    def open(self, user: User) -> Iterator[None]:
        """Count one stream while the block runs.  Raises RefusedError if there are too many."""
        self.check(user)
        task = asyncio.current_task()
        assert task is not None
        self.number += 1
        self._of_users[user.name] += 1
        self._tasks.add(task)
        try:
            yield
        finally:
            self._tasks.discard(task)
            self.number -= 1
            self._of_users[user.name] -= 1
            if not self._of_users[user.name]:
                del self._of_users[user.name]

    def check(self, user: User) -> None:
        """Raise RefusedError if this user may not open a stream now."""
        if self._of_users[user.name] >= self._rules.streams:
            msg = f"you have {self._rules.streams} streams open, the quota: close some"
            raise too_much(msg)
        if self.number >= self._rules.all_streams:
            msg = f"{self.number} streams are open, the most of this service"
            raise too_much(msg)

    def end(self) -> None:
        """End all streams before their jobs have ended; clients come back for the rest."""
        self.are_ended = True
        for task in list(self._tasks):
            task.cancel()


async def beating(items: AsyncIterator[T], beat_s: float = BEAT_S) -> AsyncIterator[T | None]:
    """Yield the items as they come, and None whenever none has come for `beat_s` seconds."""
    pending: asyncio.Task[T] | None = None
    try:
        while True:
            if pending is None:
                pending = asyncio.ensure_future(anext(items))
            done, _ = await asyncio.wait({pending}, timeout=beat_s)
            if not done:
                yield None
                continue
            ready, pending = pending, None
            try:
                item = ready.result()
            except StopAsyncIteration:
                return
            yield item
    finally:
        if pending is not None:
            pending.cancel()
            with contextlib.suppress(asyncio.CancelledError, StopAsyncIteration):
                await pending
