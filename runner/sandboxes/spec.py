"""The specification of a sandbox as a value: sandboxes with equal specs are interchangeable."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from runner.host.processes import HostProcess
from runner.policy import Limits, Policy
from runner.sandboxes.container import WRITABLE


class Carrier(StrEnum):
    """The transport of frames between host and guest."""

    SOCKET = "socket"
    STDIO = "stdio"


class Kind(StrEnum):
    """The kinds of places where a job runs; the record of a job names its kind."""

    CONTAINER = "container"
    CELL = "cell"
    SESSION = "session"


class Holding(Protocol):
    """A sandbox or a cell, as the task that holds it sees it, and the pool in which it waits."""

    name: str
    spec: SandboxSpec
    obstacle: str
    """Why `destroy` has not succeeded yet."""

    @property
    def kind(self) -> Kind:
        """What it is."""

    @property
    def carrier(self) -> Carrier:
        """The carrier of messages."""

    def memory_bytes(self) -> int | None:
        """Return the memory in use now, in bytes; None if unknown.  For any thread."""

    def is_waiting(self) -> bool:
        """Return True if it has neither ended nor sent anything since it was ready."""

    def destroy(self) -> bool:
        """End and remove everything; False if that is to be tried again later.  Never raises."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SandboxSpec:
    """The specification of a sandbox; sandboxes with equal specs are interchangeable.

    `limits` are those of the container: see `Limits.for_container`.  `own_cgroup` puts it into a
    control group of ours; `engine_cgroup` finds the one that the engine makes.  `podman` says
    that the engine is one.  `kernel` is the release of the engine's kernel, by which the isolation
    is proved.  `arguments` are the guest's,
    in addition to the carrier: none for a job that begins as soon as the guest is ready, else
    `warm_arguments` or, with `serves_many`, `session_arguments` or `zygote_arguments`.  `job_cpus`
    is the number of cores that a job may use, where that is not the container's own.
    """

    image: str
    build: str
    policy: Policy
    limits: Limits
    rootful: bool
    own_cgroup: bool
    engine_cgroup: bool
    podman: bool
    carrier: Carrier
    process: HostProcess
    kernel: str
    arguments: tuple[str, ...] = ()
    serves_many: bool = False
    job_cpus: float | None = None


def warm_arguments(modules: tuple[str, ...]) -> tuple[str, ...]:
    """Return the arguments of a guest that imports the stack and these modules before its job."""
    return ("--warm", "--import", ",".join(modules))


def session_arguments(modules: tuple[str, ...], backend: str) -> tuple[str, ...]:
    """Return the arguments of a guest that runs one job after another, each in a fork.

    `backend` is the text of the backend that the jobs ask for, if it is to be built once: see
    `sandbox.stack.backends.Prepared`.
    """
    wiped = [each for path in WRITABLE for each in ("--wipe", path)]
    built = ("--backend", backend) if backend else ()
    return ("--session", "--import", ",".join(modules), *wiped, *built)


def zygote_arguments(policy: Policy, modules: tuple[str, ...], backend: str) -> tuple[str, ...]:
    """Return the arguments of a guest that makes a cell for each job.

    `policy` is that of the cells; `backend` is as for `session_arguments`.
    """
    built = ("--backend", backend) if backend else ()
    return (
        *("--zygote", "--import", ",".join(modules)),
        # The counters of the zygote's own group would show what other cells do.
        *("--mask", ",".join([*_in_proc(policy.masked_paths), "/sys/fs/cgroup"])),
        *("--readonly", ",".join(_in_proc(policy.readonly_paths))),
        *built,
    )


def _in_proc(paths: tuple[str, ...]) -> list[str]:
    return [each for each in paths if each.startswith("/proc/")]
