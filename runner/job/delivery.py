"""Calling back with what a job says: one call per message, then one for the final result.

Callbacks are the user's code: they may be slow and they may raise, and neither does any harm to
the job or to later calls.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Any, Final, TypeAlias

from runner.errors import RequestError, RunnerError
from runner.job.history import History
from runner.job.record import MessageEvent
from sandbox.wire.protocol import JsonText

log = logging.getLogger(__name__)

CALLBACK_GRACE_S: Final = 2.0
"""How long `Job.result` waits for a callback that is behind, before it returns anyway."""

MAX_BACKLOG: Final = 1024
"""Messages that a callback may be behind before the sandbox's channel is no longer read."""

Callback: TypeAlias = Callable[[str, Any], object]


class Delivery:
    """The callbacks of one job; `final` returns its result in encoded form if it has completed."""

    def __init__(
        self,
        job_id: str,
        history: History,
        decode: Callable[[JsonText], Any],
        final: Callable[[], JsonText | None],
    ) -> None:
        self._job_id = job_id
        self._history = history
        self._decode = decode
        self._final = final
        self._delivered = 0
        self._is_expected = False
        self._is_done = True
        self._stop: threading.Event | None = None

    # --- the callbacks that a job was submitted with ----------------------------------------------

    def expect(self) -> None:
        """Say that `deliver` will be called."""
        self._is_expected = True
        self._is_done = False

    @property
    def is_congested(self) -> bool:
        """Whether a callback is so far behind that no further message should be taken."""
        return self._is_expected and self._history.message_count - self._delivered >= MAX_BACKLOG

    def deliver(
        self, callback: Callback, on_final: Callback, on_progress: Callable[[], None]
    ) -> None:
        """Call back for everything; blocks.  `on_progress` tells that congestion has ended."""
        for event in self._history.events():
            if not isinstance(event, MessageEvent):
                continue
            self._call(callback, event.body, f"message {event.seq}")
            with self._history.changed:
                # Only now: it may have come to that while the callback was at it.
                was_congested = self.is_congested
                self._delivered += 1
                self._history.changed.notify_all()
            if was_congested:
                on_progress()
        self._call_final(on_final)
        with self._history.changed:
            self._is_done = True
            self._history.changed.notify_all()

    @property
    def is_settled(self) -> bool:
        """Whether no callback that the job was submitted with is behind."""
        return self._is_done

    def settle(self) -> None:
        """Wait a moment for callbacks that are behind, no longer than `CALLBACK_GRACE_S`."""
        with self._history.changed:
            self._history.changed.wait_for(lambda: self._is_done, CALLBACK_GRACE_S)

    # --- callbacks that come later ----------------------------------------------------------------

    def stream(self, callback: Callback, on_final: Callback | None) -> None:
        """Begin to call back from the first message on, in a thread, one such stream at a time."""
        with self._history.changed:
            if self._stop is not None:
                msg = (
                    f"job {self._job_id} streams its results already: end that by "
                    "cancel_result_streaming(), or read messages() as often as you like"
                )
                raise RequestError(msg)
            stop = self._stop = threading.Event()
        try:
            threading.Thread(
                target=self._stream,
                args=(callback, on_final, stop),
                name="qrunner-stream",
                daemon=True,
            ).start()
        except RuntimeError as error:
            self.cancel_stream()
            msg = f"this process cannot start a thread for the callback: {error}"
            raise RunnerError(msg) from error

    def cancel_stream(self) -> None:
        """End the stream, if there is one."""
        with self._history.changed:
            if self._stop is not None:
                self._stop.set()
                self._stop = None
                self._history.changed.notify_all()

    def _stream(self, callback: Callback, on_final: Callback | None, stop: threading.Event) -> None:
        for event in self._history.events(stop):
            if stop.is_set():
                return
            if isinstance(event, MessageEvent):
                self._call(callback, event.body, f"message {event.seq}")
        if not stop.is_set():
            self._call_final(on_final)
        with self._history.changed:
            if self._stop is stop:
                self._stop = None

    def _call(self, callback: Callback, value: JsonText, what: str) -> None:
        try:
            callback(self._job_id, self._decode(value))
        except Exception:
            log.exception("the callback of job %s failed at %s", self._job_id, what)

    def _call_final(self, on_final: Callback | None) -> None:
        value = self._final()
        if on_final is not None and value is not None:
            self._call(on_final, value, "the final result")
