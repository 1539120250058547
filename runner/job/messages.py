"""The interim results of a job as they arrive, for a `for` or, in a coroutine, an `async for`."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

from runner.job.history import History
from runner.job.record import Event, MessageEvent
from sandbox.wire.protocol import JsonText


class Messages(Iterator[Any]):
    """Iterates once, by either loop, over the decoded messages of a job until the job has ended."""

    def __init__(self, history: History, decode: Callable[[JsonText], Any], start: int) -> None:
        self._history = history
        self._decode = decode
        self._start = start
        self._read = self._reading()

    def __iter__(self) -> Iterator[Any]:
        return self._read

    def __next__(self) -> Any:
        return next(self._read)

    async def __aiter__(self) -> AsyncIterator[Any]:
        async for event in self._history.events_async(last_attempt=True):
            if (body := self._wanted(event)) is not None:
                yield self._decode(body)

    def _reading(self) -> Iterator[Any]:
        for event in self._history.events(last_attempt=True):
            if (body := self._wanted(event)) is not None:
                yield self._decode(body)

    def _wanted(self, event: Event) -> JsonText | None:
        if isinstance(event, MessageEvent) and event.seq >= self._start:
            return event.body
        return None
