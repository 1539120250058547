"""`qrunner plot`: draw a kept job, its counts and the numbers in its messages."""

from __future__ import annotations

import re
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Final

import click

from runner.cli.common import JOB, say
from runner.cli.source import jobs_anywhere

MAX_JOBS: Final = 10_000
"""How many jobs of a tag are drawn, the oldest first."""

_MAX_NAME: Final = 40
"""Characters that are shown of a field's name, which the program chose."""


def _install_matplotlib() -> None:
    """Install matplotlib if it is missing and somebody at the terminal agrees.

    Raises RequestError, which says what to install, if it is missing still.
    """
    from runner.errors import RequestError
    from runner.pictures.drawing import WITH, check_installed

    try:
        check_installed()
    except RequestError:
        if not (sys.stdin.isatty() and sys.stderr.isatty()):
            raise
        if not click.confirm(f"Drawing needs {WITH}. Install it into {sys.prefix}?", err=True):
            raise
        command = [sys.executable, "-m", "pip", "install", "--only-binary", ":all:", WITH]
        if subprocess.run(command, stdout=sys.stderr, check=False).returncode != 0:
            raise
        check_installed()


@click.command(short_help="Draw the counts and numbers of JOB.")
@click.argument("job", type=JOB, required=False)
@click.option("--tag", metavar="TAG", help="Draw the results of all jobs with this tag, by job.")
@click.option(
    "--field",
    "fields",
    multiple=True,
    metavar="NAME",
    help="Draw this number of the messages: a key, or a JSON Pointer (may be repeated).",
)
@click.option("--by", metavar="NAME", help="Draw it against this one (one that counts messages).")
@click.option("--counts", is_flag=True, help="Draw the counts: only them, or beside each --field.")
@click.option(
    "--bars",
    type=click.IntRange(1, 128),
    default=16,
    show_default=True,
    metavar="N",
    help="How many outcomes are drawn; the others are added up.",
)
@click.option(
    "-o",
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Where to: a name that ends in .png or .svg (JOB's id and .png).",
)
@click.option("--force", is_flag=True, help="Overwrite the file if it is there.")
def plot(  # noqa: PLR0913  click passes options so
    *,
    job: str | None,
    tag: str | None,
    fields: tuple[str, ...],
    by: str | None,
    counts: bool,
    bars: int,
    output: Path | None,
    force: bool,
) -> int:
    """Draw JOB: the counts that it measured, and numbers in its messages such as an energy.

    Counts come from the result, or else from the last messages that have some. Numbers that change
    from message to message are found automatically, or named by --field; so are lists of numbers
    in the result. --tag draws what the results of several jobs hold, such as those of a `map`,
    whose inputs are fields too (inputs.NAME). The name of the file goes to stdout. Needs
    matplotlib, and offers to install it.
    """
    from runner.display import shortened
    from runner.job.history import History
    from runner.job.showing import picture, picture_of_jobs
    from runner.pictures.contents import Wanted
    from runner.pictures.drawing import form_of
    from runner.store.rows import Query

    if (job is None) == (tag is None):
        msg = "name either a JOB or a --tag"
        raise click.UsageError(msg)
    _install_matplotlib()
    if output is not None:
        form_of(output)
    wanted = Wanted(fields=fields, by=by, counts=counts)
    with jobs_anywhere() as store:
        if tag is not None:
            query = Query(tags=(tag,), limit=MAX_JOBS, descending=False)
            loaded = (store.load(each.id) for each in store.summaries(query))
            pairs = (
                (each.request.inputs, each.record.result if each.record else None)
                for each in loaded
            )
            name = re.sub(r"[^\w.-]", "_", tag)
            drawn = picture_of_jobs(tag, pairs, wanted, bars)
        else:
            name = job_id = store.find(str(job))
            kept = store.load(job_id)
            history = History(load=partial(store.events, job_id))
            drawn = picture(job_id, kept.summary.program, history, kept.record, wanted, bars)
    if others := drawn.contents.others:
        names = ", ".join(shortened(each, _MAX_NAME) for each in others)
        say(f"not drawn: {names} (--field NAME draws them)")
    path = drawn.save(output or Path(f"{name}.png"), overwrite=force)
    click.echo(path)
    return 0
