"""A zygote: the container of a program's image that makes a cell for each job, and runs none.

Its process has imported the stack and waits on the mounted socket.  For each cell it gets the three
streams of a job as descriptors, and forks a process into new namespaces, which connects to the same
socket.  The kernel says which process that is, and so the cell is in a control group of its own
before there is a request.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import select
import socket
import struct
import threading
import time
from dataclasses import replace
from typing import Final

from runner.engine.forks import close_in_children
from runner.errors import EngineError
from runner.policy import Limits, Policy
from runner.sandboxes.cell import Cell, Streams, kill
from runner.sandboxes.cgroup import JobCgroup
from runner.sandboxes.launcher import Sandbox
from sandbox.wire import protocol
from sandbox.wire.protocol import FrameReader, ProtocolError, Ready

_CELL_S: Final = 20.0
"""How long the making of one cell may take, in seconds."""

_LAST_WORDS_MS: Final = 200
"""How long a cell that has failed may take to say why, in milliseconds."""

_SAID_BYTES: Final = 4096
_CREDENTIALS: Final = struct.Struct("3i")

_numbers: Final = itertools.count(1)


class CellError(EngineError):
    """A zygote could not make a cell; its message says why."""


class Zygote:
    """Makes cells; any thread may call its methods.  `sandbox` must be ready, and is taken over.

    `home` is the control group that those of cells are made in.  `cells` is the number of cells
    that there are or are being made, `last_used` when one was made or ended last, as
    `time.monotonic` has it.
    """

    def __init__(self, sandbox: Sandbox, policy: Policy, home: str) -> None:
        self.sandbox = sandbox
        self.cells = 0
        self.last_used = time.monotonic()
        # A cell's file systems are its own mounts, whatever the engine can.
        self._policy = replace(policy, inode_limits=True)
        self._home = home
        self._lock = threading.Lock()
        self._counting = threading.Lock()

    def is_alive(self) -> bool:
        """Return True if it can be expected to make another cell."""
        return self.sandbox.is_waiting()

    def cell(self, limits: Limits) -> Cell:
        """Return a new cell that is ready for a request and has these limits.

        Raises CellError, or OSError if this host refuses what it takes.
        """
        spec = replace(self.sandbox.spec, policy=self._policy, limits=limits, arguments=())
        number = next(_numbers)
        order = protocol.Cell(
            number=number,
            tmp_bytes=limits.tmp_bytes,
            tmp_inodes=limits.tmp_inodes,
            shm_bytes=self._policy.shm_bytes,
            shm_inodes=self._policy.shm_inodes,
        )
        group = JobCgroup(self._home, f"{self.sandbox.name}-{number}", is_whole=True)
        with contextlib.ExitStack() as undo:
            self._begun()
            undo.callback(self._ended)
            streams = Streams()
            undo.callback(streams.close)
            undo.callback(group.dissolve)
            group.make(limits)
            connection, pid = self._order(order, streams)
            undo.callback(connection.close)
            process = _open(pid, connection)
            undo.callback(os.close, process)
            undo.callback(kill, process)
            # As in a container, whose runtime makes them the program's: it may open /dev/stderr.
            os.fchmod(streams.stderr.fileno(), 0o666)
            group.enter(pid)
            connection.send(protocol.ENTERED)
            # A second time, by the process that waits for the request.
            self._read_ready(connection, streams, time.monotonic() + _CELL_S)
            undo.pop_all()
        return Cell(group.name, spec, streams, connection, process, group, self._ended)

    def _begun(self) -> None:
        with self._counting:
            self.cells += 1

    def _ended(self) -> None:
        with self._counting:
            self.cells -= 1
            self.last_used = time.monotonic()

    def _order(self, order: protocol.Cell, streams: Streams) -> tuple[socket.socket, int]:
        """Have the cell made; return its connection, and the process that has made that."""
        with self._lock:  # the next connection is that of this cell
            self.last_used = time.monotonic()
            deadline = self.last_used + _CELL_S
            self._send(order, streams, deadline)
            streams.give()
            while True:
                connection = self._accept(streams, deadline)
                try:
                    if self._read_ready(connection, streams, deadline).cell == order.number:
                        close_in_children(connection)
                        return connection, _peer(connection)
                except BaseException:
                    connection.close()
                    raise
                connection.close()  # of a cell that was given up

    def _send(self, order: protocol.Cell, streams: Streams, deadline: float) -> None:
        control = self.sandbox.connection
        if control is None:
            msg = "the zygote has no connection to this host"
            raise CellError(msg)
        self._wait(control, select.POLLOUT, streams, deadline)
        try:
            socket.send_fds(
                control, [protocol.encode(order)], [each.fileno() for each in streams.theirs]
            )
        except OSError as error:
            msg = f"the zygote does not take the streams of a cell: {error}"
            raise CellError(msg) from error

    def _accept(self, streams: Streams, deadline: float) -> socket.socket:
        listener = self.sandbox.listener
        assert listener is not None
        while True:
            self._wait(listener, select.POLLIN, streams, deadline)
            try:
                connection, _ = listener.accept()
            except (BlockingIOError, ConnectionError):
                continue
            connection.setblocking(False)  # noqa: FBT003
            return connection

    def _read_ready(self, connection: socket.socket, streams: Streams, deadline: float) -> Ready:
        reader = FrameReader(_SAID_BYTES)
        try:
            while True:
                self._wait(connection, select.POLLIN, streams, deadline)
                data = connection.recv(_SAID_BYTES)
                for frame in reader.feed(data):
                    if isinstance(frame, Ready):
                        return frame
                    msg = "the cell sent another frame before it was ready"
                    raise CellError(msg)
                if not data:
                    self._fail("ended before it was ready", streams)
        except (ProtocolError, OSError) as error:
            msg = f"the cell sent data that does not follow the protocol: {error}"
            raise CellError(msg) from error

    def _wait(self, source: socket.socket, event: int, streams: Streams, deadline: float) -> None:
        """Wait for the source.  Raises CellError if the cell ends instead, or at the deadline."""
        poll = select.poll()
        if source.fileno() < 0:
            msg = "the zygote was removed while a cell was made"
            raise CellError(msg)
        poll.register(source, event)
        poll.register(streams.stdout, 0)  # its end only
        left_ms = max(0.0, deadline - time.monotonic()) * 1000
        ready = dict(poll.poll(left_ms))
        if not ready:
            self._fail(f"was not ready within {_CELL_S:g} s", streams)
        if source.fileno() not in ready and event == select.POLLIN:
            self._fail("ended before it was ready", streams)

    def _fail(self, what: str, streams: Streams) -> None:
        said, poll = b"", select.poll()
        poll.register(streams.stderr, select.POLLIN)
        with contextlib.suppress(OSError):
            while len(said) < _SAID_BYTES and poll.poll(_LAST_WORDS_MS):
                if not (more := os.read(streams.stderr.fileno(), _SAID_BYTES)):
                    break
                said += more
        text = said.decode(errors="backslashreplace").strip()
        msg = f"the cell {what}" + (f"; it said:\n{text}" if text else "")
        raise CellError(msg)


def _peer(connection: socket.socket) -> int:
    """Return the id, on this host, of the process that has connected."""
    size = _CREDENTIALS.size
    said = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size)
    pid: int = _CREDENTIALS.unpack(said)[0]
    if pid <= 0:
        msg = "the cell's processes cannot be seen from here: this is another PID namespace"
        raise CellError(msg)
    return pid


def _open(pid: int, connection: socket.socket) -> int:
    """Return a pidfd of the process that has connected, and of no later one with the same id.

    Only the cell's first process has the other end of the connection yet.  While that is open the
    process has not ended, and its id is its own.
    """
    process = os.pidfd_open(pid)
    poll = select.poll()
    poll.register(connection, select.POLLIN)
    if poll.poll(0):
        os.close(process)
        msg = "the cell ended as soon as it was ready"
        raise CellError(msg)
    return process
