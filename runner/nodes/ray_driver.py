"""The process that is connected to Ray: it has one connection per job, and does not read events.

Apart from `ray_trust`, this is the only module that uses Ray.  The caller sends connections over a
control socket.  Each begins with one line: a job's specification, or a query of the capacity.  A
task yields bytes of whole lines, which are forwarded unchanged.  A further line, or the end of the
connection, cancels the task.  While a job waits for a node, this process sends heartbeats for it.
"""

from __future__ import annotations

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
from runner.sites.wire import MAX_LINE_BYTES, End, Ended, Heartbeat, JobSpec, WireError, line_of

log = logging.getLogger(__name__)

_AHEAD: Final = 4
"""The most batches that a task may be ahead of its consumer."""

_REACH_S: Final = 5.0

_SIGN: Final = line_of(Heartbeat())

_LAST: Final = (b'{"event": "finished"', b'{"event": "ended"')


def attempt(line: bytes) -> Generator[bytes, None, None]:
    """Run one job on this node, as the task that Ray executes."""
    import ray

    from runner.nodes.node import NodeJob, outlive
    from runner.sites.cluster import node_name

    outlive()
    node_id = ray.get_runtime_context().get_node_id()
    batches = NodeJob(line, f"{node_name()}/{node_id[:8]}").batches()
    with contextlib.closing(batches):
        yield from batches


class Driver:
    """Reads the connections in one thread, and serves each job in a thread of its own."""

    def __init__(self, control: socket.socket, ray: Any) -> None:
        self._control = control
        self._ray = ray
        self._task = ray.remote(num_cpus=1, max_retries=0)(attempt)
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
        is_asked = connection.is_complete
        connection.unread += data
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
            limits = JobSpec.from_line(line).request.limits
            with connection.lock:
                if connection.is_cancelled:
                    return Ended(how=End.CANCELLED, reason="cancelled by the caller")
                connection.task = self._task.options(
                    num_cpus=limits.cpus,
                    memory=limits.memory_bytes,
                    num_returns="streaming",
                    scheduling_strategy="SPREAD",
                    _generator_backpressure_num_objects=_AHEAD,
                ).remote(line)
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
        return None


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
