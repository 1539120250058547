"""One job as a duplex stream of lines: the caller's side of stdio, Slurm and Ray alike.

`Stream` owns two descriptors and the time of its node's last sign of life.  The engine (`Channel`)
knows how the stream was made, and how its far end is ended.  Every job ends with exactly one last
event. The only wait without a limit is in the queue of a cluster that reports nothing to waiting
jobs. `Streams` is the common part of all engines whose handles are streams.
"""

from __future__ import annotations

import contextlib
import math
import os
import select
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Final, Protocol

from runner.sites.cluster import LOST_S
from runner.sites.wire import (
    MAX_LINE_BYTES,
    AttemptEvent,
    End,
    Ended,
    Finished,
    Hello,
    WireError,
    event_of,
)

CANCEL_LINE: Final = b'{"do": "cancel"}\n'

_CANCEL_S: Final = 10.0
"""How long a node may take to end a cancelled job before it is disconnected, in seconds."""

_CLEAN_UP_S: Final = 15.0
"""How long the far end may take to clean up after its job, in seconds."""

_ANSWER_S: Final = 60.0
"""How long a node may not read an answer of a held backend, in seconds."""

_TICK_S: Final = 1.0
_RECEIVE_BYTES: Final = 1 << 18


class Channel(Protocol):
    """The transport of a stream, and the control of its far end."""

    reader: int
    writer: int

    def hang_up(self) -> None:
        """Make the far end stop, at once if it has not begun; never blocks, may be repeated."""

    def close(self, patience_s: float) -> None:
        """Release everything; the far end is killed if it is still there after `patience_s`."""

    def last_words(self) -> str:
        """Return the far end's error output, such as why it never began."""


class Stream:
    """The caller's end of one attempt.  `events` belongs to one thread; any may call `cancel`.

    `node` is the node's name, None until its first event.  `is_lost` is True if it has ended or
    become silent without a last event.  Before the first event of a node, an end without a last
    event is reported as `untaken`, and so is silence after `patience_s` (None: never).
    """

    def __init__(
        self,
        channel: Channel,
        line: bytes,
        *,
        untaken: End = End.REFUSED,
        patience_s: float | None = None,
    ) -> None:
        self._channel = channel
        self._unsent = memoryview(line)
        self._untaken = untaken
        self._patience_s = patience_s
        self._unfinished = bytearray()
        self._lock = threading.Lock()
        self._answering = threading.Lock()
        self.node: str | None = None
        self._sign = datetime.now(UTC)
        self._cancelled_at: float | None = None
        self._is_closed = False
        self.is_lost = False
        os.set_blocking(channel.reader, False)
        os.set_blocking(channel.writer, False)

    def events(self) -> Iterator[AttemptEvent]:
        """Yield the node's events, up to its one last event."""
        try:
            try:
                for event in self._said():
                    if isinstance(event, Ended):
                        yield self._in_full(event)
                        return
                    yield event
                    if isinstance(event, Finished):
                        return
            except WireError as error:
                reason = f"node {self.node} violates the protocol: {error}"
                yield Ended(how=End.LOST, reason=reason)
                return
            yield self._ended()
        finally:
            self.close()

    def cancel(self) -> None:
        """Ask the node to end the job, or withdraw the job if no node has it yet."""
        with self._lock:
            if self._is_closed or self._cancelled_at is not None:
                return
            self._cancelled_at = time.monotonic()
            is_free = self._answering.acquire(blocking=False)  # no line may end up within another
            try:
                if self.node is not None and not self._unsent and is_free:
                    with contextlib.suppress(OSError):
                        os.write(self._channel.writer, CANCEL_LINE)
                        return
                self._channel.hang_up()
            finally:
                if is_free:
                    self._answering.release()

    def answer(self, line: bytes) -> None:
        """Send a line to the node, which has read its specification; for any thread.

        Blocks while the node does not read, for `_ANSWER_S` at most; then the stream ends.
        """
        left = memoryview(line)
        until = time.monotonic() + _ANSWER_S
        with self._answering:
            while left and self._cancelled_at is None:
                with self._lock:
                    if self._is_closed:
                        return
                    try:
                        left = left[os.write(self._channel.writer, left) :]
                        continue
                    except BlockingIOError:
                        writer = os.dup(self._channel.writer)
                    except OSError:
                        return  # reading will show its end
                try:
                    poll = select.poll()
                    poll.register(writer, select.POLLOUT)
                    poll.poll(_TICK_S * 1000)
                finally:
                    os.close(writer)
                if time.monotonic() > until:
                    self._channel.hang_up()
                    return

    def close(self) -> None:
        """Release the far end; what it still runs ends by its lifeline."""
        with self._lock:
            if self._is_closed:
                return
            self._is_closed = True
        self._channel.close(0.5 if self.is_lost else _CLEAN_UP_S)

    # --- reading --------------------------------------------------------------------------------

    def _said(self) -> Iterator[AttemptEvent]:
        """Yield events until the stream ends, or nothing has arrived for too long."""
        while self._wait():
            try:
                data = os.read(self._channel.reader, _RECEIVE_BYTES)
            except BlockingIOError:
                continue
            except OSError:
                return  # a reset connection has ended as well
            if not data:
                return
            for line in self._lines(data):
                event = event_of(line)
                if isinstance(event, Hello):
                    self.node = event.node
                if not isinstance(event, Ended):  # `Ended` may not come from the node itself
                    self._sign = datetime.now(UTC)
                yield event

    def _lines(self, data: bytes) -> Iterator[bytes]:
        first, *others = data.split(b"\n")
        self._unfinished += first
        for other in others:
            line = bytes(self._unfinished)
            self._unfinished = bytearray(other)
            yield line
        if len(self._unfinished) > MAX_LINE_BYTES:
            msg = f"a line is longer than {MAX_LINE_BYTES} bytes"
            raise WireError(msg)

    def _wait(self) -> bool:
        """Wait until there is input, sending meanwhile; return False if the stream is over."""
        # Counted from now, not from the last sign: nothing was read while the consumer was busy.
        until = self._lost_at()
        while (now := time.monotonic()) < until:
            poll = select.poll()
            poll.register(self._channel.reader, select.POLLIN)
            if self._unsent:
                poll.register(self._channel.writer, select.POLLOUT)
            ready = dict(poll.poll(min(_TICK_S, until - now) * 1000))
            if self._channel.writer in ready:
                self._send(ready[self._channel.writer])
                until = self._lost_at()  # that the node reads is a sign of life too
            if self._channel.reader in ready:
                return True
            if self._cancelled_at is not None and now - self._cancelled_at > _CANCEL_S:
                return False
        return False

    def _lost_at(self) -> float:
        patience_s = self._patience_s if self.node is None else LOST_S
        return math.inf if patience_s is None else time.monotonic() + patience_s

    def _send(self, what: int) -> None:
        with self._lock:
            try:
                self._unsent = self._unsent[os.write(self._channel.writer, self._unsent) :]
            except BlockingIOError:
                return
            except OSError:
                what = select.POLLERR
            if what & (select.POLLERR | select.POLLHUP):
                self._unsent = memoryview(b"")  # reading will show its end

    def _ended(self) -> Ended:
        """Return why there is no record: by what is known, never by an exit code."""
        self._channel.hang_up()
        if self._cancelled_at is not None:
            return Ended(how=End.CANCELLED, reason="cancelled by the caller")
        said = self._channel.last_words()
        if self.node is None:
            self.is_lost = self._untaken is End.LOST
            said = said or "its engine has ended or does not respond"
            return Ended(how=self._untaken, reason=f"no node has taken the job: {said}")
        return self._in_full(Ended(how=End.LOST, reason=said))

    def _in_full(self, event: Ended) -> Ended:
        """Return a loss with its node and the node's last sign of life; other events unchanged."""
        if event.how is not End.LOST:
            return event
        if self.node is None:  # chosen for the job, and gone before its first event
            return Ended(how=End.LOST, reason=f"no node has taken the job: {event.reason}")
        self.is_lost = True
        silent = (datetime.now(UTC) - self._sign).total_seconds()
        reason = (
            f"node {self.node} is lost: its last sign of life was at "
            f"{self._sign.isoformat(timespec='milliseconds')}, {silent:.1f} s before"
        )
        return Ended(how=End.LOST, reason=f"{reason} ({event.reason})" if event.reason else reason)


class Streams:
    """The streams of one engine that have not ended."""

    def __init__(self) -> None:
        self._streams_lock = threading.Lock()
        self._streams: set[Stream] = set()

    def _open(
        self, channel: Channel, line: bytes, *, untaken: End, patience_s: float | None
    ) -> Stream:
        stream = Stream(channel, line, untaken=untaken, patience_s=patience_s)
        with self._streams_lock:
            self._streams.add(stream)
        return stream

    def events(self, handle: Stream) -> Iterator[AttemptEvent]:
        """Yield the node's events, up to its one last event."""
        try:
            yield from handle.events()
        finally:
            with self._streams_lock:
                self._streams.discard(handle)

    def answer(self, handle: Stream, line: bytes) -> None:
        """Pass on what a held backend has answered."""
        handle.answer(line)

    def cancel(self, handle: Stream) -> None:
        """Request the end of a stream."""
        handle.cancel()

    def close(self) -> None:
        """Release every remaining stream."""
        with self._streams_lock:
            streams, self._streams = self._streams, set()
        for each in streams:
            each.close()
