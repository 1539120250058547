"""What a cluster costs: a line to the caller, bursts, jobs a second, cancelling, losing a node.

On this machine's loopback, each kind with two nodes of two CPUs: `make bench-cluster` on a quiet
machine.  Kinds that cannot be had here are left out, with the reason.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.report import Row, arguments, median, percentile, report
from runner import Outcome, Supervisor
from runner.engine import OWN_LABEL, Engine
from runner.host.processes import HostProcess
from runner.job.record import MessageEvent
from tests.cluster.nodes import KINDS, UnavailableError, signal_all, why_not

TALK = """
import time
def main(backend, user_messenger, n=100, pause=0.02):
    for _ in range(n):
        user_messenger.publish(time.time())
        time.sleep(pause)
"""
BURST = """
def main(backend, user_messenger, n=20_000):
    for _ in range(n):
        user_messenger.publish("x" * 200)
"""
NOTHING = "def main(backend, user_messenger, n=0):\n    return n\n"
SLEEP = """
import time
def main(backend, user_messenger):
    user_messenger.publish("up")
    time.sleep(60)
"""
JOBS = 20
LATENCY_MS = 5.0
LOSS_S = 12.0


class Bench:
    """The figures of one kind of cluster."""

    def __init__(self, cluster: Any, engine: Engine, directory: Path, rounds: int) -> None:
        self._cluster = cluster
        self._engine = engine
        self._directory = directory
        self._rounds = rounds
        self._supervisor: Supervisor

    def rows(self) -> list[Row]:
        """Measure everything; what kills a node comes last."""
        name = self._cluster.name
        measures: list[Callable[[], list[Row]]] = [self._latency, self._burst, self._jobs]
        measures += [self._cancel, self._killed]
        if self._cluster.nodes:
            measures.append(self._hung)
        rows = []
        with Supervisor(cluster=self._cluster.cluster) as self._supervisor:
            self._supervisor.run(self._path(NOTHING)).result(120)  # the image is built by then
            for each in measures:
                rows += each()
        return [Row(f"{name}: {r.what}", r.value, r.unit, r.at_most, r.at_least) for r in rows]

    def _path(self, source: str) -> Path:
        path = self._directory / f"b{abs(hash(source)) % 10**8}.py"
        path.write_text(source)
        return path

    def _latency(self) -> list[Row]:
        to_node: list[float] = []
        late: list[float] = []
        for _ in range(self._rounds):
            job = self._supervisor.run(self._path(TALK))
            for event in job.events():
                now = time.time()
                if isinstance(event, MessageEvent):
                    sent = json.loads(event.body)
                    to_node.append((event.time - sent) * 1000)
                    late.append((now - sent) * 1000)
            job.result(60)
        return [
            Row("line to caller, median", median(late), "ms", at_most=LATENCY_MS),
            Row("line to caller, 95 %", percentile(late, 95), "ms"),
            Row("of that, line to its node, median", median(to_node), "ms"),
        ]

    def _burst(self) -> list[Row]:
        job = self._supervisor.run(self._path(BURST))
        messages = job.messages()
        next(messages)
        began = time.monotonic()
        count = sum(1 for _ in messages)
        return [Row("burst of 200 bytes each", count / (time.monotonic() - began), "/s")]

    def _jobs(self) -> list[Row]:
        path = self._path(NOTHING)
        began = time.monotonic()
        jobs = [self._supervisor.run(path, {"n": n}) for n in range(JOBS)]
        assert [job.result(120) for job in jobs] == list(range(JOBS))
        return [Row(f"{JOBS} jobs that do nothing", JOBS / (time.monotonic() - began), "jobs/s")]

    def _sleeper(self) -> tuple[Any, HostProcess]:
        path = self._path(SLEEP)
        job = self._supervisor.run(path)
        assert next(job.messages(), None) == "up", job.record
        (process,) = self._processes(path)
        return job, process

    def _processes(self, path: Path) -> list[HostProcess]:
        labels = self._engine.containers().values()
        mine = [each for each in labels if each.get(f"{OWN_LABEL}.program") == path.stem]
        found = [HostProcess.parse(each[f"{OWN_LABEL}.owner"]) for each in mine]
        return [each for each in found if each is not None]

    def _ended(self, job: Any, expected: Outcome, act: Callable[[], object]) -> tuple[float, float]:
        """Return after how long the caller knew, and the container was gone."""
        began = time.monotonic()
        act()
        record = job.wait(60)
        told = time.monotonic() - began
        assert record.outcome is expected, record
        while self._processes(self._path(SLEEP)) and time.monotonic() - began < 60:
            time.sleep(0.01)
        return told, time.monotonic() - began

    def _cancel(self) -> list[Row]:
        job, _ = self._sleeper()
        told, gone = self._ended(job, Outcome.CANCELLED, job.cancel)
        return [
            Row("cancel: caller told", told, "s"),
            Row("cancel: container removed", gone, "s"),
        ]

    def _killed(self) -> list[Row]:
        job, process = self._sleeper()
        told, gone = self._ended(
            job, Outcome.INTERRUPTED, lambda: os.kill(process.pid, signal.SIGKILL)
        )
        return [
            Row("node part killed: caller told", told, "s", at_most=LOSS_S),
            Row("node part killed: container removed", gone, "s"),
        ]

    def _hung(self) -> list[Row]:
        job, _ = self._sleeper()
        processes = self._cluster.processes(job.node)
        began = time.monotonic()
        signal_all(processes, signal.SIGSTOP)
        try:
            assert job.wait(60).outcome is Outcome.INTERRUPTED
            told = time.monotonic() - began
        finally:
            signal_all(processes, signal.SIGCONT)
        return [Row("node hung: caller told", told, "s", at_most=LOSS_S)]


def main() -> int:
    """Measure every kind that can be had here."""
    options = arguments(__doc__, rounds=3)
    rows: list[Row] = []
    engine = Engine.connect()
    for kind in ("stdio", "slurm", "ray"):
        reason = why_not(kind)
        try:
            cluster = None if reason else KINDS[kind]()
        except UnavailableError as error:
            cluster, reason = None, str(error)
        if cluster is None:
            print(f"{kind}: left out: {reason}")
            continue
        try:
            with tempfile.TemporaryDirectory() as directory:
                rows += Bench(cluster, engine, Path(directory), options.rounds).rows()
        finally:
            cluster.close()
    engine.close()
    return report("cluster", rows, options)


if __name__ == "__main__":
    sys.exit(main())
