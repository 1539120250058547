"""Converts bytes from a sandbox, in pieces of any size, to a job's events, within the limits.

`Relay` knows no sockets, no clock and no engine: it is given bytes, and keeps what it has decoded.
Any bytes give events, `LimitReachedError` or the protocol's `ProtocolError`.  The guest is believed
only about its own program.
"""

from __future__ import annotations

import base64
from collections import deque

from runner.job.life import Life
from runner.job.record import Evidence, FileEvent, Outcome
from runner.policy import Limits
from runner.sandboxes.place import SINGLE_USE_JOB, overlap
from sandbox.wire.protocol import (
    ENVELOPE_BYTES,
    FAULT_KINDS,
    MAX_CALL_BYTES,
    MAX_FILE_BYTES,
    MAX_FILES,
    MAX_FILES_BYTES,
    MAX_SMALL_FRAME_BYTES,
    Call,
    Cleared,
    Done,
    Exited,
    Fault,
    File,
    Frame,
    FrameReader,
    Message,
    ProtocolError,
    Ready,
    Result,
    is_file_name,
)


class LimitReachedError(Exception):
    """The host observed that a limit was reached; holds the outcome and its evidence."""

    def __init__(self, outcome: Outcome, evidence: Evidence) -> None:
        super().__init__(outcome.value)
        self.outcome = outcome
        self.evidence = evidence


class Relay:
    """Everything that the sandbox has sent for one job so far.

    Attributes:
        result, end, exited: the accepted frames, None before; `end` is the `Done` or `Fault` that
            ended `main`, or the `Result` itself.
        messages, messages_bytes, stdout_bytes, stderr_bytes: counts of what was read.
        calls: calls to the held backend that nobody has taken yet.
        log_ended: True if the guest's mark after the log was read.  A program that knows the mark
            can only cut off its own log.
    """

    def __init__(
        self,
        job: Life,
        limits: Limits,
        *,
        stdio: bool,
        log_end: str = "",
        number: int = SINGLE_USE_JOB,
        can_call: bool = False,
    ) -> None:
        self._job = job
        self._limits = limits
        self._stdio = stdio
        self._number = number
        message = max(limits.message_bytes, MAX_CALL_BYTES if can_call else 0)
        self._socket_reader = FrameReader(message + ENVELOPE_BYTES)
        largest = max(
            limits.result_bytes + ENVELOPE_BYTES, message + ENVELOPE_BYTES, MAX_SMALL_FRAME_BYTES
        )
        self._stdout_reader = FrameReader(largest)
        self._can_call = can_call
        self.calls: deque[Call] = deque()
        self.result: Result | None = None
        self.end: Result | Done | Fault | None = None
        self.exited: Exited | None = None
        self.messages = 0
        self.messages_bytes = 0
        self.files = self.files_bytes = 0
        self.stdout_bytes = 0
        self.stderr_bytes = 0
        self._log_end = log_end.encode()
        self._held = b""
        self._is_mute = False
        self._wants_figures = False
        self.log_ended = False

    @property
    def is_complete(self) -> bool:
        """Return True if `main` has ended and every message published before that was read."""
        return self.end is not None and self.messages >= self.announced

    @property
    def announced(self) -> int:
        """The number of messages that the guest has announced so far, by its result or its end."""
        return max((each.messages for each in (self.result, self.end) if each), default=0)

    def mute(self, *, but_figures: bool = False) -> None:
        """Ignore further output of the job, except the end of its log and PID 1's figures."""
        self._is_mute = True
        self._wants_figures = but_figures

    def feed_socket(self, data: bytes) -> None:
        """Process bytes of the message channel."""
        if self._is_mute:
            return
        for frame in self._socket_reader.feed(data):
            if not isinstance(frame, Message | Call):
                msg = f"a {type(frame).__name__.lower()} frame on the message channel"
                raise ProtocolError(msg)
            self._message(frame)

    def feed_stdout(self, data: bytes) -> None:
        """Process bytes of the result stream."""
        if self._is_mute and self._wants_figures:
            self._read_figures(data)
        if self._is_mute:
            return
        self.stdout_bytes += len(data)
        for frame in self._stdout_reader.feed(data):
            self._stdout_frame(frame)

    def _read_figures(self, data: bytes) -> None:
        for frame in self._stdout_reader.feed(data):
            if isinstance(frame, Exited):
                self.exited = frame

    def feed_stderr(self, data: bytes) -> None:
        """Process bytes of the log, which may be arbitrary."""
        mark = self._log_end
        if mark and not self.log_ended:
            data = self._held + data
            start = data.find(mark)
            self.log_ended = start >= 0
            if self.log_ended:
                data, self._held = data[:start] + data[start + len(mark) :], b""
            else:
                keep = overlap(data, mark)
                data, self._held = data[: len(data) - keep], data[len(data) - keep :]
        self._log(data)

    def end_of_log(self) -> None:
        """Add the bytes that were held back because they could have been the start of the mark."""
        held, self._held = self._held, b""
        self._log(held)

    def _log(self, data: bytes) -> None:
        if not data or self._is_mute:
            return
        self.stderr_bytes += len(data)
        self._job.add_log(data)
        limit = self._limits.log_bytes
        if self.stderr_bytes > limit:
            raise _reached(Outcome.OUTPUT_LIMIT, "log_bytes", limit, self.stderr_bytes)

    def end_of_socket(self) -> None:
        """Record that the message channel was closed; an incomplete frame is a violation."""
        if not (self._is_mute or self._socket_reader.is_empty):
            msg = "the message channel closed in the middle of a frame"
            raise ProtocolError(msg)

    def end_of_stdout(self) -> None:
        """Record that the result stream has ended; an incomplete frame is a violation."""
        if not (self._is_mute or self._stdout_reader.is_empty):
            msg = "the result stream ended in the middle of a frame"
            raise ProtocolError(msg)

    def _stdout_frame(self, frame: Frame) -> None:
        if isinstance(frame, Message | Call):
            if not self._stdio:
                msg = f"a {type(frame).__name__.lower()} frame on the result stream"
                raise ProtocolError(msg)
            self._message(frame)
            return
        if isinstance(frame, Ready | Cleared):
            msg = f"a {type(frame).__name__.lower()} frame among those of a job"
            raise ProtocolError(msg)
        self._check_job(frame.job)
        if isinstance(frame, Exited):
            self.exited = frame
        elif self.end is not None:
            msg = f"a {type(frame).__name__.lower()} frame after the end"
            raise ProtocolError(msg)
        elif isinstance(frame, Result):
            self._result(frame)
        elif isinstance(frame, File):
            self._file(frame)
        else:
            self._end(frame)

    def _end(self, frame: Done | Fault) -> None:
        if isinstance(frame, Done) and self.result is None:
            msg = "a done frame without a result"
            raise ProtocolError(msg)
        if isinstance(frame, Fault) and frame.kind not in FAULT_KINDS:
            msg = f"a fault of the unknown kind {frame.kind!r:.40}"
            raise ProtocolError(msg)
        self.end = frame

    def _file(self, frame: File) -> None:
        """Keep a file; the guest keeps to the bounds, so one beyond them is no file of ours."""
        try:
            size = len(base64.b64decode(frame.content, validate=True))
        except ValueError:
            size = MAX_FILE_BYTES + 1
        self.files, self.files_bytes = self.files + 1, self.files_bytes + size
        if (
            size > MAX_FILE_BYTES
            or self.files > MAX_FILES
            or self.files_bytes > MAX_FILES_BYTES
            or not is_file_name(frame.name)
        ):
            msg = f"a file {frame.name!r:.80} that is malformed, or one too many"
            raise ProtocolError(msg)
        self._job.history.extend([FileEvent(name=frame.name, content=frame.content)])

    def _result(self, frame: Result) -> None:
        if self.result is not None:
            msg = "a second result"
            raise ProtocolError(msg)
        size, limit = _size(frame.value), self._limits.result_bytes
        if size > limit:
            raise _reached(Outcome.RESULT_LIMIT, "result_bytes", limit, size)
        self.result = frame
        if frame.done:
            self.end = frame

    def _message(self, frame: Message | Call) -> None:
        self._check_job(frame.job)
        if isinstance(frame, Call):
            self._call(frame)
            return
        limits = self._limits
        size = _size(frame.body)
        if size > limits.message_bytes:
            raise _reached(Outcome.MESSAGE_LIMIT, "message_bytes", limits.message_bytes, size)
        if self.messages + 1 > limits.messages:
            raise _reached(Outcome.MESSAGE_LIMIT, "messages", limits.messages, self.messages + 1)
        total = self.messages_bytes + size
        if total > limits.messages_bytes:
            raise _reached(Outcome.MESSAGE_LIMIT, "messages_bytes", limits.messages_bytes, total)
        self.messages += 1
        self.messages_bytes = total
        self._job.add_message(frame.body)

    def _call(self, frame: Call) -> None:
        if not self._can_call:
            msg = "a call frame, and the job has no held backend"
            raise ProtocolError(msg)
        if len(frame.body) > MAX_CALL_BYTES:
            msg = f"a call of more than {MAX_CALL_BYTES} bytes"
            raise ProtocolError(msg)
        self.calls.append(frame)

    def _check_job(self, number: int) -> None:
        if number != self._number:
            msg = f"a frame of job {number} in a sandbox that has job {self._number}"
            raise ProtocolError(msg)


def _size(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode())


def _reached(outcome: Outcome, limit: str, value: float, observed: float) -> LimitReachedError:
    evidence = Evidence(limit=limit, value=value, observed=observed, source="host")
    return LimitReachedError(outcome, evidence)
