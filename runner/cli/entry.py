"""The command line: arguments → calls → output and exit code.

Only the requested data (the result, or events with `--format json`) goes to stdout; everything else
goes to stderr.  Commands import what they need when they run, so that `--help` does not wait for
the engine's client library.
"""

from __future__ import annotations

import contextlib
import difflib
import errno
import json
import signal
import sys
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from runner import __version__
from runner.cli import jobs, remote
from runner.cli.backends import backends
from runner.cli.check import check
from runner.cli.common import (
    BACKEND,
    FORMATS,
    LOG_LEVELS,
    PROGRAM,
    SHOWN,
    keeping,
    operator_options,
    output_for,
    prepare_streams,
    say,
    settings,
    show_job,
    supervisor,
)
from runner.cli.inputs import inputs_of, pairs_option
from runner.cli.lock import lock
from runner.cli.map import map_
from runner.cli.plot import plot
from runner.cli.results import plain_option, writer
from runner.cli.schema import schema_
from runner.cli.serve import serve, users
from runner.cli.source import daemon, server

if TYPE_CHECKING:
    from runner.programs import Program
    from sandbox.wire.protocol import JsonText

_MAX_CELL = 200
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO}
"""What stdout or stderr answers if it leads to a file that has no room."""


def main() -> None:
    """Run the command line and exit; every RunnerError becomes a message and its exit code."""
    from runner.cli.output import arrow
    from runner.errors import RunnerError
    from runner.job.hints import hint

    # SIGTERM and Ctrl-C mean the same: cancel, clean up, exit.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    if signal.getsignal(signal.SIGINT) is signal.SIG_DFL:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    prepare_streams()
    try:
        code = cli(standalone_mode=False)
        sys.stdout.flush()
    except click.ClickException as error:
        error.show()
        click.echo(arrow(hint(_misplaced(error))), err=True, nl=False)
        _finish(error)
        code = error.exit_code
    except RunnerError as error:
        say(str(error))
        click.echo(arrow(hint(str(error))), err=True, nl=False)
        code = error.exit_code
    except (click.Abort, KeyboardInterrupt):
        code = 130
    except BrokenPipeError:
        # The reader of our output has gone: nothing more can be written, not even at exit.
        sys.stdout = None
        code = 1
    except OSError as error:
        if error.errno not in _FULL:
            raise
        sys.stdout = None
        with contextlib.suppress(OSError):
            say(f"{error.filename or 'the output'}: cannot be written: {error.strerror}")
        code = RunnerError.exit_code
    sys.exit(code)


def _finish(error: click.ClickException) -> None:
    """Write the last event of a job that a mistake in the command's arguments has kept from us."""
    from runner.cli.output import JsonOutput
    from runner.errors import RequestError

    context = error.ctx if isinstance(error, click.UsageError) else None
    wanted = f" {' '.join(sys.argv[1:])} ".replace(" --format=", " --format ")
    if context and context.info_name in {"run", "replay"} and " --format json " in wanted:
        output = JsonOutput(str(context.params.get("program") or ""))
        output.refused(RequestError(error.format_message()))


def _misplaced(error: click.ClickException) -> str:
    """Return the option that is not ours with its value, if it may be an input of a program."""
    if not isinstance(error, click.NoSuchOption) or error.ctx is None:
        return ""
    is_ours = difflib.get_close_matches(error.option_name, error.possibilities or (), cutoff=0.85)
    if is_ours or error.ctx.info_name not in {"run", "map"}:
        return ""
    given = " ".join(sys.argv)
    return f"an option of a program: {given[given.find(error.option_name) :]}"


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="qrunner")
@click.option(
    "--server",
    envvar="QRUNNER_SERVER",
    metavar="URL",
    help="Use a service instead of this machine: https://HOST:PORT or unix:PATH. The token is "
    "$QRUNNER_TOKEN, the file with the authority to trust $QRUNNER_CA.",
)
def cli(server: str | None) -> None:
    """Run untrusted Qiskit runtime programs, each in a sandbox of its own."""
    del server  # the commands that can use one ask for it: runner.cli.source


cli.add_command(check)
cli.add_command(backends)
cli.add_command(lock)
cli.add_command(map_)
cli.add_command(plot)
cli.add_command(remote.programs)
cli.add_command(schema_)
cli.add_command(serve)
cli.add_command(users)
for _command in jobs.COMMANDS:
    cli.add_command(_command)


@cli.command(short_help="Run PROGRAM: a name, a directory or a .py file.")
@click.argument("program", type=PROGRAM)
@pairs_option
@click.option(
    "--inputs",
    metavar="JSON|@FILE|-",
    help="All inputs as a JSON object: the text, a file, or stdin. -i adds to it.",
)
@click.option(
    "--backend",
    type=BACKEND,
    metavar="NAME|JSON|@FILE",
    help="Backend that main gets (aer_simulator); `qrunner backends` lists them.",
)
@click.option("--tag", "tags", multiple=True, help="A tag to find the job by (may be repeated).")
@click.option("--log-level", type=LOG_LEVELS, help="Lowest level that the program logs (WARNING).")
@click.option("--store/--no-store", default=True, help="Keep the job, for `qrunner jobs` (yes).")
@click.option("--detach", is_flag=True, help="At a service: print the job's id, and do not wait.")
@operator_options
@plain_option
@click.option("--trace", "traced", is_flag=True, help="Show where each millisecond went.")
@click.option(
    "--format",
    "form",
    type=FORMATS,
    default="human",
    show_default=True,
    help="json: one event per line on stdout, the last is finished.",
)
def run(program: str, pairs: tuple[str, ...], inputs: str | None, form: str, **options: Any) -> int:
    """Run PROGRAM: a name, a directory with a program.yaml, or a .py file.

    The result goes to stdout: as JSON, or as text for people at a terminal. Interim results and
    the program's log go to stderr. The exit code says why the job ended: 0 completed, 1 the program
    failed, 2 refused, 3 a limit, 4 our fault, 130 cancelled.
    """
    from runner.backends import read
    from runner.errors import RunnerError
    from runner.job.handle import trace_of
    from runner.programs import find

    named = options.pop("backend")
    asked = {"tags": options.pop("tags"), "log_level": options.pop("log_level")}
    traced, plain = options.pop("traced"), options.pop("plain")
    detached = options.pop("detach")
    if plain and form == "json":
        msg = "--plain is for the result alone: the events of --format json are exact"
        raise click.UsageError(msg)
    is_usual = options["store"] and not traced and not any(map(options.get, remote.CHOICES))
    address = server() or (daemon() if is_usual else None)
    if address is not None:
        reading = partial(inputs_of, inputs, pairs)
        how = {"form": form, "plain": plain, "detached": detached, "address": address}
        options["trace"] = traced
        return remote.run_there(program, reading, named, asked, **how, **options)
    if detached:
        msg = "--detach needs a service, where the job goes on: `qrunner serve`, or --server"
        raise click.UsageError(msg)

    def write(result: JsonText) -> None:
        writer(plain=plain, chosen=chosen)(result)

    with output_for(form, program, write) as output, contextlib.ExitStack() as at_the_end:
        try:
            given = inputs_of(inputs, pairs)
            backend = None if named is None else read(named)
            chosen = settings(options)
            with (
                keeping(wanted=options.pop("store")) as store,
                supervisor(chosen, progress=output.doing, store=store) as running,
            ):
                found = find(program)
                job = running.run(found, given, backend=backend, options=asked)
                if traced:
                    output.trace = trace = trace_of(job)
                    at_the_end.callback(lambda: click.echo(trace.as_text(), err=True))
                output.watch(chosen.limits.lowered_by(found.manifest.limits), job.memory_bytes)
                return show_job(job, output)
        except RunnerError as error:
            output.refused(error)
            return error.exit_code


@cli.command()
@click.argument("programs", nargs=-1, metavar="[PROGRAM]...", type=PROGRAM)
@click.option("--base", is_flag=True, help="Build the base images only, for a node of a cluster.")
@click.option(
    "--save",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Write the base image to an archive, for another machine.",
)
@click.option(
    "--load",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Load the base image from an archive instead of building it.",
)
def build(
    programs: tuple[str, ...],
    base: bool,  # noqa: FBT001  click passes options so
    save: Path | None,
    load: Path | None,
) -> int:
    """Build the base images, and the image of each PROGRAM."""
    from runner.engine import Engine
    from runner.images import ImageStore
    from runner.images.transfer import load_base, save_base
    from runner.programs import find

    found = [find(each) for each in programs]
    if base and found:
        msg = "--base builds the base images only: give no program with it"
        raise click.UsageError(msg)
    engine = Engine.connect()
    store = ImageStore(engine, progress=say)
    if load is not None:
        click.echo(f"loaded: {load_base(engine, load)}")
    click.echo(f"base: {store.guest()}")
    if save is not None:
        save_base(engine, save)
        click.echo(f"saved: {save}")
    for each in found:
        click.echo(f"{each.name}: {store.program(each.files, each.name).tag}")
    return 0


@cli.command("list")
def list_() -> int:
    """List the programs here, and those that can be run by name."""
    from runner import programs
    from runner.cli.terminal import table
    from runner.display import one_line
    from runner.errors import RequestError

    rows = []
    for name in [*programs.own(), *programs.names()]:
        try:
            description = programs.find(name).manifest.description
        except RequestError as error:
            description = f"(cannot be used: {error})"
        rows.append((one_line(name), one_line(description.strip().split("\n")[0])))
    table(("program", "what it does"), rows)
    return 0


@cli.command(short_help="Show a program's inputs, or a kept job.")
@click.argument("program", type=SHOWN)
@click.option("--format", "form", type=FORMATS, default="human", show_default=True)
def show(program: str, form: str) -> int:
    """Show the description and inputs of PROGRAM, or a kept job: `job-…` or `last`.

    With --format json, one object: the whole record of a job, or the manifest of a program.
    """
    if program == "last" or program.startswith("job-"):
        return jobs.show(program, form)
    from runner import programs
    from runner.cli.terminal import table
    from runner.display import escape, inert_json, one_line

    found = programs.find(program)
    manifest = found.manifest
    if form == "json":
        content = {"program": found.name, "path": str(found.path), **asdict(manifest)}
        click.echo(inert_json(json.dumps(content)))
        return 0
    click.echo(f"{found.name}  ({one_line(str(found.path))})")
    if manifest.description:
        click.echo(escape(manifest.description.strip()))
    if rows := _input_rows(found):
        click.echo()
        table(("input", "type", "default", "meaning"), rows)
        click.echo()
    for title, schema in (
        ("parameters", manifest.parameters),
        ("interim results", manifest.interim_results),
        ("return values", manifest.return_values),
    ):
        if schema is not None:
            click.echo(f"{title}: {escape(json.dumps(schema, indent=2))}")
    return 0


@cli.command()
@click.argument("name")
@click.option(
    "--from",
    "source",
    type=PROGRAM,
    metavar="PROGRAM",
    help="Copy this program, such as vqe (default: a short one that shows everything).",
)
def new(name: str, source: str | None) -> int:
    """Make a new program NAME here, a directory to edit and run."""
    from runner import programs

    directory = programs.create(name, source)
    is_hidden = programs.find(str(directory)).path != directory  # by a program of the same name
    named = f"./{directory}" if is_hidden else directory
    click.echo(f"made {directory}: edit {directory / 'program.py'}, then: qrunner run {named}")
    return 0


@cli.command(short_help="Check if this machine can run programs safely.")
@click.option("--format", "form", type=FORMATS, default="human", show_default=True)
def doctor(form: str) -> int:
    """Check if this machine can run programs safely, and say what to change if not.

    Starts the backends that the operator's qrunner.toml says this host holds, examines the engine
    and its versions, then runs a program in a sandbox of each isolation that tries what must be
    impossible. The exit code is 4 if anything failed; warnings are 0.
    """
    from runner import doctor as examination
    from runner.display import one_line
    from runner.doctor.inspection import Status
    from runner.policy import settings

    failed = False
    held = settings.load().backends
    for each in examination.examine(progress=say, backends=held):
        failed = failed or each.status is Status.FAIL
        if form == "json":
            click.echo(json.dumps(each.as_dict()))
            continue
        click.echo(f"{each.status:<4}  {each.what:<18} {one_line(each.found)}")
        if each.advice:
            click.echo(f"{'':<25}→ {one_line(each.advice)}")
    return 4 if failed else 0


@cli.command()
@click.option("--all", "everything", is_flag=True, help="Remove the base images too.")
def clean(everything: bool) -> int:  # noqa: FBT001  click passes options so
    """Remove old program images and what crashed runs left behind."""
    from runner.engine import Engine
    from runner.images import ImageStore
    from runner.sandboxes.sweep import sweep

    engine = Engine.connect()
    swept = sweep(engine)
    store = ImageStore(engine, progress=say)
    removed = store.prune(keep=0, base=True) if everything else store.prune()
    click.echo(f"removed {swept} leftovers of dead runs and {len(removed)} images")
    return 0


# --- inputs -------------------------------------------------------------------------------------


def _input_rows(program: Program) -> list[tuple[str, ...]]:
    """Return a row for each input in the schema or signature, those without a default first."""
    from runner.display import shortened

    parameters = program.manifest.parameters or {}
    named = parameters.get("properties")
    named = named if isinstance(named, dict) else {}
    signature = program.signature
    required = {*parameters.get("required", ()), *(signature.required if signature else ())}
    names = dict.fromkeys(
        [*named, *((*signature.required, *signature.optional) if signature else ())]
    )
    rows = []
    for name in sorted(names, key=lambda each: each not in required):
        says = named.get(name)
        says = says if isinstance(says, dict) else {}
        default = json.dumps(says["default"]) if "default" in says else ""
        default = "required" if name in required else default
        kind = says.get("type", "")
        meaning = says.get("description", "")
        cells = (name, kind if isinstance(kind, str) else json.dumps(kind), default, meaning)
        rows.append(tuple(shortened(str(each), _MAX_CELL) for each in cells))
    return rows
