"""Every figure this project is held to: target, measured, met; from the JSON of the benchmarks.

`python -m benchmarks.targets --json build/bench`, after the others have written theirs there.
Writes targets.json, and targets.md for the documents.  Ends with 1 if a target is missed; one that
was not measured is said to be so.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any, Final

WARM_RATIO: Final = 450.0
WARM_MS: Final = 1.2
WARM_RATE: Final = 120.0
RATE_RATIO: Final = 60.0
COLD_RATE_RATIO: Final = 40.0
FORKS_RATIO: Final = 0.9
COLD_RATIO: Final = 0.7
CIRCUITS_RATIO: Final = 10.0
SESSION_RATIO: Final = 50.0

MEDIAN: Final = "median_ms"

OTHERS: Final = ("first", "commands", "relay", "service", "hardening", "neighbour", "cells", "soak")
"""Whose own rows with a target are taken as they are."""


@dataclass(frozen=True, slots=True)
class Target:
    """One figure; `at_least` says which way is good; `measured` is None if it was not."""

    what: str
    bound: float
    unit: str
    measured: float | None
    at_least: bool

    @property
    def met(self) -> bool | None:
        if self.measured is None:
            return None
        return self.measured >= self.bound if self.at_least else self.measured <= self.bound

    def cells(self) -> tuple[str, str, str, str]:
        """Return the line of the table."""
        bound = f"{'≥' if self.at_least else '≤'} {self.bound:g} {self.unit}"
        measured = "-" if self.measured is None else f"{self.measured:.3g} {self.unit}"
        verdict = {True: "met", False: "MISSED", None: "not measured"}[self.met]
        return self.what, bound, measured, verdict


class Figures:
    """What a comparison has found, by program and contender."""

    def __init__(self, found: Mapping[str, Any]) -> None:
        self._rows = {
            (program, row["name"]): row
            for program, rows in found.get("programs", {}).items()
            for row in rows
        }

    def value(self, program: str, contender: str, key: str) -> float | None:
        """Return one figure, or None if it was not measured."""
        value = self._rows.get((program, contender), {}).get(key)
        return None if value is None else float(value)

    def ratio(self, program: str, above: str, below: str) -> float | None:
        """Return the median latency of one contender in terms of another's."""
        first, second = (self.value(program, each, MEDIAN) for each in (above, below))
        return first / second if first is not None and second else None

    def throughput(self, program: str, above: str, below: str) -> float | None:
        """Return how many times the jobs per second of another one does, in the median round.

        Round by round, as whatever else this machine does lasts longer than a round.
        """
        rates = [self._rows.get((program, each), {}).get("rates") or [] for each in (above, below)]
        pairs = list(zip(*rates, strict=False))  # a rival may have dropped out meanwhile
        return median(first / second for first, second in pairs) if pairs else None


def compared(figures: Figures) -> list[Target]:
    """Return the targets that are ratios between contenders, or figures of one."""
    circuits = "random_circuits"
    return [
        _at_least(
            "warm no-op: faster than `docker run`",
            (WARM_RATIO, "times"),
            figures.ratio("no-op", "docker-run", "warm"),
        ),
        _at_most("warm no-op: median", (WARM_MS, "ms"), figures.value("no-op", "warm", MEDIAN)),
        _at_most(
            "cold no-op: what `docker run` takes",
            (COLD_RATIO, "times"),
            figures.ratio("no-op", "cold", "docker-run"),
        ),
        _at_most(
            "cold `random_circuits`: what `docker run` takes",
            (COLD_RATIO, "times"),
            figures.ratio(circuits, "cold", "docker-run"),
        ),
        _at_least(
            "warm `random_circuits`: faster than `docker run`",
            (CIRCUITS_RATIO, "times"),
            figures.ratio(circuits, "docker-run", "warm"),
        ),
        _at_least(
            "warm no-ops: jobs per second",
            (WARM_RATE, "jobs/s"),
            figures.value("no-op", "warm", "jobs_per_s"),
        ),
        _at_least(
            "warm no-ops: jobs per second of a `docker run` for each, as many at a time",
            (RATE_RATIO, "times"),
            figures.throughput("no-op", "warm", "docker-run"),
        ),
        _at_least(
            "warm no-ops: jobs per second of a cold sandbox for each, as many at a time",
            (COLD_RATE_RATIO, "times"),
            figures.throughput("no-op", "warm", "cold"),
        ),
        _at_least(
            "no-ops in a session: jobs per second of a `docker run` for each, as many at a time",
            (SESSION_RATIO, "times"),
            figures.throughput("no-op", "session", "docker-run"),
        ),
        _at_least(
            "warm `random_circuits`: jobs per second of a session of forks",
            (FORKS_RATIO, "times"),
            figures.throughput(circuits, "warm", "forks"),
        ),
    ]


def _at_least(what: str, bound: tuple[float, str], measured: float | None) -> Target:
    return Target(what, *bound, measured, at_least=True)


def _at_most(what: str, bound: tuple[float, str], measured: float | None) -> Target:
    return Target(what, *bound, measured, at_least=False)


def taken(directory: Path) -> Iterator[Target]:
    """Return the targets that other benchmarks have named themselves."""
    for name in OTHERS:
        found = _read(directory / f"{name}.json")
        if not found:
            yield Target(f"what benchmarks/{name}.py measures", 0, "", None, at_least=True)
        for row in found.get("rows", ()):
            for key in ("at_most", "at_least"):
                if row.get(key) is not None:
                    what = f"{name}: {' '.join(row['what'].split())}"
                    least = key == "at_least"
                    yield Target(what, row[key], row["unit"], row["value"], least)


def _read(path: Path) -> dict[str, Any]:
    if not path.exists():
        return {}
    found = json.loads(path.read_text())
    assert isinstance(found, dict)
    return found


def main() -> int:
    """Print, write, and say by the exit code whether all is met."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--json", type=Path, metavar="DIRECTORY", default=Path("build/bench"))
    directory = parser.parse_args().json
    targets = [*compared(Figures(_read(directory / "compare.json"))), *taken(directory)]
    table = [("", "target", "measured", ""), *(each.cells() for each in targets)]
    widths = [max(len(row[column]) for row in table) for column in range(4)]
    print("\ntargets")
    for row in table:
        print(("  " + "  ".join(map(str.ljust, row, widths))).rstrip())
    directory.mkdir(parents=True, exist_ok=True)
    rows = [{**asdict(each), "met": each.met} for each in targets]
    (directory / "targets.json").write_text(json.dumps(rows, indent=2) + "\n")
    lines = [f"| {' | '.join(cells)} |" for cells in table]
    (directory / "targets.md").write_text("\n".join([lines[0], "|---|---|--:|---|", *lines[1:]]))
    return 1 if any(each.met is False for each in targets) else 0


if __name__ == "__main__":
    raise SystemExit(main())
