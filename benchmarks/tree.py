"""Takes one figure of one checkout, for `benchmarks.against`: `python tree.py FIGURE PROGRAMS`.

Runs with the checkout's own interpreter, so it imports that checkout's runner and nothing else, and
asks of it only what every version has.  Prints its values as JSON; the larger number of a rate, and
the smaller one of a time, is the better.
"""

from __future__ import annotations

import json
import sys
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from runner import Supervisor

POOL = 2
CALLERS = 2
AHEAD = 32
BURST = 20_000
LATENCIES = 200
WINDOW_S = 4.0
PATIENCE_S = 300.0


def one(supervisor: Any, program: Path) -> float:
    """Return the milliseconds from the request of a no-op to its result."""
    began = time.perf_counter()
    assert supervisor.run(program, {"number": 7}).result(PATIENCE_S) == 7
    return (time.perf_counter() - began) * 1e3


def cold(programs: Path) -> list[float]:
    """Return the milliseconds of jobs for which nothing was started beforehand."""
    with Supervisor() as supervisor:
        one(supervisor, programs / "noop.py")
        return [one(supervisor, programs / "noop.py") for _ in range(3)]


def warm(programs: Path) -> list[float]:
    """Return the milliseconds of jobs one after another, each when the pool is full."""
    with warmed(programs / "noop.py") as supervisor:
        found: list[float] = []
        began = time.perf_counter()
        while not found or time.perf_counter() - began < WINDOW_S:
            found.append(one(supervisor, programs / "noop.py"))
            supervisor.wait_until_warm(PATIENCE_S)
        return found


def isolated(programs: Path) -> list[float]:
    """Return the jobs a second of two who ask all the time, each job isolated from all others."""
    with warmed(programs / "noop.py") as supervisor:
        began = time.perf_counter()

        def ask_on(_: int) -> int:
            count = 0
            while time.perf_counter() - began < WINDOW_S:
                one(supervisor, programs / "noop.py")
                count += 1
            return count

        with ThreadPoolExecutor(CALLERS) as callers:
            count = sum(callers.map(ask_on, range(CALLERS)))
        return [count / (time.perf_counter() - began)]


def session(programs: Path) -> list[float]:
    """Return the jobs a second of a session with two sandboxes, 32 jobs ahead."""
    with (
        Supervisor() as supervisor,
        supervisor.session(programs / "noop.py", sandboxes=CALLERS) as jobs,
    ):
        for first in [jobs.run({"number": 7}) for _ in range(2 * CALLERS)]:
            first.result(PATIENCE_S)
        pending: deque[Any] = deque()
        count = 0
        began = time.perf_counter()
        while time.perf_counter() - began < WINDOW_S:
            while len(pending) < AHEAD:
                pending.append(jobs.run({"number": 7}))
            assert pending.popleft().result(PATIENCE_S) == 7
            count += 1
        return [count / (time.perf_counter() - began)]


def burst(programs: Path) -> list[float]:
    """Return the small messages a second of one job, to a callback."""
    at: list[float] = []
    with Supervisor() as supervisor:
        path, inputs = programs / "messages.py", {"number": BURST}
        job = supervisor.run(path, inputs, callback=lambda *_: at.append(time.perf_counter()))
        assert job.result(PATIENCE_S) == BURST
        while len(at) < BURST:
            time.sleep(0.01)
    return [BURST / (at[-1] - at[0])]


def message(programs: Path) -> list[float]:
    """Return the milliseconds from `publish` to the callback, now and then."""
    taken: list[float] = []
    with warmed(programs / "messages.py") as supervisor:
        job = supervisor.run(
            programs / "messages.py",
            {"number": LATENCIES, "pause": 0.01},
            callback=lambda _, sent: taken.append((time.time() - sent) * 1e3),
        )
        assert job.result(PATIENCE_S) == LATENCIES
        while len(taken) < LATENCIES:
            time.sleep(0.01)
    return taken


def warmed(program: Path) -> Any:
    """Return a supervisor with a full pool, which has run one job."""
    supervisor = Supervisor(warm={program: POOL})
    try:
        assert supervisor.wait_until_warm(PATIENCE_S)
        supervisor.run(program, {"number": 7}).result(PATIENCE_S)
        supervisor.wait_until_warm(PATIENCE_S)
    except BaseException:
        supervisor.close()
        raise
    return supervisor


FIGURES: dict[str, Callable[[Path], list[float]]] = {
    each.__name__: each for each in (cold, warm, isolated, session, burst, message)
}


def main() -> None:
    """Take the figure that was asked for."""
    name, programs = sys.argv[1:]
    print(json.dumps(FIGURES[name](Path(programs))))


if __name__ == "__main__":
    main()
