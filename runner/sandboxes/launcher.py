"""Start and removal of one sandbox: from the create call until the guest reports `ready`.

A `Sandbox` owns a container, the connection to its three streams, and (with the socket carrier) the
host directory with the listening socket and the one accepted connection.  The code that starts one
must always `destroy` it.  It is used for one job or one session, and never again.
"""

from __future__ import annotations

import contextlib
import logging
import os
import selectors
import shutil
import socket
import time
from contextlib import nullcontext
from pathlib import Path
from typing import Final, NoReturn

from runner.engine import OWN_LABEL, Engine
from runner.engine.attachment import Attachment, Stream
from runner.engine.forks import close_in_children
from runner.errors import (
    EngineError,
    NameTakenError,
    NoAnswerError,
    NoSuchObjectError,
    PolicyError,
    RunnerError,
)
from runner.host import interrupt
from runner.host.interrupt import Waker
from runner.host.trace import Trace
from runner.policy import ENGINE_WARNINGS
from runner.policy.proof import unproved
from runner.sandboxes import cgroup
from runner.sandboxes.cgroup import EngineCgroup, JobCgroup
from runner.sandboxes.container import container_config, random_uid
from runner.sandboxes.podman import translated
from runner.sandboxes.residence import make_channel
from runner.sandboxes.spec import Carrier, Kind, SandboxSpec
from sandbox.wire import protocol
from sandbox.wire.protocol import FrameReader, ProtocolError, Ready

log = logging.getLogger(__name__)

_MAX_SOCKET_PATH: Final = 100  # the kernel's limit is 108 with the final NUL, 104 on macOS
_NAME_ATTEMPTS: Final = 50
_READY_BYTES: Final = 16 * 1024
_RECEIVE_BYTES: Final = 1 << 18
_STARTUP_LOG_BYTES: Final = 64 * 1024

_KILL_S: Final = 1.0
"""How long the kernel may take to kill a whole control group, in seconds."""

_END_S: Final = 5.0
"""How long the engine may take to notice that a container has ended, in seconds."""

_LATE_S: Final = 5.0
"""How long a recovered engine may take for requests from before it got stuck, in seconds."""


class ImageGoneError(RunnerError):
    """The image was removed from the engine before a container of it was created."""


class Sandbox:
    """One started container.  Not thread-safe: it belongs to the thread that launched it."""

    def __init__(self, engine: Engine, spec: SandboxSpec, trace: Trace | None = None) -> None:
        self._engine = engine
        self._trace = trace or Trace()
        self.spec = spec
        self.name = ""
        self.carrier = spec.carrier
        self.container: str | None = None
        self.cgroup: JobCgroup | EngineCgroup | None = None
        self.attachment: Attachment | None = None
        self.connection: socket.socket | None = None
        self._listener: socket.socket | None = None
        self._directory: Path | None = None
        self._startup_log = bytearray()
        self.spent_s = 0.0
        self._may_come_late = False
        self._answers_since: float | None = None
        self.obstacle = ""
        self.unreachable = ""

    @property
    def kind(self) -> Kind:
        """What its jobs run in, if it has jobs itself."""
        return Kind.SESSION if self.spec.serves_many else Kind.CONTAINER

    def start(self) -> None:
        """Create, attach and start the container.

        Raises EngineError, ImageGoneError, and CancelledError if the thread's task is cancelled.
        """
        self._trace.mark("turn")
        if self.carrier is Carrier.SOCKET:
            self._listen()
        self.container = self._create_reachable()
        self._trace.mark("create")
        interrupt.check()
        self.attachment = self._engine.attach(self.container)
        self._trace.mark("attach")
        interrupt.check()
        self._engine.start(self.container)
        if self.spec.engine_cgroup:
            self.cgroup = cgroup.find(self.container, self._engine.inspect(self.container).pid)
        self._trace.mark("start")

    def _create_reachable(self) -> str:
        """Create the container, without the channel if the engine does not see its directory."""
        if self._listener is None:
            return self._create(None)
        try:
            return self._create(str(self._directory))
        except EngineError as error:
            # The engine has a file system of its own, and says what it has not found there.
            if str(self._directory) not in str(error):
                raise
            self.unreachable = str(self._directory)
            self._listener.close()
            self._listener = None
            return self._create(None)

    def _create(self, channel_directory: str | None) -> str:
        """Create the container under a user id that no other sandbox of this engine has.

        The id is part of the container's name.  The engine keeps names unique across all
        supervisors that use it.
        """
        for _ in range(_NAME_ATTEMPTS):
            uid = random_uid(rootful=self.spec.rootful)
            self.name = f"qrunner-{uid}"
            own = (
                JobCgroup(cgroup.home_of(self.spec.process), str(uid))
                if self.spec.own_cgroup
                else None
            )
            config = container_config(
                self.spec.policy,
                self.spec.limits,
                image=self.spec.image,
                uid=uid,
                labels={
                    f"{OWN_LABEL}.sandbox": self.name,
                    f"{OWN_LABEL}.owner": str(self.spec.process),
                },
                channel_directory=channel_directory,
                cgroup_parent=own.parent if own else None,
                arguments=self.spec.arguments,
                cpus=self.spec.job_cpus,
            )
            self.cgroup = own
            try:
                with translated(config) if self.spec.podman else nullcontext(config) as said:
                    return self._engine.create(
                        said,
                        name=self.name,
                        warnings_pass=ENGINE_WARNINGS in self.spec.policy.allow_missing,
                    )
            except NameTakenError:
                self.name, self.cgroup = "", None  # both belong to another sandbox
            except NoSuchObjectError as error:
                raise ImageGoneError(str(error)) from error
            except NoAnswerError:
                self._may_come_late = True
                raise
        msg = f"the engine has containers of all {_NAME_ATTEMPTS} names that were tried"
        raise EngineError(msg)

    def _listen(self) -> None:
        try:
            self._directory = make_channel(self.spec.process)
            path = self._directory / Path(protocol.SOCKET_PATH).name
            if len(os.fsencode(path)) > _MAX_SOCKET_PATH:
                log.info("%s is too long for a socket: frames go over stdio", path)
                return
            self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            self._listener.bind(str(path))
            # The sandbox's user owns nothing here; the parent directory keeps other users out.
            path.chmod(0o666)
            self._directory.chmod(0o755)
            self._listener.listen(1)
            self._listener.setblocking(False)  # noqa: FBT003
        except OSError as error:
            msg = f"the channel of a sandbox cannot be made on this host: {error}"
            raise EngineError(msg) from error

    def wait_ready(self, waker: Waker) -> None:
        """Wait until the guest has reported `ready` on either carrier.

        Raises EngineError if it ends before that, takes longer than `limits.startup_s`, or was
        built from other code than this host's; CancelledError if the thread's task is cancelled.
        """
        with interrupt.calling(waker.wake):
            self._wait_ready(waker)
        self._trace.mark("ready")

    def _wait_ready(self, waker: Waker) -> None:
        deadline = time.monotonic() + self.spec.limits.startup_s
        readers = {name: FrameReader(_READY_BYTES) for name in ("stdout", "socket")}
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
                        interrupt.check()
                    elif key.fileobj is self._listener:
                        self._accept(selector)
                    elif self._read_ready(key.fileobj, readers):
                        return

    def _accept(self, selector: selectors.BaseSelector) -> None:
        """Accept the first connection and close the listener, so there is never a second one."""
        assert self._listener is not None
        try:
            self.connection, _ = self._listener.accept()
        except (BlockingIOError, ConnectionError):
            return  # the guest has given up the connection
        close_in_children(self.connection)
        self.connection.setblocking(False)  # noqa: FBT003
        selector.unregister(self._listener)
        if not self.spec.serves_many:
            self._listener.close()
            self._listener = None
        selector.register(self.connection, selectors.EVENT_READ)

    def accept_next(self) -> bool:
        """In a session, accept the connection of the next job; return True if there is one."""
        assert self._listener is not None
        try:
            self.connection, _ = self._listener.accept()
        except (BlockingIOError, ConnectionError):
            return False
        close_in_children(self.connection)
        self.connection.setblocking(False)  # noqa: FBT003
        return True

    def refuse_waiting(self) -> None:
        """In a session, between two jobs: close the last job's connection and any that waits."""
        while self.connection is not None:
            self.connection.close()
            self.connection = None
            if self.listener is not None:
                self.accept_next()

    @property
    def listener(self) -> socket.socket | None:
        """The listening socket, None when no more connections are expected."""
        return self._listener

    def _read_ready(self, source: object, readers: dict[str, FrameReader]) -> bool:
        """Read what has arrived; return True if it was the guest's `ready`."""
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
            self._fail(f"sent data that does not follow the protocol before it was ready: {error}")
        if not frames:
            return False
        ready = frames[0]
        if len(frames) > 1 or not isinstance(ready, Ready):
            self._fail("sent another frame before it was ready")
        expected = (protocol.PROTOCOL_VERSION, self.spec.build)
        if (ready.protocol, ready.build) != expected:
            self._fail(
                f"speaks protocol {ready.protocol} of build {ready.build}, this host protocol "
                f"{expected[0]} of build {expected[1]}: rebuild the image with `qrunner build`"
            )
        self._check_confinement(ready.seen)
        self.carrier = carrier
        return True

    def _check_confinement(self, seen: str) -> None:
        """Refuse a sandbox that does not show every option that it was asked for with."""
        spec = self.spec
        if lacking := unproved(spec.policy, spec.limits, kernel=spec.kernel, seen=seen):
            msg = (
                "the engine has not confined the sandbox as it was asked to, seen from inside: "
                f"{'; '.join(lacking)}.  No program has run in it; see docs/install.md"
            )
            raise PolicyError(msg)

    def _read_attachment(self) -> bytes:
        assert self.attachment is not None
        pieces = self.attachment.receive()
        if pieces is None:
            self._fail(f"ended before it was ready ({self._cause()})", self._what_to_try())
        for stream, data in pieces:
            if stream is Stream.STDERR:
                self._startup_log += data[: _STARTUP_LOG_BYTES - len(self._startup_log)]
        return b"".join(data for stream, data in pieces if stream is Stream.STDOUT)

    def _fail(self, what: str, advice: str = "") -> NoReturn:
        said = self._startup_log.decode(errors="backslashreplace").strip()
        msg = f"the sandbox {what}" + (f"; it said:\n{said}" if said else "")
        raise EngineError(f"{msg}\n{advice}" if advice else msg)

    def _cause(self) -> str:
        """Return how the container has ended, as the engine says."""
        assert self.container is not None
        runtime = self.spec.policy.isolation
        try:
            self._engine.wait(self.container, timeout_s=_END_S)
            state = self._engine.inspect(self.container)
        except EngineError as error:
            return f"under {runtime}; the engine does not say how: {error}"
        killed = ", killed for lack of memory" if state.oom_killed else ""
        return f"exit code {state.exit_code} under {runtime}{killed}" + (
            f": {state.error}" if state.error else ""
        )

    def _what_to_try(self) -> str:
        runtime = self.spec.policy.isolation
        return (
            f"see whether {runtime} works here at all: docker run --rm --runtime {runtime} "
            f"{self.spec.image} python3 -c pass; and what `qrunner doctor` says about this machine"
        )

    def close_accounts(self) -> None:
        """Record in `spent_s` the CPU time used before there is a job, which is not the job's."""
        if self.cgroup is not None:
            self.spent_s = self.cgroup.read().cpu_s or 0.0

    def memory_bytes(self) -> int | None:
        """Return the memory in use now, in bytes; None if unknown.  For any thread."""
        group = self.cgroup
        return None if group is None else group.memory_bytes()

    def is_waiting(self) -> bool:
        """Return True if the guest has neither ended nor sent anything since it was ready."""
        assert self.attachment is not None
        return self.attachment.is_quiet() and (
            self.connection is None or _is_quiet(self.connection)
        )

    def destroy(self) -> bool:
        """Kill and remove everything; return True if all of it is gone.  Never raises.

        False means that the engine or the kernel refuses for now, for the reason in `obstacle`:
        call again later.  The sandbox's processes are dead even then, if this host can kill them
        itself.
        """
        self._hang_up()
        # First, so that a stuck engine keeps no process alive.
        is_empty = self._kill()
        is_removed = self._remove_container()
        is_empty = (is_empty or self._kill()) and self._remove_group()
        if self._directory is not None:
            shutil.rmtree(self._directory, ignore_errors=True)
            if self._directory.exists():
                self.obstacle = f"{self._directory} cannot be removed"
                return False
        return is_removed and is_empty

    def _hang_up(self) -> None:
        """Close the streams before anything else: an unread stream would block the engine."""
        if self.attachment is not None:
            self.attachment.close()
        for each in (self.connection, self._listener):
            if each is not None:
                each.close()

    def _kill(self) -> bool:
        """Kill the processes in the control group; return True if it is empty or not visible."""
        if self.cgroup is None:
            return True
        try:
            if self.cgroup.kill(_KILL_S):
                return True
            self.obstacle = "its processes live on and cannot be killed from this host"
        except OSError as error:
            self.obstacle = f"its control group cannot be read: {error}"
        return False

    def _remove_group(self) -> bool:
        if self.cgroup is None:
            return True
        self.obstacle = f"control group {self.cgroup.parent} cannot be removed"
        with contextlib.suppress(OSError):
            return self.cgroup.remove()
        return False

    def _remove_container(self) -> bool:
        try:
            for each in self._containers():
                self._engine.remove(each)
                self._may_come_late = False
        except EngineError as error:
            self._answers_since = None
            self.obstacle = str(error)
            return False
        if not self._may_come_late:
            return True
        self.obstacle = "the engine may still create a container that it was asked for"
        now = time.monotonic()
        self._answers_since = self._answers_since or now
        return now - self._answers_since >= _LATE_S

    def _containers(self) -> list[str]:
        """Return our container, even if the engine never confirmed that it was created."""
        if self.container is not None:
            return [self.container]
        if not self.name:
            return []
        wanted = {f"{OWN_LABEL}.sandbox": self.name, f"{OWN_LABEL}.owner": str(self.spec.process)}
        found = self._engine.containers()
        return [each for each, labels in found.items() if wanted.items() <= labels.items()]


def _is_quiet(connection: socket.socket) -> bool:
    try:
        connection.recv(1, socket.MSG_PEEK)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False
