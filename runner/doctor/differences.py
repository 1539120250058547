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


OVERCROWDING: Final = "overcrowding "
"""How the probe's attempts begin that make more files than the limits on inodes allow."""

DIFFERENCES: Final = (
    Difference(
        option="memory",
        runc="control group: the kernel kills the largest process, PID 1 reports it",
        runsc="control group of the sentry: the whole sandbox ends",
        bounded_by="",
        runc_outcome="memory_limit",
        runsc_outcome="memory_limit",
    ),
    Difference(
        option="processes",
        runc="control group, which counts refusals",
        runsc="the sentry, by RLIMIT_NPROC; refusals are not counted, the guest reports them",
        bounded_by="a control group with room for the sentry's own threads",
        runc_outcome="process_limit",
        runsc_outcome="process_limit",
    ),
    Difference(
        option="inodes of /tmp and /dev/shm",
        runc="tmpfs: no space left",
        runsc="not enforced",
        bounded_by="memory: 30 000 empty files take 60 MiB of it",
        runc_outcome="program_error",
        runsc_outcome="completed",
        attempts=(OVERCROWDING,),
    ),
    Difference(
        option="OOM score",
        runc="the kernel: it can only be raised",
        runsc="not enforced inside, where it has no effect",
        bounded_by="the sentry's own score on the host, which the program cannot reach",
        runc_outcome="program_error",
        runsc_outcome="completed",
        attempts=("evading the OOM killer",),
    ),
    Difference(
        option="system-call filter",
        runc="the host's kernel",
        runsc="the sentry, where runsc is registered with --oci-seccomp",
        bounded_by="the few calls that the sentry makes: the host's kernel sees no others",
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
        runsc="no 32-bit entry: it is an ordinary 64-bit call",
        bounded_by="the same filter",
        runc_outcome="no_result",
        runsc_outcome="completed",
    ),
    Difference(
        option="SIGKILL to PID 1",
        runc="the kernel drops it",
        runsc="not enforced: the whole sandbox ends",
        bounded_by="its end",
        runc_outcome="completed",
        runsc_outcome="no_result",
    ),
    Difference(
        option="masked and read-only paths",
        runc="mounts over them",
        runsc="not enforced",
        bounded_by="the sentry's own /proc and /sys, which reveal nothing about the host",
        runc_outcome="completed",
        runsc_outcome="completed",
    ),
    Difference(
        option="memory of PID 1",
        runc="PID 1 is not dumpable: all of /proc/1 is closed",
        runsc="the sentry closes /proc/1/mem; environment and maps can be read",
        bounded_by="the same content in every sandbox",
        runc_outcome="program_error",
        runsc_outcome="program_error",
    ),
    Difference(
        option="user id",
        runc="its own id on the host",
        runsc="its own id inside; on the host every sentry is `nobody`, in a user namespace",
        bounded_by="the sentry: only its gofer opens files of the host",
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
