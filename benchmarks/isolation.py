"""What each isolation costs: start, import, workload; run as `python benchmarks/isolation.py`.

Every figure is the median of whole jobs, from submit to the record, the isolations taking turns;
images are built before the clock starts.
"""

from __future__ import annotations

import argparse
import platform
import statistics
import tempfile
import time
from pathlib import Path

from runner import Supervisor
from runner.engine import Engine

ABOVE_SYSTEM_CALLS = """
import os
def main(backend, user_messenger, count=20000):
    for _ in range(count):
        os.stat("/program")
"""
IN_THE_PROCESSOR = """
def main(backend, user_messenger, count=3000000):
    return sum(number * number for number in range(count))
"""


def main() -> None:
    """Print a line for each workload."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    engine = Engine.connect()
    info = engine.info()
    engine.close()
    isolations = [each for each in ("runc", "runsc") if each in info.runtimes]
    print(f"{info.version}, {platform.machine()}, {info.cpus} cores, {rounds} rounds, medians")
    with tempfile.TemporaryDirectory() as directory:
        programs = {
            "ready: start and import": _written(directory, "nothing", "def main(b, m): ...\n"),
            "hello_world": "hello_world",
            "random_circuits, 5 iterations": "random_circuits",
            "20 000 system calls": _written(directory, "calls", ABOVE_SYSTEM_CALLS),
            "3 000 000 turns in Python": _written(directory, "turns", IN_THE_PROCESSOR),
        }
        for what, program in programs.items():
            print(f"{what:<32}", _compared(isolations, program, rounds))


def _written(directory: str, name: str, source: str) -> str:
    path = Path(directory, f"{name}.py")
    path.write_text(source)
    return str(path)


def _compared(isolations: list[str], program: str, rounds: int) -> str:
    taken: dict[str, list[float]] = {each: [] for each in isolations}
    peaks: dict[str, list[int]] = {each: [] for each in isolations}
    supervisors = {each: Supervisor(isolation=each) for each in isolations}
    try:
        for number in range(rounds + 1):
            for isolation, supervisor in supervisors.items():
                started = time.perf_counter()
                record = supervisor.run(program).wait(120)
                if record.outcome != "completed":
                    msg = f"{program} under {isolation}: {record.outcome}"
                    raise SystemExit(msg)
                if number:  # the first one builds the image and warms the caches
                    taken[isolation].append(time.perf_counter() - started)
                    peaks[isolation].append(record.usage.memory_peak_bytes or 0)
    finally:
        for supervisor in supervisors.values():
            supervisor.close()
    return "   ".join(f"{each} {_shown(taken[each], peaks[each])}" for each in isolations)


def _shown(seconds: list[float], peaks: list[int]) -> str:
    return f"{statistics.median(seconds):6.2f} s {statistics.median(peaks) / (1 << 20):5.0f} MiB"


if __name__ == "__main__":
    main()
