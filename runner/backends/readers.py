"""The throw-away processes that read what programs send, seen from the runner.

One process of an environment imports Qiskit and waits; for each job it forks a reader, which takes
all rights from itself (`holder.reader`).  A reader that dies or takes too long is killed, and the
next call of its job gets another.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import threading
from collections.abc import Callable
from typing import Any, Final

from holder import confinement
from holder.link import Link, LinkError
from runner.backends.holdings import Holding
from runner.errors import BackendUnavailableError

START_S: Final = 60.0
FORK_S: Final = 10.0
READ_S: Final = 10.0
"""How long reading may take, and again for each MiB: ten times what honest circuits take."""

_DIED: Final = (
    "circuits whose reading ends the process that reads them, or takes more than its memory or time"
)


class UnreadableError(Exception):
    """What a program sent cannot be read; the text says why."""


class Readers:
    """Gives each job a reader.  For any thread."""

    def __init__(self, holding: Holding) -> None:
        self._holding = holding
        self._lock = threading.Lock()
        self._control: socket.socket | None = None
        self._end: Callable[[], None] = lambda: None
        self._is_closed = False

    def prepare(self) -> None:
        """Start what forks them in the background: importing Qiskit takes longest."""
        threading.Thread(target=self._prepare, name="qrunner-readers", daemon=True).start()

    def _prepare(self) -> None:
        with self._lock, contextlib.suppress(OSError, LinkError, BackendUnavailableError):
            if not self._is_closed and confinement.is_possible():
                self._started()

    def fork(self) -> tuple[Link, int]:
        """Return the connection to a new reader, and the descriptor of its process.

        Raises BackendUnavailableError.
        """
        if not confinement.is_possible():
            msg = (
                "held backends need Linux on x86-64 or arm64: only there this host can take all "
                "rights from the process that reads a program's circuits"
            )
            raise BackendUnavailableError(msg)
        with self._lock:
            if self._is_closed:
                msg = "held backends are closed with their supervisor"
                raise BackendUnavailableError(msg)
            for _ in range(2):  # the second time if it has died meanwhile
                ours, theirs = socket.socketpair()
                with theirs:
                    try:
                        return Link(ours), self._fork(theirs)
                    except (OSError, LinkError):
                        ours.close()
                        self._stop()
        msg = "the process that reads circuits does not start, or does not answer"
        raise BackendUnavailableError(msg)

    def _fork(self, theirs: socket.socket) -> int:
        control = self._started()
        socket.send_fds(control, [b"."], [theirs.fileno()])
        _, descriptors, _, _ = socket.recv_fds(control, 1, 1)
        if not descriptors:
            msg = "no reader was made"
            raise LinkError(msg)
        os.set_inheritable(descriptors[0], False)  # noqa: FBT003
        return descriptors[0]

    def _started(self) -> socket.socket:
        if self._control is None:
            self._control, self._end = self._holding.open_readers()
            link = Link(self._control)
            if link.receive(START_S) is None:
                msg = "ended at once"
                raise LinkError(msg)
            self._control.settimeout(FORK_S)
        return self._control

    def _stop(self) -> None:
        self._control, end, self._end = None, self._end, lambda: None
        end()

    def close(self) -> None:
        """End the process that forks them."""
        with self._lock:
            self._is_closed = True
            self._stop()


class Reader:
    """One job's reader; made with its first call.  For any thread, one call after another."""

    def __init__(self, readers: Readers) -> None:
        self._readers = readers
        self._lock = threading.Lock()
        self._link: Link | None = None
        self._process = -1
        self._killing = threading.Lock()  # a descriptor must not be another's when it is used
        self._is_closed = False

    def rewrite(self, verb: str, body: bytes) -> tuple[dict[str, int], bytes]:
        """Return what a call costs, and its body written anew.

        Raises UnreadableError, BackendUnavailableError.
        """
        with self._lock:
            if self._is_closed:
                msg = "the job has ended"
                raise UnreadableError(msg)
            if self._link is None:
                self._link, self._process = self._readers.fork()
            try:
                self._link.send({"verb": verb}, body)
                received = self._link.receive(READ_S * (1 + (len(body) >> 20)))
            except LinkError:
                received = None
            if received is None:
                self._end()
                raise UnreadableError(_DIED)
        head, said = received
        if head.get("kind") != "answer":
            raise UnreadableError(said.decode(errors="replace"))
        return _cost_of(head), said

    def close(self) -> None:
        """Throw the reader away; interrupts one that reads."""
        self._is_closed = True
        self._kill()
        with self._lock:
            self._end()

    def _kill(self) -> None:
        with self._killing, contextlib.suppress(OSError):
            if self._process >= 0:
                signal.pidfd_send_signal(self._process, signal.SIGKILL)

    def _end(self) -> None:
        link, self._link = self._link, None
        if link is not None:
            link.close()
            self._kill()
            with self._killing:
                os.close(self._process)
                self._process = -1


def _cost_of(head: dict[str, Any]) -> dict[str, int]:
    cost = head.get("cost")
    if type(cost) is not dict or not all(type(each) is int for each in cost.values()):
        raise UnreadableError(_DIED)
    return cost
