"""Callbacks of a job: one call per message, then one for the final result.

Callbacks are the user's code.  A callback that is slow or raises does not affect the job or later
calls.
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
"""How long `Job.result` waits for a late callback before it returns anyway."""

MAX_BACKLOG: Final = 1024
"""How many messages a callback may be behind before the sandbox's channel is no longer read."""

Callback: TypeAlias = Callable[[str, Any], object]


class Delivery:
    """The callbacks of one job; `final` returns its encoded result, None unless it completed."""

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
        """Announce that `deliver` will be called."""
        self._is_expected = True
        self._is_done = False

    @property
    def is_congested(self) -> bool:
        """Return True if a callback is so far behind that no further message should be taken."""
        return self._is_expected and self._history.message_count - self._delivered >= MAX_BACKLOG

    def deliver(
        self, callback: Callback, on_final: Callback, on_progress: Callable[[], None]
    ) -> None:
        """Call back for every message, blocking; call `on_progress` when congestion ends."""
        for event in self._history.events():
            if not isinstance(event, MessageEvent):
                continue
            self._call(callback, event.body, f"message {event.seq}")
            with self._history.changed:
                # Checked only now: the callback may have caused congestion while it ran.
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
        """Return True if no callback that the job was submitted with is behind."""
        return self._is_done

    def settle(self) -> None:
        """Wait up to `CALLBACK_GRACE_S` for callbacks that are behind."""
        with self._history.changed:
            self._history.changed.wait_for(lambda: self._is_done, CALLBACK_GRACE_S)

    # --- callbacks that are added later ----------------------------------------------------------

    def stream(self, callback: Callback, on_final: Callback | None) -> None:
        """Start a thread that calls back from the first message on; only one such stream at a time.

        Raises RequestError if a stream runs already, RunnerError if no thread can be started.
        """
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
        except BaseException:  # SystemExit would end the thread, and the job would wait for it
            log.exception("the callback of job %s failed at %s", self._job_id, what)

    def _call_final(self, on_final: Callback | None) -> None:
        value = self._final()
        if on_final is not None and value is not None:
            self._call(on_final, value, "the final result")
