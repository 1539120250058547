"""A longer search for bytes that the host cannot stand: `make fuzz`.

With atheris installed (it has no wheel for every Python) the search is guided by coverage; without
it, seeds are mutated blindly, which finds less.  Either way it ends after FUZZ_S seconds, prints
its figures, and fails at the first exception that is none of the three, or if memory runs away.
"""

from __future__ import annotations

import json
import os
import random
import resource
import runpy
import sys
import time
from pathlib import Path

try:
    import atheris
except ImportError:
    atheris = None

from runner.job.life import Life
from runner.policy import Limits
from runner.running.relay import LimitReachedError, Relay
from runner.sandboxes.turn import Report
from sandbox import codec
from sandbox.codec import DecodingError
from sandbox.wire import protocol
from sandbox.wire.protocol import FrameReader, ProtocolError

ROOT = Path(__file__).parents[2]
MAX_INPUT_BYTES = 64 * 1024
MAX_GROWTH_BYTES = 256 << 20
LIMITS = Limits(messages=50, message_bytes=2000, messages_bytes=8000, result_bytes=2000)
ORDER = protocol.Next(job=3, wall_s=1.0, token="0f")  # that of the golden report
TOKENS = (
    *(b"[", b"]", b"{", b"}", b'"', b"\\", b",", b":", b"\n", b"\0", b"\xff", b"\xed\xa0\x80"),
    *(b"NaN", b"1e999", b"-0", b"null", b"true", b"\\ud800", b"9" * 30),
    *(b'"__type__":', b'"__value__":', b'"ndarray"', b'"tuple"', b'"complex"', b'"bytes"'),
)


class Figures:
    """What a search has done."""

    def __init__(self):
        self.started = time.monotonic()
        self.memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        self.inputs = 0
        self.refused = 0

    def __str__(self):
        seconds = time.monotonic() - self.started
        return (
            f"{self.inputs} inputs in {seconds:.0f} s ({self.inputs / max(seconds, 1e-9):.0f}/s), "
            f"{self.refused} times refused, memory +{self.growth_bytes >> 20} MiB, nothing else"
        )

    @property
    def growth_bytes(self):
        return (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - self.memory) * 1024


def attempt(figures, function):
    """Call; the three exceptions that are answers count, everything else ends the search."""
    try:
        return function()
    except (ProtocolError, LimitReachedError, DecodingError):
        figures.refused += 1
        return None


def cut(data):
    """Cut the data into pieces, by its own first byte."""
    size = (data[0] % 97 + 1) if data else 1
    return [data[at : at + size] for at in range(0, len(data), size)] if size < 90 else [data]


def one_relay(figures, relay, data):
    """Give the bytes to each of a job's streams."""
    for feed in (relay.feed_socket, relay.feed_stdout, relay.feed_stderr):
        attempt(figures, lambda feed=feed: [feed(piece) for piece in cut(data)])
    attempt(figures, relay.end_of_socket)
    attempt(figures, relay.end_of_stdout)
    assert relay.messages <= LIMITS.messages
    assert relay.messages_bytes <= LIMITS.messages_bytes


def one_input(figures, data):
    """Give the same bytes to everything on the host that reads what a sandbox wrote."""
    data = data[:MAX_INPUT_BYTES]
    figures.inputs += 1
    frame = attempt(figures, lambda: protocol.decode(data))
    if frame is not None:
        # What was understood is written down again and understood in the same way.
        assert protocol.decode(protocol.encode(frame).rstrip(b"\n")) == frame
    reader = FrameReader(4096)
    attempt(figures, lambda: [list(reader.feed(piece)) for piece in cut(data)])
    assert len(reader._buffer) <= 4096 + len(data)
    for stdio in (False, True):
        job = Life("j", "p", log_kept_bytes=1000, decode=json.loads, on_cancel=os.getpid)
        one_relay(figures, Relay(job, LIMITS, stdio=stdio), data)
    report = Report(ORDER)
    attempt(figures, lambda: [report.feed(piece) for piece in cut(data)])
    text = data.decode(errors="replace")
    attempt(figures, lambda: codec.decode(text, trusted=False))
    assert figures.growth_bytes < MAX_GROWTH_BYTES, "memory runs away"


def seeds():
    """Frames of every kind, malformed ones of the corpus, and values of every kind."""
    golden = sorted((ROOT / "tests" / "golden" / "wire").glob("*.jsonl"))
    corpus = ROOT / "tests" / "security" / "corpus" / "channel-malformed-frames" / "program.py"
    lines = [line for path in golden for line in path.read_bytes().splitlines()]
    values = [1 + 2j, (1, [2]), {1, 2}, b"\0", float("nan"), {1: 2}, [10**50, "x"], {"a": None}]
    return [
        *lines,
        *(line[:4096] for line in runpy.run_path(str(corpus))["LINES"].values()),
        *(codec.encode(value).encode() for value in values),
    ]


def mutate(source, pool):
    """Return a seed with a few random changes, sometimes crossed with another, or repeated."""
    data = bytearray(source.choice(pool))
    for _ in range(source.randint(1, 6)):
        at = source.randrange(len(data) + 1)
        match source.randrange(6):
            case 0:
                data[at:at] = source.choice(TOKENS) * source.choice((1, 1, 2, 200))
            case 1:
                del data[at : at + source.randint(1, 20)]
            case 2:
                data[at : at + 1] = bytes([source.randrange(256)])
            case 3:
                other = source.choice(pool)
                data[at:] = other[source.randrange(len(other) + 1) :]
            case 4:
                data[at:at] = data[: source.randint(1, 50)]
            case _:
                data += b"\n" + source.choice(pool)
    return bytes(data)


def search(seconds, seed):
    """Mutate seeds for so many seconds; return the figures."""
    source, pool, figures = random.Random(seed), seeds(), Figures()
    while time.monotonic() - figures.started < seconds:
        one_input(figures, mutate(source, pool))
    return figures


def main():
    seconds = float(os.environ.get("FUZZ_S", "60"))
    if atheris is None:
        seed = int(os.environ.get("FUZZ_SEED", str(random.SystemRandom().randrange(1 << 32))))
        print(f"blind mutation (atheris is not installed), FUZZ_SEED={seed}", flush=True)
        print(search(seconds, seed))
        return
    figures = Figures()

    def target(data):
        one_input(figures, data)
        if figures.inputs % 5000 == 0:
            print(figures, flush=True)

    directory = ROOT / ".fuzz"
    directory.mkdir(exist_ok=True)
    for number, seed in enumerate(seeds()):
        (directory / f"seed-{number}").write_bytes(seed)
    atheris.instrument_all()
    options = [f"-max_total_time={int(seconds)}", f"-max_len={MAX_INPUT_BYTES}", str(directory)]
    atheris.Setup([sys.argv[0], *options], target)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
