"""`qrunner check`: the command for `runner.checking.check`, with its files and exit code.

The report, or one JSON event per line, goes to stdout, and progress to stderr.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from runner.cli.common import (
    FORMATS,
    PROGRAM,
    cancelling,
    operator_options,
    say,
    settings,
    supervisor,
)

if TYPE_CHECKING:
    from runner.checking.report import CaseReport

_FILE: Final = click.Path(dir_okay=False, path_type=Path)


@click.command(short_help="Run the cases of every program under PATH.")
@click.argument("paths", nargs=-1, metavar="[PATH]...", type=PROGRAM)
@click.option("--since", metavar="REV", help="Only programs that differ from this git revision.")
@click.option("--jobs", type=click.IntRange(1, 1000), metavar="N", help="Cases at once (cores).")
@click.option("--junit", type=_FILE, metavar="FILE", help="Write a JUnit XML report.")
@click.option(
    "--summary",
    type=_FILE,
    metavar="FILE",
    help="Write a Markdown summary; $GITHUB_STEP_SUMMARY always gets one.",
)
@click.option("--warm", is_flag=True, help="Warm every sandbox up first, as a pool does.")
@operator_options
@click.option(
    "--format",
    "form",
    type=FORMATS,
    default="human",
    show_default=True,
    help="json: one event per line on stdout, the last is summary.",
)
def check(paths: tuple[str, ...], form: str, **options: Any) -> int:
    """Run the cases of every program under PATH (default: images/programs, else here).

    Each case runs in a sandbox of its own, several at once. The exit code is the highest of the
    cases': 0 all passed, 1 a program failed, 2 refused, 3 a limit was reached, 4 our fault, 130
    interrupted.
    """
    from runner.checking.report import Summary, summary_line
    from runner.errors import RunnerError

    try:
        reports = _check(paths, form, options)
    except RunnerError as error:
        if form == "json":
            empty = Summary(programs=0, cases=0, passed=0, failed=0, exit_code=error.exit_code)
            click.echo(summary_line(empty, str(error)))
        raise
    summary = Summary.of(reports)
    if form == "json":
        click.echo(summary_line(summary))
    elif reports:
        click.echo(f"{summary.passed} passed, {summary.failed} failed")
    else:
        click.echo("nothing to check: no program has changed")
    return summary.exit_code


def _check(paths: tuple[str, ...], form: str, options: dict[str, Any]) -> list[CaseReport]:
    """Run the check that the options describe, and write its reports."""
    from runner.checking.check import Check, Deadline, discover, plan
    from runner.checking.report import check_writable, junit, markdown, write_file
    from runner.cli.watching import watching
    from runner.job.record import Outcome

    since, to_junit, to_summary = (options.pop(each) for each in ("since", "junit", "summary"))
    warm = options.pop("warm")
    for path in filter(None, (to_junit, to_summary)):
        check_writable(path)
    paths = paths or ("images/programs" if Path("images/programs").is_dir() else ".",)
    jobs = options["jobs"]
    chosen = settings(options)
    _check_outside(chosen.source, paths)
    deadline = Deadline(chosen.check_deadline_s)
    cases = plan(_changed(discover(paths), since), deadline)
    refused = [each.refused for each in cases if each.refused is not None]
    if len(refused) == len(cases):  # nothing to run: the report needs no engine
        reports = refused
        with watching(form) as view:
            for each in reports:
                view.report(each)
    else:
        with watching(form) as view, supervisor(chosen, progress=view.doing, warm=warm) as running:
            most = jobs or chosen.jobs or os.cpu_count() or 1
            checking = Check(running, cases, jobs=most, observer=view)
            with cancelling(lambda: checking.stop(Outcome.CANCELLED, "it was interrupted")):
                reports = checking.run(deadline)
    if to_junit is not None:
        write_file(to_junit, junit(reports))
    if to_summary is not None:
        write_file(to_summary, markdown(reports).encode())
    _append_step_summary(reports)
    return reports


def _changed(programs: Iterable[str], since: str | None) -> Iterator[str]:
    """Yield the programs that differ from a revision; all programs without one."""
    if since is None:
        yield from programs
        return
    from runner.checking.changes import Changes

    changes: dict[Path, Changes] = {}
    for each in programs:
        path = Path(each)
        # The file system is not asked about a name.  A path that cannot be read is checked too.
        if not os.path.exists(path):  # noqa: PTH110  no OSError
            yield each
            continue
        around = path if path.is_dir() else path.parent
        known = next((each for each in changes.values() if each.covers(path)), None)
        if known is None:
            known = changes[around] = Changes(around, since)
        if known.touch(path):
            yield each


def _check_outside(config: Path | None, paths: Sequence[str]) -> None:
    """Refuse a configuration inside the tree under check: a pull request could raise its limits."""
    from runner.errors import RequestError

    if config is None:
        return
    place = config.resolve()
    for each in paths:
        whole = Path(os.path.realpath(each))  # resolve() fails for circular links
        tops = [above for above in (whole, *whole.parents) if os.path.lexists(above / ".git")]
        top = tops[0] if tops else whole
        if place.is_relative_to(top):
            msg = (
                f"{config}: lies in {top}, which is checked, so a change to a program could also "
                "change the operator's limits: keep it outside"
            )
            raise RequestError(msg)


def _append_step_summary(reports: Sequence[CaseReport]) -> None:
    """Append to the summary of a GitHub step; a failure to write does not fail the check."""
    from runner.checking.report import append_file, markdown
    from runner.errors import RequestError

    place = os.environ.get("GITHUB_STEP_SUMMARY")
    if not place:
        return
    try:
        append_file(Path(place), markdown(reports))
    except RequestError as error:
        say(str(error))
