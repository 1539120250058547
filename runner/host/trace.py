"""The time that one job took: its phases, added as they end."""

from __future__ import annotations

import time
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Phase:
    """A phase of a job; `seconds` is its duration, `at` its end, counted from the start."""

    name: str
    seconds: float
    at: float


@dataclass(frozen=True, slots=True)
class Trace:
    """Append-only; the threads of one job mark one after another, and any thread may read."""

    began: float = field(default_factory=time.perf_counter)
    _marks: list[tuple[str, float]] = field(default_factory=list)

    def mark(self, name: str) -> None:
        """Record that the phase of this name ends now; it began at the end of the previous one."""
        self._marks.append((name, time.perf_counter()))

    def mark_once(self, name: str) -> None:
        """Mark this phase unless it is marked already."""
        if all(each != name for each, _ in self._marks):
            self.mark(name)

    def phases(self) -> tuple[Phase, ...]:
        """Return the phases so far, in order; their seconds add up to the total time."""
        marks = list(self._marks)
        ends = [at for _, at in marks]
        starts = [self.began, *ends[:-1]]
        return tuple(
            Phase(name, end - start, end - self.began)
            for (name, end), start in zip(marks, starts, strict=False)
        )

    def as_text(self) -> str:
        """Return a table for people: each phase, its duration, and when it ended."""
        lines = [f"{'phase':<14} {'ms':>9} {'ended at':>9}"]
        lines += [
            f"{each.name:<14} {each.seconds * 1e3:9.2f} {each.at * 1e3:9.2f}"
            for each in self.phases()
        ]
        return "\n".join(lines)

    def as_dict(self) -> dict[str, float]:
        """Return the milliseconds of each phase, by name."""
        found: dict[str, float] = {}
        for each in self.phases():
            found[each.name] = round(found.get(each.name, 0.0) + each.seconds * 1e3, 3)
        return found
