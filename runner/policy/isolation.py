"""The engine runtimes that can run a sandbox, and how they differ in enforcing the policy.

`runc` shares the host's kernel, which enforces everything.  `runsc` (gVisor) puts a kernel of its
own, the sentry, between program and host.  The program sees only the sentry, and the host's control
groups apply to the sentry as a whole.  `runner.doctor.differences` lists the effect per option.
"""

from __future__ import annotations

import errno
import json
from enum import StrEnum
from typing import Final

GET_RUNSC: Final = (
    "install gVisor (https://gvisor.dev/docs/user_guide/install) and register it with the engine: "
    "docs/isolation.md"
)

_SENTRY_TASKS: Final = 256
_TASKS_OF_A_PROCESS: Final = 16
"""Host tasks to allow for one process in a sentry; measured: about 50 tasks, and 6 per process."""


class Isolation(StrEnum):
    """The engine runtime that runs a sandbox."""

    RUNC = "runc"
    RUNSC = "runsc"

    @property
    def program_can_end_sandbox(self) -> bool:
        """Return True if a program can end its whole sandbox, so that this is no fault of ours.

        gVisor lets a process kill PID 1, and dies itself at the limits of its control groups.
        """
        return self is Isolation.RUNSC


_NAMES: Final = {"pselect6": "pselect"}
"""gVisor's names of system calls, where they differ from Linux."""

_READING_ATTRIBUTES: Final = frozenset(
    {"fgetxattr", "flistxattr", "getxattr", "lgetxattr", "listxattr", "llistxattr"}
)
"""Allowed where a rule would return ENOTSUP: files in the sentry have no extended attributes."""


def seccomp_profile(isolation: Isolation, profile: str) -> str:
    """Return the profile in a form that this runtime understands.

    gVisor, like runc, ignores system calls that it does not know; one of them it names differently.
    Before 2026 it also ignored the error that a rule asks for, and returned EPERM, which has two
    consequences:

    * The C library does not fall back from `clone3` after EPERM, and no thread starts.  gVisor
      supports the trace action, though, and like Linux returns ENOSYS when there is no tracer.
    * Copying a file fails at its extended attributes instead of skipping them.  There is no other
      way to return ENOTSUP, so under gVisor the attributes may be read.
    """
    if isolation is not Isolation.RUNSC:
        return profile
    content = json.loads(profile)
    reading: set[str] = set()
    for rule in content["syscalls"]:
        rule["names"] += [_NAMES[name] for name in rule["names"] if name in _NAMES]
        if rule.get("errnoRet") == errno.ENOSYS:
            rule["action"] = "SCMP_ACT_TRACE"
            del rule["errnoRet"]
        elif rule.get("errnoRet") == errno.ENOTSUP:
            names = set(rule["names"])
            rule["names"] = sorted(names - _READING_ATTRIBUTES)
            reading |= names & _READING_ATTRIBUTES
    if reading:
        content["syscalls"].append({"names": sorted(reading), "action": "SCMP_ACT_ALLOW"})
    return json.dumps(content)


ZYGOTE_CALLS: Final = ("capset", "clone", "mount", "recvmsg", "unshare")
"""What a zygote may do beyond its profile: `clone` with any flags, and the others at all.

Each cell takes them away again before there is a program: `sandbox.processes.kernel`.
"""


def zygote_profile(profile: str) -> str:
    """Return the profile for a zygote: with what building the walls of its cells takes."""
    content = json.loads(profile)
    content["syscalls"].append({"names": [*ZYGOTE_CALLS], "action": "SCMP_ACT_ALLOW"})
    return json.dumps(content)


def host_tasks(isolation: Isolation, processes: int) -> int:
    """Return how many tasks the host's control group must allow for `processes` in the sandbox."""
    if isolation is Isolation.RUNSC:
        return _SENTRY_TASKS + _TASKS_OF_A_PROCESS * processes
    return processes


def process_ulimits(isolation: Isolation, processes: int) -> dict[str, int]:
    """Return the resource limits that bound processes where the control group cannot.

    Empty under runc, where RLIMIT_NPROC would count every process of the user on the whole host.
    """
    return {"nproc": processes} if isolation is Isolation.RUNSC else {}
