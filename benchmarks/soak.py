"""Many jobs of every kind, in containers and in cells, and then many of them at the same time.

One half of the jobs runs in containers, the other in cells where there are any.  Prints a table
every tenth of the way, what the supervisor needs for a crowd of sandboxes, and ends with 1 if a
result is wrong or if a container, control group, directory, descriptor, thread or child process is
left, or if something has grown in the zygote that has made the cells.  Set SOAK_JOBS for another
number than 1000, SOAK_CELLS for another than 10 000, SOAK_CROWD for another than 200.
"""

from __future__ import annotations

import gc
import os
import sys
import tempfile
import threading
import time
from collections import Counter, deque
from pathlib import Path

from benchmarks.groups import groups
from benchmarks.report import Row, arguments, median, report
from runner import Job, Supervisor
from runner.engine import OWN_LABEL, Engine
from runner.host.processes import HostProcess
from runner.sandboxes import residence

JOBS = int(os.environ.get("SOAK_JOBS", "1000"))
CELLS = int(os.environ.get("SOAK_CELLS", "10000"))
CROWD = int(os.environ.get("SOAK_CROWD", "200"))
CROWD_MEMORY_BYTES = 192 << 20
CROWD_S = 1800.0
AT_ONCE = 3
KINDS = {
    "completed": "return n",
    "program_error": "raise ValueError(n)",
    "no_result": "import os; os._exit(3)",
    "time_limit": "import time; time.sleep(60)",
    "memory_limit": "x = bytearray(1 << 30)",
    "output_limit": "import os\n    while True: os.write(1, b'x' * 65536)",
    "message_limit": "m.publish('x' * 70000)",
    "cancelled": "import time; m.publish('up'); time.sleep(60)",
}
LIMITS = {
    "memory_bytes": 256 << 20,
    "log_bytes": 1 << 20,
    "log_kept_bytes": 65536,
    "message_bytes": 65536,
}


def counts(engine: Engine) -> dict[str, int]:
    """Count everything that could be left by this process, on engine, host, and in itself."""
    gc.collect()
    me = HostProcess.current()
    processes = [labels.get(f"{OWN_LABEL}.owner") for labels in engine.containers().values()]
    # `os.walk`, because it passes over the groups that vanish meanwhile.
    groups = sum(f"/{me}/" in each for each, _, _ in os.walk("/sys/fs/cgroup"))
    channels = len(list((residence.channel_root() / str(me)).glob("*")))
    residence.tidy()
    tasks = Path(f"/proc/{os.getpid()}/task")
    return {
        "containers": processes.count(str(me)),
        "groups": groups,
        "channels": channels,
        "descriptors": len(list(Path("/proc/self/fd").iterdir())),
        "threads": threading.active_count(),
        "children": sum(len((each / "children").read_text().split()) for each in tasks.iterdir()),
    }


def memory_mib() -> float:
    """Return the resident memory of this process."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / (1 << 20)


def submit(supervisor: Supervisor, directory: Path, number: int) -> tuple[str, Job, float]:
    """Start one job; kinds take turns, every other job is one that completes."""
    kinds = list(KINDS)
    kind = "completed" if number % 2 else kinds[number // 2 % len(kinds)]
    limits = {**LIMITS, "timeout_s": 0.5} if kind == "time_limit" else LIMITS
    job = supervisor.run(directory / f"{kind}.py", {"n": number}, limits=limits)
    if kind == "cancelled":
        threading.Thread(target=lambda: (next(job.messages(), None), job.cancel())).start()
    return kind, job, time.perf_counter()


def check(number: int, entry: tuple[str, Job, float], seen: Counter[str]) -> float:
    """Wait for a job and count its outcome; return its seconds."""
    kind, job, began = entry
    record = job.wait(120)
    seen[record.outcome.value] += 1
    seen[f"in a {record.place}"] += 1
    if record.outcome != kind:
        seen["WRONG"] += 1
        print(f"job {number}: {record.outcome} instead of {kind}: {record.error}")
    return time.perf_counter() - began


def soak(
    engine: Engine, directory: Path, before: dict[str, int], count: int, *, warm: bool
) -> Counter[str]:
    """Run so many jobs, printing a line each tenth of the way; warm ones have cells."""
    seen: Counter[str] = Counter()
    print(f"{'jobs':>6} {'s':>7} {'median s':>9} {'MiB':>6}  containers, threads, descriptors")
    began = time.perf_counter()
    seconds: list[float] = []
    pending: deque[tuple[str, Job, float]] = deque()
    with Supervisor(max_jobs=AT_ONCE, warm=warm) as supervisor:
        for number in range(count + AT_ONCE):
            if number < count:
                pending.append(submit(supervisor, directory, number))
            if number >= AT_ONCE:
                seconds.append(check(number - AT_ONCE, pending.popleft(), seen))
                done = len(seconds)
                if done % max(1, count // 10) == 0:
                    now = counts(engine)
                    recent = median(seconds[-max(1, count // 10) :])
                    print(
                        f"{done:>6} {time.perf_counter() - began:>7.1f} {recent:>9.3f} "
                        f"{memory_mib():>6.1f}  {now['containers']}, "
                        f"{now['threads'] - before['threads']:+}, "
                        f"{now['descriptors'] - before['descriptors']:+}"
                    )
    return seen


CELL = """
import os, time
def main(b, m, n):
    m.publish(n)
    if n % 4 == 1: raise ValueError(n)
    if n % 4 == 2: os._exit(3)
    if n % 4 == 3 and os.fork() == 0: time.sleep(60)
    return n
"""
CELL_ENDS = ("completed", "program_error", "no_result", "completed")


def in_zygotes() -> dict[str, int]:
    """Count what cells could leave in the containers that make them."""
    made_by = [pid for each in groups() if not each.is_cell for pid in each.processes]
    return {
        "processes": len(made_by),
        "descriptors": sum(len(list(Path(f"/proc/{each}/fd").iterdir())) for each in made_by),
        "mounts": sum(
            len(Path(f"/proc/{each}/mountinfo").read_text().splitlines()) for each in made_by
        ),
    }


def cells(directory: Path) -> list[Row]:
    """Run one cell of the same zygote after another; return what has grown or is wrong."""
    path = directory / "cell.py"
    path.write_text(CELL)
    wrong = 0
    with Supervisor(warm=True) as supervisor:
        if supervisor.run(path, {"n": 0}).wait(120).place != "cell":
            print("no cells on this machine")
            return []
        before = in_zygotes()
        began = time.perf_counter()
        for number in range(CELLS):
            record = supervisor.run(path, {"n": number}).wait(120)
            wrong += (record.place, record.outcome) != ("cell", CELL_ENDS[number % 4])
            if (number + 1) % max(1, CELLS // 10) == 0:
                rate = (number + 1) / (time.perf_counter() - began)
                print(f"{number + 1:>6} cells, {rate:.0f} a second, {memory_mib():.1f} MiB here")
        deadline = time.monotonic() + 10
        while (after := in_zygotes()) != before and time.monotonic() < deadline:
            time.sleep(0.2)
    return [
        Row(f"{CELLS} cells in a row: with another outcome than theirs", wrong, "", at_most=0),
        *(
            Row(f"  {name} of their zygote, {before[name]} before", count, "", at_most=before[name])
            for name, count in after.items()
        ),
    ]


class Crowd:
    """Jobs that wait for each other: nobody takes what they publish until all are up."""

    PROGRAM = """
def main(b, m, n):
    m.publish("up")
    for number in range(1400):  # more than are taken while nobody listens
        m.publish("x" * 1000)
    return n * n
"""

    def __init__(self, supervisor: Supervisor, path: Path) -> None:
        self._up = threading.Semaphore(0)
        self._go_on = threading.Event()
        limits = {"memory_bytes": CROWD_MEMORY_BYTES, "timeout_s": CROWD_S}
        self.jobs = [
            supervisor.run(path, {"n": number}, limits=limits, callback=self._callback)
            for number in range(CROWD)
        ]

    def _callback(self, _: str, message: object) -> None:
        if message == "up":
            self._up.release()
            self._go_on.wait(CROWD_S)

    def gather(self) -> int:
        """Wait until all are up; return how many are not."""
        deadline = time.monotonic() + CROWD_S
        return sum(
            not self._up.acquire(timeout=max(0.0, deadline - time.monotonic())) for _ in self.jobs
        )

    def disperse(self) -> int:
        """Let all go on to their end; return how many results are wrong."""
        self._go_on.set()
        right = [n * n for n in range(CROWD)]
        records = [job.wait(CROWD_S) for job in self.jobs]
        found = [record.outcome == "completed" and int(record.result or -1) for record in records]
        return sum(a != b for a, b in zip(found, right, strict=True))


def crowd(engine: Engine, directory: Path, before: dict[str, int]) -> list[Row]:
    """Keep many sandboxes alive at once; return what the supervisor needed for that."""
    path = directory / "crowd.py"
    path.write_text(Crowd.PROGRAM)
    began, memory = time.perf_counter(), memory_mib()
    with Supervisor(max_jobs=CROWD, memory_budget_bytes=CROWD * CROWD_MEMORY_BYTES) as supervisor:
        people = Crowd(supervisor, path)
        missing = people.gather()
        seconds = time.perf_counter() - began
        now, grown = counts(engine), memory_mib() - memory
        used = [each for job in people.jobs if (each := job.memory_bytes()) is not None]
        wrong = people.disperse()
    name = f"{CROWD} sandboxes at once"
    return [
        Row(f"{name}: alive", now["containers"] - missing, "", at_least=CROWD),
        Row("  wrong results", wrong, "", at_most=0),
        Row("  until all were up", seconds, "s"),
        Row(
            "  supervisor's threads", now["threads"] - before["threads"], "", at_most=2 * CROWD + 8
        ),
        Row(
            "  its descriptors",
            now["descriptors"] - before["descriptors"],
            "",
            at_most=8 * CROWD + 16,
        ),
        Row("  its memory, 1.4 MB of messages each", grown, "MiB", at_most=32 + 2 * CROWD),
        Row("  a sandbox's memory", median(used) / (1 << 20) if used else 0.0, "MiB"),
    ]


def main() -> int:
    """Soak, and compare what there is afterwards with what there was before."""
    options = arguments(__doc__, rounds=JOBS)
    engine = Engine.connect()
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        for kind, body in KINDS.items():
            (directory / f"{kind}.py").write_text(f"def main(b, m, n):\n    {body}\n")
        with Supervisor() as supervisor:  # so that the images are there
            for kind in KINDS:
                submit(supervisor, directory, 2 * list(KINDS).index(kind))[1].wait()
        before = counts(engine)
        seen = soak(engine, directory, before, JOBS - JOBS // 2, warm=False)
        seen += soak(engine, directory, before, JOBS // 2, warm=True)
        rows = cells(directory) if CELLS else []
        rows += crowd(engine, directory, before) if CROWD else []
    deadline = time.monotonic() + 10
    while (after := counts(engine)) != before and time.monotonic() < deadline:
        time.sleep(0.2)
    print("\noutcomes: " + ", ".join(f"{name} {count}" for name, count in sorted(seen.items())))
    rows += [Row("jobs with another outcome than theirs", seen["WRONG"], "", at_most=0)]
    rows += [
        Row(f"{name} afterwards, {before[name]} before", value, "", at_most=before[name])
        for name, value in after.items()
    ]
    engine.close()
    return report("soak", rows, options)


if __name__ == "__main__":
    sys.exit(main())
