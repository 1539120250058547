"""`qrunner plot`: draw a kept job, its counts and the numbers in its messages."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Final

import click

from runner.cli.common import JOB, kept_jobs, say

_MAX_NAME: Final = 40
"""Characters that are shown of a field's name, which the program chose."""


@click.command(short_help="Draw the counts and numbers of JOB.")
@click.argument("job", type=JOB)
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
    job: str,
    fields: tuple[str, ...],
    by: str | None,
    counts: bool,
    bars: int,
    output: Path | None,
    force: bool,
) -> int:
    """Draw JOB: the counts that it measured, and numbers in its messages such as an energy.

    Counts come from the result, or else from the last messages that have some. Numbers that change
    from message to message are found automatically, or named by --field. The name of the file goes
    to stdout. Needs matplotlib: pip install 'qiskit-program-runner[plot]'.
    """
    from runner.display import shortened
    from runner.job.history import History
    from runner.job.showing import picture
    from runner.pictures.contents import Wanted
    from runner.pictures.drawing import check_installed, form_of

    check_installed()
    if output is not None:
        form_of(output)
    with kept_jobs() as store:
        job_id = store.find(job)
        kept = store.load(job_id)
        history = History(load=partial(store.events, job_id))
        wanted = Wanted(fields=fields, by=by, counts=counts)
        drawn = picture(job_id, kept.summary.program, history, kept.record, wanted, bars)
    if others := drawn.contents.others:
        names = ", ".join(shortened(each, _MAX_NAME) for each in others)
        say(f"not drawn: {names} (--field NAME draws them)")
    path = drawn.save(output or Path(f"{job_id}.png"), overwrite=force)
    click.echo(path)
    return 0
