"""`qrunner backends`: the backends that main can get, and their options."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from runner.cli.common import FORMATS

if TYPE_CHECKING:
    from runner.backends import Option
    from runner.policy.held import HeldBackend

_WIDTH: Final = 96
_NAME_WIDTH: Final = 22


@click.command()
@click.option("--format", "form", type=FORMATS, default="human", show_default=True)
@click.option(
    "--config",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="The operator's qrunner.toml (default: $QRUNNER_CONFIG, else the user's own).",
)
def backends(form: str, config: Path | None) -> int:
    """List the backends that main can get, with their options.

    Those that the operator's qrunner.toml says this host holds come last; they are not started.

    Pass one to `run` as --backend NAME, as --backend '{"name": NAME, "options": {...}}', or as
    --backend @FILE, which may also describe a device in this project's form or in IBM's.
    """
    from runner import backends as table
    from runner.policy import settings

    known, held = table.known(), settings.load(config).backends
    if form == "json":
        for each in known:
            click.echo(json.dumps({**asdict(each), "is_default": each.is_default}))
        for one in held:
            click.echo(json.dumps({"name": one.name, "description": _of(one), "is_default": False}))
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
    for one in held:
        click.echo(f"\n{one.name}")
        click.echo(textwrap.indent(textwrap.fill(_of(one), _WIDTH - 2), "  "))
    return 0


def _of(held: HeldBackend) -> str:
    """Return what the operator says of a held backend, without arguments: they may be private."""
    words = [f"Held by this host: {held.factory}"]
    if held.max_shots is not None:
        words.append(f"at most {held.max_shots} shots")
    for whose, budget in (("a job", held.per_job), ("a user a day", held.per_day)):
        words += [
            f"{value:g} {name} for {whose}"
            for name, value in asdict(budget).items()
            if value is not None
        ]
    return ", ".join(words)


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
