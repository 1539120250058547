"""`qrunner map`: run one program for many inputs; one line of JSON each, in the order of inputs.

Only these lines go to stdout, or to the file of `-o`; progress goes to stderr.
"""

from __future__ import annotations

import contextlib
import json
import secrets
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self, TypeAlias

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
from runner.cli.remote import limits_of, refuse_operators_options
from runner.cli.source import service
from runner.cli.terminal import Screen, can_move_cursor, columns_of, speaks_unicode
from runner.cli.text import as_text
from runner.display import one_line
from runner.job.words import because

if TYPE_CHECKING:
    from rich.console import RenderableType

    from runner.cli.resume import Resumed
    from runner.client import Client
    from runner.errors import InputsError
    from runner.job import Job
    from runner.running.session import MappedJobs

_EVERY_S: Final = 5.0
"""Interval at which progress is reported in a pipe, in seconds."""


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
    help="How many jobs run at the same time (one per core; a service decides).",
)
@click.option("--store/--no-store", default=True, help="Keep the jobs, for `qrunner jobs` (yes).")
@click.option(
    "-o",
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Write the lines there instead of to stdout.",
)
@click.option(
    "--resume",
    is_flag=True,
    help="Go on with FILE: jobs that completed with the same program and inputs are not run again.",
)
@operator_options
def map_(
    program: str, rows: str, pairs: tuple[str, ...], sandboxes: int | None, **options: Any
) -> int:
    """Run PROGRAM once for each line of inputs, in one session, or at a service.

    Writes one line of JSON per job, in the order of the inputs: the `finished` event of `qrunner
    run --format json` with `index`, counted from 0. A failed job is a line like any other; the
    exit code is the highest of the jobs'. Each has a cell of its own; where there are none, jobs
    share a sandbox and are separated less strictly: see docs/sessions.md.
    """
    from runner.cli.resume import Lines, Resumed

    output, resume = options.pop("output"), options.pop("resume")
    if resume and output is None:
        msg = "--resume goes on with the file of -o: name that, too"
        raise click.UsageError(msg)
    is_kept, tag = options["store"], f"map-{secrets.token_hex(4)}"
    tags = (*options.pop("tags"), *([tag] if is_kept else []))
    asked = {"tags": tags, "log_level": options.pop("log_level")}
    with service() as client:
        place = _here if client is None else partial(_there, client)
        name, common, text_of, jobs_of = place(program, asked, sandboxes, **options)
        given = rows_of(rows)
        with (
            Lines(output, resume=resume) as lines,
            _view(name, on_stdout=output is None) as tally,
        ):
            all_rows = tally.reading(_with(inputs_of_pairs(pairs), given))
            resumed = Resumed(lines, common, text_of, all_rows)
            with jobs_of(resumed, tally.doing) as jobs:
                for job in jobs:
                    tally.note(job, resumed.write(job))
            resumed.finish()
    tally.tell()
    if is_kept and tally.count:
        say(f"kept with the tag {tag}: qrunner jobs --tag {tag}, qrunner plot --tag {tag}")
    if resumed.again:
        say(f"{resumed.again} jobs had completed before, and were not run again")
    return tally.exit_code


_Place: TypeAlias = (
    "tuple[str, str, Callable[[Mapping[str, Any]], str], "
    "Callable[[Resumed, Callable[[str], object]], AbstractContextManager[MappedJobs]]]"
)
"""The program's name, `common` and `text_of` of `Resumed`, and what runs the rows' jobs."""


def _here(
    program: str,
    asked: Mapping[str, Any],
    sandboxes: int | None,
    *,
    backend: str | None,
    store: bool,
    **options: Any,
) -> _Place:
    """Return how a program runs on this machine."""
    from runner import backends
    from runner.cli.resume import identity
    from runner.programs import find, values
    from sandbox.wire.protocol import MAX_INPUTS_BYTES

    found = find(program)
    device = backends.describe(None if backend is None else backends.read(backend))
    chosen = settings(options)

    @contextlib.contextmanager
    def jobs_of(rows: Resumed, doing: Callable[[str], object]) -> Iterator[MappedJobs]:
        with (
            keeping(wanted=store) as kept,
            supervisor(chosen, store=kept, progress=doing) as running,
            running.map(found, rows, backend=device, options=asked, sandboxes=sandboxes) as jobs,
        ):
            yield jobs

    text_of = partial(values.check_inputs, found, limit_bytes=MAX_INPUTS_BYTES)
    return found.name, identity(found, device), text_of, jobs_of


def _there(
    client: Client,
    program: str,
    asked: Mapping[str, Any],
    sandboxes: int | None,
    *,
    backend: str | None,
    **options: Any,
) -> _Place:
    """Return how a program runs at a service."""
    from runner.backends import read
    from runner.cli.resume import identity
    from runner.programs import Program, values

    refuse_operators_options(options)
    found, limits = client.find(program), limits_of(options)
    device = None if backend is None else read(backend)

    def jobs_of(rows: Resumed, _: Callable[[str], object]) -> MappedJobs:
        return client.map(
            found, rows, backend=device, limits=limits, options=asked, sandboxes=sandboxes
        )

    if isinstance(found, Program):
        common = identity(found, device)
    else:
        common = json.dumps([asdict(found), device])
    return found.name, common, values.sent_text, jobs_of


def _with(
    shared: Mapping[str, Any], rows: Iterator[Mapping[str, Any] | InputsError]
) -> Iterator[Mapping[str, Any] | InputsError]:
    """Yield the rows with the inputs that all jobs share; a row's own value counts."""
    for row in rows:
        yield {**shared, **row} if isinstance(row, Mapping) else row


class _Tally:
    """Counts ended jobs, and reports on stderr every few seconds.  A context manager."""

    def __init__(self, program: str) -> None:
        self._program = one_line(program)
        self._outcomes: Counter[str] = Counter()
        self._started = self._told = time.monotonic()
        self._rows = 0
        self._has_all = False
        self.exit_code = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    @property
    def count(self) -> int:
        """How many jobs have ended."""
        return self._outcomes.total()

    def doing(self, line: str) -> None:
        """Report a step that takes a while, such as a build."""
        say(line)

    def reading(
        self, rows: Iterator[Mapping[str, Any] | InputsError]
    ) -> Iterator[Mapping[str, Any] | InputsError]:
        """Yield the rows, and count them."""
        for row in rows:
            self._rows += 1
            yield row
        self._has_all = True

    def note(self, job: Job, index: int) -> None:
        """Count a job that has ended."""
        del index
        assert job.outcome is not None
        self._outcomes[job.outcome.value] += 1
        self.exit_code = max(self.exit_code, job.outcome.exit_code)
        if time.monotonic() - self._told >= _EVERY_S:
            self._told = time.monotonic()
            self._report()

    def tell(self) -> None:
        """Report how many jobs have ended, with which outcomes, and the rate per second."""
        sys.stdout.flush()
        say(self._words())

    def _report(self) -> None:
        self.tell()

    def _words(self) -> str:
        rate = self.count / max(1e-3, time.monotonic() - self._started)
        how = ", ".join(f"{number} {outcome}" for outcome, number in self._outcomes.most_common())
        return f"{self.count} jobs: {how or 'no inputs'} ({rate:.3g} a second)"


class _LiveTally(_Tally):
    """Shows the same as a line that is redrawn; with `shown`, a line for people for each job."""

    def __init__(self, program: str, *, shown: bool) -> None:
        super().__init__(program)
        self._shown = shown
        self._unicode = speaks_unicode(sys.stderr)
        self._screen = Screen(self._region)

    def __enter__(self) -> Self:
        self._screen.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self._screen.close()

    def doing(self, line: str) -> None:
        """Show a step that takes a while above the line."""
        self._screen.add((f"qrunner: {one_line(line)}", "dim"))

    def note(self, job: Job, index: int) -> None:
        """Count a job that has ended, and show it."""
        super().note(job, index)
        record = job.wait()
        if self._shown:
            said = because(record)
            if record.result is not None:
                said = f" {as_text(record.result, columns=columns_of(sys.stderr) - 20)}"
            self._screen.add(f"{index:>5}  {record.outcome}{said}")

    def _report(self) -> None:
        """Report nothing more: the line shows it already."""

    def _region(self, columns: int) -> RenderableType:
        from rich.text import Text

        from runner.cli.live import bar, spinner

        line = Text().append(f"{spinner(unicode=self._unicode)} ", "cyan")
        line.append(self._program, "bold")
        total = f"{self._rows}" if self._has_all else f"{self._rows} or more"
        line.append(f"  {self.count} of {total}  ")
        if self._has_all and self._rows:
            line.append_text(bar(self.count / self._rows, 20, unicode=self._unicode))
        line.append(f"  {self._words()}")
        line.truncate(columns - 1)
        return line


def _view(program: str, *, on_stdout: bool) -> _Tally:
    """Return the report that suits this terminal."""
    if not can_move_cursor(sys.stderr):
        return _Tally(program)
    return _LiveTally(program, shown=on_stdout and sys.stdout.isatty())
