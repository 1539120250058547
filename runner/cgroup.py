"""A control group of our own around each sandbox: what the kernel counted, also after its death.

The engine makes the container's group inside a parent that we name and remove.  The parent
outlives the container, so its figures are exact and final.  This needs an engine on this machine
with the cgroupfs driver and a caller who may remove the group (root); elsewhere there is no
`JobCgroup`, and figures come from the engine or the guest, or are null.

cgroup v1 and v2 differ in where files are and in what a parent counts: out-of-memory kills and
refused forks are counted only in the container's own group on v1, so those two are lost with it.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from runner.owner import Owner

ROOT: Final = Path("/sys/fs/cgroup")
TOP: Final = "qrunner"
"""Name of the group that holds all of ours."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Counters:
    """Figures of one control group; None for what this kernel does not count."""

    cpu_s: float | None = None
    memory_peak_bytes: int | None = None
    oom_kills: int | None = None
    process_limit_hits: int | None = None


def is_usable(*, driver: str) -> bool:
    """Return whether groups of our own can be used with an engine of this driver on this host."""
    return driver == "cgroupfs" and os.geteuid() == 0 and os.access(ROOT, os.R_OK)


@dataclass(frozen=True, slots=True)
class JobCgroup:
    """The parent group of one sandbox; `name` is unique among those of its owner."""

    owner: Owner
    name: str

    @property
    def parent(self) -> str:
        """The group's path, as the engine takes it for a container."""
        return f"/{TOP}/{self.owner}/{self.name}"

    def read(self) -> Counters:
        """Return what has been counted until now; all None if there is no such group."""
        if (ROOT / "cgroup.controllers").exists():
            group = ROOT / self.parent.lstrip("/")
            cpu_us = _keyed(group / "cpu.stat", "usage_usec")
            return Counters(
                cpu_s=None if cpu_us is None else cpu_us / 1e6,
                memory_peak_bytes=_number(group / "memory.peak"),
                oom_kills=_keyed(group / "memory.events", "oom_kill"),
                process_limit_hits=_keyed(self._container(group) / "pids.events", "max"),
            )
        memory, cpu, pids = (
            ROOT / controller / self.parent.lstrip("/")
            for controller in ("memory", "cpuacct", "pids")
        )
        cpu_ns = _number(cpu / "cpuacct.usage")
        return Counters(
            cpu_s=None if cpu_ns is None else cpu_ns / 1e9,
            memory_peak_bytes=_number(memory / "memory.max_usage_in_bytes"),
            oom_kills=_keyed(self._container(memory) / "memory.oom_control", "oom_kill"),
            process_limit_hits=_keyed(self._container(pids) / "pids.events", "max"),
        )

    def is_empty(self) -> bool:
        """Return whether no process is left in the group, whatever the engine says."""
        return not any(
            path.read_text().strip()
            for directory in self._directories()
            for path in directory.rglob("cgroup.procs")
        )

    def remove(self) -> None:
        """Remove the group; one that is gone already is fine, one in use stays for a sweep."""
        for directory in self._directories():
            _remove_tree(directory)

    def _directories(self) -> Iterator[Path]:
        for hierarchy in _hierarchies():
            directory = hierarchy / self.parent.lstrip("/")
            if directory.is_dir():
                yield directory

    @staticmethod
    def _container(group: Path) -> Path:
        """Return the group that the engine made for the container, inside ours."""
        with contextlib.suppress(OSError):
            for each in group.iterdir():
                if each.is_dir():
                    return each
        return group / "gone"


def remove_owner(owner: Owner) -> None:
    """Remove all groups of one owner, and ours on top if nobody uses it any more."""
    for hierarchy in _hierarchies():
        _remove_tree(hierarchy / TOP / str(owner))
        with contextlib.suppress(OSError):
            (hierarchy / TOP).rmdir()


def owners() -> set[Owner]:
    """Return everybody who has groups here."""
    found = {
        Owner.parse(each.name)
        for hierarchy in _hierarchies()
        if (hierarchy / TOP).is_dir()
        for each in (hierarchy / TOP).iterdir()
        if each.is_dir()
    }
    return {each for each in found if each is not None}


def _hierarchies() -> list[Path]:
    """Return where groups live: one place on v2, one per controller on v1."""
    if (ROOT / "cgroup.controllers").exists():
        return [ROOT]
    if not ROOT.is_dir():
        return []
    return [each for each in ROOT.iterdir() if each.is_dir() and not each.is_symlink()]


def _remove_tree(directory: Path) -> None:
    """Remove a group and those in it, innermost first; `rmdir` refuses what has processes."""
    if not directory.is_dir():
        return
    for parent, _, _ in os.walk(directory, topdown=False):
        with contextlib.suppress(OSError):
            Path(parent).rmdir()


def _number(path: Path) -> int | None:
    try:
        return int(path.read_text())
    except (OSError, ValueError):
        return None


def _keyed(path: Path, key: str) -> int | None:
    try:
        pairs = (line.split() for line in path.read_text().splitlines())
        return next((int(pair[1]) for pair in pairs if pair[0] == key), None)
    except (OSError, ValueError, IndexError):
        return None
