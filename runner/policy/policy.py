"""What a sandbox may do and use: every limit and every hardening option, as frozen values.

Defaults are the strictest.  `runner.sandboxes.container` translates them into the engine's form.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from runner.errors import PolicyError, RequestError
from runner.policy.isolation import GET_RUNSC, Isolation
from sandbox.wire import protocol
from sandbox.wire.protocol import KIB, MIB

GIB: Final = 1024 * MIB

_SECCOMP_FILE: Final = Path(__file__).with_name("seccomp.json")


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """The limits of one job.  Reaching any of them is an outcome of its own.

    Times are in seconds, sizes in bytes.  `timeout_s` runs from hand-out and includes the program's
    import; `startup_s` is for the guest's own code before that.  Manifests and callers may lower
    the operator's limits, never raise them: see `lowered_by`.
    """

    timeout_s: float = 300.0
    startup_s: float = 60.0
    memory_bytes: int = 2 * GIB
    cpus: float = 1.0
    processes: int = 128
    tmp_bytes: int = 64 * MIB
    tmp_inodes: int = 4096
    inputs_bytes: int = protocol.MAX_INPUTS_BYTES
    message_bytes: int = protocol.MAX_MESSAGE_BYTES
    messages_bytes: int = protocol.MAX_MESSAGES_BYTES
    messages: int = protocol.MAX_MESSAGES
    result_bytes: int = protocol.MAX_RESULT_BYTES
    log_kept_bytes: int = 10 * MIB
    log_bytes: int = GIB

    def __post_init__(self) -> None:
        for each in dataclasses.fields(self):
            value = getattr(self, each.name)
            is_number = isinstance(value, int | float) and not isinstance(value, bool)
            is_enough = is_number and 0 < value < math.inf and value >= _LEAST.get(each.name, 0)
            is_whole = isinstance(value, int) or (is_number and value.is_integer())
            if not is_enough or not (is_whole or _is_fractional(each)):
                msg = f"limit {each.name} is {value!r}: it must be {_meaning_of(each)}"
                raise RequestError(msg)
            if isinstance(value, float) and not _is_fractional(each):
                object.__setattr__(
                    self, each.name, int(value)
                )  # the engine does not accept 2e9 as a number

    @classmethod
    def json_schema(cls) -> dict[str, Any]:
        """Return the JSON Schema of a table of limits, as in manifests and other files."""
        return {
            "type": "object",
            "properties": {
                each.name: {
                    "description": _meaning_of(each),
                    "type": "number" if _is_fractional(each) else "integer",
                    **({"minimum": _LEAST[each.name]} if each.name in _LEAST else _ABOVE_0),
                    "default": each.default,
                }
                for each in dataclasses.fields(cls)
            },
            "additionalProperties": False,
        }

    def lowered_by(self, wanted: Mapping[str, float] | Limits) -> Limits:
        """Return these limits, each lowered to the value in `wanted` if that is smaller.

        `wanted` holds some limits by name, or all of them.  Raises RequestError for an unknown name
        and for an impossible value.
        """
        if isinstance(wanted, Limits):
            wanted = dataclasses.asdict(wanted)
        if not wanted:
            return self
        known = {each.name for each in dataclasses.fields(self)}
        if unknown := sorted(set(wanted) - known):
            msg = f"unknown limit {unknown[0]!r}: known are {', '.join(sorted(known))}"
            raise RequestError(msg)
        asked = dataclasses.replace(self, **dict[str, Any](wanted))
        lower: dict[str, Any] = {
            name: min(getattr(asked, name), getattr(self, name)) for name in wanted
        }
        return dataclasses.replace(self, **lower)

    def for_container(self) -> Limits:
        """Return the limits that a container is created with; all others have their default.

        Jobs that differ only in the other limits can use the same sandbox.
        """
        return Limits(**{name: getattr(self, name) for name in _OF_THE_CONTAINER})

    def for_guest(self) -> dict[str, float]:
        """Return the limits that the guest also checks, so that a program sees them as errors."""
        return {
            "wall_s": self.timeout_s,
            "memory_bytes": self.memory_bytes,
            "cpus": self.cpus,
            "message_bytes": self.message_bytes,
            "messages_bytes": self.messages_bytes,
            "messages": self.messages,
            "result_bytes": self.result_bytes,
        }


_LEAST: Final = {"cpus": 0.01, "memory_bytes": 6 * MIB}
"""Engines refuse smaller values, and take less than a billionth of a CPU to mean no limit."""

_ABOVE_0: Final = {"exclusiveMinimum": 0}


def _is_fractional(limit: dataclasses.Field[Any]) -> bool:
    return isinstance(limit.default, float)


def _meaning_of(limit: dataclasses.Field[Any]) -> str:
    """Return the values that a limit accepts, in words."""
    number = "a number" if _is_fractional(limit) else "a whole number"
    units = {"s": " of seconds", "bytes": " of bytes"}
    unit = units.get(limit.name.rpartition("_")[2], "")
    least = _LEAST.get(limit.name)
    return f"{number}{unit} {'above 0' if least is None else f'of at least {least}'}"


_OF_THE_CONTAINER: Final = (
    "startup_s",
    "memory_bytes",
    "cpus",
    "processes",
    "tmp_bytes",
    "tmp_inodes",
)


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

ENGINE_WARNINGS: Final = "engine-warnings"
"""Name of the exception for any other option that the engine says it discards."""


@functools.cache  # records are also written when no more files can be opened
def _own_seccomp() -> str:
    return _SECCOMP_FILE.read_text()


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """Every hardening option that does not follow from the limits.  Defaults are the strictest.

    `allow_missing` lists what may be missing where the engine or the kernel cannot honour it: names
    of `REQUIREMENTS`, or `ENGINE_WARNINGS`.  `swappiness` is not meant to be set: `fitted_to` sets
    it where the kernel supports it.
    """

    isolation: Isolation = Isolation.RUNC
    allow_missing: frozenset[str] = frozenset()
    swappiness: int | None = None
    seccomp: str = field(default_factory=_own_seccomp)
    hostname: str = "sandbox"
    shm_bytes: int = 16 * MIB
    shm_inodes: int = 1024
    open_files: int = 1024
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
        )

    def exceptions(self) -> tuple[str, ...]:
        """Return, for the job record, what is looser than or different from the default."""
        default = Policy()
        changed = {
            each.name
            for each in dataclasses.fields(self)
            if each.name not in {"isolation", "allow_missing", "swappiness"}
            and getattr(self, each.name) != getattr(default, each.name)
        }
        return (*sorted(changed), *(f"missing {name}" for name in sorted(self.allow_missing)))

    def digest(self, limits: Limits) -> str:
        """Return the hash for the job record: equal hashes mean equal sandboxes."""
        return _digest(self, limits)


@functools.lru_cache(maxsize=256)
def _digest(policy: Policy, limits: Limits) -> str:
    parts = [dataclasses.asdict(policy), dataclasses.asdict(limits)]
    content = json.dumps(parts, sort_keys=True, default=sorted)
    return "sha256:" + hashlib.sha256(content.encode()).hexdigest()


def is_met(name: str, info: Mapping[str, Any]) -> bool:
    """Return True if the engine with the self-description `info` meets this requirement."""
    if name == "seccomp":
        options = info.get("SecurityOptions") or ()
        return any(option.split(",")[0] in {"seccomp", "name=seccomp"} for option in options)
    return info.get(REQUIREMENTS[name].fact) is True


def isolation_named(name: str) -> Isolation:
    """Return the isolation of this name.  Raises RequestError for an unknown name."""
    try:
        return Isolation(name)
    except ValueError:
        msg = f"unknown isolation {name!r}: known are {', '.join(Isolation)}"
        raise RequestError(msg) from None


_UNITS: Final = {"": 1, "k": KIB, "m": MIB, "g": GIB}
_SIZE: Final = re.compile(r"(?P<number>\d{1,15}(\.\d{1,15})?)(?P<unit>[kmg]?)(i?b)?")


def parse_size(text: str) -> int:
    """Return the number of bytes that "512m", "2GiB", "1.5g" or "1048576" mean (powers of 1024).

    Raises RequestError for anything else.
    """
    match = _SIZE.fullmatch(text.strip().lower())
    size = int(float(match["number"]) * _UNITS[match["unit"]]) if match else 0
    if size <= 0:
        msg = f"size {text!r} is not understood: write it like 512m, 2g or a number of bytes"
        raise RequestError(msg)
    return size
