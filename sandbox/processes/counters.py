"""What the kernel has counted of this sandbox, in the files of its own control group.

The host asks PID 1 for it, or the parent of a session's jobs, where it cannot read the group
itself: without root, from another machine, or where the engine puts the group out of its reach.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

GROUP: Final = "/sys/fs/cgroup"

# For each figure a file of control groups version 2 and one of version 1, the key of the line that
# has the figure, and by what to divide it.
_FILES: Final = {
    "cpu_us": (("cpu.stat", "usage_usec", 1), ("cpuacct/cpuacct.usage", "", 1000)),
    "memory_peak_bytes": (("memory.peak", "", 1), ("memory/memory.max_usage_in_bytes", "", 1)),
    "oom_kills": (
        ("memory.events", "oom_kill", 1),
        ("memory/memory.oom_control", "oom_kill", 1),
    ),
    "process_limit_hits": (("pids.events", "max", 1), ("pids/pids.events", "max", 1)),
}


def read(group: str = GROUP) -> dict[str, int | None]:
    """Return each figure, by its name in `Exited`; None where the kernel or the engine hides it."""
    return {
        name: next(
            (
                number // divisor
                for file, key, divisor in places
                if (number := _number(f"{group}/{file}", key)) is not None
            ),
            None,
        )
        for name, places in _FILES.items()
    }


def growth(before: Mapping[str, int | None], names: Sequence[str]) -> dict[str, int | None]:
    """Return by how much these figures have grown since `read` returned `before`."""
    now = read()
    return {
        name: None if (new := now[name]) is None else new - (before[name] or 0) for name in names
    }


def _number(path: str, key: str) -> int | None:
    """Return the number after `key` in a file, or the only one if there is no key."""
    try:
        with open(path, encoding="ascii") as file:  # noqa: PTH123 (pathlib costs a start-up)
            lines = (line.split() for line in file)
            return next((int(line[-1]) for line in lines if line[:-1] == key.split()), None)
    except (OSError, ValueError, IndexError):
        return None
