"""The control groups of this process's sandboxes: who is in them, and what they have used."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from runner.host.processes import HostProcess
from runner.sandboxes.cgroup import ROOT, JobCgroup, home_of

ALL: Final = ""
"""The name of the group around all groups of this process, which counts what they count."""


@dataclass(frozen=True, slots=True)
class Resident:
    """The memory of one process, in bytes: what only it has, and its share of all that it maps."""

    private_bytes: int
    share_bytes: int


@dataclass(frozen=True, slots=True)
class Group:
    """One sandbox: a cell's processes are in its own group, a container's in one of the engine."""

    group: JobCgroup
    is_cell: bool
    processes: tuple[int, ...]

    def residents(self) -> list[Resident]:
        """Return the memory of each process.  Raises OSError if one of them has ended."""
        return [_resident(each) for each in self.processes]


def group(name: str = ALL) -> JobCgroup:
    """Return one group of this process; the default is the group around all of them."""
    return JobCgroup(home_of(HostProcess.current()), name)


def groups() -> Iterator[Group]:
    """Find the groups of all sandboxes that there are now."""
    memory = ROOT / "memory" if (ROOT / "memory").is_dir() else ROOT
    top = Path(f"{memory}{group().parent}")
    for directory in filter(Path.is_dir, top.iterdir()):
        inner = [each for each in directory.iterdir() if each.is_dir()]
        found = [(each / "cgroup.procs").read_text().split() for each in [directory, *inner]]
        processes = tuple(int(each) for pids in found for each in pids)
        yield Group(group(directory.name), not inner, processes)


def _resident(pid: int) -> Resident:
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]
    pairs = (line.partition(":") for line in lines)
    found = {name: int(rest.split()[0]) << 10 for name, _, rest in pairs}
    return Resident(found["Private_Clean"] + found["Private_Dirty"], found["Pss"])
