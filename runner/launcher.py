"""Starting and destroying one sandbox: from the create call until the guest says `ready`.

A `Sandbox` owns a container, the connection to its three streams, and (with the socket carrier)
the host directory with the listening socket and the one accepted connection.  Whoever launches
one must `destroy` it, whatever happens; it is used for one job and never again.
"""

from __future__ import annotations

import contextlib
import logging
import os
import secrets
import selectors
import shutil
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Final, NoReturn

from runner.cgroup import JobCgroup
from runner.engine import OWN_LABEL, Attachment, Engine, Stream
from runner.errors import EngineError, NameTakenError, RunnerError
from runner.owner import Owner
from runner.policy import Limits, Policy, container_config, random_uid
from sandbox import protocol
from sandbox.protocol import FrameReader, ProtocolError, Ready

log = logging.getLogger(__name__)

_MAX_SOCKET_PATH: Final = 100  # the kernel's limit is 108 with the final NUL, 104 on macOS
_NAME_ATTEMPTS: Final = 50
_RECEIVE_BYTES: Final = 1 << 18
_STARTUP_LOG_BYTES: Final = 64 * 1024


class Carrier(StrEnum):
    """What carries the frames between host and guest."""

    SOCKET = "socket"
    STDIO = "stdio"


class CancelledError(RunnerError):
    """The job was cancelled while its sandbox started."""


class Waker:
    """Wakes a selector from another thread."""

    def __init__(self) -> None:
        self._reader, self._writer = socket.socketpair()
        self._reader.setblocking(False)  # noqa: FBT003
        self._writer.setblocking(False)  # noqa: FBT003

    def fileno(self) -> int:
        return self._reader.fileno()

    def wake(self) -> None:
        with contextlib.suppress(OSError):  # full: it will wake; closed: nobody waits any more
            self._writer.send(b"\0")

    def clear(self) -> None:
        with contextlib.suppress(BlockingIOError):
            self._reader.recv(4096)

    def close(self) -> None:
        self._reader.close()
        self._writer.close()


@dataclass(frozen=True, slots=True, kw_only=True)
class SandboxSpec:
    """What a sandbox is made of; sandboxes of equal specs are interchangeable."""

    image: str
    build: str
    policy: Policy
    limits: Limits
    rootful: bool
    own_cgroup: bool
    carrier: Carrier
    directory: Path
    owner: Owner


class Sandbox:
    """One started container.  Not thread-safe: it belongs to the thread that launched it."""

    def __init__(self, engine: Engine, spec: SandboxSpec) -> None:
        self._engine = engine
        self.spec = spec
        self.name = ""
        self.carrier = spec.carrier
        self.container: str | None = None
        self.cgroup: JobCgroup | None = None
        self.attachment: Attachment | None = None
        self.connection: socket.socket | None = None
        self._listener: socket.socket | None = None
        self._directory = spec.directory / secrets.token_hex(6)
        self._startup_log = bytearray()

    def start(self) -> None:
        """Create, attach and start the container.  Raises EngineError."""
        directory = None
        if self.carrier is Carrier.SOCKET:
            self._listener = self._listen()
            directory = str(self._directory)
        self.container = self._create(directory)
        self.attachment = self._engine.attach(self.container)
        self._engine.start(self.container)

    def _create(self, channel_directory: str | None) -> str:
        """Create the container under a user id that no other sandbox of this engine has.

        The id is part of the container's name, and the engine keeps names unique: for all
        supervisors on it, whoever and wherever they are.
        """
        for _ in range(_NAME_ATTEMPTS):
            uid = random_uid(rootful=self.spec.rootful)
            self.name = f"qrunner-{uid}"
            cgroup = JobCgroup(self.spec.owner, str(uid)) if self.spec.own_cgroup else None
            config = container_config(
                self.spec.policy,
                self.spec.limits,
                image=self.spec.image,
                uid=uid,
                labels={
                    f"{OWN_LABEL}.sandbox": self.name,
                    f"{OWN_LABEL}.owner": str(self.spec.owner),
                },
                channel_directory=channel_directory,
                cgroup_parent=cgroup.parent if cgroup else None,
            )
            with contextlib.suppress(NameTakenError):
                container = self._engine.create(config, name=self.name)
                self.cgroup = cgroup
                return container
        msg = f"the engine has containers of all {_NAME_ATTEMPTS} names that were tried"
        raise EngineError(msg)

    def _listen(self) -> socket.socket:
        self._directory.mkdir()
        path = self._directory / Path(protocol.SOCKET_PATH).name
        if len(os.fsencode(path)) > _MAX_SOCKET_PATH:
            msg = f"{path} is too long for the path of a socket: set TMPDIR to a short directory"
            raise EngineError(msg)
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            listener.bind(str(path))
            # The sandbox's user owns nothing here; the parent directory keeps everybody else out.
            path.chmod(0o666)
            self._directory.chmod(0o755)
            listener.listen(1)
            listener.setblocking(False)  # noqa: FBT003
        except BaseException:
            listener.close()
            raise
        return listener

    def wait_ready(self, waker: Waker, is_cancelled: Callable[[], bool]) -> None:
        """Wait until the guest has said `ready` on either carrier.

        Raises EngineError when it ends before, takes longer than `limits.startup_s`, or was built
        from other code than ours; CancelledError when `is_cancelled` after a wake-up.
        """
        deadline = time.monotonic() + self.spec.limits.startup_s
        readers = {"stdout": FrameReader(4096), "socket": FrameReader(4096)}
        with selectors.DefaultSelector() as selector:
            assert self.attachment is not None
            selector.register(self.attachment, selectors.EVENT_READ)
            selector.register(waker, selectors.EVENT_READ)
            if self._listener is not None:
                selector.register(self._listener, selectors.EVENT_READ)
            while True:
                left = deadline - time.monotonic()
                if left <= 0:
                    self._fail(f"was not ready within {self.spec.limits.startup_s:g} s")
                for key, _ in selector.select(left):
                    if key.fileobj is waker:
                        waker.clear()
                        if is_cancelled():
                            raise CancelledError
                    elif key.fileobj is self._listener:
                        self._accept(selector)
                    elif self._read_ready(key.fileobj, readers):
                        return

    def _accept(self, selector: selectors.BaseSelector) -> None:
        """Take the first connection and close the listener: there is never a second."""
        assert self._listener is not None
        self.connection, _ = self._listener.accept()
        self.connection.setblocking(False)  # noqa: FBT003
        selector.unregister(self._listener)
        self._listener.close()
        self._listener = None
        selector.register(self.connection, selectors.EVENT_READ)

    def _read_ready(self, source: object, readers: dict[str, FrameReader]) -> bool:
        """Read what has arrived; return whether it was the guest's `ready`."""
        try:
            if source is self.connection and self.connection is not None:
                data = self.connection.recv(_RECEIVE_BYTES)
                if not data:
                    self._fail("closed its channel before it was ready")
                frames = list(readers["socket"].feed(data))
                carrier = Carrier.SOCKET
            else:
                frames = list(readers["stdout"].feed(self._read_attachment()))
                carrier = Carrier.STDIO
        except ProtocolError as error:
            self._fail(f"said something that is not the protocol before it was ready: {error}")
        if not frames:
            return False
        ready = frames[0]
        if len(frames) > 1 or not isinstance(ready, Ready):
            self._fail("said something else before it was ready")
        expected = (protocol.PROTOCOL_VERSION, self.spec.build)
        if (ready.protocol, ready.build) != expected:
            self._fail(
                f"speaks protocol {ready.protocol} of build {ready.build}, this host protocol "
                f"{expected[0]} of build {expected[1]}: rebuild the image with `qrunner build`"
            )
        self.carrier = carrier
        return True

    def _read_attachment(self) -> bytes:
        assert self.attachment is not None
        pieces = self.attachment.receive()
        if pieces is None:
            self._fail("ended before it was ready")
        for stream, data in pieces:
            if stream is Stream.STDERR:
                self._startup_log += data[: _STARTUP_LOG_BYTES - len(self._startup_log)]
        return b"".join(data for stream, data in pieces if stream is Stream.STDOUT)

    def _fail(self, what: str) -> NoReturn:
        said = self._startup_log.decode(errors="backslashreplace").strip()
        msg = f"the sandbox {what}" + (f"; it said:\n{said}" if said else "")
        raise EngineError(msg)

    def destroy(self) -> None:
        """Kill and remove everything; never raises for what is gone already.

        What the engine refuses to remove now is logged and left to the next sweep.
        """
        if self.attachment is not None:
            self.attachment.close()
        for each in (self.connection, self._listener):
            if each is not None:
                each.close()
        if self.container is not None:
            try:
                self._engine.remove(self.container)
            except EngineError as error:
                log.warning("sandbox %s is left for the next sweep: %s", self.name, error)
        if self.cgroup is not None:
            self.cgroup.remove()
        shutil.rmtree(self._directory, ignore_errors=True)
