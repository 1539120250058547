"""Control groups of our own around sandboxes: the kernel's counters, readable after their death.

The engine makes the container's group inside a parent group that this module names and removes.
The parent outlives the container, so its figures are exact and final.  A cell has one group, which
this module makes, with the limits of the job; it is beside those of containers, as cgroup v2 wants
no processes in a group that has groups.  This needs an engine on this machine, and a caller who may
remove the group (root).

With the cgroupfs driver all of these groups are below one of ours, at the top.  With the systemd
driver groups belong to systemd, which makes those of containers (`EngineCgroup`); it delegates one
to us for the cells (`delegated`).  Elsewhere figures come from the guest.

cgroup v1 and v2 differ in where the files are and in what a parent counts: v1 counts out-of-memory
kills and refused forks only in the container's own group, so these two are lost with it.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import logging
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Final

from runner.host.processes import HostProcess
from runner.policy import Limits

log = logging.getLogger(__name__)

ROOT: Final = Path("/sys/fs/cgroup")
TOP: Final = "qrunner"
"""Name of the group that contains all groups of this runner."""

SLICE: Final = "qrunner.slice"
"""Name of the slice of systemd that contains the groups which it delegates to this runner."""

KEEPER: Final = "keeper"
"""Name of the group in a delegated one that has the process which keeps that."""

_CELLS_NEED: Final = ("memory", "cpu", "pids")
_START_UNIT: Final = (
    *("call", "org.freedesktop.systemd1", "/org/freedesktop/systemd1"),
    *("org.freedesktop.systemd1.Manager", "StartTransientUnit", "ssa(sv)a(sa(sv))"),
)
_DELEGATION_S: Final = 10.0
"""How long systemd may take to delegate a group, in seconds."""

_FILE_BYTES: Final = 65536
_OF_SWAP: Final = ("memory.swap.max", "memory.memsw.limit_in_bytes")
_PERIOD_US: Final = 100_000
_LEAST_QUOTA_US: Final = 1000
"""The kernel's period of the CPU limit, and the least that it accepts of it, in microseconds."""

_POLL_S: Final = 0.005
_ATTEMPTS: Final = 100
_REMOVAL_S: Final = 1.0
"""How long the kernel may take to release a group whose last process has just died, in seconds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Counters:
    """Figures of one control group; None for figures that this kernel does not count."""

    cpu_s: float | None = None
    memory_peak_bytes: int | None = None
    oom_kills: int | None = None
    process_limit_hits: int | None = None
    tasks_peak: int | None = None


def is_usable(*, driver: str) -> bool:
    """Return True if groups of our own work on this host, with an engine that uses this driver."""
    return driver == "cgroupfs" and os.geteuid() == 0 and os.access(ROOT, os.R_OK)


@dataclass(frozen=True, slots=True)
class JobCgroup:
    """The group of one sandbox; `home` is the group above it, `name` is unique in there.

    With `is_whole` it has the processes itself; else the engine's group inside has them.
    """

    home: str
    name: str
    is_whole: bool = False

    @property
    def parent(self) -> str:
        """The path of the group, in the form that the engine takes for a container."""
        return f"{self.home}/{self.name}"

    def read(self) -> Counters:
        """Return the counters as they are now; all None if there is no such group."""
        if _is_unified():
            group = f"{ROOT}{self.parent}"
            return _read_unified(group, self._inner(group))
        memory, cpu, pids = (
            f"{ROOT}/{controller}{self.parent}" for controller in ("memory", "cpuacct", "pids")
        )
        cpu_ns = _number(f"{cpu}/cpuacct.usage")
        return Counters(
            cpu_s=None if cpu_ns is None else cpu_ns / 1e9,
            memory_peak_bytes=_number(f"{memory}/memory.max_usage_in_bytes"),
            oom_kills=_keyed(f"{self._inner(memory)}/memory.oom_control", b"oom_kill"),
            process_limit_hits=_keyed(f"{self._inner(pids)}/pids.events", b"max"),
            tasks_peak=_number(f"{pids}/pids.peak"),
        )

    def _inner(self, group: str) -> str:
        return group if self.is_whole else _container(group)

    def cpu_s(self) -> float:
        """Return the CPU time used until now, in seconds; 0 if it cannot be read."""
        if _is_unified():
            return (_keyed(f"{ROOT}{self.parent}/cpu.stat", b"usage_usec") or 0) / 1e6
        return (_number(f"{ROOT}/cpuacct{self.parent}/cpuacct.usage") or 0) / 1e9

    def make(self, limits: Limits) -> None:
        """Make the group of a cell, with the limits of its job.  Raises OSError."""
        for directory in _limited(self.parent):
            os.mkdir(directory)  # noqa: PTH102  below: cheaper than pathlib
        for path, value in _limit_files(self.parent, limits):
            try:
                _write(path, value)
            except FileNotFoundError:
                if not path.endswith(_OF_SWAP):  # the policy says if the kernel must count swap
                    raise

    def enter(self, pid: int) -> None:
        """Move a process into the group; its memory until then stays counted elsewhere."""
        for directory in _limited(self.parent):
            _write(f"{directory}/cgroup.procs", pid)

    def dissolve(self) -> bool:
        """Remove the group of a cell that has ended; return True if it is gone."""
        deadline = time.monotonic() + _REMOVAL_S
        left = _limited(self.parent)
        while left:
            left = [each for each in left if not _is_removed(each)]
            if left and time.monotonic() >= deadline:
                return False
            if left:
                time.sleep(_POLL_S)
        return True

    def memory_bytes(self) -> int | None:
        """Return the memory in use now, in bytes; None if it cannot be read."""
        if _is_unified():
            return _number(f"{ROOT}{self.parent}/memory.current")
        return _number(f"{ROOT}/memory{self.parent}/memory.usage_in_bytes")

    def is_empty(self) -> bool:
        """Return True if no process is left in the group, whatever the engine reports."""
        return not any(_processes(each) for each in self._directories())

    def kill(self, timeout_s: float) -> bool:
        """Kill the processes in the group, without the engine; return True if it is empty then.

        False if the kernel offers no way: processes of another pid namespace under cgroup v1.
        """
        deadline = time.monotonic() + timeout_s
        while not self.is_empty():
            if time.monotonic() >= deadline:
                return False
            for each in self._directories():
                _kill(each)
            time.sleep(_POLL_S)
        return True

    def remove(self) -> bool:
        """Remove the group; return True if it is gone.  A group in use stays."""
        deadline = time.monotonic() + _REMOVAL_S
        while True:
            for each in self._directories():
                _remove_tree(each)
            if not any(self._directories()):
                return True
            if time.monotonic() >= deadline:
                return False
            time.sleep(_POLL_S)

    def _directories(self) -> Iterator[Path]:
        for hierarchy in _hierarchies():
            directory = hierarchy / self.parent.lstrip("/")
            if directory.is_dir():
                yield directory


@dataclass(frozen=True, slots=True)
class EngineCgroup:
    """The group that the engine, or systemd for it, made for one container (version 2 only)."""

    directory: Path

    @property
    def parent(self) -> str:
        """The path of the group, for messages."""
        return str(self.directory)

    def read(self) -> Counters:
        """Return the counters as they are now; all None once the group is gone."""
        return _read_unified(str(self.directory), str(self.directory))

    def memory_bytes(self) -> int | None:
        """Return the memory in use now, in bytes; None if it cannot be read."""
        return _number(f"{self.directory}/memory.current")

    def kill(self, timeout_s: float) -> bool:
        """Kill the processes in the group, without the engine; return True if it is empty then."""
        deadline = time.monotonic() + timeout_s
        while _processes(self.directory):
            if time.monotonic() >= deadline:
                return False
            with contextlib.suppress(OSError):
                (self.directory / "cgroup.kill").write_text("1")
            time.sleep(_POLL_S)
        return True

    def remove(self) -> bool:
        """Return True if no process is left: whoever made the group removes it."""
        return not _processes(self.directory)


def is_found(*, driver: str, rootless: bool) -> bool:
    """Return True if this process may read and kill the groups that such an engine makes.

    Those of a rootless engine belong to its user, and to the user's own systemd.
    """
    return driver == "systemd" and (os.geteuid() == 0 or rootless) and _is_unified()


def find(container: str, pid: int) -> EngineCgroup | None:
    """Return the group of a container whose first process is `pid`; None if it is not ours to kill.

    The process may be another one here: an engine in a namespace of its own counts differently.
    So the group must have the container's id in its path.
    """
    try:
        parts = Path(_group_of(pid).lstrip("/")).parts
    except (OSError, ValueError):
        return None
    depth = next((n for n, part in enumerate(parts, 1) if container in part), 0)
    directory = ROOT.joinpath(*parts[:depth])
    if not depth or not os.access(directory / "cgroup.procs", os.W_OK):
        return None
    return EngineCgroup(directory)


def _group_of(pid: int) -> str:
    """Return the group of a process.  Raises OSError, or ValueError if it has one on version 1."""
    [line] = Path(f"/proc/{pid}/cgroup").read_text().splitlines()
    return line.removeprefix("0::")


def delegated(process: HostProcess, keeper: int) -> str:
    """Have systemd delegate a group to `process` for its cells; return it, as a `home`.

    It is a scope of the process `keeper`, and goes when that has ended and the cells have too.  Who
    is not root asks the systemd of this user.  Raises OSError with the reason if there is none.
    """
    unit = f"{TOP}-{process}-{keeper}.scope"
    _order_scope(unit, keeper)
    deadline = time.monotonic() + _DELEGATION_S
    while not (home := _group_of(keeper)).endswith(f"/{unit}"):
        if time.monotonic() >= deadline:
            msg = f"systemd has not made {unit} within {_DELEGATION_S:g} s"
            raise TimeoutError(msg)
        time.sleep(_POLL_S)
    inner = f"{ROOT}{home}/{KEEPER}"  # a group with groups that have limits has no processes
    os.mkdir(inner)  # noqa: PTH102
    _write(f"{inner}/cgroup.procs", keeper)
    _write(f"{ROOT}{home}/cgroup.subtree_control", " ".join(f"+{each}" for each in _CELLS_NEED))
    return home


def _order_scope(unit: str, process: int) -> None:
    """Ask systemd for a transient scope around a process.  Raises OSError."""
    properties = {
        "PIDs": ("au", 1, process),
        "Delegate": ("b", "true"),
        "Slice": ("s", SLICE),
        "CollectMode": ("s", "inactive-or-failed"),
    }
    given = [len(properties), *chain(*((name, *value) for name, value in properties.items()))]
    whose = "--system" if os.geteuid() == 0 else "--user"
    command = ["busctl", whose, *_START_UNIT, unit, "fail", *map(str, given), "0"]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=_DELEGATION_S, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise TimeoutError(str(error)) from error
    if done.returncode != 0:
        raise OSError(done.stderr.strip() or f"busctl exited with status {done.returncode}")


def home_of(process: HostProcess) -> str:
    """Return the group of one process where groups are ours from the top."""
    return f"/{TOP}/{process}"


def make_groups(process: HostProcess) -> None:
    """Make the group of one process, so that no other process removes the top group meanwhile."""
    for hierarchy in _hierarchies():
        for _ in range(_ATTEMPTS):  # another process may remove the top group between two steps
            try:
                (hierarchy / TOP / str(process)).mkdir(parents=True, exist_ok=True)
            except (FileNotFoundError, FileExistsError):
                continue
            except OSError as error:
                log.debug("no control group of our own in %s: %s", hierarchy, error)
            break


def kill_groups(process: HostProcess) -> None:
    """Kill everything that is left in the groups of a dead process."""
    for hierarchy in _hierarchies():
        directory = hierarchy / TOP / str(process)
        if _processes(directory):
            _kill(directory)


def remove_groups(process: HostProcess) -> bool:
    """Remove all groups of one process, and the top group if no process uses it any more."""
    gone = True
    for hierarchy in _hierarchies():
        directory = hierarchy / TOP / str(process)
        _remove_tree(directory)
        gone = gone and not directory.exists()
        with contextlib.suppress(OSError):
            (hierarchy / TOP).rmdir()
    return gone


def processes() -> set[HostProcess]:
    """Return the processes that have groups on this host."""
    found: set[HostProcess | None] = set()
    for hierarchy in _hierarchies():
        with contextlib.suppress(OSError):  # there is none, or it is being removed
            found |= {HostProcess.parse(each.name) for each in (hierarchy / TOP).iterdir()}
    return {each for each in found if each is not None}


def _hierarchies() -> list[Path]:
    """Return the directories of groups: one on v2, one per controller on v1."""
    if _is_unified():
        return [ROOT]
    if not ROOT.is_dir():
        return []
    return [each for each in ROOT.iterdir() if each.is_dir() and not each.is_symlink()]


def _processes(directory: Path) -> set[int]:
    """Return the processes in a group and its subgroups; 0 stands for one without a visible id.

    Raises OSError if that cannot be read; a group that is being removed counts as empty.
    """
    found: set[int] = set()
    for parent, _, _ in os.walk(directory, onerror=_unless_gone):
        try:
            found |= {int(line) for line in Path(parent, "cgroup.procs").read_text().split()}
        except OSError as error:
            _unless_gone(error)
    return found


def _unless_gone(error: OSError) -> None:
    if error.errno not in {errno.ENOENT, errno.ENODEV}:
        raise error


def _kill(directory: Path) -> None:
    """Send SIGKILL once to everything in a group and its subgroups, without waiting."""
    with contextlib.suppress(OSError):
        (directory / "cgroup.kill").write_text("1")
        return
    parts = directory.parts
    inside = f"/{'/'.join(parts[parts.index(TOP) :])}/"
    for pid in _processes(directory) - {0}:
        with contextlib.suppress(OSError):  # it may be gone already
            _kill_member(pid, inside)


def _kill_member(pid: int, inside: str) -> None:
    """Kill a process if it belongs to the group: its id may have been reused."""
    process = os.pidfd_open(pid)
    try:
        if any(inside in f"{line}/" for line in Path(f"/proc/{pid}/cgroup").read_text().split()):
            signal.pidfd_send_signal(process, signal.SIGKILL)
    finally:
        os.close(process)


def _remove_tree(directory: Path) -> None:
    """Remove a group and its subgroups, innermost first; `rmdir` refuses one with processes."""
    if not directory.is_dir():
        return
    for parent, _, _ in os.walk(directory, topdown=False):
        with contextlib.suppress(OSError):
            Path(parent).rmdir()


# Called for every job, so it uses what is cheapest: pathlib takes ten times as long.


def _is_unified() -> bool:
    """Return True if this host has cgroup v2."""
    return _has_controllers(ROOT)


@functools.cache  # which version a host has does not change
def _has_controllers(root: Path) -> bool:
    return os.access(f"{root}/cgroup.controllers", os.F_OK)


def _read_unified(group: str, inner: str) -> Counters:
    """Return the counters of a group of version 2; `inner` is the group that has the processes."""
    cpu_us = _keyed(f"{group}/cpu.stat", b"usage_usec")
    return Counters(
        cpu_s=None if cpu_us is None else cpu_us / 1e6,
        memory_peak_bytes=_number(f"{group}/memory.peak"),
        oom_kills=_keyed(f"{group}/memory.events", b"oom_kill"),
        process_limit_hits=_keyed(f"{inner}/pids.events", b"max"),
        tasks_peak=_number(f"{group}/pids.peak"),
    )


def _limited(group: str) -> list[str]:
    """Return the directories that limit and count the processes of a cell."""
    if _is_unified():
        return [f"{ROOT}{group}"]
    return [f"{ROOT}/{name}{group}" for name in _controllers(ROOT)]


@functools.cache  # which are mounted together does not change
def _controllers(root: Path) -> tuple[str, ...]:
    """Return the hierarchies of version 1 that a cell needs, each by one name."""
    alone = () if os.path.samefile(f"{root}/cpu", f"{root}/cpuacct") else ("cpuacct",)  # noqa: PTH121
    return ("memory", "cpu", "pids", *alone)


def _limit_files(group: str, limits: Limits) -> list[tuple[str, int | str]]:
    """Return the files that hold the limits of a new group, and what to write there.

    Memory comes before memory with swap: the kernel refuses a sum that is below it.
    """
    quota_us = max(_LEAST_QUOTA_US, int(limits.cpus * _PERIOD_US))
    if _is_unified():
        path = f"{ROOT}{group}"
        return [
            (f"{path}/memory.max", limits.memory_bytes),
            (f"{path}/memory.swap.max", 0),
            (f"{path}/pids.max", limits.processes),
            (f"{path}/cpu.max", f"{quota_us} {_PERIOD_US}"),
        ]
    return [
        (f"{ROOT}/memory{group}/memory.limit_in_bytes", limits.memory_bytes),
        (f"{ROOT}/memory{group}/memory.memsw.limit_in_bytes", limits.memory_bytes),
        (f"{ROOT}/pids{group}/pids.max", limits.processes),
        (f"{ROOT}/cpu{group}/cpu.cfs_quota_us", quota_us),
    ]


def _write(path: str, value: object) -> None:
    file = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(file, str(value).encode())
    finally:
        os.close(file)


def _is_removed(directory: str) -> bool:
    try:
        os.rmdir(directory)  # noqa: PTH106
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return True


def _container(group: str) -> str:
    """Return the group that the engine made for the container, inside our group."""
    with contextlib.suppress(OSError), os.scandir(group) as found:
        return next((each.path for each in found if each.is_dir()), f"{group}/gone")
    return f"{group}/gone"


def _read(path: str) -> bytes:
    file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return os.read(file, _FILE_BYTES)
    finally:
        os.close(file)


def _number(path: str) -> int | None:
    try:
        return int(_read(path))
    except (OSError, ValueError):
        return None


def _keyed(path: str, key: bytes) -> int | None:
    try:
        pairs = (line.split() for line in _read(path).splitlines())
        return next((int(pair[1]) for pair in pairs if pair[0] == key), None)
    except (OSError, ValueError, IndexError):
        return None
