"""The numbers in a job's messages as lines, and its counts as bars, for the page of the job."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from runner.errors import RequestError
from runner.job.record import MessageEvent
from runner.pictures.contents import Wanted, contents, title
from runner.pictures.drawing import thinned
from runner.pictures.page import Bar, bars
from runner.pictures.series import Series
from sandbox.wire.protocol import JsonText

MAX_MESSAGES: Final = 1000
"""Of so many messages, the last ones, numbers are drawn: looking at one takes 50 microseconds."""

MAX_CHARS: Final = 4 << 20
"""... and of so many characters of messages."""

_MAX_POINTS: Final = 200
WIDTH, HEIGHT = 1000, 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One field's numbers, placed in a picture of `WIDTH` by `HEIGHT`, and the ends of its axes."""

    name: str
    by: str
    points: str
    least: str
    greatest: str
    first: str
    last: str
    notes: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Charts:
    """What is drawn of a job; `series` is the same lines as JSON, for the script to go on with."""

    lines: list[Line]
    counts: list[tuple[str, list[Bar]]]
    series: str


def charts(job_id: str, messages: Sequence[MessageEvent], result: JsonText | None) -> Charts:
    """Return the obvious charts of a job, none if it has neither numbers nor counts."""
    pairs = [(each.seq, each.body) for each in messages]
    try:
        found = contents(job_id, pairs, result, Wanted())
    except RequestError:
        return Charts(lines=[], counts=[], series="[]")
    return Charts(
        lines=[_line(each) for each in found.series],
        counts=[(name, bars(counts)) for name, counts in found.counts],
        # A list in the result is a line, too, but no message goes on with it.
        series=json.dumps([_data(each) for each in found.series if each.messages]),
    )


def recent(messages: Sequence[MessageEvent]) -> list[MessageEvent]:
    """Return as many of the last messages as may be drawn."""
    found, room = [], MAX_CHARS
    for each in reversed(messages[-MAX_MESSAGES:]):
        room -= len(each.body)
        if room < 0:
            break
        found.append(each)
    return found[::-1]


def _line(series: Series) -> Line:
    xs, ys, every = thinned(series.xs, series.ys, most=_MAX_POINTS)
    low, high, begin, end = min(ys), max(ys), xs[0], xs[-1]
    across, up = WIDTH / ((end - begin) or 1), HEIGHT / ((high - low) or 1)
    places = (((x - begin) * across, HEIGHT - (y - low) * up) for x, y in zip(xs, ys, strict=True))
    notes = [f"{len(series.ys)} values", f"the last {series.ys[-1]:.6g}"]
    if every > 1:
        notes.append(f"drawn: least and greatest of each {every}")
    if series.left_out:
        notes.append(f"{series.left_out} more are not finite, or too large")
    by = series.unit if series.by is None else title(series.by)
    return Line(
        name=title(series.name),
        by=by,
        points=" ".join(f"{x:.1f},{y:.1f}" for x, y in places),
        least="" if low == high else f"{low:.6g}",
        greatest=f"{high:.6g}",
        first=f"{by} {begin:.6g}",
        last=f"{by} {end:.6g}",
        notes=", ".join(notes),
    )


def _data(series: Series) -> dict[str, Any]:
    """Return a line by the numbers of its messages: the script cannot know another field yet."""
    xs, ys, _ = thinned(series.messages, series.ys, most=_MAX_POINTS)
    return {
        "name": series.name,
        "points": list(zip(xs, ys, strict=True)),
        "count": len(series.ys),
        "left_out": series.left_out,
    }
