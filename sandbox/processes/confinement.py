"""What the kernel says of this process's confinement: the host compares it with what it asked for.

Read before there is program code, in the process that will run it.  An engine may ignore an option
without a word, even the runtime.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from typing import Any, Final

from sandbox.processes import guard

_PR_GET_NO_NEW_PRIVS: Final = 39
_STATUS: Final = ("Seccomp", "CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")

_LIMITS: Final = {
    "memory": ("memory.max", "memory/memory.limit_in_bytes"),
    "swap": ("memory.swap.max",),
    "memory+swap": ("memory/memory.memsw.limit_in_bytes",),
    "processes": ("pids.max", "pids/pids.max"),
    "cpu": ("cpu.max",),
    "cpu-quota": ("cpu/cpu.cfs_quota_us",),
    "cpu-period": ("cpu/cpu.cfs_period_us",),
}
"""Limits by the files that have them below `_GROUP`: of control groups version 2, of version 1."""

_GROUP: Final = "/sys/fs/cgroup"


def resources() -> Any:
    """Return the module `resource`, and let a program find its own of that name first."""
    known = sys.modules.get("resource")
    import resource

    if known is None:
        del sys.modules["resource"]
    return resource


def lower(ulimits: tuple[str, ...]) -> None:
    """Lower this process's resource limits to these, such as `core=0`, for good."""
    resource = resources()
    for each in ulimits:
        name, _, value = each.partition("=")
        number, wanted = getattr(resource, f"RLIMIT_{name.upper()}"), int(value)
        _, hard = resource.getrlimit(number)
        if hard > wanted or hard == resource.RLIM_INFINITY:  # gVisor refuses to set some at all
            resource.setrlimit(number, (wanted, wanted))


def describe(paths: tuple[str, ...], ulimits: tuple[str, ...]) -> str:
    """Return one line for each fact: its name, then its value.

    `ulimits` are those to report.  `paths` are those that the host wants masked or read-only; each
    that exists gets a line with the type of the file system that is mounted on it and `ro` or `rw`,
    or `-` if there is none.
    """
    return "".join(f"{name} {value}\n" for name, value in _facts(paths, ulimits))


def mounted() -> dict[str, str]:
    """Return what is mounted, by path: the type of the file system, then `ro` or `rw`.

    Of several mounts on one path it is the last, which covers the others.
    """
    found = {}
    for line in _lines("/proc/self/mountinfo"):
        mount, _, source = line.partition(" - ")
        _, _, _, _, path, options, *_ = mount.split()
        found[path] = f"{source.split()[0]} {options.split(',')[0]}"
    return found


def _facts(paths: tuple[str, ...], ulimits: tuple[str, ...]) -> Iterator[tuple[str, str]]:
    yield "kernel", os.uname().release
    yield "NoNewPrivs", str(guard.libc.prctl(_PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0))
    for line in _lines("/proc/self/status"):
        name, _, value = line.partition(":")
        if name in _STATUS:
            yield name, value.strip()
    for name, files in _LIMITS.items():
        for file in files:
            for line in _lines(f"{_GROUP}/{file}")[:1]:
                yield name, line
    resource = resources()
    for each in ulimits:
        name = each.partition("=")[0]
        _, hard = resource.getrlimit(getattr(resource, f"RLIMIT_{name.upper()}"))
        yield f"ulimit-{name}", str(hard)
    mounts = mounted()
    for path in paths:
        if os.path.lexists(path):
            yield path, mounts.get(path, "-")


def _lines(path: str) -> list[str]:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:  # noqa: PTH123
            return file.read().splitlines()
    except OSError:
        return []
