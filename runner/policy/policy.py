"""The policy of a sandbox: every hardening option, and what an engine must support for it.

Defaults are the strictest.  `runner.sandboxes.container` translates them into the engine's form.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from runner.errors import PolicyError, RequestError
from runner.policy.isolation import GET_RUNSC, Isolation, process_ulimits, zygote_profile
from runner.policy.limits import Limits
from sandbox.wire.protocol import MIB

_SECCOMP_FILE: Final = Path(__file__).with_name("seccomp.json")


@dataclass(frozen=True, slots=True)
class Requirement:
    """Something that not every engine or kernel supports.

    `fact` is the key of the engine's self-description that must be true, `lost` what a program
    could do without it, `remedy` what to change.
    """

    fact: str
    lost: str
    remedy: str


REQUIREMENTS: Final[Mapping[str, Requirement]] = {
    "memory-limit": Requirement(
        "MemoryLimit",
        "a program could take all of the host's memory",
        "enable the memory controller (kernel command line: cgroup_enable=memory)",
    ),
    "swap-limit": Requirement(
        "SwapLimit",
        "a program over its memory would fill the host's swap instead of ending",
        "enable swap accounting (kernel command line: swapaccount=1)",
    ),
    "process-limit": Requirement(
        "PidsLimit",
        "a fork bomb would fill the host's table of processes",
        "enable the pids controller",
    ),
    "cpu-limit": Requirement(
        "CpuCfsQuota",
        "a program could take every core of the host",
        "enable the cpu controller with CFS bandwidth (rootless engines: delegate it to the user)",
    ),
    "seccomp": Requirement(
        "seccomp",
        "a program could reach every system call of the host's kernel",
        "use a kernel and an engine with seccomp",
    ),
}
"""Checked before the first program runs; a missing one is refused."""

INODE_LIMIT: Final = "inode-limit"
"""What the record of a job says is missing where a tmpfs takes no limit on its files."""

ENGINE_WARNINGS: Final = "engine-warnings"
"""Name of the exception for any other option that the engine says it discards."""


@functools.cache  # records are also written when no more files can be opened
def _own_seccomp() -> str:
    return _SECCOMP_FILE.read_text()


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """Every hardening option that does not follow from the limits.  Defaults are the strictest.

    `allow_missing` lists what may be missing where the engine or the kernel cannot honour it: names
    of `REQUIREMENTS`, or `ENGINE_WARNINGS`.  `swappiness` and `inode_limits` are not meant to be
    set: `fitted_to` sets them to what kernel and engine support.
    """

    isolation: Isolation = Isolation.RUNC
    allow_missing: frozenset[str] = frozenset()
    swappiness: int | None = None
    inode_limits: bool = True
    seccomp: str = field(default_factory=_own_seccomp)
    hostname: str = "sandbox"
    shm_bytes: int = 16 * MIB
    shm_inodes: int = 1024
    open_files: int = 1024
    pending_signals: int | None = 1024
    file_bytes: int = 64 * MIB
    oom_score_adj: int = 1000
    masked_paths: tuple[str, ...] = field(
        default=(
            # The engine's own list …
            "/proc/asound",
            "/proc/acpi",
            "/proc/kcore",
            "/proc/keys",
            "/proc/latency_stats",
            "/proc/timer_list",
            "/proc/timer_stats",
            "/proc/sched_debug",
            "/proc/scsi",
            "/sys/firmware",
            # … and files that reveal something about other sandboxes or the host: counts, activity,
            # hardware, and file systems in kernel space.  /proc/meminfo, /proc/cpuinfo and
            # /sys/fs/cgroup stay, because the stack sizes itself by them.
            "/proc/buddyinfo",
            "/proc/bus",
            "/proc/cgroups",
            "/proc/cmdline",
            "/proc/config.gz",
            "/proc/diskstats",
            "/proc/driver",
            "/proc/fs",
            "/proc/interrupts",
            "/proc/irq",
            "/proc/kallsyms",
            "/proc/key-users",
            "/proc/locks",
            "/proc/partitions",
            "/proc/pressure",
            "/proc/schedstat",
            "/proc/softirqs",
            "/proc/stat",
            "/proc/swaps",
            "/proc/sys/fs",
            "/proc/sys/kernel/pty",
            "/proc/sys/kernel/random/boot_id",
            "/proc/version",
            "/proc/vmstat",
            "/proc/zoneinfo",
            "/sys/block",
            "/sys/bus",
            "/sys/class",
            "/sys/dev",
            "/sys/devices",
            "/sys/fs/bpf",
            "/sys/fs/btrfs",
            "/sys/fs/ext4",
            "/sys/fs/f2fs",
            "/sys/fs/fuse",
            "/sys/fs/xfs",
            "/sys/hypervisor",
            "/sys/kernel",
            "/sys/module",
            "/sys/power",
            # The kernel numbers terminals and queues for all containers together.
            "/dev/pts",
            "/dev/mqueue",
        )
    )
    readonly_paths: tuple[str, ...] = (
        "/proc/bus",
        "/proc/fs",
        "/proc/irq",
        "/proc/sys",
        "/proc/sysrq-trigger",
    )

    def __post_init__(self) -> None:
        known = {*REQUIREMENTS, ENGINE_WARNINGS}
        if unknown := sorted(self.allow_missing - known):
            names = ", ".join(sorted(known))
            msg = f"unknown requirement {unknown[0]!r}: known are {names}"
            raise RequestError(msg)

    def fitted_to(self, info: Mapping[str, Any]) -> Policy:
        """Return the policy adapted to the engine with the self-description `info`.

        A requirement that the operator allowed to be missing is enforced if the engine meets it.
        Raises PolicyError if another one is missing.
        """
        runtimes = info.get("Runtimes")
        if runtimes is not None and self.isolation.value not in runtimes:
            known = ", ".join(sorted(runtimes))
            remedy = GET_RUNSC if self.isolation is Isolation.RUNSC else "register it there"
            msg = f"this engine knows no isolation {self.isolation}, only {known}: {remedy}"
            raise PolicyError(msg)
        is_runsc = self.isolation is Isolation.RUNSC
        if is_runsc and is_podman(info) and not has_runtime(self.isolation, info):
            msg = (
                "isolation runsc: Podman's API takes a runtime and uses its own, "
                f"{info.get('DefaultRuntime')}: use Docker for this isolation, or make runsc the "
                "runtime of that Podman (containers.conf: runtime)"
            )
            raise PolicyError(msg)
        missing = {name for name in REQUIREMENTS if not is_met(name, info)}
        refused = [
            f"{name}: {REQUIREMENTS[name].lost}; {REQUIREMENTS[name].remedy}, "
            f"or do without by name: --allow-missing {name}"
            for name in sorted(missing - self.allow_missing)
        ]
        if refused:
            msg = "this engine cannot honour the policy.  " + ".  ".join(refused)
            raise PolicyError(msg)
        return dataclasses.replace(
            self,
            allow_missing=self.allow_missing & {*missing, ENGINE_WARNINGS},
            # cgroup v2 has no swappiness; there the swap limit of 0 has to do.
            swappiness=0 if str(info.get("CgroupVersion", "1")) == "1" else None,
            # Podman takes no number of inodes for a tmpfs: memory alone bounds how many files.
            inode_limits=not is_podman(info),
        )

    def for_zygote(self) -> Policy:
        """Return the policy for the container that makes cells with this policy.

        A process may mount a `/proc` of its own only where the whole of the present one is visible,
        so a zygote's is not masked: it runs no program.  Its cells mask theirs.
        """
        return dataclasses.replace(
            self,
            seccomp=zygote_profile(self.seccomp),
            masked_paths=tuple(each for each in self.masked_paths if not _is_in_proc(each)),
            readonly_paths=tuple(each for each in self.readonly_paths if not _is_in_proc(each)),
            # Counted for all of its cells together; each cell lowers it to its own share.
            pending_signals=None,
        )

    def ulimits(self, limits: Limits) -> dict[str, int]:
        """Return the resource limits of each process, by the engine's names.

        The guest lowers them too, because Podman's API ignores them where it is rootless.
        """
        return {
            "core": 0,
            "memlock": 0,
            "msgqueue": 0,
            "nofile": self.open_files,
            "fsize": self.file_bytes,
            **({} if self.pending_signals is None else {"sigpending": self.pending_signals}),
            **process_ulimits(self.isolation, limits.processes),
        }

    def exceptions(self) -> tuple[str, ...]:
        """Return, for the job record, what is looser than or different from the default."""
        default = Policy()
        changed = {
            each.name
            for each in dataclasses.fields(self)
            if each.name not in {"isolation", "allow_missing", "swappiness", "inode_limits"}
            and getattr(self, each.name) != getattr(default, each.name)
        }
        missing = {*self.allow_missing, *(() if self.inode_limits else (INODE_LIMIT,))}
        return (*sorted(changed), *(f"missing {name}" for name in sorted(missing)))

    def digest(self, limits: Limits) -> str:
        """Return the hash for the job record: equal hashes mean equal sandboxes."""
        return _digest(self, limits)


def _is_in_proc(path: str) -> bool:
    return path.startswith("/proc/")


@functools.lru_cache(maxsize=256)
def _digest(policy: Policy, limits: Limits) -> str:
    parts = [dataclasses.asdict(policy), dataclasses.asdict(limits)]
    content = json.dumps(parts, sort_keys=True, default=sorted)
    return "sha256:" + hashlib.sha256(content.encode()).hexdigest()


def is_podman(info: Mapping[str, Any]) -> bool:
    """Return True if this is Podman's description of itself, in the form of Docker's API."""
    return "BuildahVersion" in info


def has_runtime(isolation: Isolation, info: Mapping[str, Any]) -> bool:
    """Return True if the engine can run a sandbox with this isolation, as far as it says.

    Podman lists runtimes that are not there, and uses its own whichever it is asked for.
    """
    if is_podman(info):
        uses_runsc = info.get("DefaultRuntime") == Isolation.RUNSC.value
        return uses_runsc is (isolation is Isolation.RUNSC)
    return isolation.value in (info.get("Runtimes") or ())


def _denies_limits(info: Mapping[str, Any]) -> bool:
    return is_podman(info) and str(info.get("CgroupVersion")) == "2"


def is_met(name: str, info: Mapping[str, Any]) -> bool:
    """Return True if the engine with the self-description `info` meets this requirement."""
    if name == "seccomp":
        options = info.get("SecurityOptions") or ()
        return any(option.split(",")[0] in {"seccomp", "name=seccomp"} for option in options)
    # On control groups version 2 Podman looks for the files of version 1, and denies what it does.
    # The sandbox has to show it (runner.policy.proof).
    if name in {"swap-limit", "cpu-limit"} and _denies_limits(info):
        return True
    return info.get(REQUIREMENTS[name].fact) is True


def isolation_named(name: str) -> Isolation:
    """Return the isolation of this name.  Raises RequestError for an unknown name."""
    try:
        return Isolation(name)
    except ValueError:
        msg = f"unknown isolation {name!r}: known are {', '.join(Isolation)}"
        raise RequestError(msg) from None
