"""`qrunner schema`: the JSON Schema of a file that people write, for their editor."""

from __future__ import annotations

import json

import click

_NAMES = ("manifest", "case", "config")  # as in runner.cli.formats, which imports much more


@click.command("schema", short_help="Print the JSON Schema of a file that people write.")
@click.argument("name", type=click.Choice(_NAMES))
def schema_(name: str) -> int:
    """Print the JSON Schema of a file that people write, for their editor.

    The file is program.yaml (manifest), cases/*.json (case) or qrunner.toml (config). An editor
    that knows the schema completes keys and marks mistakes; docs/programs.md explains how.
    """
    from runner.cli import formats

    click.echo(json.dumps(formats.document(name), indent=2))
    return 0
