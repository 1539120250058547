"""The first process of a sandbox: it guards, reaps, reports how the worker ended, and leaves.

It forks the worker once, before anything heavy is imported, and stays single-threaded.  Program
code never runs in it and cannot reach it: it is not dumpable, so neither `ptrace` nor
`/proc/1/mem` opens for a process of the same user, and it ignores every signal it may ignore.

It alone reads the host's frames on stdin, acts on its own, and passes the others on to the worker,
for which it never waits.  It leaves when the host hangs up stdin, when its own clock has run out
(for a host that is alive but stuck), or a few seconds after the worker; its end kills whatever is
left in the PID namespace.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import sys
from typing import Final, NoReturn

from sandbox.processes import guard, worker
from sandbox.processes.switch import READ_BYTES, Switch
from sandbox.wire import protocol
from sandbox.wire.clock import Clock
from sandbox.wire.options import Options
from sandbox.wire.protocol import Begin, Pause, Resume, Stop

STDIN: Final = 0
STDOUT: Final = 1

GRACE_S: Final = 5.0
"""How long after the wall limit PID 1 waits for the host before it ends the sandbox itself."""

LINGER_S: Final = 5.0
"""How long it stays after the worker, so that the host can still read the cgroup's counters."""

REAPED_AT_ONCE: Final = 256
"""Orphans reaped between two looks at the clock: a fork bomb must not hold up the deadline."""

_OOM_COUNTERS: Final = (
    "/sys/fs/cgroup/memory.events",
    "/sys/fs/cgroup/memory/memory.oom_control",
)


def main(options: Options) -> NoReturn:
    """Become the sandbox's first process; never returns."""
    guard.protect()
    is_first = os.getpid() == 1
    if not is_first:
        # Outside a container (contract tests) orphans would go to somebody else's PID 1.
        guard.adopt_orphans()
    wakeup, wakeup_write = guard.open_wakeup()
    frames, frames_write = os.pipe()
    control, control_write = os.pipe() if options.session else (-1, -1)

    child = os.fork()
    if child == 0:
        guard.become_ordinary()
        os.dup2(frames, STDIN)  # the host's stream itself stays with PID 1
        for descriptor in (wakeup, wakeup_write, frames, frames_write):
            os.close(descriptor)
        if options.session:
            from sandbox.processes import session  # others need not wait for its import

            os.close(control)
            session.main(options, control_write, is_alone=is_first)
        worker.main(options)
    os.close(frames)
    if options.session:
        os.close(control_write)
    try:
        Init(child=child, wakeup=wakeup, frames=frames_write, control=control).watch()
    except BaseException:  # noqa: BLE001 (the sandbox must go, whatever went wrong here)
        sys.excepthook(*sys.exc_info())
        _leave(child, 70)


class Init:
    """The loop of the first process: one poll over the host's stream, wakeups and the worker.

    `frames` is the pipe to the worker.  `control` is the one from a session's parent, else -1.
    """

    def __init__(self, *, child: int, wakeup: int, frames: int, control: int) -> None:
        self._child = child
        self._wakeup = wakeup
        self._frames = frames
        self._control = control
        self._is_session = control >= 0
        self._switch = Switch(frames, is_session=self._is_session)
        self._job = 0
        self._clock: Clock | None = None
        self._report: bytes | None = None
        self._poll = select.poll()
        self._poll.register(STDIN, select.POLLIN)
        self._poll.register(wakeup, select.POLLIN)
        if self._is_session:
            self._poll.register(control, select.POLLIN)

    def watch(self) -> NoReturn:
        """Wait for whatever comes first, until it is time to leave."""
        while True:
            more = self._reap()
            for descriptor, events in self._poll.poll(0 if more else self._patience_ms()):
                self._handle(descriptor, events)
            if self._clock is not None and not self._clock.left_s:
                _leave(self._child, 0 if self._child == 0 else 124)

    def _handle(self, descriptor: int, events: int) -> None:
        if descriptor == STDIN:
            if events & ~select.POLLIN:  # at once: whatever there is to read, nobody wants it
                _leave(self._child, 0)
            self._hear_host()
        elif descriptor == self._frames:
            self._switch.flush()
            self._wait_for_room()
        elif descriptor == self._wakeup:
            with contextlib.suppress(BlockingIOError):
                os.read(self._wakeup, 65536)
        elif descriptor == self._control:
            self._hear_parent()
        elif descriptor == STDOUT:
            self._tell()

    def _patience_ms(self) -> float | None:
        return None if self._clock is None else self._clock.left_s * 1000 + 1

    def _hear_host(self) -> None:
        """Take the host's frames; while the pipe to the worker is full, no more of them."""
        data = os.read(STDIN, READ_BYTES)
        if not data:
            _leave(self._child, 0)
        for order in self._switch.feed(data):
            if self._child:
                self._obey(order)
        self._wait_for_room()

    def _obey(self, order: Begin | Stop | Pause | Resume) -> None:
        if isinstance(order, Begin):
            self._job = order.job
            self._clock = Clock(order.timeout_s + GRACE_S)
        elif order.job != self._job or self._clock is None:
            return  # of a job that has ended meanwhile
        elif isinstance(order, Pause):
            self._clock.pause(order.at_most_s)
        elif isinstance(order, Resume):
            self._clock.resume()
        elif not self._is_session:  # there the parent ends its job itself
            _kill_group(self._child)

    def _wait_for_room(self) -> None:
        """Choose what to wait for: the host's next word, or room in the pipe for the last one."""
        if self._switch.is_full:
            self._poll.register(STDIN, 0)  # still the lifeline
            self._poll.register(self._frames, select.POLLOUT)
        else:
            self._poll.register(STDIN, select.POLLIN)
            with contextlib.suppress(KeyError):
                self._poll.unregister(self._frames)

    def _hear_parent(self) -> None:
        """Take the word of a session's parent, `<job>`: it has ended, and none follows yet."""
        words = os.read(self._control, 65536).split()  # all that the pipe can hold
        if not words:
            self._poll.unregister(self._control)
            os.close(self._control)
            self._control = -1
        elif int(words[-1]) == self._job:
            self._clock = None

    def _reap(self) -> bool:
        """Collect what has died; returns whether there may be more."""
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
        # The status is reported whatever it is: a program can leave with any number, so none of
        # them can mean "delivered".  The host ignores the report when it has a last frame.
        oom_kills = read_oom_kills()
        _kill_group(self._child)
        self._child = 0
        self._clock = Clock(LINGER_S)
        exited = protocol.Exited(job=self._job, status=status, oom_kills=oom_kills)
        self._report = protocol.encode(exited)
        self._poll.register(STDOUT, select.POLLOUT)

    def _tell(self) -> None:
        # Shorter than PIPE_BUF, so once the pipe has room this neither blocks nor is cut in two.
        with contextlib.suppress(OSError):
            os.write(STDOUT, self._report or b"")
        self._poll.unregister(STDOUT)


def read_oom_kills(paths: tuple[str, ...] = _OOM_COUNTERS) -> int | None:
    """Return the cgroup's count of OOM kills as seen from inside, None where it is hidden."""
    for path in paths:
        try:
            with open(path, encoding="ascii") as file:  # noqa: PTH123 (pathlib costs a start-up)
                counters = dict(line.split(maxsplit=1) for line in file if " " in line)
            return int(counters["oom_kill"])
        except (OSError, ValueError, KeyError):
            continue
    return None


def _leave(child: int, code: int) -> NoReturn:
    if child:
        _kill_group(child)
        # Only the worker itself, when it has not come as far as making its group.
        with contextlib.suppress(OSError):
            os.kill(child, signal.SIGKILL)
    os._exit(code)


def _kill_group(child: int) -> None:
    """Kill what the worker started; as PID 1 that is everybody else in the namespace."""
    with contextlib.suppress(OSError):
        if os.getpid() == 1:
            os.kill(-1, signal.SIGKILL)
        else:
            os.killpg(child, signal.SIGKILL)
