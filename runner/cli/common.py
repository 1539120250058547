"""Parts that the commands share: options, the supervisor made from them, and messages.

Only the requested data goes to stdout; everything else goes to stderr, through `say`.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click
from click.shell_completion import CompletionItem

from runner.job import options
from runner.policy.isolation import Isolation

if TYPE_CHECKING:
    from runner.cli.output import Output
    from runner.job import Job
    from runner.policy.settings import Settings
    from runner.store import Store
    from runner.supervisor import Supervisor
    from sandbox.wire.protocol import JsonText

_Command = TypeVar("_Command", bound=Callable[..., Any])

LOG_LEVELS: Final = click.Choice(options.LOG_LEVELS)
FORMATS: Final = click.Choice(["human", "json"])
ISOLATIONS: Final = click.Choice([each.value for each in Isolation])
_MAX_COMPLETIONS: Final = 200

_OPERATOR_OPTIONS: Final = (
    click.option("--timeout", type=float, metavar="S", help="Time limit in seconds (300)."),
    click.option("--memory", metavar="SIZE", help="Memory limit, like 512m or 2g (2g)."),
    click.option("--cpus", type=float, metavar="N", help="CPU limit, fractions allowed (1)."),
    click.option("--isolation", type=ISOLATIONS, help="Engine runtime (runc)."),
    click.option(
        "--allow-missing",
        multiple=True,
        metavar="NAME",
        help="Run even if this engine cannot honour NAME, such as swap-limit (may be repeated).",
    ),
    click.option(
        "--cluster",
        metavar="NAME",
        help="Run on the nodes of a cluster: ray, ray://HOST:PORT or slurm (docs/cluster.md).",
    ),
    click.option(
        "--retries",
        type=click.IntRange(0, 10),
        metavar="N",
        help="How often to run a job again after its cluster node was lost (0).",
    ),
    click.option(
        "--config",
        type=click.Path(path_type=Path),
        metavar="FILE",
        help="The operator's qrunner.toml (default: $QRUNNER_CONFIG, else the user's own).",
    ),
)


def operator_options(command: _Command) -> _Command:
    """Add the options with which the operator sets limits and hardening."""
    for option in reversed(_OPERATOR_OPTIONS):
        command = option(command)
    return command


class Completed(click.ParamType):  # type: ignore[type-arg]
    """A text for which the shell offers words that are known here, and with `files` also files."""

    def __init__(self, name: str, words: Callable[[], Iterable[str]], *, files: bool) -> None:
        self.name = name
        self._words = words
        self._files = files

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        """Return the matching words; none if they cannot be found out, which is no time to say."""
        from runner.errors import RunnerError

        del ctx, param
        try:
            known = [each for each in self._words() if each.startswith(incomplete)]
        except RunnerError:
            known = []
        items = [CompletionItem(each) for each in known if each.isprintable()]
        # Files first: in bash this item takes away what came before it.
        also = [CompletionItem(incomplete, type="file")] if self._files else []
        return [*also, *items[:_MAX_COMPLETIONS]]


def _programs() -> list[str]:
    from runner import programs

    return [*programs.own(), *programs.names()]


def _jobs() -> list[str]:
    from runner.store.rows import Query

    with kept_jobs() as store:
        return ["last", *(each.id for each in store.summaries(Query(limit=_MAX_COMPLETIONS)))]


def _outcomes() -> list[str]:
    from runner.store.rows import OUTCOMES

    return list(OUTCOMES)


def _backends() -> list[str]:
    from runner import backends

    return [each.name for each in backends.known()]


PROGRAM: Final = Completed("program", _programs, files=True)
JOB: Final = Completed("job", _jobs, files=False)
SHOWN: Final = Completed("program", lambda: [*_programs(), *_jobs()], files=True)
BACKEND: Final = Completed("backend", _backends, files=False)
OUTCOME: Final = Completed("outcome", _outcomes, files=False)


def settings(options: dict[str, Any]) -> Settings:
    """Remove the operator's options from `options`, and return the settings of file and options."""
    from runner.policy import settings

    names = (
        *("timeout", "memory", "cpus", "isolation"),
        *("allow_missing", "jobs", "cluster", "retries"),
    )
    flags = {name: options.pop(name, None) for name in names}
    return settings.load(options.pop("config", None)).replaced_by(flags)


@contextlib.contextmanager
def supervisor(
    chosen: Settings, *, progress: Callable[[str], object] | None = None, **more: Any
) -> Iterator[Supervisor]:
    """Make a supervisor with the operator's settings; `more` are further arguments of it."""
    from runner.supervisor import Supervisor

    with Supervisor(
        limits=chosen.limits,
        policy=chosen.policy,
        max_jobs=chosen.jobs,
        cluster=chosen.cluster,
        retries=chosen.retries,
        backends=chosen.backends,
        progress=progress or say,
        **more,
    ) as running:
        yield running


@contextlib.contextmanager
def cancelling(cancel: Callable[[], object]) -> Iterator[None]:
    """Turn the first Ctrl-C in the block into a cancellation; the block continues."""

    def on_signal(*_: object) -> None:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        cancel()

    earlier = {each: signal.signal(each, on_signal) for each in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for each, handler in earlier.items():
            signal.signal(each, handler)


def keeping(*, wanted: bool) -> contextlib.AbstractContextManager[Store | None]:
    """Open the store of the command line, or give None if jobs are not to be kept."""
    return kept_jobs() if wanted else contextlib.nullcontext()


@contextlib.contextmanager
def kept_jobs() -> Iterator[Store]:
    """Open the store of the command line."""
    from runner.store import open_default

    with contextlib.closing(open_default()) as store:
        yield store


def output_for(
    form: str, program: str, write: Callable[[JsonText], object] | None = None
) -> Output:
    """Return the output for a job: events, plain lines, or a live view on a capable terminal.

    `write` writes the result where it is not an event (default: as exact JSON).
    """
    from runner.cli import output, terminal

    if form == "json":
        return output.JsonOutput(program)
    if terminal.can_move_cursor(sys.stderr):
        from runner.cli.live import LiveOutput

        return LiveOutput(program, write)
    return output.HumanOutput(program, write)


def show_job(job: Job, output: Output) -> int:
    """Show a job until its end and return the exit code; Ctrl-C cancels the job."""
    with cancelling(job.cancel):
        for event in job.events():
            output.event(event)
    record = job.wait()
    output.finished(record, job.mismatches())
    return record.outcome.exit_code


def say(text: str) -> None:
    """Write a message of the runner to stderr."""
    from runner.display import notice

    click.echo(f"qrunner: {notice(text)}", err=True)


class LogHandler(logging.Handler):
    """Writes the runner's log as messages to the current stderr."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write one entry."""
        try:
            say(self.format(record))
        except Exception:  # noqa: BLE001  as every handler does
            self.handleError(record)


def forgiving(stream: Any) -> None:
    """Make a stream escape characters that it cannot encode, instead of failing."""
    with contextlib.suppress(AttributeError):
        stream.reconfigure(errors="backslashreplace")


def prepare_streams() -> None:
    """Make the streams and the log ready for commands."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:  # the caller closed it: no other file shall get its number
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: SIM115, PTH123
    forgiving(sys.stdout)
    logging.basicConfig(handlers=[LogHandler()], format="%(message)s", level=logging.WARNING)
