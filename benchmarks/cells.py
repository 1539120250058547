"""What cells take: the memory of one that waits and of its zygote, and of a thousand at once.

Memory is read from the kernel twice: from the processes, where pages that several have in common
count for none or for their share, and from the control groups, which count everything, the
kernel's own memory included.  The pages that a cell copies while it is being made count in the
group of its zygote.  So what one more cell takes in all is the difference between many and one.

Set CELLS_CROWD for another number than 1000.
"""

from __future__ import annotations

import os
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from benchmarks.groups import group, groups
from benchmarks.report import Row, arguments, median, report
from benchmarks.soak import counts, memory_mib
from runner import Job, Supervisor
from runner.engine import Engine

CROWD: Final = int(os.environ.get("CELLS_CROWD", "1000"))
CROWD_MEMORY_BYTES: Final = 192 << 20
CROWD_S: Final = 60.0
"""How long each of the crowd stays, counted from the first: twice what all may take to come."""

CELL_MIB: Final = 2.0
ZYGOTE_MIB: Final = 110.0
START_S: Final = 30.0
TOGETHER_GIB: Final = 3.0
MIB: Final = 1 << 20
QUIET_S: Final = 2.0
PATIENCE_S: Final = 300.0

NOOP: Final = Path(__file__).parent / "programs" / "noop.py"
VISITOR: Final = """
import time
def main(backend, user_messenger, number, until):
    user_messenger.publish(number)
    time.sleep(max(0.0, until - time.time()))
    return number * number
"""


@dataclass(frozen=True, slots=True)
class Waiting:
    """Cells that wait for a job: MiB of each, of their zygote, and of all together."""

    private: list[float]
    in_their_groups: list[float]
    zygote: float
    zygote_in_its_group: float
    together: float


@contextmanager
def waiting(number: int) -> Iterator[Waiting]:
    """Have so many cells wait, and look at them.  Raises SystemExit where there are none."""
    with Supervisor(warm={NOOP: number}) as supervisor:
        insist_on_cells(supervisor.run(NOOP, {"number": 7}))
        assert supervisor.wait_until_warm(PATIENCE_S)
        time.sleep(QUIET_S)
        found = list(groups())
        cells = [each for each in found if each.is_cell]
        (zygote,) = (each for each in found if not each.is_cell)
        private = [sum(each.private_bytes for each in cell.residents()) for cell in cells]
        shares = [each.share_bytes for one in found for each in one.residents()]
        yield Waiting(
            private=[each / MIB for each in private],
            in_their_groups=[(each.group.memory_bytes() or 0) / MIB for each in cells],
            zygote=(sum(shares) - sum(private)) / MIB,
            zygote_in_its_group=(zygote.group.memory_bytes() or 0) / MIB,
            together=(group().memory_bytes() or 0) / MIB,
        )


def insist_on_cells(job: Job) -> None:
    """Wait for a job.  Raises SystemExit if it did not run in a cell."""
    record = job.wait(PATIENCE_S)
    if record.place != "cell":
        msg = f"no cells on this machine: the job ran in a {record.place} ({record.outcome})"
        raise SystemExit(msg)


def memory(many: int) -> list[Row]:
    """Return what a waiting cell takes, and its zygote."""
    with waiting(1) as one:
        pass
    with waiting(many) as all_:
        pass
    each = (all_.together - one.together) / (many - 1)
    return [
        Row("a cell that waits: private memory", median(all_.private), "MiB", at_most=CELL_MIB),
        Row("  its control group", median(all_.in_their_groups), "MiB", at_most=CELL_MIB),
        Row(f"  in all, one more of {many}", each, "MiB"),
        Row("its zygote: memory, cells apart", one.zygote, "MiB", at_most=ZYGOTE_MIB),
        Row("  its control group", one.zygote_in_its_group, "MiB", at_most=ZYGOTE_MIB),
    ]


class Crowd:
    """Jobs that publish their number, stay until a common moment, and return its square."""

    def __init__(self, supervisor: Supervisor, path: Path) -> None:
        self._here = threading.Semaphore(0)
        self.until = time.time() + CROWD_S
        limits = {"memory_bytes": CROWD_MEMORY_BYTES}
        self.jobs = [
            supervisor.run(
                path,
                {"number": number, "until": self.until},
                limits=limits,
                callback=lambda _, __: self._here.release(),
            )
            for number in range(CROWD)
        ]

    def gather(self) -> int:
        """Wait until all are here; return how many are not when the first leave."""
        missing = 0
        for _ in self.jobs:
            missing += not self._here.acquire(timeout=max(0.0, self.until - time.time()))
        return missing

    def disperse(self) -> int:
        """Wait for all; return how many results or messages are wrong, or come from no cell."""
        wrong = 0
        for number, job in enumerate(self.jobs):
            record = job.wait(CROWD_S + PATIENCE_S)
            is_right = record.outcome == "completed" and job.result() == number**2
            wrong += not (is_right and record.place == "cell" and [*job.messages()] == [number])
        return wrong


def crowd(directory: Path) -> list[Row]:
    """Keep many cells alive at once; return what that takes."""
    path = directory / "visitor.py"
    path.write_text(VISITOR)
    budget = (CROWD + 1) * CROWD_MEMORY_BYTES
    with Supervisor(warm={path: 1}, max_jobs=CROWD, memory_budget_bytes=budget) as supervisor:
        insist_on_cells(supervisor.run(path, {"number": 1, "until": 0}))
        before = memory_mib()
        began = time.perf_counter()
        people = Crowd(supervisor, path)
        missing = people.gather()
        seconds = time.perf_counter() - began
        alive = sum(each.is_cell for each in groups()) - supervisor.pool().waiting
        ours = memory_mib() - before
        theirs = (group().memory_bytes() or 0) / MIB
        wrong = people.disperse()
    return [
        Row(f"{CROWD} cells at once: alive", min(alive, CROWD - missing), "", at_least=CROWD),
        Row("  wrong results or messages", wrong, "", at_most=0),
        Row("  until all had published", seconds, "s", at_most=START_S),
        Row("  memory, in all", (theirs + ours) / 1024, "GiB", at_most=TOGETHER_GIB),
        Row("  of that, all control groups, kernel memory included", theirs / 1024, "GiB"),
        Row("  of that, the supervisor", ours / 1024, "GiB"),
    ]


def main() -> int:
    """Measure and report; 1 if a target is missed."""
    options = arguments(__doc__, rounds=100)
    rows = memory(options.rounds)
    engine = Engine.connect()
    before = counts(engine)
    with tempfile.TemporaryDirectory() as name:
        rows += crowd(Path(name))
    deadline = time.monotonic() + 10
    while (after := counts(engine)) != before and time.monotonic() < deadline:
        time.sleep(0.2)
    engine.close()
    rows += [
        Row(f"{name} afterwards, {before[name]} before", value, "", at_most=before[name])
        for name, value in after.items()
    ]
    return report("cells", rows, options)


if __name__ == "__main__":
    raise SystemExit(main())
