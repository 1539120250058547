"""The calls of a job on a cluster to its held backend, which lives here, next to the caller."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Callable

from runner.job.device import MAX_KEPT_BYTES, Answer, Line
from runner.job.record import Usage
from runner.running.task import Task
from runner.sites.wire import Asked, WireError, reply_line
from sandbox.wire import protocol
from sandbox.wire.protocol import Call, JsonText


class Calls:
    """The calls of one attempt, from the thread that reads its events.

    `send` passes a line on to the node, from any thread.  Answers are kept with the job.
    """

    def __init__(self, task: Task, send: Callable[[bytes], object]) -> None:
        self._task = task
        self._send = send
        self._lock = threading.Lock()
        self._open: dict[int, Asked] = {}
        self._kept: list[Answer] = []
        self._kept_bytes = 0
        self._is_closed = False
        self._line: Line | None = None
        if task.device is not None:
            self._line = task.device.open(task.job.id, task.request.user, self._answered)

    def take(self, asked: Asked) -> None:
        """Begin a call.  Raises WireError for one that no node of ours would pass on."""
        with self._lock:
            if self._line is None or asked.call in self._open:
                msg = "a call to a held backend, which the job has not, or which was made already"
                raise WireError(msg)
            if len(self._open) >= protocol.MAX_CALLS:
                msg = f"a call more than the {protocol.MAX_CALLS} that may be without an answer"
                raise WireError(msg)
            self._open[asked.call] = asked
        call = Call(
            job=0, call=asked.call, verb=asked.verb, signature=asked.signature, body=asked.body
        )
        self._line.call(call)

    def _answered(self, number: int, body: JsonText) -> None:
        with self._lock:
            asked = self._open.pop(number)
            self._kept_bytes += len(body)
            if self._kept_bytes > MAX_KEPT_BYTES:
                self._kept.clear()
            elif asked.signature:
                self._kept.append(Answer(verb=asked.verb, signature=asked.signature, body=body))
        self._send(reply_line(number, body))

    def close(self) -> None:
        """Cancel on the device what is not done; may be repeated."""
        if self._line is None or self._is_closed:
            return
        self._is_closed = True
        self._line.close()
        with self._lock:
            self._task.job.answers = list(self._kept)

    def completed(self, usage: Usage) -> Usage:
        """Return a node's figures with those of the device, which only this side knows."""
        if self._line is None:
            return usage
        used = self._line.used
        return dataclasses.replace(usage, **used.figures, sources={**usage.sources, **used.sources})
