"""How a job ended, as text for people; text from the program is escaped."""

from __future__ import annotations

from runner.display import notice, one_line
from runner.job.record import JobRecord, Outcome
from runner.policy import size


def because(record: JobRecord) -> str:
    """Return the limit that was met, or the reason, as the end of a line."""
    if record.evidence.limit is not None:
        return f" ({one_line(record.reason)})"
    if record.reason and record.outcome is Outcome.SANDBOX_ERROR:
        return f": {notice(record.reason)}"  # the runner's own words, possibly several lines
    return f": {one_line(record.reason)}" if record.reason else ""


def after(record: JobRecord) -> str:
    """Return the duration and peak memory of a job, where known, as part of a line."""
    usage = record.usage
    took = "" if usage.wall_s is None else f" after {usage.wall_s:.2f} s"
    if usage.memory_peak_bytes is None:
        return took
    return f"{took}, at most {size(usage.memory_peak_bytes)} of memory"
