"""What the first `make run` takes: a new environment, and every image built from nothing.

In a copy of this clone, with a root of its own, so that no image of this engine can be used, and
with nothing of pip's cache.  The engine is there already.  Needs a network, as the first run does;
the copy and its images are removed afterwards.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

from benchmarks.report import Row, arguments, report
from runner.engine import Engine
from runner.errors import EngineError

ROOT = Path(__file__).parents[1]
FIRST_S = 60.0
PATIENCE_S = 600.0
LEFT_OUT = shutil.ignore_patterns(".git", ".venv*", "build", "dist", "__pycache__", ".*_cache")
BUILT = re.compile(r"^.*\bbuilt (\S+) in ", re.MULTILINE)


def copy(target: Path) -> None:
    """Copy this clone; blanks at the end of the root's lock, a number in two signs, make it new."""
    shutil.copytree(ROOT, target, ignore=LEFT_OUT)
    with (target / "images" / "base" / "root.lock").open("a") as lock:
        lock.write(f"{time.time_ns():b}".translate(str.maketrans("01", " \n")))


def first_run(clone: Path) -> tuple[float, str]:
    """Return the seconds of `make run` in there, and what it said."""
    outside = ("MAKE", "MFLAGS", "PYTHONPATH", "VIRTUAL_ENV")
    ours = {name: each for name, each in os.environ.items() if not name.startswith(outside)}
    began = time.perf_counter()
    done = subprocess.run(
        ["make", "--no-print-directory", "run", "PROGRAM=random_circuits"],
        cwd=clone,
        env={**ours, "PIP_NO_CACHE_DIR": "1"},
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    seconds = time.perf_counter() - began
    if done.returncode or "All done!" not in done.stdout:
        msg = f"make run ended with {done.returncode}: {done.stderr[-1000:]}"
        raise SystemExit(msg)
    return seconds, done.stderr


def main() -> int:
    """Measure and report; 1 if it takes longer than it may."""
    options = arguments(__doc__, rounds=1)
    said = ""
    try:
        with tempfile.TemporaryDirectory(prefix="first-run-") as directory:
            clone = Path(directory) / "clone"
            copy(clone)
            seconds, said = first_run(clone)
    finally:
        engine = Engine.connect()
        for tag in reversed(BUILT.findall(said)):
            with contextlib.suppress(EngineError):
                engine.remove_image(tag)
        engine.close()
    steps = [line.strip() for line in said.splitlines() if " in " in line or " ready " in line]
    print("\n".join(steps))
    rows = [Row("first `make run`: environment and images from nothing", seconds, "s", FIRST_S)]
    return report("first", rows, options)


if __name__ == "__main__":
    raise SystemExit(main())
