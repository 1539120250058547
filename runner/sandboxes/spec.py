"""What a sandbox is made of, as a value: sandboxes of equal specs are interchangeable."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from runner.host.processes import HostProcess
from runner.policy import Limits, Policy
from runner.sandboxes.container import WRITABLE


class Carrier(StrEnum):
    """What carries the frames between host and guest."""

    SOCKET = "socket"
    STDIO = "stdio"


class Mode(StrEnum):
    """What a sandbox is for: one job or many, and whether it warms up before the first."""

    COLD = "cold"
    WARM = "warm"
    SESSION = "session"


@dataclass(frozen=True, slots=True, kw_only=True)
class SandboxSpec:
    """What a sandbox is made of; sandboxes of equal specs are interchangeable.

    `limits` are those of the container: see `Limits.for_container`.  `modules` are those that a
    warm sandbox imports, if they are of the stack.  `backend` is the text of the one that a
    session's jobs ask for, which is built once: see `sandbox.stack.backends.Prepared`.
    """

    image: str
    build: str
    policy: Policy
    limits: Limits
    rootful: bool
    own_cgroup: bool
    carrier: Carrier
    process: HostProcess
    mode: Mode = Mode.COLD
    modules: tuple[str, ...] = ()
    backend: str = ""

    @property
    def arguments(self) -> tuple[str, ...]:
        """The guest's arguments, beside the carrier."""
        if self.mode is Mode.WARM:
            return ("--warm", "--import", ",".join(self.modules))
        if self.mode is Mode.SESSION:
            wiped = [each for path in WRITABLE for each in ("--wipe", path)]
            built = ("--backend", self.backend) if self.backend else ()
            return ("--session", "--import", ",".join(self.modules), *wiped, *built)
        return ()
