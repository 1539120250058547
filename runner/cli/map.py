"""`qrunner map`: run one program for many inputs; one line of JSON each, in the order of inputs.

Only these lines go to stdout; progress goes to stderr.
"""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final

import click

from runner.cli.common import (
    BACKEND,
    LOG_LEVELS,
    PROGRAM,
    keeping,
    operator_options,
    say,
    settings,
    supervisor,
)
from runner.cli.inputs import inputs_of_pairs, pairs_option, rows_of

if TYPE_CHECKING:
    from runner.errors import InputsError
    from runner.job import Job

_EVERY_S: Final = 5.0
"""Interval at which progress is reported, in seconds."""


@click.command("map", short_help="Run PROGRAM once for each of many inputs.")
@click.argument("program", type=PROGRAM)
@click.option(
    "--inputs",
    "rows",
    required=True,
    metavar="FILE|JSON|-",
    help="The inputs of each job: lines of JSON objects, a JSON array of them, or a .csv file with "
    "a row of names; - reads stdin.",
)
@pairs_option
@click.option("--backend", type=BACKEND, metavar="NAME|JSON|@FILE", help="Backend that main gets.")
@click.option("--tag", "tags", multiple=True, help="A tag for each job (may be repeated).")
@click.option("--log-level", type=LOG_LEVELS, help="Lowest level that the program logs (WARNING).")
@click.option(
    "--sandboxes",
    type=click.IntRange(1),
    metavar="N",
    help="How many jobs run at the same time (one per core).",
)
@click.option("--store/--no-store", default=False, help="Keep the jobs, for `qrunner jobs` (no).")
@operator_options
def map_(
    program: str, rows: str, pairs: tuple[str, ...], sandboxes: int | None, **options: Any
) -> int:
    """Run PROGRAM once for each line of inputs, many jobs in one sandbox.

    Writes one line of JSON per job, in the order of the inputs: the `finished` event of `qrunner
    run --format json` with `index`, counted from 0. A failed job is a line like any other; the
    exit code is the highest of the jobs'. Jobs that share a sandbox are separated less strictly:
    see docs/sessions.md.
    """
    from runner.backends import read
    from runner.cli.output import finished_line, write_line

    named = options.pop("backend")
    asked = {"tags": options.pop("tags"), "log_level": options.pop("log_level")}
    chosen = settings(options)
    tally = _Tally()
    with (
        keeping(wanted=options.pop("store")) as store,
        supervisor(chosen, store=store) as running,
    ):
        jobs = running.map(
            program,
            _with(inputs_of_pairs(pairs), rows_of(rows)),
            backend=None if named is None else read(named),
            options=asked,
            sandboxes=sandboxes,
        )
        with jobs:
            for index, job in enumerate(jobs):
                record = job.wait()
                write_line(finished_line(record, job.mismatches(), index=index))
                tally.note(job)
    tally.tell()
    return tally.exit_code


def _with(
    shared: Mapping[str, Any], rows: Iterator[Mapping[str, Any] | InputsError]
) -> Iterator[Mapping[str, Any] | InputsError]:
    """Yield the rows with the inputs that all jobs share; a row's own value counts."""
    for row in rows:
        yield {**shared, **row} if isinstance(row, Mapping) else row


class _Tally:
    """Counts ended jobs, and reports on stderr every few seconds."""

    def __init__(self) -> None:
        self._outcomes: Counter[str] = Counter()
        self._started = self._told = time.monotonic()
        self.exit_code = 0

    def note(self, job: Job) -> None:
        """Count a job that has ended."""
        assert job.outcome is not None
        self._outcomes[job.outcome.value] += 1
        self.exit_code = max(self.exit_code, job.outcome.exit_code)
        if time.monotonic() - self._told >= _EVERY_S:
            self._told = time.monotonic()
            self.tell()

    def tell(self) -> None:
        """Report how many jobs have ended, with which outcomes, and the rate per second."""
        count = self._outcomes.total()
        rate = count / max(1e-3, time.monotonic() - self._started)
        how = ", ".join(f"{number} {outcome}" for outcome, number in self._outcomes.most_common())
        sys.stdout.flush()
        say(f"{count} jobs: {how or 'no inputs'} ({rate:.3g} a second)")
