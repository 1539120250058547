"""What every cluster engine does, and what a cluster can give.  No engine, no sandbox here."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final, Protocol, TypeAlias, TypeVar

from runner.errors import RequestError
from runner.running.versions import versions
from runner.sites.wire import WIRE_VERSION, AttemptEvent, JobSpec
from sandbox.wire.protocol import MIB

HEARTBEAT_S: Final = 2.0
"""How often a node that has nothing else to say gives a sign of life."""

LOST_S: Final = 10.0
"""A node that has not said anything for five heartbeats is lost."""

SPARE_S: Final = 300.0
"""What a job may need beyond its limits for building its image and cleaning up."""

_SHOWN_NODES: Final = 8
_DIGITS: Final = 12


def node_name() -> str:
    """Return what this node is called: by its operator, by Slurm, or by the machine."""
    given = os.environ.get("QRUNNER_NODE") or os.environ.get("SLURMD_NODENAME")
    return given or socket.gethostname()


def identity() -> str:
    """Return what caller and node must have in common: versions, and the guest's code."""
    found = versions()
    return f"{found['runner']} (wire {WIRE_VERSION}, guest {found['guest'][:_DIGITS]})"


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeCapacity:
    """What one node can give to jobs, all in all, busy or not."""

    name: str
    cpus: float
    memory_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Capacity:
    """What the nodes that are there now can give."""

    nodes: tuple[NodeCapacity, ...]

    @property
    def slots(self) -> int:
        """How many jobs of one CPU run at the same time."""
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
            f"the cluster has both ({'; '.join(known) or 'there is none that takes jobs'}): lower "
            "the limits cpus or memory_bytes, or add a larger node"
        )
        raise RequestError(msg)


H = TypeVar("H")


class ClusterEngine(Protocol[H]):
    """Moves jobs to nodes and their events back; knows nothing of sandboxes.

    Safe to use from several threads.  `name` is for people.
    """

    name: str

    def submit(self, spec: JobSpec) -> H:
        """Hand a job over and return at once; it may wait for a node.  Raises RunnerError."""
        ...

    def events(self, handle: H) -> Iterator[AttemptEvent]:
        """Yield what the node says; the last is one `Finished` or `Ended`, in every case.

        A consumer that does not ask for the next holds the program back, but not its clock.
        """
        ...

    def cancel(self, handle: H) -> None:
        """Ask for the end; never blocks, harmless if repeated.  `events` tells the outcome."""
        ...

    def capacity(self) -> Capacity:
        """Return what there is now.  Raises RunnerError if nobody answers."""
        ...

    def close(self) -> None:
        """Let go of everything; what still runs ends by its lifeline."""
        ...


AnyEngine: TypeAlias = ClusterEngine[Any]
