"""What a sandbox may do and use: every limit and every hardening option, as frozen values.

The only place where options of the engine are chosen.  `container_config` writes all of them
down in the engine's own form, so that nothing is inherited from the engine's defaults, from the
root image or from the user's Docker configuration.  Reasons stand beside the options.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from runner.errors import PolicyError, RequestError
from runner.isolation import Isolation, host_tasks, process_ulimits, seccomp_profile
from sandbox import protocol
from sandbox.protocol import KIB, MIB

GIB: Final = 1024 * MIB

_SECCOMP_FILE: Final = Path(__file__).with_name("seccomp.json")

GUEST_COMMAND: Final = ("python3", "-P", "-s", "-m", "sandbox")


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What one job may use.  Reaching any of them is an outcome of its own.

    Times are seconds, sizes bytes.  `timeout_s` runs from hand-out, the program's import
    included; `startup_s` is for our own code before it.  Manifests and callers may lower what the
    operator set, never raise it: see `lowered_by`.
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
            if not isinstance(value, int | float) or isinstance(value, bool) or not value > 0:
                msg = f"limit {each.name} is {value!r}: it must be a number above 0"
                raise RequestError(msg)

    def lowered_by(self, wanted: Mapping[str, float]) -> Limits:
        """Return these limits with each one lowered to what `wanted` asks for, never raised.

        Raises RequestError for a name that is no limit.
        """
        known = {each.name for each in dataclasses.fields(self)}
        if unknown := sorted(set(wanted) - known):
            msg = f"unknown limit {unknown[0]!r}: known are {', '.join(sorted(known))}"
            raise RequestError(msg)
        lower: dict[str, Any] = {
            name: min(value, getattr(self, name)) for name, value in wanted.items()
        }
        return dataclasses.replace(self, **lower)

    def for_guest(self) -> dict[str, float]:
        """Return the limits that the guest checks too, so that a program sees them as errors."""
        return {
            "wall_s": self.timeout_s,
            "memory_bytes": self.memory_bytes,
            "cpus": self.cpus,
            "message_bytes": self.message_bytes,
            "messages_bytes": self.messages_bytes,
            "messages": self.messages,
            "result_bytes": self.result_bytes,
        }


@dataclass(frozen=True, slots=True)
class Requirement:
    """Something that not every engine or kernel can do.

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
"""What is found out before the first program runs, and refused where it is missing."""

ENGINE_WARNINGS: Final = "engine-warnings"
"""The exception for whatever else the engine says, when it makes a container, that it discards."""


@functools.cache  # records are written when no file can be opened any more, too
def _own_seccomp() -> str:
    return _SECCOMP_FILE.read_text()


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """Every hardening option that does not follow from the limits.  Defaults are the strictest.

    `allow_missing` names what the operator is ready to do without where the engine or the kernel
    cannot honour it: names of `REQUIREMENTS`, or `ENGINE_WARNINGS`.  `swappiness` is not to be
    chosen: `fitted_to` sets it where the kernel has it.
    """

    isolation: Isolation = Isolation.RUNC
    allow_missing: frozenset[str] = frozenset()
    swappiness: int | None = None
    seccomp: str = field(default_factory=_own_seccomp)
    hostname: str = "sandbox"
    shm_bytes: int = 16 * MIB
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
            # … and what tells one sandbox about its neighbours or about the host: counts, activity,
            # hardware, and file systems in kernel space.  /proc/meminfo, /proc/cpuinfo and
            # /sys/fs/cgroup stay: the stack sizes itself by them.
            "/proc/buddyinfo",
            "/proc/cgroups",
            "/proc/cmdline",
            "/proc/config.gz",
            "/proc/diskstats",
            "/proc/interrupts",
            "/proc/kallsyms",
            "/proc/key-users",
            "/proc/locks",
            "/proc/partitions",
            "/proc/pressure",
            "/proc/schedstat",
            "/proc/softirqs",
            "/proc/stat",
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
            # Terminals and queues are numbered by the kernel for everybody together.
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
            msg = f"nothing is called {unknown[0]!r}: what may be missing is {names}"
            raise RequestError(msg)

    def fitted_to(self, info: Mapping[str, Any]) -> Policy:
        """Return the policy for the engine that describes itself so; PolicyError if it falls short.

        What the operator allowed to be missing, but is there, is required after all.
        """
        runtimes = info.get("Runtimes")
        if runtimes is not None and self.isolation.value not in runtimes:
            known = ", ".join(sorted(runtimes))
            msg = (
                f"this engine knows no isolation {self.isolation}, only {known}: "
                "docs/isolation.md says how it gets it (Debian, Ubuntu: make runsc)"
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
            # cgroup v2 knows no swappiness; there the closed swap alone has to do.
            swappiness=0 if str(info.get("CgroupVersion", "1")) == "1" else None,
        )

    def exceptions(self) -> tuple[str, ...]:
        """Return, for the job record, what is looser than by default or different from it."""
        default = Policy()
        changed = {
            each.name
            for each in dataclasses.fields(self)
            if each.name not in {"isolation", "allow_missing", "swappiness"}
            and getattr(self, each.name) != getattr(default, each.name)
        }
        return (*sorted(changed), *(f"missing {name}" for name in sorted(self.allow_missing)))

    def digest(self, limits: Limits) -> str:
        """Return the hash that a job record carries: same hash, same sandbox."""
        parts = [dataclasses.asdict(self), dataclasses.asdict(limits)]
        content = json.dumps(parts, sort_keys=True, default=sorted)
        return "sha256:" + hashlib.sha256(content.encode()).hexdigest()


def is_met(name: str, info: Mapping[str, Any]) -> bool:
    """Return whether the engine that describes itself so meets one of the `REQUIREMENTS`."""
    if name == "seccomp":
        options = info.get("SecurityOptions") or ()
        return any(option.split(",")[0] in {"seccomp", "name=seccomp"} for option in options)
    return info.get(REQUIREMENTS[name].fact) is True


def container_config(  # noqa: PLR0913  the parts of one value, by name
    policy: Policy,
    limits: Limits,
    *,
    image: str,
    uid: int,
    labels: Mapping[str, str],
    channel_directory: str | None,
    cgroup_parent: str | None,
) -> dict[str, Any]:
    """Return the whole configuration of one sandbox, in the form of the engine's create call.

    `image` is an image id, never a tag.  `channel_directory` is the host directory that holds the
    listening socket; None means the stdio carrier, and nothing of the host is mounted.
    `cgroup_parent` is the control group to make the container's in; None leaves that to the engine.
    """
    # With a socket mounted the guest still falls back to stdio if it cannot be connected.
    carrier = [] if channel_directory else ["--carrier", "stdio"]
    return {
        "Image": image,
        "Entrypoint": [],
        "Cmd": [*GUEST_COMMAND, *carrier],
        "Env": [f"{name}={value}" for name, value in _environment(limits).items()],
        "User": f"{uid}:{uid}",
        "WorkingDir": "/tmp",  # noqa: S108  the sandbox's own tmpfs
        "Hostname": policy.hostname,
        "NetworkDisabled": True,
        # stdin is the lifeline: it closes when the supervisor dies, and PID 1 leaves.
        "OpenStdin": True,
        "StdinOnce": True,
        "AttachStdin": True,
        "AttachStdout": True,
        "AttachStderr": True,
        "Tty": False,
        "StopTimeout": 1,
        "Healthcheck": {"Test": ["NONE"]},
        "Labels": dict(labels),
        "HostConfig": {
            **_host_config(policy, limits, channel_directory),
            "CgroupParent": cgroup_parent or "",
        },
    }


def _host_config(policy: Policy, limits: Limits, channel_directory: str | None) -> dict[str, Any]:
    mounts = []
    if channel_directory is not None:
        # Read-only: connecting still works, but the socket cannot be replaced or joined by files.
        mounts.append(
            {
                "Type": "bind",
                "Source": channel_directory,
                "Target": protocol.CHANNEL_DIRECTORY,
                "ReadOnly": True,
                "BindOptions": {"Propagation": "rprivate"},
            }
        )
    return {
        "Runtime": policy.isolation.value,
        "Privileged": False,
        "CapAdd": [],
        "CapDrop": ["ALL"],
        # The profile is loaded only together with no-new-privileges: without it the runtime would
        # install the filter before it has dropped its own privileges, and fail.
        "SecurityOpt": [
            "no-new-privileges:true",
            f"seccomp={seccomp_profile(policy.isolation, policy.seccomp)}",
        ],
        "NetworkMode": "none",
        "IpcMode": "private",
        "PidMode": "",
        "UTSMode": "",
        "CgroupnsMode": "private",
        "ReadonlyRootfs": True,
        "Mounts": mounts,
        "Tmpfs": {
            "/tmp": (  # noqa: S108
                f"rw,nosuid,nodev,noexec,mode=1777,size={limits.tmp_bytes},"
                f"nr_inodes={limits.tmp_inodes}"
            )
        },
        "ShmSize": policy.shm_bytes,
        "MaskedPaths": list(policy.masked_paths),
        "ReadonlyPaths": list(policy.readonly_paths),
        "Memory": limits.memory_bytes,
        # The sum of both, so swap is closed; -1 and 0 stand for what is allowed to be missing.
        "MemorySwap": -1 if "swap-limit" in policy.allow_missing else limits.memory_bytes,
        "MemorySwappiness": policy.swappiness,
        "NanoCpus": 0 if "cpu-limit" in policy.allow_missing else int(limits.cpus * 1e9),
        "PidsLimit": host_tasks(policy.isolation, limits.processes),
        "OomScoreAdj": policy.oom_score_adj,
        "OomKillDisable": False,
        "Ulimits": [
            {"Name": name, "Soft": value, "Hard": value}
            for name, value in {
                "core": 0,
                "memlock": 0,
                "msgqueue": 0,
                "nofile": policy.open_files,
                "fsize": policy.file_bytes,
                "sigpending": 1024,
                **process_ulimits(policy.isolation, limits.processes),
            }.items()
        ],
        # The engine's log of a container grows without bound on the host's disk.
        "LogConfig": {"Type": "none", "Config": {}},
        "RestartPolicy": {"Name": "no", "MaximumRetryCount": 0},
        "AutoRemove": False,  # it would lose the exit state, which is evidence
        "Init": False,  # PID 1 is ours
        "PublishAllPorts": False,
        "Devices": [],
        "GroupAdd": [],
    }


def _environment(limits: Limits) -> dict[str, str]:
    """Return the sandbox's whole environment; OpenMP and BLAS would count the host's CPUs."""
    threads = str(max(1, int(limits.cpus)))
    return {
        "PATH": "/usr/local/bin:/usr/bin:/bin",
        "PYTHONPATH": protocol.GUEST_DIRECTORY,
        "PYTHONUNBUFFERED": "1",
        "PYTHONDONTWRITEBYTECODE": "1",
        "LANG": "C.UTF-8",
        "HOME": "/tmp",  # noqa: S108
        "TMPDIR": "/tmp",  # noqa: S108
        "OMP_NUM_THREADS": threads,
        "OPENBLAS_NUM_THREADS": threads,
        "MKL_NUM_THREADS": threads,
        "RAYON_NUM_THREADS": threads,
        # Qiskit's transpiler would start threads, after which a fork in the program hangs.
        "QISKIT_IN_PARALLEL": "TRUE",
    }


def random_uid(*, rootful: bool) -> int:
    """Return a user id for one sandbox, far from those of real users where the engine allows it.

    A rootful engine maps any id; a rootless or remapped one maps 65 536 of them.  That no two
    sandboxes of one engine have the same is for the engine to say: it is part of their name.
    """
    if rootful:
        return (1 << 21) + secrets.randbelow(1 << 20)
    return 10_000 + secrets.randbelow(50_000)


_UNITS: Final = {"": 1, "k": KIB, "m": MIB, "g": GIB}
_SIZE: Final = re.compile(r"(?P<number>\d{1,15}(\.\d{1,15})?)(?P<unit>[kmg]?)(i?b)?")


def parse_size(text: str) -> int:
    """Return the bytes that "512m", "2GiB", "1.5g" or "1048576" mean (powers of 1024).

    Raises RequestError for anything else.
    """
    match = _SIZE.fullmatch(text.strip().lower())
    size = int(float(match["number"]) * _UNITS[match["unit"]]) if match else 0
    if size <= 0:
        msg = f"size {text!r} is not understood: write it like 512m, 2g or a number of bytes"
        raise RequestError(msg)
    return size
