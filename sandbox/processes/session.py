"""The second process of a session's sandbox: warm, and the parent of one process for each job.

A job is a fork of this process and shares no memory with another; program code never runs here.
The fork is made before the job's request is read, and the request only passes through, so a job's
process has never held the token with which its end is reported, nor the inputs of another job.
When a job's process has ended, everything else of it is removed (`sandbox.processes.cleaning`), and
only then the next one is forked.  What cannot be removed ends the session: the host starts another
sandbox.
"""

from __future__ import annotations

import _thread
import contextlib
import os
import resource
import select
import signal
import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Final, NoReturn

from sandbox.processes import cleaning, counters, guard, kernel, memory, randomness, worker
from sandbox.program import loader
from sandbox.program.job import configure_logging
from sandbox.program.messenger import Outbox
from sandbox.stack.warmup import Warmth, needs_qiskit, warm_up
from sandbox.wire import channel, protocol
from sandbox.wire.options import Options

CLEANING_S: Final = 1.0
"""How long it may take to remove what a job has left."""

_STDIN: Final = 0
_COUNTED: Final = ("oom_kills", "process_limit_hits")
_BUFFER_BYTES: Final = 64 * protocol.KIB


class HungUpError(Exception):
    """The host has closed stdin: nobody wants anything any more."""


def main(options: Options, control: int, inbox: int) -> NoReturn:
    """Serve jobs until the host hangs up; `control` is the pipe to PID 1."""
    os.close(inbox)  # each job has one of its own
    is_alone = os.getppid() == 1  # else this is no container (contract tests)

    def serve() -> None:
        outlet = channel.open_channel(options)
        kept = memory.gather() if needs_qiskit(options.modules, options.backend) else []
        warmth = warm_up(options.modules, options.backend)
        kept.clear()
        guard.protect()
        worker.say_ready(outlet, options)
        try:
            Parent(options, outlet, warmth, control, is_alone=is_alone).serve()
        except HungUpError:
            return
        except cleaning.UncleanError as error:
            # A job's doing and no error of ours, so its log gets a line and no traceback.
            os.write(outlet.log, f"The session's sandbox is given up: {error}\n".encode())
            os._exit(worker.OUR_FAULT)

    worker.leave_after(serve)


class Parent:
    """Forks one process for each job, waits for its end, and cleans up behind it."""

    def __init__(
        self,
        options: Options,
        outlet: channel.Channel,
        warmth: Warmth,
        control: int,
        *,
        is_alone: bool,
    ) -> None:
        self._options = options
        self._renewals = randomness.find()
        randomness.renew(self._renewals)  # what cannot be is an error here, and not in a job
        self._warmth = loader.clear_early(options.program, warmth)
        self._outlet = outlet
        self._log = outlet.log
        self._uses_socket = outlet.messages is not outlet.results
        if self._uses_socket:
            os.close(outlet.messages.fileno())  # each job has a connection of its own
        self._control = control
        self._is_alone = is_alone
        # Elsewhere (contract tests) devices are the machine's.
        self._timed = [*options.wipe, *(cleaning.devices() if is_alone else ())]
        self._settings = cleaning.Settings([outlet.results.fileno(), outlet.log])
        self._intake = Intake()
        self._wakeup, self._wakeup_write = guard.open_wakeup()
        self._poll = select.poll()
        self._poll.register(_STDIN, select.POLLIN)
        self._poll.register(self._wakeup, select.POLLIN)

    def serve(self) -> None:
        """Do one job after another.  Raises HungUpError, or UncleanError if a job leaves traces."""
        configure_logging({})  # here, or each job would pay for it
        randomness.reseed_native()
        memory.settle()
        job = 0
        while True:
            child, request = self._fork()
            order = self._take_next(job)
            before = counters.read()
            job = order.job
            self._tell(replace(order, token=""))
            self._intake.relay(request)
            status, usage = self._wait(child, job, request)
            os.close(request)
            self._clean_up(child)
            self._report(order, status, usage, before)

    def _fork(self) -> tuple[int, int]:
        """Return the process of the next job and the pipe for its request and its replies."""
        reader, writer = os.pipe()
        # Here and not in the fork, where each page that is written to is copied first.
        randomness.renew([*self._renewals, *randomness.find()])
        child = fork()
        if child == 0:
            for descriptor in (writer, self._control, self._wakeup, self._wakeup_write):
                os.close(descriptor)
            worker.leave_after(lambda: self._become_job(reader))
        os.close(reader)
        return child, writer

    def _become_job(self, request: int) -> None:
        """In the fork: be as a process that is used once, take the request, and do the job."""
        guard.become_ordinary()
        worker.be_first_to_die()
        os.dup2(request, _STDIN)
        read = channel.read_run_line()
        if read is None:
            return
        run = protocol.decode_run(read[0])
        del read
        outlet = self._outlet
        if self._uses_socket:
            messages = channel.connect(self._options.socket)
            outlet = channel.Channel(messages=messages, results=outlet.results, log=outlet.log)
        replies = channel.move_up(request)
        worker.perform(outlet, Outbox(outlet), run, self._options, self._warmth, replies=replies)

    def _take_next(self, job: int) -> protocol.Next:
        """Return the order for the job after this one; waits for it."""
        while True:
            if not self._intake.is_ready():
                self._tell(protocol.Stop(job=job))
            order = self._intake.order()
            if isinstance(order, protocol.Next):
                return order
            if isinstance(order, protocol.Parcel):
                self._intake.relay(None, order.size)
            # Else it is about a job that had ended by itself meanwhile.

    def _wait(self, child: int, job: int, replies: int) -> tuple[int, resource.struct_rusage]:
        """Wait until the job's process has ended, by itself or because the host says so.

        A job that does not read its replies holds this up, and with it the host's next order: then
        the host gives the sandbox up, and with it only jobs of the same user.
        """
        while True:
            ended, status, usage = os.wait4(child, os.WNOHANG)
            if ended:
                return os.waitstatus_to_exitcode(status), usage
            if not self._intake.has_line and not self._is_stdin_readable():
                continue
            order = self._intake.order()
            if isinstance(order, protocol.Pause | protocol.Resume):
                self._tell(order)
            elif isinstance(order, protocol.Parcel):
                self._intake.relay(replies, order.size)
            elif isinstance(order, protocol.Stop) and order.job == job:
                os.kill(child, signal.SIGKILL)

    def _is_stdin_readable(self) -> bool:
        """Wait until there is something to read, or a process has ended."""
        ready = {descriptor for descriptor, _ in self._poll.poll()}
        if self._wakeup in ready:
            with contextlib.suppress(BlockingIOError):
                os.read(self._wakeup, 65536)
        return _STDIN in ready

    def _clean_up(self, child: int) -> None:
        """Remove all that is left of the job; UncleanError if that is not possible."""
        deadline = time.monotonic() + CLEANING_S
        try:
            cleaning.kill_all(child, deadline, is_alone=self._is_alone)
            for directory in self._options.wipe:
                cleaning.empty(directory, deadline)
            cleaning.touch(self._timed)
            self._settings.restore()
        except OSError as error:
            raise cleaning.UncleanError(str(error)) from error

    def _tell(self, order: protocol.Order) -> None:
        """Have PID 1 do its part; its clock stops with `Stop`, so that a session may rest."""
        os.write(self._control, protocol.encode(order))

    def _report(
        self,
        order: protocol.Next,
        status: int,
        usage: resource.struct_rusage,
        before: Mapping[str, int | None],
    ) -> None:
        """Say that nothing is left of the job; the token shows where log and frames of it end."""
        frame = protocol.Cleared(
            token=order.token,
            job=order.job,
            status=status,
            cpu_us=round((usage.ru_utime + usage.ru_stime) * 1e6),
            memory_peak_bytes=usage.ru_maxrss * protocol.KIB,
            **counters.growth(before, _COUNTED),
        )
        self._outlet.end_log(order.log_end)
        # Right behind what the job has written, if it was killed in the middle of a line, too: the
        # host looks for the token and not for lines.
        self._outlet.results.write(protocol.encode(frame))


class Intake:
    """What the host says on stdin.  Nothing is kept here of what was passed on."""

    def __init__(self) -> None:
        self._bytes = bytearray(_BUFFER_BYTES)
        self._buffer = memoryview(self._bytes)
        self._filled = 0

    @property
    def has_line(self) -> bool:
        """Whether there is a whole line."""
        return self._find_end() > 0

    def is_ready(self) -> bool:
        """Whether the next order is there, or on its way."""
        return self.has_line or bool(select.select([_STDIN], [], [], 0)[0])

    def order(
        self,
    ) -> protocol.Next | protocol.Stop | protocol.Pause | protocol.Resume | protocol.Parcel:
        """Return the next order; waits for it.  Raises HungUpError."""
        while not (end := self._find_end()):
            self._fill()
        line = bytes(self._buffer[:end])
        self._drop(end)
        return protocol.decode_order(line)

    def relay(self, descriptor: int | None, size: int | None = None) -> None:
        """Write the next line, or so many bytes, to a descriptor.

        They go nowhere if it is None, or nobody reads it any more.
        """
        is_read = descriptor is not None
        while True:
            end = self._find_end() if size is None else min(size, self._filled)
            count = end or self._filled
            piece = self._buffer[:count]
            while is_read and piece:
                assert descriptor is not None
                try:
                    piece = piece[os.write(descriptor, piece) :]
                except BrokenPipeError:
                    is_read = False
            self._drop(count)
            if size is not None:
                size -= count
            if size == 0 or (size is None and end):
                return
            self._fill()

    def _find_end(self) -> int:
        """Return where the first line ends, its newline included; 0 if it has not come."""
        return self._bytes.find(b"\n", 0, self._filled) + 1

    def _fill(self) -> None:
        count = os.readv(_STDIN, [self._buffer[self._filled :]])
        if not count:
            raise HungUpError
        self._filled += count

    def _drop(self, count: int) -> None:
        left = self._filled - count
        self._buffer[:left] = self._buffer[count : self._filled]
        self._buffer[left : self._filled] = bytes(self._filled - left)
        self._filled = left


def fork() -> int:
    """Fork as `os.fork` does, without Python's hooks if there are no other threads of Python's."""
    return os.fork() if _thread._count() else kernel.fork()
