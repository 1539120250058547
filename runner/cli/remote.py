"""Commands at a service: `run` there, and the programs that are uploaded to it."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any, Final

import click

from runner.cli.common import FORMATS, PROGRAM, output_for, say, show_job
from runner.cli.results import writer
from runner.cli.source import server, service

_HERE_ONLY: Final = ("isolation", "allow_missing", "cluster", "retries", "config", "trace")
CHOICES: Final = (*_HERE_ONLY, "timeout", "memory", "cpus")
"""Options of the operator: who gives one wants to decide, and not a service that runs here."""


def run_there(  # noqa: PLR0913  keywords only but for the first four
    program: str,
    inputs: Callable[[], dict[str, Any]],
    backend: str | None,
    asked: Mapping[str, Any],
    *,
    form: str,
    plain: bool,
    detached: bool,
    address: str,
    **options: Any,
) -> int:
    """Run a program at the service, and show it as if it ran here; return the exit code.

    The job goes on there if this process dies; Ctrl-C cancels it.  A service that
    nobody has named, because it runs on the store here, gets programs from here only.
    """
    from runner.backends import read
    from runner.errors import RunnerError
    from runner.programs import find

    if server():
        refuse_operators_options(options)
    with output_for(form, program, writer(plain=plain)) as output:
        try:
            limits = limits_of(options)
            with service(address) as client:
                assert client is not None
                job = client.run(
                    program if server() else find(program),
                    inputs(),
                    backend=None if backend is None else read(backend),
                    limits=limits,
                    options=asked,
                )
                if detached:
                    click.echo(job.id)
                    say(f"the job goes on: `qrunner show {job.id}` tells how")
                    return 0
                output.watch(job.request.limits, job.memory_bytes)
                return show_job(job, output)
        except RunnerError as error:
            output.refused(error)
            return error.exit_code


def refuse_operators_options(options: Mapping[str, Any]) -> None:
    """Refuse what a service decides for itself.  Raises click.UsageError."""
    given = [name for name in _HERE_ONLY if options.get(name)]
    if given:
        name = given[0].replace("_", "-")
        msg = f"--{name} is the operator's: a service decides that for itself"
        raise click.UsageError(msg)
    if not options.get("store", True):
        msg = "--no-store: a service keeps every job; `qrunner delete` removes it"
        raise click.UsageError(msg)


def limits_of(options: Mapping[str, Any]) -> dict[str, float]:
    """Return the limits that the options ask for.  Raises RequestError."""
    from runner.policy import parse_size

    memory = options.get("memory")
    found = {
        "timeout_s": options.get("timeout"),
        "memory_bytes": None if memory is None else parse_size(memory),
        "cpus": options.get("cpus"),
    }
    return {name: value for name, value in found.items() if value is not None}


@click.group()
def programs() -> None:
    """Manage your programs at a service (needs --server)."""
    if server() is None:
        msg = "uploaded programs are at a service: give --server URL, or set QRUNNER_SERVER"
        raise click.UsageError(msg)


@programs.command("list")
@click.option("--format", "form", type=FORMATS, default="human", show_default=True)
def list_(form: str) -> int:
    """List the programs that you may run, the newest first."""
    from runner.cli.terminal import table
    from runner.display import one_line

    with service() as client:
        assert client is not None
        found = client.programs(limit=200)
    if form == "json":
        for each in found:
            click.echo(json.dumps(each))
        return 0
    rows = [
        (
            one_line(each["id"]),
            one_line(each["name"]),
            one_line(each["owner"] or ""),
            "public" if each["public"] else "shared" if each.get("shared_with") else "private",
            str(each["version"]),
        )
        for each in found
    ]
    table(("id", "name", "owner", "for", "version"), rows)
    return 0


@programs.command()
@click.argument("program")
@click.option("--format", "form", type=FORMATS, default="human", show_default=True)
def show(program: str, form: str) -> int:
    """Show PROGRAM's description, and its cases if you may read them.

    With --format json, one object with the manifest and the whole cases.
    """
    from runner.display import escape, inert_json, one_line
    from runner.errors import RequestError

    with service() as client:
        assert client is not None
        found = client.program(program)
        try:
            found["cases"] = client.cases(program)
        except RequestError:  # only the source is not for this user: the program was found
            found["cases"] = None
    if form == "json":
        click.echo(inert_json(json.dumps(found)))
        return 0
    manifest = found["manifest"]
    owner = f" of {found['owner']}" if found["owner"] else ""
    click.echo(one_line(f"{found['id']}  ({found['name']}, version {found['version']}{owner})"))
    if manifest["description"]:
        click.echo(escape(manifest["description"].strip()))
    for name in ("parameters", "interim_results", "return_values"):
        if manifest[name] is not None:
            title = name.replace("_", " ")
            click.echo(f"{title}: {escape(json.dumps(manifest[name], indent=2))}")
    if found["cases"]:
        click.echo(f"cases: {one_line(', '.join(found['cases']))}")
    return 0


@programs.command()
@click.argument("program", type=PROGRAM)
@click.option("--public", is_flag=True, help="Let everybody run it.")
def upload(program: str, public: bool) -> int:  # noqa: FBT001  click passes options so
    """Upload PROGRAM, or a new version of it, and print its id."""
    with service() as client:
        assert client is not None
        click.echo(client.upload(program, public=public))
    return 0


@programs.command()
@click.argument("program")
@click.argument("users", nargs=-1)
def share(program: str, users: tuple[str, ...]) -> int:
    """Let exactly these USERS run PROGRAM and read its source."""
    with service() as client:
        assert client is not None
        client.share(program, users)
    return 0


@programs.command()
@click.argument("program")
@click.option("--private", is_flag=True, help="Let nobody else run it any more.")
def publish(program: str, private: bool) -> int:  # noqa: FBT001  click passes options so
    """Let everybody run PROGRAM; its source stays yours."""
    with service() as client:
        assert client is not None
        client.publish(program, public=not private)
    return 0


@programs.command()
@click.argument("names", nargs=-1, required=True, metavar="PROGRAM...")
def delete(names: tuple[str, ...]) -> int:
    """Delete each PROGRAM; its jobs stay."""
    with service() as client:
        assert client is not None
        for name in names:
            client.delete(name)
            say(f"deleted {name}")
    return 0
