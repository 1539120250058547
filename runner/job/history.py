"""Everything that a job has reported so far, in the order of arrival: start, messages, log.

One thread writes; any number of threads read, live or later.  The job's limits bound the size, so
readers may be as slow as they like.
"""

from __future__ import annotations

import base64
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Final

from runner.job.log import Log
from runner.job.record import Event, FileEvent, LogEvent, MessageEvent, StartedEvent, length
from runner.job.waiting import Changes
from sandbox.wire.protocol import JsonText

_AT_ONCE: Final = 256
_CHARS_AT_ONCE: Final = 1 << 16
"""Number of characters that a coroutine reads before it lets others run."""


class History:
    """The events of one job; `changed` is notified of each event, and of the end.

    `load` reads the events of a job that has ended long ago; it is called on first use.
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
        """Wait for events from position `start` on; none after the end or when `stop` is set.

        The caller that sets `stop` must notify `changed`.
        """
        with self.changed:
            self.changed.wait_for(
                lambda: len(self._events) > start or self.has_ended or stop.is_set()
            )
            return [] if stop.is_set() else self.since(start)

    def events(
        self, stop: threading.Event | None = None, *, last_attempt: bool = False
    ) -> Iterator[Event]:
        """Yield every event as it arrives, until the end or until `stop` is set.

        With `last_attempt`, begins with the first event of the current last attempt.
        """
        stop = stop or threading.Event()
        self.since(0, 0)  # load the events if need be
        position = self._attempt_start if last_attempt else 0
        while batch := self.wait(position, stop):
            position += len(batch)
            yield from batch

    async def events_async(
        self, *, start: int = 0, last_attempt: bool = False
    ) -> AsyncIterator[Event]:
        """Yield the same as `events` in a coroutine; block neither its loop nor a thread.

        Begins at position `start`.
        """
        import asyncio

        self.since(0, 0)
        position = max(start, self._attempt_start if last_attempt else 0)
        with self.changed.sleeper() as sleeper:
            while True:
                with self.changed:
                    batch, has_ended = self.since(position, _AT_ONCE), self.has_ended
                position += len(batch)
                taken = 0
                for each in batch:
                    yield each
                    taken += length(each)
                    if taken > _CHARS_AT_ONCE:  # decoding may take the reader long
                        taken = 0
                        await asyncio.sleep(0)
                if len(batch) == _AT_ONCE:
                    await asyncio.sleep(0)
                elif has_ended:
                    return
                else:
                    await sleeper.sleep()

    def messages(self) -> list[MessageEvent]:
        """Return the messages of the last attempt so far."""
        return [each for each in self._last_attempt() if isinstance(each, MessageEvent)]

    def bodies(self) -> list[JsonText]:
        """Return the messages of the last attempt so far, in encoded form."""
        return [each.body for each in self.messages()]

    def files(self) -> dict[str, bytes]:
        """Return the files of the last attempt so far, by their paths in `/out`."""
        events = self._last_attempt()
        return {
            each.name: base64.b64decode(each.content)
            for each in events
            if isinstance(each, FileEvent)
        }

    def logs(self) -> str:
        """Return the log of the last attempt so far."""
        events = self._last_attempt()
        return "".join(each.text for each in events if isinstance(each, LogEvent))

    def _last_attempt(self) -> list[Event]:
        return self.since()[self._attempt_start :]

    # --- for the thread that writes ---------------------------------------------------------------

    def begin_again(self) -> None:
        """Record that a new attempt begins, which has reported nothing yet."""
        with self.changed:
            self._attempt_start = len(self._events)

    def extend(self, events: list[Event]) -> None:
        """Add events unchanged, with their numbers and times."""
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
        """Add the text that the log still holds back; no output follows."""
        with self.changed:
            self._append_log(self._log.finish())

    def _append_log(self, text: str) -> None:
        if text:
            self._events.append(LogEvent(stream="stderr", text=text))
            self.changed.notify_all()
