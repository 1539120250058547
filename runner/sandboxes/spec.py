"""The specification of a sandbox as a value: sandboxes with equal specs are interchangeable."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from runner.host.processes import HostProcess
from runner.policy import Limits, Policy
from runner.sandboxes.container import WRITABLE


class Carrier(StrEnum):
    """The transport of frames between host and guest."""

    SOCKET = "socket"
    STDIO = "stdio"


@dataclass(frozen=True, slots=True, kw_only=True)
class SandboxSpec:
    """The specification of a sandbox; sandboxes with equal specs are interchangeable.

    `limits` are those of the container: see `Limits.for_container`.  `kernel` is the release of the
    engine's kernel, by which the isolation is proved.  `arguments` are the guest's,
    in addition to the carrier: none for a job that begins as soon as the guest is ready, else
    `warm_arguments` or, with `serves_many`, `session_arguments`.
    """

    image: str
    build: str
    policy: Policy
    limits: Limits
    rootful: bool
    own_cgroup: bool
    carrier: Carrier
    process: HostProcess
    kernel: str
    arguments: tuple[str, ...] = ()
    serves_many: bool = False


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
