"""What the kernel counted for one sandbox, read from its control group on this host.

Only reads, never changes.  Works where the engine runs on this machine and the caller may read
the group's files (cgroup v1 and v2); elsewhere there is no `CgroupReader`, and the figures come
from the engine or the guest, or are null.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

_ROOT: Final = Path("/sys/fs/cgroup")


@dataclass(frozen=True, slots=True, kw_only=True)
class Counters:
    """Figures of one control group; None for what this kernel does not count."""

    cpu_s: float | None = None
    memory_peak_bytes: int | None = None
    oom_kills: int | None = None
    process_limit_hits: int | None = None


@dataclass(frozen=True, slots=True)
class CgroupReader:
    """The directories of one container's control group, one per figure."""

    memory: Path
    cpu: Path
    pids: Path
    is_v2: bool

    @classmethod
    def of_process(cls, pid: int) -> Self | None:
        """Find the group of a container by its first process as the host numbers it."""
        try:
            lines = Path(f"/proc/{pid}/cgroup").read_text().splitlines()
        except OSError:
            return None
        paths: dict[str, str] = {}
        for line in lines:
            _, controllers, path = line.split(":", 2)
            for controller in controllers.split(","):
                paths[controller] = path.lstrip("/")
        if "memory" in paths:
            memory, cpu, pids = (
                _ROOT / name / paths.get(name, "") for name in ("memory", "cpuacct", "pids")
            )
            reader = cls(memory, cpu, pids, is_v2=False)
        else:
            group = _ROOT / paths.get("", "")
            reader = cls(group, group, group, is_v2=True)
        # A path that is the root, or not there, would count the whole machine or nothing.
        return reader if reader.memory.is_dir() and reader.memory != _ROOT else None

    def read(self) -> Counters:
        """Return what is counted now; all None when the group is gone."""
        if self.is_v2:
            cpu_us = _keyed(self.cpu / "cpu.stat", "usage_usec")
            return Counters(
                cpu_s=None if cpu_us is None else cpu_us / 1e6,
                memory_peak_bytes=_number(self.memory / "memory.peak"),
                oom_kills=_keyed(self.memory / "memory.events", "oom_kill"),
                process_limit_hits=_keyed(self.pids / "pids.events", "max"),
            )
        cpu_ns = _number(self.cpu / "cpuacct.usage")
        return Counters(
            cpu_s=None if cpu_ns is None else cpu_ns / 1e9,
            memory_peak_bytes=_number(self.memory / "memory.max_usage_in_bytes"),
            oom_kills=_keyed(self.memory / "memory.oom_control", "oom_kill"),
            process_limit_hits=_keyed(self.pids / "pids.events", "max"),
        )


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
