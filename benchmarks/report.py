"""What every benchmark shares: its options, and its figures as a table and as JSON."""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Row:
    """One figure; `at_most` or `at_least` is the target, if there is one."""

    what: str
    value: float
    unit: str
    at_most: float | None = None
    at_least: float | None = None

    @property
    def holds(self) -> bool:
        """Whether the target is met; a figure without one always is."""
        return (self.at_most is None or self.value <= self.at_most) and (
            self.at_least is None or self.value >= self.at_least
        )


def arguments(description: str | None, *, rounds: int) -> argparse.Namespace:
    """Parse the command line that all benchmarks have."""
    parser = argparse.ArgumentParser(description=(description or "").strip().splitlines()[0])
    parser.add_argument("--rounds", type=int, default=rounds, help="how often each is measured")
    parser.add_argument("--json", type=Path, metavar="DIRECTORY", help="write NAME.json here")
    return parser.parse_args()


def median(values: Sequence[float]) -> float:
    """Return the middle value."""
    return statistics.median(values)


def percentile(values: Sequence[float], percent: int) -> float:
    """Return the value below which `percent` of the values are."""
    return statistics.quantiles(values, n=100, method="inclusive")[percent - 1]


def report(name: str, rows: Sequence[Row], options: argparse.Namespace) -> int:
    """Print the table, write the JSON; return 1 if a target is missed."""
    width = max(len(row.what) for row in rows)
    print(f"\n{name}: {options.rounds} rounds, {os.cpu_count()} cores, {platform.release()}")
    for row in rows:
        target = "" if row.at_most is None else f"  (at most {row.at_most:g} {row.unit})"
        target += "" if row.at_least is None else f"  (at least {row.at_least:g} {row.unit})"
        mark = "" if row.holds else "  MISSED"
        print(f"  {row.what:<{width}}  {row.value:10.2f} {row.unit}{target}{mark}")
    if options.json is not None:
        options.json.mkdir(parents=True, exist_ok=True)
        content = {
            "name": name,
            "rounds": options.rounds,
            "cores": os.cpu_count(),
            "rows": [asdict(row) for row in rows],
        }
        (options.json / f"{name}.json").write_text(json.dumps(content, indent=2) + "\n")
    return 0 if all(row.holds for row in rows) else 1
