"""What makes a session's sandbox as it was before a job: no process, no file, no setting is left.

Called when the job's own process is dead, so the first thing to go are all that it has started;
after that nobody races with what is done here.  All of it is bounded in time, because a program
decides how much there is.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import resource
import signal
import time
from collections.abc import Iterable
from typing import Final

POLL_S: Final = 0.0005

_LIMITS: Final = tuple(
    getattr(resource, name) for name in dir(resource) if name.startswith("RLIMIT_")
)


class UncleanError(Exception):
    """Something of the job cannot be removed: the session must end."""


def kill_all(child: int, deadline: float, *, is_alone: bool) -> None:
    """Kill every process but PID 1 and this one, until the kernel says that there is none.

    `is_alone` says that this PID namespace is the sandbox's own.  Elsewhere (contract tests) it
    is the job's process group only.
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
    """Remove everything in a directory, whatever its names, depth and permissions.

    Directories inside others are moved up first: a path may be longer than the kernel takes.
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


def _is_directory(path: bytes) -> bool:
    return os.path.isdir(path) and not os.path.islink(path)  # noqa: PTH112, PTH114


class Settings:
    """What a job can change of the process above it, or of a pipe that they share."""

    def __init__(self, pipes: Iterable[int]) -> None:
        self._pipes = {each: _flags(each) for each in pipes}
        self._limits = _limits()
        self._cores = os.sched_getaffinity(0)

    def restore(self) -> None:
        """Make everything as it was; UncleanError if that cannot be done."""
        for descriptor, (flags, size) in self._pipes.items():
            fcntl.fcntl(descriptor, fcntl.F_SETFL, flags)
            if size is not None:
                fcntl.fcntl(descriptor, fcntl.F_SETPIPE_SZ, size)
        os.sched_setaffinity(0, self._cores)
        if self._limits != _limits():
            # `prlimit` reaches this process; what it lowers for good nobody here can raise.
            msg = "the job has changed the resource limits of the session"
            raise UncleanError(msg)


def _flags(descriptor: int) -> tuple[int, int | None]:
    size = None
    with contextlib.suppress(OSError):  # tests use files and sockets, too
        size = fcntl.fcntl(descriptor, fcntl.F_GETPIPE_SZ)
    return fcntl.fcntl(descriptor, fcntl.F_GETFL), size


def _limits() -> list[tuple[int, int]]:
    return [resource.getrlimit(each) for each in _LIMITS]
