"""The identity of the process that started a sandbox: enough to tell later if it is dead.

It is a label of every container and the name of every channel directory.  A process id alone is not
enough: ids are reused, differ between pid namespaces, and mean nothing after a reboot or on another
machine.
"""

from __future__ import annotations

import os
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

SCRATCH_PREFIX: Final = "qrunner-wheels-"
"""Prefix of a build's temporary directory; the name of its process follows."""

_UNKNOWN = "unknown"
_FIELDS_BEFORE_START_TIME = 19  # in /proc/<pid>/stat, counted from after the command's name


@dataclass(frozen=True, slots=True)
class HostProcess:
    """Identifies one process: machine, boot, pid namespace, pid and start time."""

    machine: str
    boot: str
    namespace: str
    pid: int
    started: str

    @classmethod
    def current(cls) -> Self:
        """Return the calling process."""
        pid = os.getpid()
        return cls(_machine(), _boot(), _pid_namespace(), pid, _start_time(pid) or _UNKNOWN)

    @classmethod
    def parse(cls, text: str) -> Self | None:
        """Return the process that `str` wrote, None for any other text."""
        parts = text.split(".")
        if len(parts) != len(cls.__slots__) or not parts[3].isdecimal():
            return None
        return cls(parts[0], parts[1], parts[2], int(parts[3]), parts[4])

    def __str__(self) -> str:
        return f"{self.machine}.{self.boot}.{self.namespace}.{self.pid}.{self.started}"

    def is_dead(self) -> bool:
        """Return True if this process is certainly dead; False if that is unknown."""
        if self.machine != _machine():
            return False
        if self.boot != (boot := _boot()):
            return _UNKNOWN not in {self.boot, boot}
        if self.namespace != _pid_namespace():
            return False
        return _start_time(self.pid) != self.started


def _machine() -> str:
    text = _read("/etc/machine-id") or socket.gethostname()
    return "".join(each for each in text if each.isalnum())[:12] or _UNKNOWN


def _boot() -> str:
    return _read("/proc/sys/kernel/random/boot_id").replace("-", "")[:12] or _UNKNOWN


def _pid_namespace() -> str:
    try:
        link = os.readlink("/proc/self/ns/pid")  # noqa: PTH115  it is no path, only text
    except OSError:
        return _UNKNOWN
    return "".join(each for each in link if each.isdigit())


def _start_time(pid: int) -> str | None:
    """Return a text that differs between processes that had the same pid, None if it is free."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None if Path("/proc/self/stat").exists() or not _exists(pid) else _UNKNOWN
    fields = stat.rpartition(")")[2].split()
    is_zombie = fields[0] == "Z"
    return None if is_zombie else fields[_FIELDS_BEFORE_START_TIME]


def _exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _read(path: str) -> str:
    try:
        return Path(path).read_text().strip()
    except OSError:
        return ""
