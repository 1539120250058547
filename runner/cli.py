"""The command line: arguments → calls → output and exit code.

The only module that prints or configures logging.  stdout carries what the caller asked for (the
result, or events with `--format json`); everything else goes to stderr.  Commands import what
they need when they run, so that `--help` does not wait for the engine's client library.
"""

from __future__ import annotations

import contextlib
import json
import logging
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from runner import __version__

if TYPE_CHECKING:
    from runner.check import CaseReport
    from runner.supervisor import Supervisor

_ISOLATIONS = click.Choice(["runc", "runsc"])

_allow_missing = click.option(
    "--allow-missing",
    multiple=True,
    metavar="NAME",
    help="Run although this engine cannot honour NAME, such as swap-limit (may be repeated).",
)


def main() -> None:
    """Run the command line and exit; every RunnerError becomes a message and its exit code."""
    from runner.errors import RunnerError

    # Ending politely and Ctrl-C are the same wish: cancel, clean up, leave.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    logging.basicConfig(format="qrunner: %(message)s", level=logging.WARNING)
    try:
        code = cli(standalone_mode=False)
        sys.stdout.flush()
    except click.ClickException as error:
        error.show()
        code = error.exit_code
    except RunnerError as error:
        _say(f"qrunner: {error}")
        code = error.exit_code
    except (click.Abort, KeyboardInterrupt):
        code = 130
    except BrokenPipeError:
        # Whoever read our output has gone: nothing more can be said, not even at exit.
        sys.stdout = None
        code = 1
    sys.exit(code)


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="qrunner")
def cli() -> None:
    """Run Qiskit runtime programs that nobody has to trust, each in a sandbox of its own."""


@cli.command()
@click.argument("program")
@click.option(
    "-i",
    "--input",
    "pairs",
    multiple=True,
    metavar="KEY=VALUE",
    help="One input of main; VALUE is JSON if it parses as such, else text.",
)
@click.option(
    "--inputs",
    metavar="JSON|@FILE|-",
    help="All inputs as a JSON object: the text, a file, or stdin. -i adds to it.",
)
@click.option("--backend", metavar="NAME", help="Backend that main gets (default: aer_simulator).")
@click.option("--timeout", type=float, metavar="S", help="Time limit in seconds (default: 300).")
@click.option("--memory", metavar="SIZE", help="Memory limit, like 512m or 2g (default: 2g).")
@click.option("--cpus", type=float, metavar="N", help="CPU limit, fractions allowed (default: 1).")
@click.option("--isolation", type=_ISOLATIONS, help="Engine runtime (default: runc).")
@_allow_missing
@click.option(
    "--format",
    "form",
    type=click.Choice(["human", "json"]),
    default="human",
    show_default=True,
    help="json: one event per line on stdout, the last is finished.",
)
def run(program: str, pairs: tuple[str, ...], inputs: str | None, form: str, **options: Any) -> int:
    """Run PROGRAM: a name, a directory with a program.yaml, or a .py file.

    The result goes to stdout as JSON; interim results and the program's log go to stderr. The exit
    code says why the job ended: 0 completed, 1 the program failed, 2 refused, 3 a limit, 4 our
    fault, 130 cancelled.
    """
    from runner.errors import RequestError
    from runner.output import HumanOutput, JsonOutput

    output = JsonOutput() if form == "json" else HumanOutput()
    backend = options.pop("backend")
    try:
        given = _inputs(inputs, pairs)
        with _supervisor(**options) as supervisor:
            job = supervisor.run(program, given, backend=backend)
            with _cancelling(job.cancel):
                for event in job.events():
                    output.event(event)
            record = job.wait()
            output.finished(record, job.mismatches())
            return record.outcome.exit_code
    except RequestError as error:
        output.refused(program, str(error))
        return error.exit_code


@cli.command()
@click.argument("paths", nargs=-1, metavar="[PATH]...")
@click.option(
    "--junit",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Write a JUnit XML report.",
)
@click.option("--isolation", type=_ISOLATIONS, help="Engine runtime (default: runc).")
@_allow_missing
def check(paths: tuple[str, ...], junit: Path | None, **options: Any) -> int:
    """Run the cases of every program under PATH (default: images/programs, else here).

    The exit code is the highest of the cases': 0 all hold, 1 a program failed, 2 one was refused,
    3 a limit, 4 our fault.
    """
    from runner.check import check as run_cases
    from runner.check import write_junit

    default = "images/programs" if Path("images/programs").is_dir() else "."
    with _supervisor(**options) as supervisor:
        reports = run_cases(supervisor, paths or (default,), _show_report)
    if junit is not None:
        write_junit(reports, junit)
    failed = sum(1 for each in reports if each.problems)
    click.echo(f"{len(reports) - failed} passed, {failed} failed")
    return max((each.exit_code for each in reports), default=0)


@cli.command()
@click.argument("programs", nargs=-1, metavar="[PROGRAM]...")
def build(programs: tuple[str, ...]) -> int:
    """Build the base images, and the image of each PROGRAM."""
    from runner import registry
    from runner.engine import Engine
    from runner.images import ImageStore

    found = [registry.find(each) for each in programs]
    store = ImageStore(Engine.connect(), progress=_progress)
    click.echo(f"base: {store.guest()}")
    for each in found:
        click.echo(f"{each.name}: {store.program(each.files, each.name).tag}")
    return 0


@cli.command("list")
def list_() -> int:
    """List the programs that can be run by name from here."""
    from runner import registry
    from runner.display import one_line
    from runner.errors import RequestError

    for name in registry.names():
        try:
            description = registry.find(name).manifest.description
        except RequestError as error:
            description = f"(cannot be used: {error})"
        first = description.strip().split("\n")[0]
        click.echo(f"{name:<20} {one_line(first)}")
    return 0


@cli.command()
@click.argument("program")
def show(program: str) -> int:
    """Show what PROGRAM says of itself, and the inputs it takes."""
    from runner import registry
    from runner.display import escape, one_line

    found = registry.find(program)
    manifest = found.manifest
    click.echo(f"{found.name}  ({one_line(str(found.path))})")
    if manifest.description:
        click.echo(escape(manifest.description.strip()))
    if found.signature is not None:
        for kind, names in (
            ("required", found.signature.required),
            ("optional", found.signature.optional),
        ):
            click.echo(f"{kind} inputs: {', '.join(names) or 'none'}")
    for title, schema in (
        ("parameters", manifest.parameters),
        ("interim results", manifest.interim_results),
        ("return values", manifest.return_values),
    ):
        if schema is not None:
            click.echo(f"{title}: {escape(json.dumps(schema, indent=2))}")
    return 0


@cli.command()
@click.argument("program", type=click.Path(exists=True, file_okay=False, path_type=Path))
def lock(program: Path) -> int:
    """Pin what PROGRAM, a directory, requires beyond the stack, with hashes."""
    from runner import registry

    click.echo(f"wrote {registry.lock(program, _progress)}")
    return 0


@cli.command()
@click.argument("name")
def new(name: str) -> int:
    """Make a new program NAME here, a directory to edit and run."""
    from runner import registry

    directory = registry.create(name)
    click.echo(f"made {directory}: edit {directory / 'program.py'}, then: qrunner run {directory}")
    return 0


@cli.command()
@click.option(
    "--format", "form", type=click.Choice(["human", "json"]), default="human", show_default=True
)
def doctor(form: str) -> int:
    """Say whether this machine can run programs safely, and what to change if not.

    Looks at the engine and its versions, then runs a program in a sandbox of each isolation that
    tries what must be impossible. The exit code is 4 if anything failed; warnings are 0.
    """
    from runner import doctor as examination
    from runner.display import one_line
    from runner.inspection import Status

    failed = False
    for each in examination.examine(progress=_progress):
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
    """Remove what dead runs left and old program images."""
    from runner.engine import Engine
    from runner.images import ImageStore
    from runner.sweep import sweep

    engine = Engine.connect()
    swept = sweep(engine)
    store = ImageStore(engine, progress=_progress)
    removed = store.prune(keep=0, base=True) if everything else store.prune()
    click.echo(f"removed {swept} leftovers of dead runs and {len(removed)} images")
    return 0


# --- helpers ------------------------------------------------------------------------------------


@contextlib.contextmanager
def _supervisor(
    *,
    timeout: float | None = None,
    memory: str | None = None,
    cpus: float | None = None,
    isolation: str | None = None,
    allow_missing: tuple[str, ...] = (),
) -> Iterator[Supervisor]:
    """Make a supervisor whose ceiling is what the flags say: at the terminal, the user sets it."""
    from runner.policy import Limits, Policy, parse_size
    from runner.supervisor import Supervisor

    flags: dict[str, Any] = {
        "timeout_s": timeout,
        "memory_bytes": None if memory is None else parse_size(memory),
        "cpus": cpus,
    }
    limits = Limits(**{name: value for name, value in flags.items() if value is not None})
    policy = Policy(allow_missing=frozenset(allow_missing))
    with Supervisor(
        limits=limits, policy=policy, isolation=isolation, progress=_progress
    ) as supervisor:
        yield supervisor


@contextlib.contextmanager
def _cancelling(cancel: Any) -> Iterator[None]:
    """Turn the first Ctrl-C in the block into a cancellation, and let the rest go on."""

    def on_signal(*_: object) -> None:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        cancel()

    earlier = {each: signal.signal(each, on_signal) for each in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for each, handler in earlier.items():
            signal.signal(each, handler)


def _inputs(text: str | None, pairs: tuple[str, ...]) -> dict[str, Any]:
    """Return the inputs of the two options; RequestError says which part is not understood."""
    from runner.errors import InputsError

    given: Any = {}
    if text is not None:
        source = "--inputs"
        try:
            if text == "-":
                text = sys.stdin.buffer.read().decode()
            elif text.startswith("@"):
                source = text[1:]
                text = Path(source).read_text(encoding="utf-8")
            given = json.loads(text)
        except (OSError, ValueError, RecursionError) as error:
            msg = f"{source}: not readable as JSON: {error}"
            raise InputsError(msg) from error
    if not isinstance(given, dict):
        msg = f"--inputs must be a JSON object of names and values, not {text:.80}"
        raise InputsError(msg)
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals or not key:
            msg = f"-i {pair!r}: write it as KEY=VALUE"
            raise InputsError(msg)
        try:
            given[key] = json.loads(value)
        except (ValueError, RecursionError):
            given[key] = value
    return given


def _show_report(report: CaseReport) -> None:
    from runner.display import one_line, quoted

    mark = "FAIL" if report.problems else "ok  "
    click.echo(
        f"{mark}  {one_line(report.program)} :: {one_line(report.case)}"
        f"  ({report.outcome}, {report.seconds:.2f} s)"
    )
    for problem in report.problems:
        click.echo(f"      {one_line(problem)}")
    if report.log_tail:
        click.echo(quoted(report.log_tail, "      | "), nl=False)


def _progress(line: str) -> None:
    _say(f"qrunner: {line}")


def _say(text: str) -> None:
    from runner.display import escape

    click.echo(escape(text), err=True)
