"""What a hostile neighbour does to the latency of other people's small jobs.

Small jobs run one after another, each in a new sandbox, while in the same supervisor

    nobody       runs: the machine is theirs;
    busy         runs: a neighbour that keeps its one CPU busy, as anybody may;
    hostile      runs: fork bomb, output flood, message flood and memory hog in one program, started
                 again whenever a limit has ended it.

The busy and the hostile neighbour have the same limits, so they leave the same share of the CPU.
What the hostile one costs on top is what it gets past its limits: the engine and the supervisor
work for it.  The three take turns, so that a busy moment of the machine hits all.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks.report import Row, arguments, median, percentile, report
from runner import Supervisor

PROGRAMS = Path(__file__).parent / "programs"
LIMITS = {"memory_bytes": 512 << 20, "cpus": 1.0, "timeout_s": 30}
TARGET = 2.0
JOBS_A_TURN = 8


class Neighbour:
    """Keeps one job of a program running, a new one whenever one ends."""

    def __init__(self, supervisor: Supervisor, name: str) -> None:
        self._supervisor = supervisor
        self._path = PROGRAMS / f"{name}.py"
        self._job = supervisor.run(self._path, limits=LIMITS)
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._go_on)
        self.outcomes: list[str] = []
        self._thread.start()

    def _go_on(self) -> None:
        while not self._is_over.is_set():
            with contextlib.suppress(TimeoutError):
                self.outcomes.append(self._job.wait(0.1).outcome.value)
                self._job = self._supervisor.run(self._path, limits=LIMITS)

    def stop(self) -> None:
        """End it; what it has published is forgotten."""
        self._is_over.set()
        self._thread.join()
        self._job.cancel()
        self._job.wait()


@contextlib.contextmanager
def neighbour(supervisor: Supervisor, name: str) -> Iterator[Neighbour | None]:
    """Keep one running, fully at work, while the block runs."""
    if name == "nobody":
        yield None
        return
    one = Neighbour(supervisor, name)
    try:
        while one._job.started is None:
            time.sleep(0.05)
        time.sleep(1.0)
        yield one
    finally:
        one.stop()


def small_job(supervisor: Supervisor, number: int) -> float:
    """Return the seconds from submitting to having the result."""
    began = time.perf_counter()
    result = supervisor.run(PROGRAMS / "small.py", {"n": number}).result(120)
    seconds = time.perf_counter() - began
    assert result == number * number
    return seconds


def main() -> int:
    """Measure and report; 1 if a hostile neighbour costs more than it may."""
    options = arguments(__doc__, rounds=4)
    seconds: dict[str, list[float]] = {"nobody": [], "busy": [], "hostile": []}
    outcomes: list[str] = []
    with Supervisor(max_jobs=4) as supervisor:
        small_job(supervisor, 0)
        for _ in range(options.rounds):
            for name, values in seconds.items():
                with neighbour(supervisor, name) as one:
                    values += [small_job(supervisor, number) for number in range(JOBS_A_TURN)]
                if name == "hostile" and one is not None:
                    outcomes += one.outcomes
    print(f"the hostile job was ended {len(outcomes)} times: {sorted(set(outcomes))}")
    middle = {name: median(values) for name, values in seconds.items()}
    rows = [
        Row(f"small job, {name} next to it", value * 1e3, "ms") for name, value in middle.items()
    ]
    rows += [
        Row("  95 % with the hostile one", percentile(seconds["hostile"], 95) * 1e3, "ms"),
        Row("  hostile / busy", middle["hostile"] / middle["busy"], "times", at_most=TARGET),
        Row("  hostile / nobody", middle["hostile"] / middle["nobody"], "times"),
    ]
    return report("neighbour", rows, options)


if __name__ == "__main__":
    raise SystemExit(main())
