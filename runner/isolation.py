"""What runs a sandbox, and where the choices differ: who enforces what, and what happens then.

`runc` shares the host's kernel, which enforces everything.  `runsc` (gVisor) puts a kernel of its
own, the sentry, between program and host: the program sees only that one, and the control groups
of the host hold for the sentry as a whole.  `DIFFERENCES` says so option by option; what is not in
it is the same on both.  docs/isolation.md shows the table, and a test compares the two.
"""

from __future__ import annotations

import errno
import json
from dataclasses import dataclass
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """One option that the isolations treat differently.

    `runc` and `runsc` say who enforces it; `bounded_by` what holds under runsc where that is
    nobody, or as a second line; the outcomes are those of a program that reaches it.  `attempts`
    begin the names of those of `runner.doctor.probe` that may succeed under runsc for this reason;
    with an `advice` they need not.
    """

    option: str
    runc: str
    runsc: str
    bounded_by: str
    runc_outcome: str
    runsc_outcome: str
    attempts: tuple[str, ...] = ()
    advice: str = ""


DIFFERENCES: Final = (
    Difference(
        option="memory",
        runc="control group: the kernel kills the largest process, PID 1 tells",
        runsc="control group of the sentry: the sandbox ends as a whole",
        bounded_by="",
        runc_outcome="memory_limit",
        runsc_outcome="memory_limit",
    ),
    Difference(
        option="processes",
        runc="control group, which counts refusals",
        runsc="the sentry, by RLIMIT_NPROC; nobody counts refusals, the guest reports them",
        bounded_by="a control group with room for the sentry's own threads",
        runc_outcome="process_limit",
        runsc_outcome="process_limit",
    ),
    Difference(
        option="inodes of /tmp",
        runc="tmpfs: no space left",
        runsc="nobody",
        bounded_by="memory: 30 000 empty files take 60 MiB of it",
        runc_outcome="program_error",
        runsc_outcome="completed",
        attempts=("overcrowding /tmp",),
    ),
    Difference(
        option="OOM score",
        runc="the kernel: it can only be raised",
        runsc="nobody inside, where it is but a number",
        bounded_by="the sentry's own score, on the host, out of reach",
        runc_outcome="program_error",
        runsc_outcome="completed",
        attempts=("evading the OOM killer",),
    ),
    Difference(
        option="system-call filter",
        runc="the host's kernel",
        runsc="the sentry, where runsc is registered with --oci-seccomp",
        bounded_by="the sentry's own calls: the host's kernel sees only those few that it makes",
        runc_outcome="program_error",
        runsc_outcome="program_error",
        attempts=(
            "the system call ",
            "a socket of ",
            "running without a filter",
            "making a namespace",
            "listening on a socket",
        ),
        advice="register runsc with --oci-seccomp: docs/isolation.md",
    ),
    Difference(
        option="int 0x80",
        runc="the filter: the thread is killed",
        runsc="there is no 32-bit entry: it is a 64-bit call like any other",
        bounded_by="the same filter",
        runc_outcome="no_result",
        runsc_outcome="completed",
    ),
    Difference(
        option="SIGKILL to PID 1",
        runc="the kernel drops it",
        runsc="nobody: the sandbox ends as a whole",
        bounded_by="its end",
        runc_outcome="completed",
        runsc_outcome="no_result",
    ),
    Difference(
        option="masked and read-only paths",
        runc="mounts over them",
        runsc="nobody",
        bounded_by="/proc and /sys are the sentry's own and say nothing of the host",
        runc_outcome="completed",
        runsc_outcome="completed",
    ),
    Difference(
        option="memory of PID 1",
        runc="PID 1 is not dumpable: all of /proc/1 is closed",
        runsc="the sentry closes /proc/1/mem; environment and maps can be read",
        bounded_by="they are the same for every sandbox",
        runc_outcome="program_error",
        runsc_outcome="program_error",
    ),
    Difference(
        option="user id",
        runc="one of its own on the host",
        runsc="one of its own inside; on the host every sentry is nobody, in a user namespace",
        bounded_by="the sentry: files of the host are opened by its gofer alone",
        runc_outcome="completed",
        runsc_outcome="completed",
    ),
    Difference(
        option="measured usage",
        runc="the program and PID 1",
        runsc="the sentry too: about 50 MiB, and its start",
        bounded_by="",
        runc_outcome="completed",
        runsc_outcome="completed",
    ),
)


def difference_at(isolation: Isolation, attempt: str) -> Difference | None:
    """Return the difference that explains why this attempt of the probe succeeded, if one does."""
    if isolation is Isolation.RUNSC:
        for each in DIFFERENCES:
            if attempt.startswith(each.attempts):
                return each
    return None


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
