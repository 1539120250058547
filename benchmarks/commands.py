"""What the command line takes: `make run` again, and after an edit of the program.

The first run on a bare machine is not among them: that is for CI, which has one.
"""

from __future__ import annotations

import os
import subprocess
import tempfile
import time
from pathlib import Path

from benchmarks.report import Row, arguments, median, report
from runner.programs import images_directory

ROOT = Path(__file__).parents[1]
SECOND_S = 1.5
EDITED_S = 2.5


def make_run(program: str, tree: Path = ROOT) -> float:
    """Return the seconds that `make run` takes with a program, here or in another checkout."""
    command = ["make", "--no-print-directory", "run", f"PROGRAM={program}"]
    ours = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
    ours.pop("MFLAGS", None)
    began = time.perf_counter()
    done = subprocess.run(
        command, cwd=tree, env=ours, capture_output=True, text=True, timeout=120, check=False
    )
    seconds = time.perf_counter() - began
    if done.returncode or "All done!" not in done.stdout:
        msg = f"{' '.join(command)} ended with {done.returncode}: {done.stderr[-500:]}"
        raise SystemExit(msg)
    return seconds


def edited(directory: Path, number: int) -> str:
    """Write a program that has never been run before, and return where it is."""
    source = images_directory() / "programs" / "random_circuits" / "program.py"
    path = directory / "edited.py"
    path.write_text(f"{source.read_text()}\n# edit {number} of {time.time_ns()}\n")
    return str(path)


def main() -> int:
    """Measure and report; 1 if a command takes longer than it may."""
    options = arguments(__doc__, rounds=3)
    make_run("random_circuits")
    second, after_edit = [], []
    with tempfile.TemporaryDirectory() as directory:
        for number in range(options.rounds):
            second.append(make_run("random_circuits"))
            after_edit.append(make_run(edited(Path(directory), number)))
    rows = [
        Row("second `make run`", median(second), "s", at_most=SECOND_S),
        Row("`make run` after an edit", median(after_edit), "s", at_most=EDITED_S),
    ]
    return report("commands", rows, options)


if __name__ == "__main__":
    raise SystemExit(main())
