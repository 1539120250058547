"""A held backend as a job sees it; who holds it, and how, is known in `runner.backends` only."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, Protocol

from sandbox.wire.protocol import Call, JsonText

HELD: Final = "held"
"""The name that descriptions of held backends have among all others."""

MAX_KEPT_BYTES: Final = 64 << 20
"""Of the answers of one job; of more none is kept."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What a device answered, kept with the job; `signature` is that of what was asked."""

    verb: str
    signature: str
    body: JsonText


@dataclass(frozen=True, slots=True, kw_only=True)
class Consumption:
    """What a job has used of a device so far; `device_s` is None if the device does not say.

    `source` names who counted.
    """

    circuits: int = 0
    shots: int = 0
    device_s: float | None = None
    source: str = "holder"

    @property
    def figures(self) -> dict[str, Any]:
        """The members of a job's `Usage`."""
        return {"circuits": self.circuits, "shots": self.shots, "device_s": self.device_s}

    @property
    def sources(self) -> dict[str, str]:
        """Who counted each of them."""
        silent = "the held backend does not say"
        return {
            "circuits": self.source,
            "shots": self.source,
            "device_s": silent if self.device_s is None else "device",
        }


class Line(Protocol):
    """One job's line to a held backend."""

    def call(self, call: Call) -> None:
        """Begin a call; returns at once.  The reply may come from another thread."""

    def close(self) -> None:
        """Cancel on the device what is not done; returns at once, and no reply comes any more."""

    @property
    def used(self) -> Consumption:
        """What the job has used so far."""


class Device(Protocol):
    """A held backend, for the jobs that may call it."""

    def open(self, job: str, user: str, reply: Callable[[int, JsonText], object]) -> Line:
        """Return a line for one job; `reply(call, body)` is called from other threads."""
