"""The process that is connected to Ray: a pipe for each job, and nothing of what flows through it.

The only module that imports Ray.  Connections come over a control socket, whose end is ours.  Each
begins with one line: a job's specification, or a question.  What a task yields are bytes of whole
lines and goes out as it is; a further line, or the end of the connection, cancels the task.
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
from collections.abc import Generator
from typing import Any, Final

from runner.cluster.ray_engine import CAPACITY_LINE, check_trust, is_loopback
from runner.cluster.wire import MAX_LINE_BYTES, End, Ended, JobSpec, WireError, line_of
from runner.errors import RequestError

_AHEAD: Final = 4
"""How many batches a task may be ahead of whoever takes them."""

_LAST: Final = (b'{"event": "finished"', b'{"event": "ended"')


def attempt(line: bytes) -> Generator[bytes, None, None]:
    """Be the task: run one job on whatever node this is."""
    import ray

    from runner.cluster.boundary import node_name
    from runner.cluster.node import NodeJob, outlive

    outlive()
    node_id = ray.get_runtime_context().get_node_id()
    batches = NodeJob(line, f"{node_name()}/{node_id[:8]}").batches()
    with contextlib.closing(batches):
        yield from batches


class Driver:
    """Reads the connections in one thread, and serves each job in one of its own."""

    def __init__(self, control: socket.socket, ray: Any) -> None:
        self._control = control
        self._ray = ray
        self._task = ray.remote(num_cpus=1, max_retries=0)(attempt)
        self._selector = selectors.DefaultSelector()
        self._connections: dict[socket.socket, _Connection] = {}

    def serve(self) -> None:
        """Serve until the control socket ends; then cancel what is left."""
        self._selector.register(self._control, selectors.EVENT_READ)
        while True:
            for key, _ in self._selector.select():
                if key.fileobj is not self._control:
                    self._read(self._connections[key.fileobj])  # type: ignore[index]
                    continue
                data, descriptors, _, _ = socket.recv_fds(self._control, 1, 1)
                if not data:
                    for each in self._connections.values():
                        self._cancel(each)
                    return
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
            self._cancel(connection)
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
                # Whatever Ray says of a task that has ended, the others go on.
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
        try:
            ended = self._pass_on(connection, line)
        except OSError:
            ended = None  # nobody listens any more
        if ended is not None:
            connection.say(line_of(ended))
        connection.hang_up()

    def _pass_on(self, connection: _Connection, line: bytes) -> Ended | None:
        errors = self._ray.exceptions
        try:
            limits = JobSpec.from_line(line).limits
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
                if _is_last(data):
                    # To cancel a task that is about to end can crash the whole driver (Ray 2.60).
                    with connection.lock:
                        connection.is_over = True
                connection.socket.sendall(data)
        except errors.TaskCancelledError as error:
            return _ended(error, End.CANCELLED)
        except errors.RayTaskError as error:
            # Whatever the task raised comes as one, and so does what was raised to cancel it.
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
        self.is_cancelled = False
        self.is_over = False
        self.task: Any = None

    def say(self, data: bytes) -> None:
        with contextlib.suppress(OSError):
            self.socket.sendall(data)

    def hang_up(self) -> None:
        """End the stream; the descriptor goes when the reader has seen its other end go."""
        with contextlib.suppress(OSError):
            self.socket.shutdown(socket.SHUT_RDWR)


def _is_last(data: bytes) -> bool:
    """Return whether the last of these lines is a node's last."""
    return data[data.rfind(b"\n", 0, -1) + 1 :].startswith(_LAST)


def _ended(error: Exception, how: End) -> Ended:
    lines = str(error).strip().splitlines() or [""]
    return Ended(how=how, reason=f"{type(error).__name__}: {lines[-1]:.300}")


def main() -> int:
    """Connect to the cluster at argv[2] and serve the control socket argv[1]."""
    control = socket.socket(fileno=int(sys.argv[1]))
    address = sys.argv[2]
    if is_loopback(address.rpartition(":")[0]):
        # Else Ray replaces the address by this machine's outward one, where nobody listens.
        os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"
    import ray

    answer: dict[str, str] = {}
    try:
        ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
        for each in ray.nodes():
            check_trust(each["NodeManagerAddress"])
    except RequestError as error:
        answer["refused"] = str(error)
    except Exception as error:  # noqa: BLE001  whatever Ray raises: said to the caller
        answer["refused"] = f"Ray at {address}: {type(error).__name__}: {error!s:.300}"
    control.sendall(json.dumps(answer).encode() + b"\n")
    if not answer:
        Driver(control, ray).serve()
    ray.shutdown()
    return 0


if __name__ == "__main__":
    sys.exit(main())
