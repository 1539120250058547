"""The interface of all cluster engines, and the capacity of a cluster."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final, Protocol, TypeAlias, TypeVar

from runner.errors import RequestError
from runner.job.request import Request
from runner.running.versions import versions
from runner.sites.wire import WIRE_VERSION, AttemptEvent, JobSpec, is_held
from sandbox.wire.protocol import MIB

HEARTBEAT_S: Final = 2.0
"""Interval at which a node without other events sends a heartbeat, in seconds."""

LOST_S: Final = 10.0
"""A node that has sent nothing for this many seconds, five heartbeats, is lost."""

SPARE_S: Final = 300.0
"""Seconds that a job may need in addition to its limits, to build its image and clean up."""

_SHOWN_NODES: Final = 8
_DIGITS: Final = 12


def node_name() -> str:
    """Return this node's name, as set by its operator, by Slurm, or by the machine."""
    given = os.environ.get("QRUNNER_NODE") or os.environ.get("SLURMD_NODENAME")
    return given or socket.gethostname()


def longest_s(request: Request) -> float:
    """Return after how many seconds a job must be over, its image and its clean-up included."""
    limits = request.limits
    waits_s = limits.device_wait_s if is_held(request) else 0.0
    return limits.startup_s + limits.timeout_s + waits_s + SPARE_S


def identity() -> str:
    """Return what caller and node must have in common: versions, and the guest's code."""
    found = versions()
    return f"{found['runner']} (wire {WIRE_VERSION}, guest {found['guest'][:_DIGITS]})"


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeCapacity:
    """What one node can give to jobs in total, busy or not."""

    name: str
    cpus: float
    memory_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Capacity:
    """What all present nodes can give to jobs."""

    nodes: tuple[NodeCapacity, ...]

    @property
    def slots(self) -> int:
        """How many jobs of one CPU can run at the same time."""
        return max(1, int(sum(each.cpus for each in self.nodes)))

    def check(self, cpus: float, memory_bytes: int) -> None:
        """Raise RequestError, with the numbers, if no node could ever run such a job."""
        if any(each.cpus >= cpus and each.memory_bytes >= memory_bytes for each in self.nodes):
            return
        known = [
            f"{each.name} has {each.cpus:g} and {each.memory_bytes // MIB} MiB"
            for each in self.nodes[:_SHOWN_NODES]
        ]
        msg = (
            f"the job needs {cpus:g} CPUs and {memory_bytes // MIB} MiB of memory, and no node of "
            f"the cluster has both ({'; '.join(known) or 'no node takes jobs'}): lower "
            "the limits cpus or memory_bytes, or add a larger node"
        )
        raise RequestError(msg)


H = TypeVar("H")


class ClusterEngine(Protocol[H]):
    """Moves jobs to nodes and their events back; knows nothing about sandboxes.

    May be used from several threads.  `name` is for people.
    """

    name: str

    def submit(self, spec: JobSpec) -> H:
        """Hand over a job and return at once; the job may wait for a node.  Raises RunnerError."""
        ...

    def events(self, handle: H) -> Iterator[AttemptEvent]:
        """Yield the node's events; the last one is always one `Finished` or `Ended`.

        A consumer that does not ask for the next event delays the program, but not its clock.
        """
        ...

    def answer(self, handle: H, line: bytes) -> None:
        """Pass on to the node what a held backend has answered, as a `reply_line`.

        Blocks while the node does not read.  An answer for a job that has ended is dropped.
        """
        ...

    def cancel(self, handle: H) -> None:
        """Request the end; never blocks, may be repeated.  `events` yields the outcome."""
        ...

    def capacity(self) -> Capacity:
        """Return the current capacity.  Raises RunnerError if the cluster does not answer."""
        ...

    def close(self) -> None:
        """Release everything; what still runs ends by its lifeline."""
        ...


AnyEngine: TypeAlias = ClusterEngine[Any]
