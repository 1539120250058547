"""Ray: one streaming task per job.  Ray itself runs in a child process, `ray_driver`.

It runs in a child because Ray terminates a driver that has lost its head node for a minute, and
because it starts threads, forks and takes over signals.  Ray is never imported here.  Each job is a
socket pair with one end in the driver; it carries the same lines as a pipe to a node part that is a
child process.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import json
import os
import socket
import subprocess
import tempfile
import threading
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from packaging.specifiers import SpecifierSet

from runner.errors import RequestError, RunnerError
from runner.host import commands
from runner.sites.cluster import LOST_S, Capacity, NodeCapacity
from runner.sites.ray_trust import check_token, check_trust
from runner.sites.stdio import LastWords
from runner.sites.stream import Stream, Streams
from runner.sites.wire import AttemptEvent, End, JobSpec

VERSIONS: Final = SpecifierSet(">=2.52,<2.61")
"""The versions that were tested: the option for how far a generator may run ahead is not stable."""

CAPACITY_LINE: Final = b'{"do": "capacity"}\n'

_CONNECT_S: Final = 60.0
_ANSWER_S: Final = 20.0
_EXIT_S: Final = 10.0
_GOING_S: Final = 0.2
_MAX_ANSWER_BYTES: Final = 1 << 20


class RayEngine(Streams):
    """Submits to the cluster at `address` (HOST:PORT of its head); None finds the local one.

    Raises RequestError if there is no Ray or no cluster, or if the cluster can be reached by others
    and accepts jobs from anyone.
    """

    name = "ray"

    def __init__(self, address: str | None = None) -> None:
        super().__init__()
        _check_installed()
        self.address = _resolved(address or os.environ.get("RAY_ADDRESS"))
        check_trust(self.address.rpartition(":")[0])
        check_token()
        self._lock = threading.Lock()
        self._driver: _Driver | None = None
        self._drivers: weakref.WeakKeyDictionary[Stream, _Driver] = weakref.WeakKeyDictionary()

    def submit(self, spec: JobSpec) -> Stream:
        """Hand the job to Ray.  Raises RunnerError."""
        line = spec.to_line()
        driver, connection = self._connection()
        # If the driver ends, its jobs are lost as with a node that dies. The driver sends
        # heartbeats for jobs that wait, as nodes do for those that run.
        channel = _Connection(driver, connection)
        stream = self._open(channel, line, untaken=End.LOST, patience_s=LOST_S)
        self._drivers[stream] = driver
        return stream

    def events(self, handle: Stream) -> Iterator[AttemptEvent]:
        """Yield the node's events; a driver that stops sending is replaced."""
        try:
            yield from super().events(handle)
        finally:
            if handle.is_lost and handle.node is None:
                self._drivers[handle].kill()

    def capacity(self) -> Capacity:
        """Return the capacity of the living nodes.  Raises RunnerError."""
        driver, answer = self._ask()
        if answer is None and driver.has_ended():
            _, answer = self._ask()  # a new driver
        if answer is None:
            msg = f"the Ray driver does not answer: {driver.last_words() or 'no output'}"
            raise RunnerError(msg)
        return Capacity(nodes=tuple(NodeCapacity(**each) for each in answer["nodes"]))

    def _ask(self) -> tuple[_Driver, dict[str, Any] | None]:
        driver, connection = self._connection()
        with connection, contextlib.suppress(OSError):
            connection.sendall(CAPACITY_LINE)
            return driver, _receive(connection, _ANSWER_S)
        return driver, None

    def close(self) -> None:
        """End the driver, and with it every remaining job."""
        with self._lock:
            driver, self._driver = self._driver, None
        super().close()
        if driver is not None:
            driver.close()

    def _connection(self) -> tuple[_Driver, socket.socket]:
        """Return the driver, a new one if the last one has ended, and a connection to it."""
        with self._lock:
            if self._driver is not None:
                with contextlib.suppress(RunnerError):
                    return self._driver, self._driver.connect()
                self._driver.close()
            self._driver = None
            self._driver = _Driver(self.address)
            return self._driver, self._driver.connect()


def _check_installed() -> None:
    try:
        found = importlib.metadata.version("ray")
    except importlib.metadata.PackageNotFoundError:
        msg = "Ray is not installed: pip install 'qiskit-program-runner[ray]'"
        raise RequestError(msg) from None
    if found not in VERSIONS:
        msg = f"Ray {found} is installed, but {VERSIONS} is needed: install a matching version"
        raise RequestError(msg)


def _resolved(address: str | None) -> str:
    """Return HOST:PORT of the head.  Raises RequestError."""
    if address is None or address == "auto":
        base = os.environ.get("RAY_TMPDIR") or tempfile.gettempdir()
        try:
            address = (Path(base) / "ray" / "ray_current_cluster").read_text().strip()
        except OSError:
            msg = (
                "no Ray cluster runs on this machine: start a node of it here (docs/cluster.md), "
                "or name its head as ray://HOST:PORT or in RAY_ADDRESS"
            )
            raise RequestError(msg) from None
    address = address.removeprefix("ray://")
    host, colon, port = address.rpartition(":")
    if not (host and colon and port.isdigit()):
        msg = f"{address!r} is not the address of a Ray head: write HOST:PORT, usually port 6379"
        raise RequestError(msg)
    return address


class _Driver:
    """The process that is connected to Ray; it ends when the control socket closes."""

    def __init__(self, address: str) -> None:
        self._control, theirs = socket.socketpair()
        with theirs:
            self._process = subprocess.Popen(
                commands.module("runner.nodes.ray_driver", str(theirs.fileno()), address),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                pass_fds=(theirs.fileno(),),
                start_new_session=True,
            )
        self._words = LastWords(self._process)
        try:
            answer = _receive(self._control, _CONNECT_S)
        except OSError as error:
            said = self.last_words()
            self.close()
            msg = f"the driver of Ray at {address} does not answer: {said or error}"
            raise RunnerError(msg) from error
        if reason := answer.get("refused"):
            self.close()
            raise RequestError(reason)

    def connect(self) -> socket.socket:
        """Return our end of a new connection.  Raises RunnerError if the driver has gone."""
        ours, theirs = socket.socketpair()
        try:
            with theirs:
                socket.send_fds(self._control, [b"c"], [theirs.fileno()])
        except OSError as error:
            ours.close()
            msg = f"the Ray driver has ended: {self.last_words() or error}"
            raise RunnerError(msg) from error
        return ours

    def has_ended(self) -> bool:
        """Return True if the process has ended or is about to."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(_GOING_S)
            return True
        return False

    def last_words(self) -> str:
        """Return the end of its error output, if it has ended."""
        return self._words.text() if self.has_ended() else ""

    def kill(self) -> None:
        """Kill it now; the cluster's nodes end what it still runs."""
        self._process.kill()

    def close(self) -> None:
        """Let it end, and kill it if it does not."""
        self._control.close()
        try:
            self._process.wait(_EXIT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._words.close()


class _Connection:
    """One job's socket; the driver cancels the job when it closes."""

    def __init__(self, driver: _Driver, connection: socket.socket) -> None:
        self._driver = driver
        self._socket = connection
        self.reader = self._socket.fileno()
        self.writer = os.dup(self.reader)  # a selector takes each descriptor only once

    def hang_up(self) -> None:
        """Tell the driver that nothing more follows."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_WR)

    def close(self, patience_s: float) -> None:
        """Close it; the driver handles the rest."""
        del patience_s
        os.close(self.writer)
        self._socket.close()

    def last_words(self) -> str:
        """Return why the driver has ended, if it has."""
        return self._driver.last_words()


def _receive(connection: socket.socket, timeout_s: float) -> dict[str, Any]:
    """Return the JSON object on the single line of an answer.  Raises OSError."""
    received = b""
    connection.settimeout(timeout_s)
    while not received.endswith(b"\n"):
        data = connection.recv(1 << 16)
        if not data or len(received) > _MAX_ANSWER_BYTES:
            msg = "it has ended"
            raise ConnectionError(msg)
        received += data
    answer: dict[str, Any] = json.loads(received)
    return answer
