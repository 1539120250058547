"""What a job has said so far, in the order in which it came: start, messages, log.

One thread writes, any number read, live or later.  What it holds is bounded by the job's limits,
so readers may be as slow as they like.
"""

from __future__ import annotations

import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Final

from runner.job.log import Log
from runner.job.record import Event, LogEvent, MessageEvent, StartedEvent, length
from runner.job.waiting import Changes
from sandbox.wire.protocol import JsonText

_AT_ONCE: Final = 256
_CHARS_AT_ONCE: Final = 1 << 16
"""Events, and characters of them, that a coroutine takes before it lets others run."""


class History:
    """The events of one job; `changed` is notified of each, and of the end.

    `load` brings the events of a job that has ended long ago, once somebody asks for them.
    """

    def __init__(
        self, log_kept_bytes: int = 1, *, load: Callable[[], list[Event]] | None = None
    ) -> None:
        self.changed = Changes()
        self.message_count = 0
        self.has_ended = load is not None
        self._load = load
        self._events: list[Event] = []
        self._attempt_start = 0
        self._log = Log(log_kept_bytes)

    def since(self, start: int = 0, limit: int | None = None) -> list[Event]:
        """Return the events from position `start` on, at most `limit`, without waiting."""
        with self.changed:
            if self._load is not None:
                self._take(self._load())
                self._load = None
            return self._events[start : None if limit is None else start + limit]

    def wait(self, start: int, stop: threading.Event) -> list[Event]:
        """Wait for events from `start` on; there are none after the end, or when `stop` is set.

        Who sets `stop` notifies `changed`.
        """
        with self.changed:
            self.changed.wait_for(
                lambda: len(self._events) > start or self.has_ended or stop.is_set()
            )
            return [] if stop.is_set() else self.since(start)

    def events(
        self, stop: threading.Event | None = None, *, last_attempt: bool = False
    ) -> Iterator[Event]:
        """Yield every event as it comes, until the end or until `stop`.

        From the first on, or from the first of the attempt that is the last one now.
        """
        stop = stop or threading.Event()
        self.since(0, 0)  # what has to be loaded is
        position = self._attempt_start if last_attempt else 0
        while batch := self.wait(position, stop):
            position += len(batch)
            yield from batch

    async def events_async(self, *, last_attempt: bool = False) -> AsyncIterator[Event]:
        """Yield what `events` does to a coroutine; it holds up neither its loop nor a thread."""
        import asyncio

        self.since(0, 0)
        position = self._attempt_start if last_attempt else 0
        with self.changed.sleeper() as sleeper:
            while True:
                with self.changed:
                    batch, has_ended = self.since(position, _AT_ONCE), self.has_ended
                position += len(batch)
                taken = 0
                for each in batch:
                    yield each
                    taken += length(each)
                    if taken > _CHARS_AT_ONCE:  # which may take its reader long to decode
                        taken = 0
                        await asyncio.sleep(0)
                if batch:
                    await asyncio.sleep(0)
                elif has_ended:
                    return
                else:
                    await sleeper.sleep()

    def messages(self) -> list[MessageEvent]:
        """Return the messages so far; of the last attempt only."""
        return [each for each in self._last_attempt() if isinstance(each, MessageEvent)]

    def bodies(self) -> list[JsonText]:
        """Return the messages so far, in encoded form; of the last attempt only."""
        return [each.body for each in self.messages()]

    def logs(self) -> str:
        """Return the log so far; of the last attempt only."""
        events = self._last_attempt()
        return "".join(each.text for each in events if isinstance(each, LogEvent))

    def _last_attempt(self) -> list[Event]:
        return self.since()[self._attempt_start :]

    # --- for the one who writes -----------------------------------------------------------------

    def begin_again(self) -> None:
        """Say that what follows is another attempt, of which nothing has been seen yet."""
        with self.changed:
            self._attempt_start = len(self._events)

    def extend(self, events: list[Event]) -> None:
        """Add events as they are, numbers and times included."""
        with self.changed:
            self._take(events)
            self.changed.notify_all()

    def _take(self, events: list[Event]) -> None:
        for each in events:
            if isinstance(each, StartedEvent) and each.attempt > 1:
                self._attempt_start = len(self._events)
            self._events.append(each)
            self.message_count += isinstance(each, MessageEvent)

    def add_message(self, body: JsonText) -> None:
        with self.changed:
            event = MessageEvent(seq=self.message_count, time=time.time(), body=body)
            self.message_count += 1
            self._events.append(event)
            self.changed.notify_all()

    def add_log(self, data: bytes) -> None:
        with self.changed:
            self._append_log(self._log.feed(data))

    def close_log(self) -> None:
        """Add what the log has held back: nothing more will come."""
        with self.changed:
            self._append_log(self._log.finish())

    def _append_log(self, text: str) -> None:
        if text:
            self._events.append(LogEvent(stream="stderr", text=text))
            self.changed.notify_all()
