"""What the kernel says of this process's confinement: the host compares it with what it asked for.

Read before there is program code, in the process that will run it.  An engine may ignore an option
without a word, even the runtime.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Final

_STATUS: Final = ("NoNewPrivs", "Seccomp", "CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")

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


def describe(paths: tuple[str, ...]) -> str:
    """Return one line for each fact: its name, then its value.

    `paths` are those that the host wants masked or read-only; each that exists gets a line with the
    type of the file system that is mounted on it and `ro` or `rw`, or `-` if there is none.
    """
    return "".join(f"{name} {value}\n" for name, value in _facts(paths))


def _facts(paths: tuple[str, ...]) -> Iterator[tuple[str, str]]:
    yield "kernel", os.uname().release
    for line in _lines("/proc/self/status"):
        name, _, value = line.partition(":")
        if name in _STATUS:
            yield name, value.strip()
    for name, files in _LIMITS.items():
        for file in files:
            for line in _lines(f"{_GROUP}/{file}")[:1]:
                yield name, line
    mounted = _mounted()
    for path in paths:
        if os.path.lexists(path):
            yield path, mounted.get(path, "-")


def _mounted() -> dict[str, str]:
    """Return what is mounted, by path; of several on one path the last, which covers the others."""
    found = {}
    for line in _lines("/proc/self/mountinfo"):
        mount, _, source = line.partition(" - ")
        _, _, _, _, path, options, *_ = mount.split()
        found[path] = f"{source.split()[0]} {options.split(',')[0]}"
    return found


def _lines(path: str) -> list[str]:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:  # noqa: PTH123
            return file.read().splitlines()
    except OSError:
        return []
