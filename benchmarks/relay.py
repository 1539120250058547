"""What the message channel carries: many small messages, large ones, and how soon they arrive.

Small: one job publishes 100 000 messages as fast as it can, to a callback.  Large: frames of 1 MiB
through the relay, against `json.loads` of the same text in turns, for several kinds of content.
Soon: fifty jobs run at the same time and publish now and then; how long from `publish` to callback,
warm (from cells, where there are any) and cold (from containers).
"""

from __future__ import annotations

import json
import os
import random
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks.report import Row, arguments, median, percentile, report
from runner import Limits, Supervisor, Warm
from runner.job.life import Life
from runner.job.record import MessageEvent
from runner.running.relay import Relay
from sandbox.wire import protocol

BURST = 100_000
RATE = 40_000.0
SHARE = 0.6
TOGETHER = 50
LATENCY_MS = 0.6
MIB = 1 << 20
LIMITS = Limits(
    message_bytes=2 * MIB,
    messages_bytes=1 << 34,
    messages=10 * BURST,
    memory_bytes=400 * MIB,
    cpus=1.0,
)

SMALL = """
def main(backend, messenger, n):
    for number in range(n):
        messenger.publish({"iteration": number, "energy": -1.25})
    return n
"""
NOW_AND_THEN = """
import random, time
def main(backend, messenger, n):
    messenger.publish("up")
    for number in range(n):
        time.sleep(random.uniform(0.2, 0.6))
        messenger.publish(time.time())
    return n
"""


def contents() -> dict[str, object]:
    """Return values whose JSON is about 1 MiB, as programs publish them."""
    chance = random.Random(1)
    return {
        "floats": [chance.random() for _ in range(50_000)],
        "counts": {f"{chance.getrandbits(64):064b}": n for n in range(13_500)},
        "rows": [
            {"iteration": n, "parameters": [chance.gauss(0, 1) for _ in range(8)], "label": "step"}
            for n in range(4_300)
        ],
        "text": "a line of a log that somebody publishes\n" * 25_000,
        "lines": [f'line {n} of a log:\t"{chance.random()}"\n' * 2 for n in range(13_500)],
        "bits": [[chance.randrange(2) for _ in range(100)] for _ in range(3_400)],
    }


def resident_mib() -> float:
    """Return the memory of this process."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / MIB


def burst(supervisor: Supervisor, program: Path) -> tuple[float, float]:
    """Return messages a second from the first to the last, and how much memory grew beyond them."""
    seen: list[int] = []
    before = resident_mib()
    job = supervisor.run(program, {"n": BURST}, callback=lambda _, m: seen.append(m["iteration"]))
    assert job.result(300) == BURST
    while len(seen) < BURST:
        time.sleep(0.01)
    assert seen == list(range(BURST)), "messages were lost or came out of order"
    times = [each.time for each in job.events() if isinstance(each, MessageEvent)]
    return BURST / (times[-1] - times[0]), resident_mib() - before


def seconds(work: Callable[[], object]) -> float:
    """Return the CPU time that the work takes in this thread."""
    began = time.thread_time()
    work()
    return time.thread_time() - began


def share_of_loads(value: object, rounds: int) -> tuple[float, float]:
    """Return how fast the relay is compared with `json.loads`, and its MiB a second."""
    text = json.dumps(value)
    frame = protocol.encode(protocol.Message(job=0, body=protocol.JsonText(text)))
    pieces = [frame[start : start + (1 << 18)] for start in range(0, len(frame), 1 << 18)]
    loads, relayed = [], []
    job = Life("job", "program", decode=json.loads, on_cancel=lambda: None)
    relay = Relay(job, LIMITS, stdio=False)
    for _ in range(rounds):
        loads.append(seconds(lambda: json.loads(text)))
        relayed.append(seconds(lambda: [relay.feed_socket(each) for each in pieces]))
    assert relay.messages == rounds
    return median(loads) / median(relayed), len(text) / MIB / median(relayed)


def latencies(program: Path, rounds: int, *, warm: bool) -> list[float]:
    """Return the milliseconds from `publish` to callback while fifty jobs run."""
    taken: list[float] = []
    up = threading.Semaphore(0)

    def callback(_: str, message: object) -> None:
        now = time.time()
        if message == "up":
            up.release()
        else:
            assert isinstance(message, float)
            taken.append((now - message) * 1e3)

    pool: dict[str | os.PathLike[str], int | Warm] = {program: 1} if warm else {}
    with Supervisor(limits=LIMITS, max_jobs=TOGETHER, warm=pool) as supervisor:
        inputs = {"n": 20 + 10 * rounds}
        jobs = [supervisor.run(program, inputs, callback=callback) for _ in range(TOGETHER)]
        for _ in jobs:
            up.acquire(timeout=300)
        taken.clear()  # until here sandboxes were starting, which takes every core
        for job in jobs:
            job.result(300)
    return taken


def main() -> int:
    """Measure and report; 1 if a target is missed."""
    options = arguments(__doc__, rounds=5)
    with tempfile.TemporaryDirectory() as name:
        small, now_and_then = Path(name, "small.py"), Path(name, "now_and_then.py")
        small.write_text(SMALL)
        now_and_then.write_text(NOW_AND_THEN)
        with Supervisor(limits=LIMITS) as supervisor:
            bursts = [burst(supervisor, small) for _ in range(options.rounds)]
        shares = {kind: share_of_loads(v, 4 * options.rounds) for kind, v in contents().items()}
        taken = {
            name: latencies(now_and_then, options.rounds, warm=name == "warm")
            for name in ("warm", "cold")
        }
    rate = median([each for each, _ in bursts])
    rows = [
        Row("small messages, to a callback", rate / 1e3, "thousand/s", at_least=RATE / 1e3),
        Row("  memory of the last burst, its messages included", bursts[-1][1], "MiB"),
    ]
    for kind, (share, speed) in shares.items():
        rows.append(Row(f"1 MiB of {kind}, to json.loads", share, "times", at_least=SHARE))
        rows.append(Row("  relayed", speed, "MiB/s"))
    for name, each in taken.items():
        what = f"publish to callback, {TOGETHER} {name} jobs"
        rows.append(Row(what, median(each), "ms", at_most=LATENCY_MS))
        rows.append(Row("  99 %", percentile(each, 99), "ms"))
    return report("relay", rows, options)


if __name__ == "__main__":
    raise SystemExit(main())
