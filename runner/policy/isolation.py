"""What runs a sandbox, and where the choices differ: who enforces what, and what happens then.

`runc` shares the host's kernel, which enforces everything.  `runsc` (gVisor) puts a kernel of its
own, the sentry, between program and host: the program sees only that one, and the control groups
of the host hold for the sentry as a whole.  `runner.doctor.differences` says so option by option.
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
"""What the host sees of one process in a sentry; measured: about 50 tasks, and 6 for each."""


class Isolation(StrEnum):
    """The engine runtime that runs a sandbox."""

    RUNC = "runc"
    RUNSC = "runsc"

    @property
    def program_can_end_sandbox(self) -> bool:
        """Whether a program can take its whole sandbox down, so that its end accuses nobody else.

        gVisor lets a process kill PID 1, and dies itself at the limits of its control groups.
        """
        return self is Isolation.RUNSC


_NAMES: Final = {"pselect6": "pselect"}
"""What gVisor calls a system call that has another name in Linux, where it differs."""

_READING_ATTRIBUTES: Final = frozenset(
    {"fgetxattr", "flistxattr", "getxattr", "lgetxattr", "listxattr", "llistxattr"}
)
"""Allowed where a rule would answer them with ENOTSUP: files in the sentry have no attributes."""


def seccomp_profile(isolation: Isolation, profile: str) -> str:
    """Return the profile in the words that this runtime understands.

    gVisor passes over names that it does not know, as runc does, and has one of its own.  It
    ignored until 2026 which error a rule asks for and answered EPERM:

    * After that the C library does not fall back from `clone3`, and no thread starts.  But gVisor
      knows the action of a traced call, and like Linux answers ENOSYS where nobody traces.
    * And whoever copies a file fails at its attributes, instead of going on without.  There is no
      other way to ENOTSUP, so there they can be read.
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


def host_tasks(isolation: Isolation, processes: int) -> int:
    """Return how many tasks the host's control group must allow for so many processes inside."""
    if isolation is Isolation.RUNSC:
        return _SENTRY_TASKS + _TASKS_OF_A_PROCESS * processes
    return processes


def process_ulimits(isolation: Isolation, processes: int) -> dict[str, int]:
    """Return the resource limits that bound processes where the control group cannot.

    Not under runc: there RLIMIT_NPROC counts every process of the user on the whole host.
    """
    return {"nproc": processes} if isolation is Isolation.RUNSC else {}
