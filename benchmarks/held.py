"""What a held backend costs: a program's call against the same call in the holder's process.

The device is Aer in a process of its own, and it notes how long each of its calls took.  So both
figures are of the same calls: what the program saw, and what was the device's.  Then one call of
1 000 circuits in the same way.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from benchmarks.report import Row, arguments, median, report
from runner import Supervisor
from runner.policy.held import HeldBackend

PROGRAMS = Path(__file__).parent / "programs"
MANY = 1000
OVERHEAD_MS = 3.0
SHARE = 0.7


def main() -> int:
    """Measure and report; 1 if it costs more than it should."""
    options = arguments(__doc__, rounds=100)
    os.environ["PYTHONPATH"] = str(PROGRAMS)
    with tempfile.TemporaryDirectory() as directory:
        notes = Path(directory) / "notes"
        device = HeldBackend(
            name="timed",
            factory="timed_device:make",
            args={"notes": str(notes)},
            env=("PYTHONPATH",),
        )
        with Supervisor(backends=[device]) as supervisor:
            inputs = {"rounds": options.rounds, "many": MANY}
            job = supervisor.run(PROGRAMS / "held_calls.py", inputs, backend="timed")
            seen = job.result(900)
        own = [float(line) for line in notes.read_text().split()]
    # The first call of each kind also starts what reads circuits, and is left out.
    single = [each - of_device for each, of_device in zip(seen["one"], own, strict=False)][1:]
    many = min(zip(seen["many"], own[len(seen["one"]) :], strict=True))
    rows = [
        Row("a call of one circuit", median(seen["one"][1:]) * 1e3, "ms"),
        Row("  more than in the holder", median(single) * 1e3, "ms", at_most=OVERHEAD_MS),
        Row(f"a call of {MANY} circuits", many[0], "s"),
        Row("  rate, of that in the holder", many[1] / many[0], "", at_least=SHARE),
    ]
    return report("held", rows, options)


if __name__ == "__main__":
    raise SystemExit(main())
