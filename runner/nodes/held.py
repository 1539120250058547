"""A held backend as a node sees it: calls go to the caller, whose holder answers."""

from __future__ import annotations

import threading
from collections.abc import Callable

from runner.job.device import Consumption, Line
from runner.sites.wire import Asked
from sandbox.wire.protocol import Call, JsonText


class DistantDevice:
    """The held backend of one job; `ask` passes a call on to the caller.  For any thread."""

    def __init__(self, ask: Callable[[Asked], object]) -> None:
        self._ask = ask
        self._lock = threading.Lock()
        self._reply: Callable[[int, JsonText], object] | None = None

    def open(self, job: str, user: str, reply: Callable[[int, JsonText], object]) -> Line:
        """Return the line of the one job."""
        del job, user
        with self._lock:
            self._reply = reply
        return _Line(self._ask, self._close)

    def answer(self, call: int, body: JsonText) -> None:
        """Pass on what the caller's holder has answered; dropped once the job has ended."""
        with self._lock:
            if self._reply is not None:
                self._reply(call, body)

    def _close(self) -> None:
        with self._lock:
            self._reply = None


class _Line:
    """The line of a job whose calls are answered elsewhere, and counted there."""

    def __init__(self, ask: Callable[[Asked], object], close: Callable[[], None]) -> None:
        self._ask = ask
        self.close = close

    @property
    def used(self) -> Consumption:
        """Nothing that this node knows: the caller completes the record."""
        return Consumption(source="unknown: the caller counts")

    def call(self, call: Call) -> None:
        """Pass on a call."""
        asked = Asked(call=call.call, verb=call.verb, signature=call.signature, body=call.body)
        self._ask(asked)
