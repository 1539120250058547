"""Compare with another checkout, side by side: `python -m benchmarks.against DIRECTORY`.

Both take the same figures on the same engine, in turns, so that a busy moment of the machine hits
both.  The other one needs its own environment, by `tools/setup-venv run` there.  A figure that is
more than a tenth worse than the other's is a miss; `--times isolated=40` asks for more of one.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Final

from benchmarks import commands
from benchmarks.report import Row, median, report

ROOT: Final = Path(__file__).parents[1]
PROGRAMS: Final = ROOT / "benchmarks" / "programs"
NO_WORSE: Final = 0.9
PATIENCE_S: Final = 900.0

MAKE: Final = "make"
FIGURES: Final = {
    "cold": ("cold no-op", "ms"),
    "warm": ("warm no-op", "ms"),
    "isolated": ("no-ops, each isolated, two requesters", "jobs/s"),
    "session": ("no-ops in a session", "jobs/s"),
    "burst": ("small messages, to a callback", "/s"),
    "message": ("publish to callback", "ms"),
    MAKE: ("second `make run`", "ms"),
}


def take(tree: Path, figure: str) -> float:
    """Return one figure of a checkout, the median of its values.  Raises SystemExit."""
    if figure == MAKE:
        return commands.make_run("random_circuits", tree) * 1e3
    outside = ("PYTHONPATH", "VIRTUAL_ENV", "QRUNNER_")
    done = subprocess.run(
        [tree / ".venv/bin/python", Path(__file__).with_name("tree.py"), figure, PROGRAMS],
        cwd=tree,
        env={name: each for name, each in os.environ.items() if not name.startswith(outside)},
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    if done.returncode:
        msg = f"{figure} of {tree} ended with {done.returncode}: {done.stderr[-1000:]}"
        raise SystemExit(msg)
    return median(json.loads(done.stdout.splitlines()[-1]))


def row(figure: str, ours: list[float], theirs: list[float], least: float) -> list[Row]:
    """Return what was found, and how many times better it is here, in the median round."""
    what, unit = FIGURES[figure]
    is_time = unit == "ms"
    times = [b / a if is_time else a / b for a, b in zip(ours, theirs, strict=True)]
    return [
        Row(f"{what}: there", median(theirs), unit),
        Row("  here", median(ours), unit),
        Row("  times better", median(times), "times", at_least=least),
    ]


def main() -> int:
    """Compare and report; 1 if a figure is worse than it may be."""
    options = parse()
    found: dict[str, tuple[list[float], list[float]]] = {name: ([], []) for name in options.only}
    for name in found:  # what happens once happens now: images, and bytecode
        for tree in (ROOT, options.directory):
            take(tree, name)
    for number in range(options.rounds):
        for name, (ours, theirs) in found.items():
            order = [(ROOT, ours), (options.directory, theirs)]
            for tree, values in order if number % 2 else reversed(order):
                values.append(take(tree, name))
    rows = [
        each
        for name, (ours, theirs) in found.items()
        for each in row(name, ours, theirs, options.times.get(name, NO_WORSE))
    ]
    return report("against", rows, options)


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("directory", type=Path, help="the other checkout")
    parser.add_argument("--rounds", type=int, default=3, help="how often each is measured")
    parser.add_argument("--only", metavar="NAMES", default=",".join(FIGURES), help="some of these")
    parser.add_argument(
        "--times", metavar="NAME=N", action="append", default=[], help="how much better one must be"
    )
    parser.add_argument("--json", type=Path, metavar="DIRECTORY", help="write against.json here")
    options = parser.parse_args()
    options.directory = options.directory.resolve()
    options.only = options.only.split(",")
    if not (options.directory / ".venv/bin/python").exists():
        parser.error(f"{options.directory} has no .venv: run tools/setup-venv run there")
    try:
        pairs = (each.split("=") for each in options.times)
        options.times = {name: float(number) for name, number in pairs}
    except ValueError:
        parser.error(f"--times is {options.times}: write NAME=NUMBER, such as isolated=40")
    if unknown := {*options.only, *options.times} - FIGURES.keys():
        parser.error(f"unknown: {', '.join(sorted(unknown))}; known are {', '.join(FIGURES)}")
    return options


if __name__ == "__main__":
    sys.exit(main())
