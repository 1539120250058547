"""The guest's descriptors: where frames go out, where the request comes in, where prints land.

Frames are written with `os.write` on descriptors that are moved high up and closed on exec, so
neither a print nor a child process nor a program that closes the low ones can hit them by accident.
"""

from __future__ import annotations

import _socket
import contextlib
import fcntl
import mmap
import os
import socket
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, TypeVar

from sandbox.wire import protocol
from sandbox.wire.options import Options

T = TypeVar("T")

HIGH: Final = 500
"""Private descriptors start here, above what a program uses or closes in a loop."""

_RUN_LINE_BYTES: Final = protocol.MAX_INPUTS_BYTES + protocol.MAX_BACKEND_BYTES + protocol.MIB
"""The longest request: inputs and backend at their limits, with room for options and limits."""

_CHUNK_BYTES: Final = 64 * protocol.KIB
"""What a pipe holds: asking for more only takes more memory."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Channel:
    """Where frames go: interim ones to `messages`, the others to `results`.

    With the stdio carrier both are the same writer.  `log` is the log's descriptor, kept apart from
    fd 2, which the program may close.
    """

    messages: FrameWriter
    results: FrameWriter
    log: int

    def end_log(self, mark: str) -> None:
        """Write the mark behind everything that the job has printed."""
        data = mark.encode()
        while data:
            data = data[os.write(self.log, data) :]


class FrameWriter:
    """Writes whole frames on a blocking descriptor, also when a signal handler raises meanwhile.

    A program may well have a handler that raises (`signal.alarm` as a timeout).  Such an exception
    waits until the frame is out; what a second one still cuts off is written before the next frame.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._process = os.getpid()
        self._frame = b""
        self._written: list[int] = []

    def fileno(self) -> int:
        return self._descriptor

    def write(self, frame: bytes, account: mmap.mmap | None = None, entry: bytes = b"") -> None:
        """Write the frame; blocks while the host does not read; OSError if it never will.

        `entry` is what the account says when the frame is on its way, neither sooner nor later.
        """
        self.finish()
        # Signal handlers run after calls only, and there is none in the next lines.
        self._frame, self._written = frame, []
        if account is not None:
            account[:] = entry
        self.finish()

    def finish(self) -> None:
        """Write what is left of the frame, if anything."""
        if self._process != os.getpid():  # a fork: what is unfinished is the parent's to finish
            self._process = os.getpid()
            self._frame = b""
        interruption: BaseException | None = None
        while interruption is None or self._frame:
            try:
                self._write_rest()
                break
            except BaseException as error:
                if isinstance(error, OSError) and error.errno is not None:
                    raise  # of `write` itself; a handler's TimeoutError has no number
                interruption = error
        if interruption is not None:
            raise interruption

    def _write_rest(self) -> None:
        frame = memoryview(self._frame)
        while (start := sum(self._written)) < len(frame):
            # `extend` over `map` runs in C: between the write and the record of its length no
            # signal handler can run, so the position is right whenever an exception comes.
            self._written.extend(map(os.write, (self._descriptor,), (frame[start:],)))
        self._frame, self._written = b"", []


class Turnstile:
    """Lets one thread at a time through, of this process and all that are forked from it.

    One byte in a pipe; whoever has read it is inside.  (POSIX semaphores would need /dev/shm.)
    """

    def __init__(self) -> None:
        self._entry, self._exit = (_move_up(descriptor) for descriptor in os.pipe())
        self._mine = threading.local()
        os.write(self._exit, b".")

    def run(self, function: Callable[[], T], *, last: bool = False) -> T:
        """Call the function while nobody else is inside; after the last one nobody ever will be."""
        if getattr(self._mine, "process", 0) == os.getpid():
            msg = "publish was called from a signal handler that interrupted another publish"
            raise RuntimeError(msg)
        held: list[bytes] = []
        try:
            self._mine.process = os.getpid()
            held.extend(map(os.read, (self._entry,), (1,)))  # in one step, as in FrameWriter
            return function()
        finally:
            # No call before the write either: an exception here would lock everybody out.
            self._mine.process = 0
            for token in () if last else held:
                os.write(self._exit, token)


def open_channel(options: Options) -> Channel:
    """Take fd 1 away for frames, point fds 1 and 2 at the log, and choose the carrier."""
    private = FrameWriter(_move_up(os.dup(1)))
    os.dup2(2, 1)
    for stream in (sys.stdout, sys.stderr):
        # A log line appears when it is written, and no character can make a print fail.
        stream.reconfigure(encoding="utf-8", errors="backslashreplace", line_buffering=True)  # type: ignore[union-attr]
    log = _move_up(os.dup(2))
    if options.carrier == "stdio":
        return Channel(messages=private, results=private, log=log)
    try:
        messages = connect(options.socket)
    except OSError:
        if options.carrier == "socket":
            raise
        return Channel(messages=private, results=private, log=log)
    return Channel(messages=messages, results=private, log=log)


def read_run_line() -> tuple[bytes, bytes] | None:
    """Return the request and what was read beyond it; then close stdin off.

    None if the host hangs up first.
    """
    pieces = []
    length = 0
    while piece := os.read(0, _CHUNK_BYTES):
        pieces.append(piece)
        length += len(piece)
        if b"\n" in piece:
            break
        if length > _RUN_LINE_BYTES:
            msg = f"the request is longer than {_RUN_LINE_BYTES} bytes"
            raise protocol.ProtocolError(msg)
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.close(null)
    line, newline, rest = b"".join(pieces).partition(b"\n")
    return (line, rest) if newline else None


def connect(path: str) -> FrameWriter:
    """Return a writer to the host's socket; raises OSError if it cannot be reached."""
    with contextlib.closing(_socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)) as connection:
        connection.connect(path)
        return FrameWriter(_move_up(connection.detach()))


def _move_up(descriptor: int) -> int:
    """Return a private copy with a high number, not inherited on exec; the original is closed."""
    try:
        high = fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, HIGH)
    except OSError:  # a lower limit of open files than usual
        high = fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, 3)
    os.close(descriptor)
    return high
