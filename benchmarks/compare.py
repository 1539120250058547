"""What a job costs here, and with what people use today: `python -m benchmarks.compare`.

Every contender runs the same programs, from the same image, on the same engine, in one run and in
turns, so that a busy moment of the machine hits all.  Whoever cannot take part is reported with
the reason.  Latencies are of one caller; jobs per second are those of two who ask all the time.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from benchmarks import machine, tables
from benchmarks.contenders import containers, limits, ours, rivals
from benchmarks.contenders.contender import CALLERS, Contender, Ring, UnavailableError
from benchmarks.report import median, percentile
from benchmarks.rings import ring
from benchmarks.subjects import SUBJECTS, Subject
from runner.engine import Engine
from runner.errors import RunnerError, UnknownProgramError
from runner.host.processes import HostProcess

KINDS: Final[tuple[type[Contender], ...]] = (
    ours.Warm,
    ours.Session,
    ours.Forks,
    ours.Cold,
    containers.EngineApi,
    containers.DockerRun,
    rivals.LlmSandboxPooled,
    rivals.LlmSandbox,
    rivals.Epicbox,
    limits.Interpreter,
    limits.InProcess,
)
BUILD: Final = Path("build/bench")
ROUNDS: Final = 6
WINDOW_S: Final = 3.0
SHARE: Final = 0.5
"""How much of both each program after the first gets."""


@dataclass(slots=True)
class Record:
    """What was seen of one contender with one program; times are in seconds."""

    name: str
    title: str
    group: str
    what: str
    seconds: list[float] = field(default_factory=list)
    further: dict[str, list[float]] = field(default_factory=dict)
    rates: list[float] = field(default_factory=list)
    """Jobs per second, in each of the windows."""

    resting_bytes: int | None = None
    working_bytes: int | None = None
    version: str = ""
    missing: str | None = None
    """Why it could not take part, or did not finish."""

    def row(self) -> dict[str, Any]:
        """Return its figures: milliseconds, MiB, jobs per second."""
        values = [each * 1e3 for each in self.seconds]
        return {
            **{name: getattr(self, name) for name in ("name", "title", "group", "what", "version")},
            "missing": self.missing,
            "samples": len(values),
            "median_ms": median(values) if values else None,
            "p99_ms": percentile(values, 99) if len(values) > 1 else None,
            "jobs_per_s": median(self.rates) if self.rates else None,
            "resting_mib": _mib(self.resting_bytes),
            "working_mib": _mib(self.working_bytes),
            **{f"{name}_ms": median(each) * 1e3 for name, each in self.further.items()},
            "values_ms": values,
            "rates": self.rates,
        }


def _mib(value: int | None) -> float | None:
    return None if value is None else value / (1 << 20)


class Comparison:
    """All contenders with one program."""

    def __init__(self, where: Ring, kinds: Sequence[type[Contender]]) -> None:
        self._engine = where.engine
        self._contenders = [kind(where) for kind in kinds]
        self.records = {
            each.name: Record(each.name, each.title, each.group, each.what)
            for each in self._contenders
        }
        self._waiting = 0

    def open(self) -> None:
        """Open one after another, and see what memory each takes while it rests."""
        for each in list(self._contenders):
            with self._reporting(each), machine.gauge() as found:
                self._waiting += each.keeps
                each.open()
                each.checked()  # what happens once happens now
                self._settle(each)
                self.records[each.name].version = each.version
                self.records[each.name].resting_bytes = found.now_bytes

    def latencies(self, number: int) -> None:
        """One round: every contender in turn, in the other direction every other time."""
        for each in self._contenders[:: 1 if number % 2 else -1]:
            record = self.records[each.name]
            with self._reporting(each):
                for _ in range(each.samples):
                    answer = each.checked()
                    record.seconds.append(answer.seconds)
                    for name, value in answer.further.items():
                        record.further.setdefault(name, []).append(value)
                    self._settle(each)

    def throughput(self, number: int, seconds: float) -> None:
        """One round of jobs per second, and of the memory that the host uses meanwhile."""
        for each in self._contenders[:: 1 if number % 2 else -1]:
            record = self.records[each.name]
            with self._reporting(each), machine.gauge() as found:
                record.rates.append(each.jobs_per_second(seconds))
                if found.most_bytes is not None and record.resting_bytes is not None:
                    most = found.most_bytes + record.resting_bytes
                    record.working_bytes = max(most, record.working_bytes or 0)
                self._settle(each)

    def close(self) -> None:
        """Close all that are left."""
        for each in self._contenders:
            with contextlib.suppress(RunnerError, OSError):
                each.close()

    def _settle(self, one: Contender) -> None:
        one.settle()
        deadline = time.monotonic() + 10
        while self._ours() > self._waiting and time.monotonic() < deadline:
            time.sleep(0.02)

    def _ours(self) -> int:
        process = str(HostProcess.current())
        return sum(process in labels.values() for labels in self._engine.containers().values())

    @contextlib.contextmanager
    def _reporting(self, one: Contender) -> Iterator[None]:
        """Whoever fails is out, with the reason; the others go on."""
        try:
            yield
        except UnavailableError as error:
            self._drop(one, str(error))
        except Exception as error:  # noqa: BLE001  a rival may raise anything
            self._drop(one, f"failed: {type(error).__name__}: {error}")

    def _drop(self, one: Contender, reason: str) -> None:
        self.records[one.name].missing = " ".join(reason.split())[:300]
        print(f"{one.name}: {self.records[one.name].missing}", file=sys.stderr)
        self._contenders.remove(one)
        with contextlib.suppress(Exception):
            one.close()
        self._waiting -= one.keeps


def compare(engine: Engine, options: argparse.Namespace) -> dict[str, Any]:
    """Measure, and return everything that is to be known about it."""
    kinds = [kind for kind in KINDS if not options.only or kind.name in options.only]
    programs: dict[str, Any] = {}
    missing: dict[str, str] = {}
    description = machine.describe(engine)
    for number, subject in enumerate(chosen(options.programs)):
        try:
            with ring(engine, subject) as where:
                share = SHARE if number else 1.0
                records = measure(Comparison(where, kinds), options, share)
            programs[subject.name] = [each.row() for each in records]
        except UnknownProgramError as error:
            missing[subject.name] = str(error)
    return {
        "name": "compare",
        "rounds": options.rounds,
        "window_s": options.window,
        "callers": CALLERS,
        "machine": {**description, "load_after": round(os.getloadavg()[0], 1)},
        "programs": programs,
        "missing_programs": missing,
    }


def measure(comparison: Comparison, options: argparse.Namespace, share: float) -> list[Record]:
    """Take all figures of one program, with a share of the rounds and of the time."""
    try:
        comparison.open()
        rounds = max(2, round(options.rounds * share))
        for number in range(rounds):
            comparison.latencies(number)
        for number in range(rounds):
            comparison.throughput(number, options.window * share)
    finally:
        comparison.close()
    return list(comparison.records.values())


def chosen(names: Sequence[str] | None) -> list[Subject]:
    """Return the programs of these names, or all."""
    return [each for each in SUBJECTS if not names or each.name in names]


def draw(source: Path) -> None:
    """Draw the figures, in the environment that can."""
    python = rivals.BIN / "python"
    if not python.exists():
        print(f"no picture: {rivals.not_installed()}", file=sys.stderr)
        return
    target = source.with_suffix(".svg").resolve()
    command = [str(python), "-m", "benchmarks.picture", str(source.resolve()), str(target)]
    subprocess.run(command, cwd=rivals.ROOT, check=True)


def main() -> int:
    """Compare, and say what was seen."""
    options = parse()
    if options.write_docs:
        return tables.write_documents(options.json or BUILD)
    engine = Engine.connect()
    try:
        found = compare(engine, options)
    finally:
        engine.close()
    print(tables.comparison(found))
    if options.json is not None:
        options.json.mkdir(parents=True, exist_ok=True)
        path = options.json / "compare.json"
        path.write_text(json.dumps(found, indent=2) + "\n")
        draw(path)
    return 0


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="how often each is asked")
    parser.add_argument("--quick", action="store_true", help="two rounds, short windows")
    known = ",".join(kind.name for kind in KINDS)
    parser.add_argument("--only", metavar="NAMES", type=names, help=f"some of {known}")
    known = ",".join(each.name for each in SUBJECTS)
    parser.add_argument("--programs", metavar="NAMES", type=names, help=f"some of {known}")
    parser.add_argument("--json", type=Path, metavar="DIRECTORY", help="write compare.json, .svg")
    parser.add_argument(
        "--write-docs", action="store_true", help="only put the figures of --json into docs/"
    )
    options = parser.parse_args()
    _insist_known(parser, options.only, {kind.name for kind in KINDS})
    _insist_known(parser, options.programs, {each.name for each in SUBJECTS})
    options.window = WINDOW_S
    if options.quick:
        options.rounds, options.window = 2, WINDOW_S / 2
    return options


def _insist_known(
    parser: argparse.ArgumentParser, given: Sequence[str] | None, known: set[str]
) -> None:
    if unknown := set(given or ()) - known:
        parser.error(f"unknown: {', '.join(sorted(unknown))}")


def names(text: str) -> list[str]:
    """Return the names in a list with commas."""
    return [each.strip() for each in text.split(",")]


if __name__ == "__main__":
    raise SystemExit(main())
