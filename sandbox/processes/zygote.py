"""The second process of a zygote: warm, and the parent of one cell for each job.

It imports the stack, never runs code of a program, and never sees a request: the host sends it the
three streams of each job as descriptors, and it clones a process into new namespaces that keeps
them (`sandbox.processes.cell`).  All that a cell can know of another is in this process's memory,
so nothing of a job may ever get there.
"""

from __future__ import annotations

import _socket
import array
import contextlib
import os
import select
import traceback
from typing import Final, NoReturn

from sandbox.processes import cell, confinement, guard, kernel, memory, randomness, worker
from sandbox.processes.rehearsal import rehearse
from sandbox.program import loader
from sandbox.program.job import configure_logging
from sandbox.stack.warmup import needs_qiskit, warm_up
from sandbox.wire import channel, protocol
from sandbox.wire.options import Options

_ROOM: Final = _socket.CMSG_SPACE(3 * array.array("i").itemsize)
"""For the descriptors of three streams."""

_LOG: Final = 2
_ORDER_BYTES: Final = 4096

_REHEARSALS: Final = 16
"""After so many calls the interpreter has adapted a function's code, and writes to it no more."""


class HungUpError(Exception):
    """The host has closed the connection: no more cells are wanted."""


def main(options: Options, _control: int, _inbox: int) -> NoReturn:
    """Make cells until the host hangs up; there is nothing to tell PID 1."""

    def serve() -> None:
        channel.configure_streams()
        connection = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)
        connection.connect(options.socket)
        early = memory.regions()
        kept = memory.gather() if needs_qiskit(options.modules, options.backend) else []
        warmth = warm_up(options.modules, options.backend)
        guard.protect()
        renewals = randomness.find()
        again = randomness.again(renewals)
        for each in (renewals, again):
            randomness.renew(each)  # what cannot be is an error here, and not in a job
        warmth = loader.clear_early(options.program, warmth)
        confinement.lower(options.ulimits)
        # Hardly any cell writes to these: they have neither the interpreter and our code, nor what
        # comes from here on.
        cold = memory.fill() - early
        kept.clear()
        origin = cell.Origin(
            options=options,
            walls=cell.Walls.around(options),
            warmth=warmth,
            renewals=again,
        )
        nowhere = channel.FrameWriter(_LOG)
        outlet = channel.Channel(messages=nowhere, results=nowhere, log=_LOG)
        for _ in range(_REHEARSALS):
            rehearse(outlet, warmth)
        seen = confinement.describe(options.covered, options.ulimits)
        zygote = Zygote(connection, origin)
        configure_logging({})  # here, or each job would pay for it
        _end_native_threads()
        randomness.reseed_native()
        memory.settle(cold)
        connection.sendall(protocol.encode(worker.ready(seen=seen)))
        with contextlib.suppress(HungUpError):
            zygote.serve()

    worker.leave_after(serve)


class Zygote:
    """Makes a cell for each order of the host, and collects those that have ended."""

    def __init__(self, connection: _socket.socket, origin: cell.Origin) -> None:
        self._connection = connection
        self._origin = origin
        self._wakeup, _ = guard.open_wakeup()
        self._poll = select.poll()
        self._poll.register(connection, select.POLLIN)
        self._poll.register(self._wakeup, select.POLLIN)

    def serve(self) -> None:
        """Serve until the host hangs up, which raises HungUpError."""
        while True:
            for descriptor, _ in self._poll.poll():
                if descriptor == self._wakeup:
                    self._reap()
                else:
                    self._make(*self._receive())

    def _receive(self) -> tuple[protocol.Cell, list[int]]:
        """Return the next order and the streams of its job."""
        line, ancillary, _, _ = self._connection.recvmsg(_ORDER_BYTES, _ROOM)
        if not line:
            raise HungUpError
        received = array.array("i")
        for level, kind, data in ancillary:
            if (level, kind) == (_socket.SOL_SOCKET, _socket.SCM_RIGHTS):
                received.frombytes(data)
        return protocol.decode_cell(line), received.tolist()

    def _make(self, order: protocol.Cell, streams: list[int]) -> None:
        """Make a cell; what prevents that is written to the job's log, which then ends."""
        ready = protocol.encode(worker.ready(cell=order.number))
        entrance = self._origin.walls.entrance(order, streams, ready)
        try:
            if kernel.clone(kernel.NAMESPACES) == 0:
                self._become_cell(entrance, ready)
        except OSError as error:
            os.write(streams[_LOG], f"no cell can be made: {error}\n".encode())
        finally:
            for each in streams:
                os.close(each)

    def _become_cell(self, entrance: list[kernel.Call], ready: bytes) -> NoReturn:
        try:
            self._connection.detach()  # closed with all others, and its number used again
            cell.main(entrance, ready, self._origin)
        except BaseException:  # noqa: BLE001  nothing may return into the zygote's code
            with contextlib.suppress(BaseException):
                os.write(_LOG, traceback.format_exc().encode("utf-8", "backslashreplace"))
        finally:
            os._exit(worker.OUR_FAULT)

    def _reap(self) -> None:
        try:
            os.read(self._wakeup, 65536)
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        except (BlockingIOError, ChildProcessError):
            return


def _end_native_threads() -> None:
    """Have libraries end their threads, as they do before a fork that the C library knows of.

    `kernel.clone` is none of these, and OpenBLAS would wait in each cell for threads that only the
    zygote has.
    """
    if (child := os.fork()) == 0:
        os._exit(0)
    os.waitpid(child, 0)
