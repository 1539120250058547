"""The differences between the isolations, per option: who enforces it, and the outcome.

Options that are not in the table are the same on both.  docs/isolation.md shows the table, and a
test compares them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from runner.policy.isolation import Isolation


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """One option that differs between the isolations.

    `runc` and `runsc` name what enforces it.  `bounded_by` names what else limits it under runsc,
    also where nothing enforces it.  `runc_outcome` and `runsc_outcome` are the outcomes of a
    program that reaches it. `attempts` are prefixes of the attempts of `runner.doctor.probe` that
    may therefore succeed under runsc; with an `advice`, they can be prevented.
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
        option="inodes of /tmp and /dev/shm",
        runc="tmpfs: no space left",
        runsc="nobody",
        bounded_by="memory: 30 000 empty files take 60 MiB of it",
        runc_outcome="program_error",
        runsc_outcome="completed",
        attempts=("overcrowding ",),
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
            "a socket ",
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
    """Return the difference that explains why this attempt of the probe succeeded, or None."""
    if isolation is Isolation.RUNSC:
        for each in DIFFERENCES:
            if attempt.startswith(each.attempts):
                return each
    return None
