"""How a job ended, in words for people; what a program said of itself is escaped in them."""

from __future__ import annotations

from runner.display import notice, one_line
from runner.job.record import JobRecord, Outcome
from runner.policy import GIB
from sandbox.wire.protocol import MIB


def because(record: JobRecord) -> str:
    """Return the limit that was met, or the reason in words, as the end of a line."""
    if record.evidence.limit is not None:
        return f" ({one_line(record.reason)})"
    if record.reason and record.outcome is Outcome.SANDBOX_ERROR:
        return f": {notice(record.reason)}"  # words of ours, which may be several lines
    return f": {one_line(record.reason)}" if record.reason else ""


def after(record: JobRecord) -> str:
    """Return how long a job took and how much memory, as far as known, as part of a line."""
    usage = record.usage
    took = "" if usage.wall_s is None else f" after {usage.wall_s:.2f} s"
    if usage.memory_peak_bytes is None:
        return took
    return f"{took}, at most {size(usage.memory_peak_bytes)} of memory"


def size(number: int) -> str:
    """Return bytes as people write them: whole MiB, or GiB where that is exact enough."""
    if number >= GIB:
        return f"{number / GIB:.3g} GiB"
    return f"{number / MIB:.0f} MiB"
