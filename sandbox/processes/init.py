"""The first process of a sandbox: it guards, reaps, reports how the worker ended, and exits.

It forks the worker once, before anything large is imported, and stays single-threaded.  Program
code never runs in it and cannot reach it: it is not dumpable, so a process of the same user can use
neither `ptrace` nor `/proc/1/mem`, and it ignores every signal that can be ignored.

The worker reads its request from stdin and closes it before any program code runs.  From then on
only PID 1 reads the host's frames; replies to the program's calls it passes on unread
(`sandbox.processes.inbox`).  It exits when the host hangs up stdin, when its own clock has run out
(because the host is alive but stuck), or a few seconds after the worker.  Its exit kills every
process left in the PID namespace.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import sys
from collections.abc import Callable
from typing import Final, NoReturn

from sandbox.processes import confinement, counters, guard
from sandbox.processes.inbox import Inbox
from sandbox.processes.pump import Pump
from sandbox.wire import protocol
from sandbox.wire.clock import Clock
from sandbox.wire.options import Options
from sandbox.wire.protocol import Next, Pause, Resume, Stop

STDIN: Final = 0
STDOUT: Final = 1
STDERR: Final = 2

GRACE_S: Final = 5.0
"""Seconds after the wall limit that PID 1 gives the host before it ends the sandbox itself."""

LINGER_S: Final = 5.0
"""Seconds that it outlives the worker, so that the host can read the cgroup's counters."""

_READ_BYTES: Final = 65536
"""The capacity of a pipe, in bytes."""

REAPED_AT_ONCE: Final = 256
"""Orphans reaped between two checks of the clock: a fork bomb must not delay the deadline."""


def main(options: Options, work: Callable[[int, int], NoReturn], *, collects: bool) -> NoReturn:
    """Become the sandbox's first process; never returns.

    `work` is what the worker does, given its pipes to and from this process.  With `collects` short
    pieces of its output are collected on their way.
    """
    guard.protect()
    if os.getpid() != 1:
        # Outside a container (in contract tests) orphans would go to another PID 1.
        guard.adopt_orphans()
    pumps = [Pump(STDOUT), Pump(STDERR)] if collects else []

    def work_behind(control: int, inbox: int) -> NoReturn:
        confinement.lower(options.ulimits)
        for each in pumps:
            each.give()
        work(control, inbox)

    stand_guard(os.fork, work_behind, pumps, options)


def stand_guard(
    fork: Callable[[], int],
    work: Callable[[int, int], NoReturn],
    pumps: list[Pump],
    options: Options,
) -> NoReturn:
    """Fork the worker, which calls `work` with its pipes to and from this process, and guard it.

    This process must be protected already, and the first of its PID namespace.
    """
    wakeup, wakeup_write = guard.open_wakeup()
    control, control_write = os.pipe()
    inbox = Inbox()
    child = fork()
    if child == 0:
        guard.become_ordinary()
        for descriptor in (wakeup, wakeup_write, control):
            os.close(descriptor)
        inbox.keep_reader()
        work(control_write, inbox.reader)
    os.close(control_write)
    inbox.keep_writer()
    first = Init(child=child, wakeup=wakeup, control=control, inbox=inbox, options=options)
    try:
        first.watch(pumps)
    except BaseException:  # noqa: BLE001 (the sandbox must go, whatever went wrong here)
        sys.excepthook(*sys.exc_info())
        _leave(child, 70)


class Init:
    """The loop of the first process: one poll of the host's stream, signals, streams, the worker.

    `control` is the pipe from the worker: it carries the start of its job, and the bytes that it
    read beyond its request.  A session's parent keeps the host's stream, and forwards over the pipe
    what concerns PID 1.
    """

    def __init__(
        self, *, child: int, wakeup: int, control: int, inbox: Inbox, options: Options
    ) -> None:
        self._child = child
        self._wakeup = wakeup
        self._control = control
        self._inbox = inbox
        self._is_session = options.session
        self._is_warm = options.warm
        self._cpu_before_us = 0
        self._orders = protocol.OrderReader()
        self._job = 0
        self._clock: Clock | None = None
        self._report: bytes | None = None
        self._is_told = False
        self._pumps: list[Pump] = []
        self._poll = select.poll()
        self._poll.register(STDIN, 0)  # only POLLHUP and POLLERR while the worker reads
        self._poll.register(wakeup, select.POLLIN)
        self._poll.register(control, select.POLLIN)

    def watch(self, pumps: list[Pump]) -> NoReturn:
        """Handle events and move the streams until it is time to exit."""
        self._pumps = pumps
        for each in pumps:
            each.start(self._poll)
        while True:
            more = self._reap()
            self._drain()
            for descriptor, events in self._poll.poll(0 if more else self._patience_ms()):
                self._handle(descriptor, events)
            for pump in self._pumps:
                if pump.rest_s() == 0:
                    pump.move()
            if self._clock is not None and not self._clock.left_s:
                _leave(self._child, 0 if self._child == 0 else 124)

    def _handle(self, descriptor: int, events: int) -> None:
        if descriptor == STDIN:
            if events & ~select.POLLIN:  # exit at once: unread frames do not matter any more
                _leave(self._child, 0)
            self._hear(STDIN)
        elif descriptor == self._wakeup:
            with contextlib.suppress(BlockingIOError):
                os.read(self._wakeup, 65536)
        elif descriptor == self._control:
            self._hear(self._control)
        elif descriptor == STDOUT and not self._pumps:
            self._tell()
        elif descriptor == self._inbox.writer:
            self._deliver(b"")
        for pump in self._pumps:
            if pump.owns(descriptor):
                pump.move()

    def _patience_ms(self) -> float | None:
        waits = [rest for pump in self._pumps if (rest := pump.rest_s()) is not None]
        if self._clock is not None:
            waits.append(self._clock.left_s)
        return min(waits) * 1000 + 1 if waits else None

    def _hear(self, source: int) -> None:
        """Read frames of the host, from its stream or forwarded by the worker."""
        data = os.read(source, _READ_BYTES)
        for order in self._orders.feed(data):
            if isinstance(order, bytes):
                self._deliver(order)
            elif self._child:
                self._obey(order)
        if data:
            return
        if source == STDIN:
            _leave(self._child, 0)
        # The worker has its request: PID 1 reads the rest of the stream.
        self._poll.unregister(self._control)
        os.close(self._control)
        self._control = -1
        self._poll.register(STDIN, select.POLLIN)

    def _obey(self, order: Next | Stop | Pause | Resume) -> None:
        if isinstance(order, Next):
            if self._is_warm:  # what it has cost until now is not this job's
                self._cpu_before_us = counters.read()["cpu_us"] or 0
            self._job = order.job
            self._clock = Clock(order.wall_s + GRACE_S)
        elif order.job != self._job or self._clock is None:
            return  # for a job that has already ended
        elif isinstance(order, Pause):
            self._clock.pause(order.at_most_s)
        elif isinstance(order, Resume):
            self._clock.resume()
        elif self._is_session:  # the parent ends its jobs itself
            self._clock = None
        else:
            _kill_group(self._child)

    def _deliver(self, piece: bytes) -> None:
        """Give a piece of a reply to the worker; read no more while it does not take it."""
        was_full = self._inbox.is_full
        self._inbox.give(piece)
        if self._inbox.is_full and not was_full:
            self._poll.register(self._inbox.writer, select.POLLOUT)
            self._poll.register(STDIN, 0)
        elif was_full and not self._inbox.is_full:
            self._poll.unregister(self._inbox.writer)
            self._poll.register(STDIN, select.POLLIN)

    def _reap(self) -> bool:
        """Reap dead children; return whether there may be more."""
        for _ in range(REAPED_AT_ONCE):
            try:
                child, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return False
            if child == 0:
                return False
            if child == self._child:
                self._worker_ended(os.waitstatus_to_exitcode(status))
        return True

    def _worker_ended(self, status: int) -> None:
        # Any status is reported: a program can exit with any number, so none of them can mean
        # "delivered".  The host ignores the report if it has a last frame.
        figures = counters.read()
        if figures["cpu_us"] is not None:
            figures["cpu_us"] -= self._cpu_before_us
        _kill_group(self._child)
        if self._control >= 0:
            self._hear(self._control)  # it may have died before its control bytes were read
        self._child = 0
        self._clock = Clock(LINGER_S)
        exited = protocol.Exited(job=self._job, status=status, **figures)
        self._report = protocol.encode(exited)

    def _drain(self) -> None:
        """After the worker has ended, report that behind everything it wrote."""
        if self._report is None or self._is_told or not all(each.drain() for each in self._pumps):
            return
        while self._pumps:
            self._pumps.pop().stop()
        self._is_told = True
        self._poll.register(STDOUT, select.POLLOUT)

    def _tell(self) -> None:
        # Shorter than PIPE_BUF, so if the pipe has room, the write neither blocks nor is split.
        with contextlib.suppress(OSError):
            os.write(STDOUT, self._report or b"")
        self._poll.unregister(STDOUT)


def _leave(child: int, code: int) -> NoReturn:
    if child:
        _kill_group(child)
        # Only the worker, if it has not made its process group yet.
        with contextlib.suppress(OSError):
            os.kill(child, signal.SIGKILL)
    os._exit(code)


def _kill_group(child: int) -> None:
    """Kill what the worker started; as PID 1, kill all other processes of the namespace."""
    with contextlib.suppress(OSError):
        if os.getpid() == 1:
            os.kill(-1, signal.SIGKILL)
        else:
            os.killpg(child, signal.SIGKILL)
