"""Restores a session's sandbox to its state before a job: no process, file or setting is left.

Called when the job's own process is dead.  All processes that it started are killed first, so that
none of them races with the rest.  Every step is bounded in time, because a program decides how much
there is to remove.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import resource
import signal
import stat
import struct
import time
from collections.abc import Iterable
from typing import Final

POLL_S: Final = 0.0005

_LIMITS: Final = tuple(
    getattr(resource, name) for name in dir(resource) if name.startswith("RLIMIT_")
)

_OF_A_PIPE: Final = (
    (fcntl.F_GETFL, fcntl.F_SETFL),
    (fcntl.F_GETOWN, fcntl.F_SETOWN),
    (fcntl.F_GETSIG, fcntl.F_SETSIG),
    (fcntl.F_GETPIPE_SZ, fcntl.F_SETPIPE_SZ),
)
"""The commands that read a setting of a pipe, and those that change it."""

_F_GETOWN_EX: Final = 16
_F_OWNER_PGRP: Final = 2
_F_SET_RW_HINT: Final = 1036
_LEFT_ON_A_PIPE: Final = (
    (fcntl.F_OFD_SETLK, struct.pack("hhqqi", fcntl.F_UNLCK, 0, 0, 0, 0)),
    (_F_SET_RW_HINT, bytes(8)),
)
"""Locks of the open description, and the hint for its inode: removed without being read."""


class UncleanError(Exception):
    """Something of the job cannot be removed, so the session must end."""


def kill_all(child: int, deadline: float, *, is_alone: bool) -> None:
    """Kill every process but PID 1 and this one, until the kernel reports that there is none.

    `is_alone` is True in a PID namespace of the sandbox's own.  Elsewhere (contract tests) only the
    job's process group is killed.
    """
    while True:
        try:
            if is_alone:
                os.kill(-1, signal.SIGKILL)
            else:
                os.killpg(child, signal.SIGKILL)
        except ProcessLookupError:
            return
        if time.monotonic() > deadline:
            msg = "processes of the job do not end"
            raise UncleanError(msg)
        time.sleep(POLL_S)  # PID 1 reaps them


def empty(directory: str, deadline: float) -> None:
    """Remove everything in a directory, with any names, depth and permissions.

    Nested directories are moved up first, because a path may be longer than the kernel accepts.
    """
    root = os.fsencode(directory)
    while names := os.listdir(root):  # noqa: PTH208 (names are bytes)
        for name in names:
            _remove(root, os.path.join(root, name), deadline)  # noqa: PTH118


def _remove(root: bytes, path: bytes, deadline: float) -> None:
    if time.monotonic() > deadline:
        msg = "there are too many files to remove"
        raise UncleanError(msg)
    if not _is_directory(path):
        os.unlink(path)  # noqa: PTH108
        return
    os.chmod(path, 0o700)  # noqa: PTH101
    for name in os.listdir(path):  # noqa: PTH208
        inner = os.path.join(path, name)  # noqa: PTH118
        if _is_directory(inner):
            os.chmod(inner, 0o700)  # noqa: PTH101  its `..` is about to change
            os.rename(inner, os.path.join(root, os.urandom(16).hex().encode()))  # noqa: PTH104, PTH118
        else:
            os.unlink(inner)  # noqa: PTH108
    os.rmdir(path)  # noqa: PTH106


def devices() -> list[str]:
    """Return the devices of this sandbox, which have times like other files."""
    found = os.scandir("/dev")
    return [each.path for each in found if stat.S_ISCHR(each.stat(follow_symlinks=False).st_mode)]


def touch(paths: Iterable[str]) -> None:
    """Set the times of all these paths to the present, so that they do not show a job's use.

    The earlier times cannot be restored: on files of root only the present time may be set.
    """
    for each in paths:
        with contextlib.suppress(OSError):  # refused to the job as well: it has the same rights
            os.utime(each)


def _is_directory(path: bytes) -> bool:
    return os.path.isdir(path) and not os.path.islink(path)  # noqa: PTH112, PTH114


class Settings:
    """The settings of a process that a job below it can change, and of a pipe that they share."""

    def __init__(self, pipes: Iterable[int]) -> None:
        self._pipes = [Pipe(each) for each in pipes]
        self._first = os.getppid()
        self._limits = self._look()
        self._cores = os.sched_getaffinity(0)

    def restore(self) -> None:
        """Restore everything; UncleanError or OSError if that fails."""
        for pipe in self._pipes:
            pipe.restore()
        for process in (0, self._first):
            os.sched_setaffinity(process, self._cores)
        if self._limits != self._look():
            # Without our filter `prlimit` can change them, and no one here can raise them again.
            msg = "the job has changed the resource limits of the session"
            raise UncleanError(msg)

    def _look(self) -> tuple[list[tuple[int, int]], bytes]:
        """Return the limits of this process, and of PID 1 where the kernel shows them."""
        limits = b""
        with contextlib.suppress(OSError), open(f"/proc/{self._first}/limits", "rb") as file:  # noqa: PTH123
            limits = file.read()
        return [resource.getrlimit(each) for each in _LIMITS], limits


class Pipe:
    """One of a job's pipes: its inode and its open description, shared with the parent."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._status = os.fstat(descriptor)
        self._values = self._look()

    def restore(self) -> None:
        """Restore the pipe; UncleanError or OSError if that fails."""
        for (_, change), value in zip(_OF_A_PIPE, self._values, strict=True):
            if value is not None:
                fcntl.fcntl(self._descriptor, change, value)
        # Anything refused here was refused to the job too: same rights, same kernel.
        for command, nothing in _LEFT_ON_A_PIPE:
            with contextlib.suppress(OSError):
                fcntl.fcntl(self._descriptor, command, nothing)
        with contextlib.suppress(PermissionError):
            times = self._status.st_atime_ns, self._status.st_mtime_ns
            os.utime(self._descriptor, ns=times)
        if self._mode() != self._status.st_mode:
            os.fchmod(self._descriptor, stat.S_IMODE(self._status.st_mode))
        if (self._mode(), self._look()) != (self._status.st_mode, self._values):
            msg = "the job has changed a pipe of the session"
            raise UncleanError(msg)

    def _mode(self) -> int:
        return os.fstat(self._descriptor).st_mode

    def _look(self) -> list[int | None]:
        return [_ask(self._descriptor, ask) for ask, _ in _OF_A_PIPE]


def _ask(descriptor: int, command: int) -> int | None:
    with contextlib.suppress(OSError):  # tests use files and sockets too
        if command == fcntl.F_GETOWN:
            return _owner(descriptor)
        return fcntl.fcntl(descriptor, command)
    return None


def _owner(descriptor: int) -> int:
    """Return the result of F_GETOWN; under gVisor the C library returns earlier stack content.

    The C library uses F_GETOWN_EX, and gVisor writes no answer if there is no owner.
    """
    kind, owner = struct.unpack("ii", fcntl.fcntl(descriptor, _F_GETOWN_EX, bytes(8)))
    return -owner if kind == _F_OWNER_PGRP else int(owner)
