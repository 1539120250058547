"""The hostile programs inside sessions: `python -m tests.security.in_sessions [PATH…]`.

Each case runs twice, one right after the other in the same session, and must end as it must both
times: what the first has left would meet the second.  Where a session makes a difference, the case
says so as `expect_session`.  A program that writes frames of its own names job 0, which is right
elsewhere; it gets the number of the session's first job instead, and runs once.  The jobs are forks
in one container; in cells `qrunner check --warm` runs the corpus.

The programs want no backend, so the parent of their jobs has no Qiskit; with `--backend
aer_simulator` it has, and all take longer.  `--isolation runsc` as elsewhere; the exit code is 1 if
a case fails.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from runner import Supervisor
from runner.checking.cases import Case, cases
from runner.checking.check import discover
from runner.programs import Program, read_directory

CORPUS = Path(__file__).parent / "corpus"


def problems(
    supervisor: Supervisor, program: Program, case: Case, backend: str | None = None
) -> list[str]:
    """Run a case in one session, as often as it can; return what is not as expected, in words."""
    files = {
        name: content.replace(b'"job":1', b'"job":9').replace(b'"job":0', b'"job":1')
        for name, content in program.files.items()
    }
    times = 2 if files == dict(program.files) else 1
    program = replace(program, files=files)
    backend = backend or case.backend
    with supervisor.session(program, backend=backend, limits=case.limits) as session:
        jobs = [session.run(case.inputs) for _ in range(times)]
        return [
            f"job {number}: {problem}"
            for number, job in enumerate(jobs, 1)
            for problem in case.problems(job)
        ]


def all_problems(
    supervisor: Supervisor, paths: list[str], backend: str | None
) -> Iterator[tuple[str, list[str]]]:
    """Yield the name of every case under the paths, and its problems."""
    for path in discover(paths):
        program = read_directory(Path(path))
        for case in cases(program):
            yield f"{program.name} :: {case.name}", problems(supervisor, program, case, backend)


def report(line: str) -> None:
    """Write a line, at once."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("paths", nargs="*", default=[str(CORPUS)])
    parser.add_argument("--isolation")
    parser.add_argument("--backend")
    arguments = parser.parse_args()
    failed = count = 0
    with Supervisor(isolation=arguments.isolation, cells=False) as supervisor:
        started = time.monotonic()
        for name, found in all_problems(supervisor, arguments.paths, arguments.backend):
            count += 1
            failed += bool(found)
            report(f"{'FAIL' if found else 'ok  '}  {name}  ({time.monotonic() - started:.0f} s)")
            for each in found:
                report(f"      {each:.300}")
    report(f"{count - failed} passed, {failed} failed")
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
