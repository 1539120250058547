"""Where a warm job's time goes: its phases, and the CPU time of host, zygote and cell.

Jobs run one after another, the next one when the pool is full again.  The zygote's CPU time is
that of making cells, until each is in a control group of its own; a cell's that of its end, too.
What the kernel's threads do when namespaces end is nobody's.  All of it together says how many jobs
a second this machine could do at best.
"""

from __future__ import annotations

import os
import time
from collections import defaultdict
from typing import Final

from benchmarks.cells import insist_on_cells
from benchmarks.groups import group, groups
from benchmarks.report import Row, arguments, median, report
from benchmarks.subjects import SUBJECTS, Subject
from runner import Supervisor
from runner.job.handle import trace_of

POOL: Final = 2
PATIENCE_S: Final = 120.0
AFTERWARDS: Final = "clean-up"
"""The phase after the caller has the result."""


def measure(subject: Subject, rounds: int) -> list[Row]:
    """Return the figures of one program."""
    phases: defaultdict[str, list[float]] = defaultdict(list)
    taken: list[float] = []
    inside: list[float] = []
    with Supervisor(warm={subject.program: POOL}) as supervisor:
        insist_on_cells(supervisor.run(subject.program, subject.inputs))
        assert supervisor.wait_until_warm(PATIENCE_S)
        (zygote,) = (each.group for each in groups() if not each.is_cell)
        before = (time.process_time(), zygote.cpu_s(), group().cpu_s())
        for _ in range(rounds):
            began = time.perf_counter()
            job = supervisor.run(subject.program, subject.inputs)
            record = job.wait(PATIENCE_S)
            taken.append(time.perf_counter() - began)
            assert record.outcome == "completed", record.outcome
            assert supervisor.wait_until_warm(PATIENCE_S)
            inside.append(record.usage.cpu_s or 0.0)
            for name, milliseconds in trace_of(job).as_dict().items():
                phases[name].append(milliseconds)
        after = (time.process_time(), zygote.cpu_s(), group().cpu_s())
    host, makes, all_ = ((b - a) / rounds * 1e3 for a, b in zip(before, after, strict=True))
    rows = [Row(f"{subject.name}: request to result", median(taken) * 1e3, "ms")]
    rows += [Row(f"  {name}", median(each), "ms") for name, each in _in_order(phases)]
    rows += [
        Row("  CPU time of the supervisor, its pool included", host, "ms"),
        Row("  CPU time of the zygote", makes, "ms"),
        Row("  CPU time of the cell, its beginning and end included", all_ - makes, "ms"),
        Row("    from the request to the result", median(inside) * 1e3, "ms"),
        Row("  all of it allows", (os.cpu_count() or 1) * 1e3 / (host + all_), "jobs/s"),
    ]
    return rows


def _in_order(phases: dict[str, list[float]]) -> list[tuple[str, list[float]]]:
    return sorted(phases.items(), key=lambda each: each[0] == AFTERWARDS)


def main() -> int:
    """Measure and report."""
    options = arguments(__doc__, rounds=200)
    rows = []
    for subject in SUBJECTS:
        if subject.name != "vqe":
            rows += measure(subject, options.rounds)
    return report("phases", rows, options)


if __name__ == "__main__":
    raise SystemExit(main())
