"""The guest's descriptors: for outgoing frames, for the request, and for printed output.

Frames are written with `os.write` to high descriptors that are closed on exec, so that neither a
print nor a child process, nor a program that closes the low descriptors, can hit them by accident.
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
"""The lowest private descriptor, above those that a program uses or closes in a loop."""

_RUN_LINE_BYTES: Final = protocol.MAX_INPUTS_BYTES + protocol.MAX_BACKEND_BYTES + protocol.MIB
"""The longest request: inputs and backend at their limits, plus options and limits."""

_CHUNK_BYTES: Final = 64 * protocol.KIB
"""The capacity of a pipe: reading more at once only takes more memory."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Channel:
    """The writers of frames: interim messages go to `messages`, all others to `results`.

    With the stdio carrier both are the same writer.  `log` is the log's descriptor, separate from
    fd 2, which the program may close.
    """

    messages: FrameWriter
    results: FrameWriter
    log: int

    def end_log(self, mark: str) -> None:
        """Write the mark after everything that the job has printed."""
        data = mark.encode()
        while data:
            data = data[os.write(self.log, data) :]


class FrameWriter:
    """Writes whole frames to a blocking descriptor, even if a signal handler raises meanwhile.

    A program may have a handler that raises (`signal.alarm` as a timeout).  Such an exception is
    raised after the frame is out; what a second exception cuts off is written before the next
    frame.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._process = os.getpid()
        self._frame = b""
        self._written: list[int] = []

    def fileno(self) -> int:
        return self._descriptor

    def write(self, frame: bytes, account: mmap.mmap | None = None, entry: bytes = b"") -> None:
        """Write the frame, blocking while the host does not read.  Raises OSError if it has gone.

        `entry` is written to the account exactly when the frame is on its way.
        """
        self.finish()
        # Signal handlers run only after calls, and the next lines have none.
        self._frame, self._written = frame, []
        if account is not None:
            account[:] = entry
        self.finish()

    def finish(self) -> None:
        """Write the rest of the frame, if there is any."""
        if self._process != os.getpid():  # in a fork: the parent finishes its own frame
            self._process = os.getpid()
            self._frame = b""
        interruption: BaseException | None = None
        while interruption is None or self._frame:
            try:
                self._write_rest()
                break
            except BaseException as error:
                if isinstance(error, OSError) and error.errno is not None:
                    raise  # of `write` itself; a handler's TimeoutError has no errno
                interruption = error
        if interruption is not None:
            raise interruption

    def _write_rest(self) -> None:
        frame = memoryview(self._frame)
        while (start := sum(self._written)) < len(frame):
            # `extend` over `map` runs in C: no signal handler can run between the write and the
            # record of its length, so the position is right whenever an exception is raised.
            self._written.extend(map(os.write, (self._descriptor,), (frame[start:],)))
        self._frame, self._written = b"", []


class Turnstile:
    """Lets one thread through at a time, across this process and all processes forked from it.

    A pipe holds one byte; the thread that has read it is inside.  (POSIX semaphores would need
    /dev/shm.)
    """

    def __init__(self) -> None:
        self._entry, self._exit = (move_up(descriptor) for descriptor in os.pipe())
        self._mine = threading.local()
        os.write(self._exit, b".")

    def run(self, function: Callable[[], T], *, last: bool = False) -> T:
        """Call the function while no other thread is inside; none can enter after the `last`."""
        if getattr(self._mine, "process", 0) == os.getpid():
            msg = "publish was called from a signal handler that interrupted another publish"
            raise RuntimeError(msg)
        held: list[bytes] = []
        try:
            self._mine.process = os.getpid()
            held.extend(map(os.read, (self._entry,), (1,)))  # in one step, as in FrameWriter
            return function()
        finally:
            # No call before the write either: an exception here would lock out all threads.
            self._mine.process = 0
            for token in () if last else held:
                os.write(self._exit, token)


def open_channel(options: Options) -> Channel:
    """Reserve fd 1 for frames, point fds 1 and 2 at the log, and choose the carrier."""
    private, log = take_output()
    configure_streams()
    if options.carrier == "stdio":
        return Channel(messages=private, results=private, log=log)
    try:
        messages = connect(options.socket)
    except OSError:
        if options.carrier == "socket":
            raise
        return Channel(messages=private, results=private, log=log)
    return Channel(messages=messages, results=private, log=log)


def take_output() -> tuple[FrameWriter, int]:
    """Reserve fd 1 for frames, and point fds 1 and 2 at the log; returns the frames and the log."""
    private = FrameWriter(move_up(os.dup(1)))
    os.dup2(2, 1)
    return private, move_up(os.dup(2))


def configure_streams() -> None:
    """Let each log line be written at once, and no character make a print fail."""
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(encoding="utf-8", errors="backslashreplace", line_buffering=True)  # type: ignore[union-attr]


def read_run_line() -> tuple[bytes, bytes] | None:
    """Return the request and the bytes read beyond it; then close stdin.

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
    """Return a writer to the host's socket.  Raises OSError if it cannot be reached."""
    return FrameWriter(connected(path))


def connected(path: str) -> int:
    """Return a private descriptor that is connected to a socket.  Raises OSError."""
    with contextlib.closing(_socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)) as connection:
        connection.connect(path)
        return move_up(connection.detach())


def move_up(descriptor: int) -> int:
    """Return a private copy with a high number, closed on exec; the original is closed."""
    try:
        high = fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, HIGH)
    except OSError:  # the limit of open files is lower than usual
        high = fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, 3)
    os.close(descriptor)
    return high
