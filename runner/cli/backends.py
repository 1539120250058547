"""`qrunner backends`: the backends that main can get, and their options."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterable
from dataclasses import asdict
from typing import TYPE_CHECKING, Final

import click

from runner.cli.common import FORMATS

if TYPE_CHECKING:
    from runner.backends import Option

_WIDTH: Final = 96
_NAME_WIDTH: Final = 22


@click.command()
@click.option("--format", "form", type=FORMATS, default="human", show_default=True)
def backends(form: str) -> int:
    """List the backends that main can get, with their options.

    Pass one to `run` as --backend NAME, as --backend '{"name": NAME, "options": {...}}', or as
    --backend @FILE, which may also describe a device in this project's form or in IBM's.
    """
    from runner import backends as table

    known = table.known()
    if form == "json":
        for each in known:
            click.echo(json.dumps({**asdict(each), "is_default": each.is_default}))
        return 0
    for each in known:
        click.echo(f"{each.name}{'  (default)' if each.is_default else ''}")
        click.echo(textwrap.indent(textwrap.fill(f"{each.description}.", _WIDTH - 2), "  "))
        _show(each.options)
        click.echo()
    shared = known[0].aer_options
    click.echo("Options of every simulation, Aer's own:")
    _show(option for option in shared if option.description)
    rest = ", ".join(option.name for option in shared if not option.description)
    click.echo(textwrap.fill(f"and {rest}", _WIDTH, initial_indent="  ", subsequent_indent="  "))
    return 0


def _show(options: Iterable[Option]) -> None:
    for option in options:
        words = f"{option.values}{', required' if option.is_required else ''}"
        text = f"{option.description} [{words}]" if option.description else f"[{words}]"
        click.echo(
            textwrap.fill(
                text,
                _WIDTH,
                initial_indent=f"  {option.name:<{_NAME_WIDTH}}",
                subsequent_indent=" " * (_NAME_WIDTH + 2),
            )
        )
