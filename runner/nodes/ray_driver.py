"""The process that is connected to Ray: it has one connection per job, and does not read events.

Apart from `ray_trust`, this is the only module that uses Ray.  The caller sends connections over a
control socket.  Each begins with one line: a job's specification, or a query of the capacity.  A
task yields bytes of whole lines, which are forwarded unchanged.  Answers of a held backend go to an
actor, from which the task takes them: nothing can be sent to a task that runs.  Any other line, or
the end of the connection, cancels the task.  While a job waits for a node, this process sends
heartbeats for it.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import selectors
import socket
import sys
import threading
import time
from collections.abc import Generator
from pathlib import Path
from typing import Any, Final

from runner.errors import RequestError
from runner.sites.cluster import HEARTBEAT_S
from runner.sites.ray import CAPACITY_LINE
from runner.sites.ray_trust import check_nodes, is_loopback, knock
from runner.sites.wire import (
    MAX_LINE_BYTES,
    REPLY,
    End,
    Ended,
    Heartbeat,
    JobSpec,
    WireError,
    is_held,
    line_of,
)

log = logging.getLogger(__name__)

_AHEAD: Final = 4
"""The most batches that a task may be ahead of its consumer."""

_REACH_S: Final = 5.0

_TAKE_S: Final = 2.0
"""How long the mailbox keeps a task waiting for an answer; then the task looks if it has ended."""

_MAX_TAKERS: Final = 10_000
"""How many tasks may wait at the mailbox at the same time."""

_SIGN: Final = line_of(Heartbeat())

_LAST: Final = (b'{"event": "finished"', b'{"event": "ended"')


class Mailbox:
    """The answers for jobs whose backends are held by the caller, as an actor of Ray's."""

    def __init__(self) -> None:
        self._boxes: dict[str, asyncio.Queue[bytes]] = {}

    async def put(self, job: str, line: bytes) -> None:
        """Leave an answer for a job."""
        self._boxes.setdefault(job, asyncio.Queue()).put_nowait(line)

    async def take(self, job: str) -> bytes:
        """Return the next answer for a job, as soon as there is one; empty after a while."""
        box = self._boxes.setdefault(job, asyncio.Queue())
        try:
            return await asyncio.wait_for(box.get(), _TAKE_S)
        except TimeoutError:
            return b""

    async def forget(self, job: str) -> None:
        """Drop what is left of a job that has ended."""
        self._boxes.pop(job, None)


def attempt(line: bytes, job: str, mailbox: Any) -> Generator[bytes, None, None]:
    """Run one job on this node, as the task that Ray executes; `mailbox` if it may be answered."""
    import ray

    from runner.nodes.node import NodeJob, outlive
    from runner.sites.cluster import node_name

    outlive()
    node_id = ray.get_runtime_context().get_node_id()
    node = NodeJob(line, f"{node_name()}/{node_id[:8]}")
    is_over = threading.Event()

    def listen() -> None:
        with contextlib.suppress(ray.exceptions.RayError):  # the caller has gone, and the task goes
            while not is_over.is_set():
                if answer := ray.get(mailbox.take.remote(job)):
                    node.obey(answer)

    if mailbox is not None:
        threading.Thread(target=listen, name="qrunner-answers", daemon=True).start()
    try:
        with contextlib.closing(node.batches()) as batches:
            yield from batches
    finally:
        is_over.set()


class Driver:
    """Reads the connections in one thread, and serves each job in a thread of its own."""

    def __init__(self, control: socket.socket, ray: Any) -> None:
        self._control = control
        self._ray = ray
        self._task = ray.remote(num_cpus=1, max_retries=0)(attempt)
        self._mailbox_lock = threading.Lock()
        self._mailbox: Any = None
        self._selector = selectors.DefaultSelector()
        self._connections: dict[socket.socket, _Connection] = {}
        self._is_wanted = True

    def serve(self) -> None:
        """Serve until the control socket ends; then cancel the remaining jobs."""
        self._selector.register(self._control, selectors.EVENT_READ)
        reassured = time.monotonic()
        while self._is_wanted:
            for key, _ in self._selector.select(HEARTBEAT_S):
                if key.fileobj is self._control:
                    self._accept()
                else:
                    self._read(self._connections[key.fileobj])  # type: ignore[index]
            if time.monotonic() - reassured >= HEARTBEAT_S:
                reassured = time.monotonic()
                for each in self._connections.values():
                    each.reassure()
        for each in self._connections.values():
            self._cancel(each)

    def _accept(self) -> None:
        data, descriptors, _, _ = socket.recv_fds(self._control, 1, 1)
        self._is_wanted = bool(data)
        for descriptor in descriptors:
            connection = socket.socket(fileno=descriptor)
            self._connections[connection] = _Connection(connection)
            self._selector.register(connection, selectors.EVENT_READ)

    def _read(self, connection: _Connection) -> None:
        try:
            data = connection.socket.recv(1 << 20)
        except OSError:
            data = b""
        connection.unread += data
        is_asked = connection.is_complete
        if data and is_asked and self._has_passed_on_answers(connection):
            return
        if not data or is_asked or len(connection.unread) > MAX_LINE_BYTES:
            self._selector.unregister(connection.socket)
            del self._connections[connection.socket]
            # Ray may be slow here, but the other connections must not wait.
            threading.Thread(target=self._cancel, args=(connection,), daemon=True).start()
            if not is_asked:
                connection.socket.close()
        elif data.endswith(b"\n"):
            connection.is_complete = True
            line, connection.unread = bytes(connection.unread), bytearray()
            target = self._answer if line == CAPACITY_LINE else self._run
            threading.Thread(target=target, args=(connection, line), daemon=True).start()

    def _has_passed_on_answers(self, connection: _Connection) -> bool:
        """Pass on the answers that have arrived whole; False if another line is among them."""
        if not connection.unread.endswith(b"\n"):
            is_answer = connection.job is not None and connection.unread.startswith(REPLY)
            return is_answer and len(connection.unread) <= MAX_LINE_BYTES
        lines, connection.unread = connection.unread.splitlines(), bytearray()
        for line in lines:
            if connection.job is None or not line.startswith(REPLY):
                return False
            self._mailbox.put.remote(connection.job, bytes(line))
        return True

    def _cancel(self, connection: _Connection) -> None:
        with connection.lock:
            connection.is_cancelled = True
            if connection.task is not None and not connection.is_over:
                # An error that Ray reports for an ended task must not affect the others.
                with contextlib.suppress(Exception):
                    self._ray.cancel(connection.task)

    # --- in a thread of its own -----------------------------------------------------------------

    def _answer(self, connection: _Connection, _line: bytes) -> None:
        nodes = [
            {
                "name": f"{each['NodeManagerHostname']}/{each['NodeID'][:8]}",
                "cpus": each["Resources"]["CPU"],
                "memory_bytes": int(each["Resources"].get("memory", 0)),
            }
            for each in self._ray.nodes()
            if each["Alive"] and each["Resources"].get("CPU")
        ]
        connection.say(json.dumps({"nodes": nodes}).encode() + b"\n")
        connection.hang_up()

    def _run(self, connection: _Connection, line: bytes) -> None:
        connection.is_waiting = True
        try:
            ended = self._pass_on(connection, line)
        except OSError:
            ended = None  # the caller has closed the connection
        except Exception as error:
            log.exception("the driver failed at a job")  # the caller must get an answer
            ended = _ended(error, End.LOST)
        connection.begin()
        if ended is not None:
            connection.say(line_of(ended))
        connection.hang_up()

    def _pass_on(self, connection: _Connection, line: bytes) -> Ended | None:
        errors = self._ray.exceptions
        try:
            spec = JobSpec.from_line(line)
            limits, mailbox, job = spec.request.limits, None, f"{spec.job}/{spec.attempt}"
            if is_held(spec.request):
                mailbox, connection.job = self._answers(), job
            with connection.lock:
                if connection.is_cancelled:
                    return Ended(how=End.CANCELLED, reason="cancelled by the caller")
                connection.task = self._task.options(
                    num_cpus=limits.cpus,
                    memory=limits.memory_bytes,
                    num_returns="streaming",
                    scheduling_strategy="SPREAD",
                    _generator_backpressure_num_objects=_AHEAD,
                ).remote(line, job, mailbox)
            for reference in connection.task:
                data = self._ray.get(reference)
                connection.begin()
                if _is_last(data):
                    # Cancelling a task that is about to end can crash the whole driver (Ray 2.60).
                    with connection.lock:
                        connection.is_over = True
                connection.socket.sendall(data)
        except errors.TaskCancelledError as error:
            return _ended(error, End.CANCELLED)
        except errors.RayTaskError as error:
            # Any error of the task arrives as this type, and so does its cancellation.
            is_cancelled = isinstance(error.cause, errors.TaskCancelledError)
            return _ended(error, End.CANCELLED if is_cancelled else End.REFUSED)
        except errors.RayError as error:
            return _ended(error, End.LOST)
        except (WireError, ValueError) as error:
            return _ended(error, End.REFUSED)
        finally:
            if connection.job is not None:
                self._mailbox.forget.remote(connection.job)
        return None

    def _answers(self) -> Any:
        """Return the actor that keeps answers, which starts with the first job that needs it."""
        with self._mailbox_lock:
            if self._mailbox is None:
                options = {"num_cpus": 0, "max_concurrency": _MAX_TAKERS}
                self._mailbox = self._ray.remote(**options)(Mailbox).remote()
            return self._mailbox


class _Connection:
    """One job's socket, and the task that serves it."""

    def __init__(self, connection: socket.socket) -> None:
        self.socket = connection
        self.lock = threading.Lock()
        self.unread = bytearray()
        self.is_complete = False
        self.is_waiting = False
        self.is_cancelled = False
        self.is_over = False
        self.job: str | None = None
        self.task: Any = None
        self._beginning = threading.Lock()

    def begin(self) -> None:
        """Record that a node has the job: from now on, events come from that node."""
        with self._beginning:
            self.is_waiting = False

    def reassure(self) -> None:
        """Send a heartbeat for a job that waits for a node; never blocks."""
        with self._beginning, contextlib.suppress(OSError):
            if self.is_waiting:
                self.socket.send(_SIGN, socket.MSG_DONTWAIT)

    def say(self, data: bytes) -> None:
        with contextlib.suppress(OSError):
            self.socket.sendall(data)

    def hang_up(self) -> None:
        """End the stream; the reader closes the descriptor when the other end has gone."""
        with contextlib.suppress(OSError):
            self.socket.shutdown(socket.SHUT_RDWR)


def _is_last(data: bytes) -> bool:
    """Return True if the last line is a node's last event."""
    return data[data.rfind(b"\n", 0, -1) + 1 :].startswith(_LAST)


def _ended(error: Exception, how: End) -> Ended:
    lines = str(error).strip().splitlines() or [""]
    return Ended(how=how, reason=f"{type(error).__name__}: {lines[-1]:.300}")


# --- connecting ---------------------------------------------------------------------------------


def connect(address: str) -> Any:
    """Return Ray, connected to the cluster.  Raises RequestError, which says what to do."""
    host, _, port = address.rpartition(":")
    if is_loopback(host):
        # Otherwise Ray replaces the address by this machine's outward one, where nothing listens.
        os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"
    try:
        socket.create_connection((host.strip("[]"), int(port)), _REACH_S).close()
    except OSError as error:
        msg = f"nobody answers at {address} ({error}): is that the head of a running Ray cluster?"
        raise RequestError(msg) from error
    import ray

    try:
        knock(address)
        ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
    except ray.exceptions.AuthenticationError as error:
        msg = (
            f"the Ray cluster at {address} does not accept this caller's token: set "
            "RAY_AUTH_MODE=token here, and RAY_AUTH_TOKEN_PATH to a file with the token that the "
            f"cluster was started with (docs/cluster.md); Ray says: {error.message}"
        )
        raise RequestError(msg) from error
    except Exception as error:
        msg = f"Ray at {address}: {type(error).__name__}: {error!s:.300}"
        raise RequestError(msg) from error
    check_nodes([each["NodeManagerAddress"] for each in ray.nodes()], address)
    return ray


def main() -> int:
    """Connect to the cluster at argv[2] and serve the control socket argv[1]."""
    control = socket.socket(fileno=int(sys.argv[1]))
    # Ray's workers import from the driver's directory, which may be an untrusted repository.
    if token := os.environ.get("RAY_AUTH_TOKEN_PATH"):
        os.environ["RAY_AUTH_TOKEN_PATH"] = str(Path(token).absolute())
    os.chdir("/")
    answer: dict[str, str] = {}
    ray = None
    try:
        ray = connect(sys.argv[2])
    except RequestError as error:
        answer["refused"] = str(error)
    control.sendall(json.dumps(answer).encode() + b"\n")
    if ray is not None:
        Driver(control, ray).serve()
        ray.shutdown()
    return 0


if __name__ == "__main__":
    sys.exit(main())
