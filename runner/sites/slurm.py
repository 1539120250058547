"""Slurm: the node part as a job step, started by `srun`.  Needs only Slurm, no Python package."""

from __future__ import annotations

import contextlib
import math
import subprocess
import time
import weakref
from collections.abc import Collection, Iterator
from typing import Final

from runner.errors import RunnerError
from runner.sites.cluster import Capacity, NodeCapacity, longest_s
from runner.sites.stdio import StdioEngine
from runner.sites.stream import Stream
from runner.sites.wire import AttemptEvent, End, JobSpec
from sandbox.wire.protocol import MIB

_ANSWER_S: Final = 20.0
_SCANCEL_S: Final = 2.0
_AVOIDED_S: Final = 300.0
"""How long a lost node gets no job, in seconds: Slurm notices after its `SlurmdTimeout`, 300 s."""

_USABLE: Final = frozenset({"idle", "mixed", "allocated", "completing"})


class SlurmEngine(StdioEngine):
    """Allocates with `srun`, one step per job; `options` follow the runner's own options."""

    name = "slurm"
    untaken = End.LOST  # the node that Slurm has chosen may have died, which Slurm does not report
    patience_s: float | None = None  # a job may wait for a node as long as Slurm allows

    def __init__(self, options: tuple[str, ...] = (), withheld: Collection[str] = ()) -> None:
        super().__init__(self._srun, withheld)
        self._options = options
        self._nodes: frozenset[str] = frozenset()
        self._lost: dict[str, float] = {}
        self._names: weakref.WeakKeyDictionary[Stream, str] = weakref.WeakKeyDictionary()

    def _srun(self, spec: JobSpec) -> list[str]:
        limits = spec.request.limits
        minutes = math.ceil(longest_s(spec.request) / 60)
        return [
            "srun",
            "--ntasks=1",
            "--nodes=1",
            f"--cpus-per-task={math.ceil(limits.cpus)}",
            f"--mem={math.ceil(limits.memory_bytes / MIB)}M",
            f"--time={minutes}",
            f"--job-name={_name(spec)}",
            "--chdir=/",
            "--quiet",
            "--kill-on-bad-exit=1",
            *self._excluded(),
            *self._options,
        ]

    def _excluded(self) -> list[str]:
        """Return the option that excludes lost nodes which Slurm still considers alive.

        At least one node is never excluded, because a lost node may have come back.
        """
        since = time.monotonic() - _AVOIDED_S
        lost = {name for name, when in self._lost.items() if when > since} & self._nodes
        return [f"--exclude={','.join(sorted(lost))}"] if lost and lost < self._nodes else []

    def submit(self, spec: JobSpec) -> Stream:
        """Start `srun`.  Raises RunnerError."""
        stream = super().submit(spec)
        self._names[stream] = _name(spec)
        return stream

    def events(self, handle: Stream) -> Iterator[AttemptEvent]:
        """Yield the node's events; the allocation of a lost node is released."""
        try:
            yield from super().events(handle)
        finally:
            if handle.is_lost and handle.node:
                self._lost[handle.node] = time.monotonic()
            if handle.is_lost:  # then `srun` was killed, and cannot release it itself
                with contextlib.suppress(RunnerError):
                    _output(["scancel", "--quiet", f"--name={self._names[handle]}"], _SCANCEL_S)

    def capacity(self) -> Capacity:
        """Return the capacity of the nodes that are up.  Raises RunnerError."""
        answer = _output(["sinfo", "--noheader", "--Node", "--format=%N|%c|%m|%T"])
        nodes = {}
        for line in answer.splitlines():
            with contextlib.suppress(ValueError):
                name, cpus, memory, state = line.strip().split("|")
                if state in _USABLE:
                    size = int(memory.rstrip("+")) * MIB
                    count = float(cpus.rstrip("+"))
                    nodes[name] = NodeCapacity(name=name, cpus=count, memory_bytes=size)
        self._nodes = frozenset(nodes)
        return Capacity(nodes=tuple(nodes.values()))


def _name(spec: JobSpec) -> str:
    return f"qrunner-{spec.job}-{spec.attempt}"


def _output(command: list[str], timeout_s: float = _ANSWER_S) -> str:
    try:
        done = subprocess.run(command, capture_output=True, timeout=timeout_s, check=True)
    except FileNotFoundError:
        msg = f"{command[0]} is not installed here: use a machine that can submit to Slurm"
        raise RunnerError(msg) from None
    except (OSError, subprocess.SubprocessError) as error:
        said = (getattr(error, "stderr", b"") or b"").decode(errors="replace").strip()
        msg = f"Slurm does not answer: {said or error}"
        raise RunnerError(msg) from error
    return done.stdout.decode(errors="replace")
