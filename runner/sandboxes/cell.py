"""A cell: one job's place in a zygote, with namespaces, streams and a control group of its own.

The job's three streams are pipes between this process and the cell, without the engine, and its
message connection comes from the cell itself.  `runner.sandboxes.zygote` makes cells;
`sandbox.processes.cell` builds their walls.
"""

from __future__ import annotations

import contextlib
import io
import os
import select
import selectors
import signal
import socket
from collections.abc import Callable, Collection
from dataclasses import replace
from functools import partial
from typing import Any, Final

from runner.engine.forks import close_in_children
from runner.job.request import Request, frame
from runner.policy.isolation import Isolation
from runner.sandboxes.cgroup import JobCgroup
from runner.sandboxes.place import (
    SINGLE_USE_JOB,
    Account,
    Loss,
    Outgoing,
    Piece,
    Stream,
    new_log_end,
    set_events,
    usage_of,
)
from runner.sandboxes.spec import Carrier, Kind, SandboxSpec
from sandbox.wire import protocol
from sandbox.wire.protocol import Order

_RECEIVE_BYTES: Final = 1 << 18
_KILL_MS: Final = 5000
"""How long the kernel may take to kill everything in a cell, in milliseconds."""


class Streams:
    """The three pipes of a cell: the host's ends, and until `give` the cell's."""

    def __init__(self) -> None:
        with contextlib.ExitStack() as opened:
            ends = [_pipe(opened) for _ in range(3)]
            self._opened = opened.pop_all()
        (theirs_in, self.stdin), (self.stdout, theirs_out), (self.stderr, theirs_err) = ends
        self.theirs = (theirs_in, theirs_out, theirs_err)
        close_in_children(self.stdin)
        for each in (self.stdin, self.stdout, self.stderr):
            os.set_blocking(each.fileno(), False)

    def give(self) -> None:
        """Close the cell's ends, which it has got."""
        for each in self.theirs:
            each.close()

    def close(self) -> None:
        """Close everything."""
        self._opened.close()


def _pipe(opened: contextlib.ExitStack) -> tuple[io.FileIO, io.FileIO]:
    reader, writer = os.pipe()
    return (
        opened.enter_context(io.FileIO(reader, "rb")),
        opened.enter_context(io.FileIO(writer, "wb")),
    )


class Cell:
    """The place of one job, used once; made by `Zygote.cell`.

    `spec` is that of the zygote, except for the limits and the policy, which are the cell's.
    """

    kind = Kind.CELL
    first_process = "the program's process"
    outlives_job = False
    number = SINGLE_USE_JOB
    exit_status: int | None = None
    carrier = Carrier.SOCKET
    isolation = Isolation.RUNC

    def __init__(  # noqa: PLR0913  the parts of one cell
        self,
        name: str,
        spec: SandboxSpec,
        streams: Streams,
        connection: socket.socket,
        process: int,
        group: JobCgroup,
        ended: Callable[[], object],
    ) -> None:
        """Take over all of these; `process` is a pidfd of the cell's first process.

        `ended` is called once nothing is left of the cell's processes.
        """
        self.name = name
        self.spec = spec
        self.obstacle = ""
        self.log_end = new_log_end()
        self._streams = streams
        self._connection = connection
        self._process = process
        self._group = group
        self._ended = ended
        self._before_s = 0.0
        self._outgoing = Outgoing()
        self._open: set[Stream] = set(Stream)

    @property
    def unsent_bytes(self) -> int:
        return len(self._outgoing)

    @property
    def has_ended(self) -> bool:
        return not self._open - {Stream.MESSAGES}

    def begin(self, request: Request) -> None:
        self._before_s = self._group.cpu_s()
        self._outgoing.add(frame(request, self.number, log_end=self.log_end))
        self._send()  # a cell that waits takes it at once

    def stop(self) -> None:
        self.tell(protocol.Stop(job=self.number))

    def tell(self, *orders: Order) -> None:
        self._outgoing.add(b"".join(map(protocol.encode, orders)))

    # --- streams --------------------------------------------------------------------------------

    def watch(self, selector: selectors.BaseSelector, wanted: Collection[Stream]) -> None:
        for stream, source in (
            (Stream.RESULTS, self._streams.stdout),
            (Stream.LOG, self._streams.stderr),
            (Stream.MESSAGES, self._connection),
        ):
            reads = stream in wanted and stream in self._open
            set_events(selector, source, selectors.EVENT_READ if reads else 0)
        set_events(selector, self._streams.stdin, selectors.EVENT_WRITE if self._outgoing else 0)

    def exchange(self, source: Any, events: int) -> list[Piece]:  # noqa: ARG002  as other places
        if source is self._streams.stdin:
            self._send()
            return []
        if source is self._connection:
            return self._read_messages()
        stream = Stream.RESULTS if source is self._streams.stdout else Stream.LOG
        data = self._read(source)
        if data is None:
            return []
        if not data:  # no more than a container's, whose streams end together and in silence
            self._open.discard(stream)
            return []
        return [(stream, data)]

    def _send(self) -> None:
        self._outgoing.send(partial(os.write, self._streams.stdin.fileno()))

    @staticmethod
    def _read(source: io.FileIO) -> bytes | None:
        """Return what there is to read, empty at the end, None if there is nothing yet."""
        try:
            return os.read(source.fileno(), _RECEIVE_BYTES)
        except BlockingIOError:
            return None

    def _read_messages(self) -> list[Piece]:
        try:
            data = self._connection.recv(_RECEIVE_BYTES)
        except BlockingIOError:
            return []
        except ConnectionError:
            data = b""
        if not data:
            self._open.discard(Stream.MESSAGES)
        return [(Stream.MESSAGES, data)]

    # --- its cost, and why it has ended -----------------------------------------------------------

    def account(self) -> Account:
        counters = self._group.read()
        usage = usage_of(counters, "cgroup", "the kernel does not count this")
        if usage.cpu_s is not None:
            usage = replace(usage, cpu_s=max(0.0, usage.cpu_s - self._before_s))
        return Account(counters=counters, source="cgroup", usage=usage)

    def loss(self) -> Loss:
        return Loss(detail="the cell was ended from outside, as far as can be told, or its zygote")

    def answers(self, timeout_s: float) -> bool:  # noqa: ARG002  as other places
        return True  # there is only the kernel between this process and the cell

    # --- while it waits, and its end --------------------------------------------------------------

    def memory_bytes(self) -> int | None:
        """Return the memory in use now, in bytes; None if unknown.  For any thread."""
        return self._group.memory_bytes()

    def is_waiting(self) -> bool:
        """Return True if the cell has neither ended nor sent anything since it was ready."""
        poll = select.poll()
        for each in (self._streams.stdout, self._streams.stderr, self._connection):
            poll.register(each, select.POLLIN)
        return not poll.poll(0)

    def end(self) -> None:
        """Begin to end everything in the cell, and do not wait for it."""
        self._streams.close()
        self._connection.close()
        if self._process >= 0:
            _send_kill(self._process)

    def destroy(self) -> bool:
        """End everything in the cell; return True if all of it is gone.  Never raises."""
        self.end()
        if self._process >= 0:
            if not kill(self._process):
                self.obstacle = "its processes were killed, and the kernel has not ended them yet"
                return False
            os.close(self._process)
            self._process = -1
            self._ended()
        self.obstacle = f"control group {self._group.parent} cannot be removed"
        return self._group.dissolve()


def kill(process: int) -> bool:
    """Kill the first process of a cell, and all others with it; return True if they are gone.

    The kernel reports the end of a PID namespace's first process after the end of all others.
    """
    _send_kill(process)
    poll = select.poll()
    poll.register(process, select.POLLIN)
    return bool(poll.poll(_KILL_MS))


def _send_kill(process: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        signal.pidfd_send_signal(process, signal.SIGKILL)
