"""The commands for kept jobs: list, show, result, logs, messages, cancel, delete, replay.

Only the requested data goes to stdout, the rest to stderr.  Jobs are read from the store, whichever
process runs them.  Text from a program is escaped before people see it.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import asdict
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click

from runner.cli.common import (
    FORMATS,
    JOB,
    OUTCOME,
    kept_jobs,
    operator_options,
    output_for,
    say,
    settings,
    show_job,
    supervisor,
)
from runner.cli.results import FORMS, plain_option, write_as, writer
from runner.cli.source import Source, jobs_anywhere, refuse_server
from runner.encoded.parts import select
from sandbox.wire.protocol import JsonText

if TYPE_CHECKING:
    from runner.job.record import Event, LogEvent, MessageEvent
    from runner.store.rows import Summary

T = TypeVar("T", "LogEvent", "MessageEvent")

_CANCEL_S: Final = 10.0
_POLL_S: Final = 0.1
_EVENTS_AT_ONCE: Final = 1000
_MAX_CELL: Final = 60

_format = click.option("--format", "form", type=FORMATS, default="human", show_default=True)
_follow = click.option("-f", "--follow", is_flag=True, help="Go on until the job has ended.")
_job = click.argument("job", type=JOB)


@click.command()
@click.option("--program", metavar="NAME", help="Only jobs of this program.")
@click.option(
    "--outcome", type=OUTCOME, metavar="WORD", help="Only these: completed, time_limit, RUNNING …"
)
@click.option("--tag", "tags", multiple=True, help="Only jobs with this tag (may be repeated).")
@click.option("--limit", type=click.IntRange(1), default=20, show_default=True, metavar="N")
@_format
def jobs(tags: tuple[str, ...], form: str, **options: Any) -> int:
    """List the kept jobs, the newest first.

    --format json writes one object per line. A job is named by its id, by a unique beginning of
    its id, or as `last`.
    """
    from runner.cli.output import write_line
    from runner.cli.terminal import table
    from runner.store.rows import Query
    from runner.store.whole import summary_data

    outcomes = _words(options["outcome"])
    query = Query(program=options["program"], outcomes=outcomes, tags=tags, limit=options["limit"])
    with jobs_anywhere() as store:
        found = store.summaries(query)
    if form == "json":
        for each in found:
            write_line(json.dumps(summary_data(each)))
    elif found:
        # No column of users if no job has one.
        users = any(each.user for each in found)
        columns = ("job", *(["user"] * users), "program", "outcome", "created", "took", "tags")
        table(columns, [_cells(each, users=users) for each in found])
    else:
        say("no job fits")
    return 0


@click.command(short_help="Write the result of JOB, or a part of it.")
@click.argument("job", type=JOB, metavar="JOB[/KEY]")
@click.option(
    "--as",
    "form",
    type=FORMS,
    help="json: exact, in encoded form; npy, npz: arrays and numbers; qpy: a circuit; text: for "
    "people (default: text at a terminal, else json).",
)
@plain_option
@click.option(
    "-o",
    "--output",
    "path",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Write it there instead of to stdout.",
)
def result(job: str, form: str | None, plain: bool, path: Path | None) -> int:  # noqa: FBT001  click
    """Write the result of JOB to stdout, or the part of it called KEY; wait if JOB still runs.

    The exit code is that of the outcome, as for `run`; the error of a failed job goes to stderr.
    """
    import dataclasses

    from runner.cli.output import HumanOutput
    from runner.errors import RequestError

    if plain and (form or path):
        msg = "--plain writes JSON to stdout: leave out --as and -o"
        raise click.UsageError(msg)
    job, slash, pointer = job.partition("/")
    form = form or ("json" if path else None)
    with jobs_anywhere() as store:
        found = store.open(store.find(job))
        if found.record is None:
            say(f"{found.id} still runs; Ctrl-C stops waiting, not the job")
        record = found.wait()
    if slash and record.result is not None:
        try:
            part = json.dumps(select(json.loads(record.result), slash + pointer))
        except LookupError as error:
            msg = f"the result of {found.id}: {error}"
            raise RequestError(msg) from None
        record = dataclasses.replace(record, result=JsonText(part))
    write = partial(write_as, form, path=path) if form else writer(plain=plain)
    HumanOutput(found.request.path, write).finished(record)
    return record.outcome.exit_code


@click.command()
@_job
@_follow
@_format
def logs(job: str, follow: bool, form: str) -> int:  # noqa: FBT001  click passes options so
    """Write the output of JOB, escaped; with --format json as events."""
    from runner.display import quoted
    from runner.job.record import LogEvent

    for event in _for_people(job, LogEvent, follow=follow, form=form):
        click.echo(quoted(event.text), nl=False)
    return 0


@click.command(short_help="Write the interim results of JOB as JSON, one per line.")
@_job
@_follow
@_format
@plain_option
def messages(job: str, follow: bool, form: str, plain: bool) -> int:  # noqa: FBT001  click
    """Write the interim results of JOB as JSON, one per line; with --format json as events."""
    from runner.job.record import MessageEvent

    write = writer(plain=plain)
    for event in _for_people(job, MessageEvent, follow=follow, form=form):
        write(event.body)
    return 0


@click.command(short_help="List what JOB left in /out, or write it to a directory.")
@_job
@click.option(
    "-o",
    "--output",
    "directory",
    type=click.Path(file_okay=False, path_type=Path),
    metavar="DIR",
    help="Write the files below this directory, which must not have them yet.",
)
def files(job: str, directory: Path | None) -> int:
    """List the files that JOB left in /out, with their sizes; with -o, write them."""
    from runner.cli.terminal import table
    from runner.display import one_line
    from runner.errors import RequestError
    from runner.policy import size

    with jobs_anywhere() as store:
        found = store.open(store.find(job)).files
    if directory is None:
        table(("file", "size"), [(one_line(n), size(len(each))) for n, each in found.items()])
        return 0
    for name, content in found.items():
        path = directory / name  # the host has checked that it stays below
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("xb") as file:
                file.write(content)
        except OSError as error:
            msg = f"{path}: cannot be written: {error.strerror}"
            raise RequestError(msg) from error
        click.echo(path)
    return 0


@click.command(short_help="Cancel JOB, and wait until it has ended.")
@_job
def cancel(job: str) -> int:
    """Cancel JOB, in whichever process it runs, and wait until it has ended.

    The exit code is 0 if it ended as cancelled, 2 if it had ended before, 1 if it ended
    otherwise, 4 if it has not ended within 10 s.
    """
    from runner.errors import RequestError
    from runner.job.record import Outcome

    with jobs_anywhere() as store:
        job_id = store.find(job)
        if not store.request_cancel(job_id):
            msg = f"job {job_id} has ended already, as {store.summary(job_id).outcome}"
            raise RequestError(msg)
        deadline = time.monotonic() + _CANCEL_S
        while time.monotonic() < deadline:
            outcome = store.summary(job_id).outcome
            if outcome is not None:
                say(f"{job_id}: {outcome}")
                return 0 if outcome is Outcome.CANCELLED else 1
            time.sleep(_POLL_S)
            store.mark_interrupted()
    say(f"{job_id} was asked to end, but its process has not reacted within {_CANCEL_S:g} s")
    return 4


@click.command()
@click.argument("jobs", nargs=-1, required=True, type=JOB, metavar="JOB...")
@click.option("--force", is_flag=True, help="Even if it runs: it continues, but is not kept.")
def delete(jobs: tuple[str, ...], force: bool) -> int:  # noqa: FBT001  click passes options so
    """Remove each JOB from the store, with its messages and log."""
    from runner.errors import RequestError

    with jobs_anywhere() as store:
        for job_id in dict.fromkeys([store.find(each) for each in jobs]):
            if not store.delete(job_id, even_running=force):
                msg = f"job {job_id} still runs: `qrunner cancel {job_id}` first, or use --force"
                raise RequestError(msg)
            say(f"deleted {job_id}")
    return 0


@click.command(short_help="Print what a held backend answered JOB, for a case.")
@_job
def recording(job: str) -> int:
    """Print what a held backend answered JOB: a file that a case of `check` may name.

    The answers and the device's description are in it, and nothing of its environment.
    """
    from runner.backends.recording import Recording

    refuse_server("recording")
    with kept_jobs() as store:
        kept = store.load(store.find(job))
        answers = store.answers(kept.summary.id)
        made = Recording.of_job(kept.summary.id, kept.request.backend, answers)
        click.echo(made.to_text(), nl=False)
    return 0


@click.command(short_help="Run JOB again: same image, inputs, backend and options.")
@_job
@operator_options
@click.option("--recorded", is_flag=True, help="Play what the held backend answered then.")
@_format
def replay(job: str, form: str, *, recorded: bool, **options: Any) -> int:
    """Run JOB again: the same image, inputs, backend, options and seeds.

    Prints and exits as `run` does. If the image is gone, or this version of qrunner cannot use it,
    it is built again from the kept files, with a note.
    """
    from runner.errors import RunnerError
    from runner.store.kept import program_of

    refuse_server("replay")
    named = ""
    try:
        chosen = settings(options)
        with kept_jobs() as store:
            kept = store.load(store.find(job))
            program_of(store, kept)  # refused before anything is started
            summary, isolation = kept.summary, kept.record.isolation if kept.record else None
            if chosen.isolation is None and isolation is not None:
                chosen = chosen.replaced_by({"isolation": isolation})
            named = kept.request.path
            with (
                output_for(form, named) as output,
                supervisor(chosen, progress=output.doing, store=store) as running,
            ):
                again = running.replay(summary.id, recorded=recorded)
                output.watch(chosen.limits.lowered_by(kept.request.limits), again.memory_bytes)
                code = show_job(again, output)
    except RunnerError as error:
        with output_for(form, named) as output:
            output.refused(error)
        return error.exit_code
    if again.image not in {None, summary.image}:
        say(f"the image of {summary.id} is gone or too old: it was rebuilt from the same files")
    return code


def show(job: str, form: str) -> int:
    """Show a kept job: the main facts for people, or with "json" the whole job as one object."""
    with jobs_anywhere() as store:
        job_id = store.find(job)
        (_show_json if form == "json" else _show_human)(store, job_id)
    return 0


def _show_human(store: Source, job_id: str) -> None:
    from runner.display import one_line, quoted
    from runner.job.words import because
    from runner.policy import size

    kept = store.load(job_id)
    summary, record, request = kept.summary, kept.record, kept.request
    lines: list[tuple[str, Any]] = [
        ("program", f"{summary.program}  ({request.path})"),
        ("outcome", f"{summary.outcome}{because(record)}" if record else summary.status),
        ("created", _when(summary.created)),
        ("started", summary.started and _when(summary.started)),
        ("finished", summary.finished and _when(summary.finished)),
        ("user", summary.user),
        ("tags", ", ".join(summary.tags)),
        ("replay of", summary.replay_of),
        ("inputs", request.inputs),
        ("backend", json.dumps(dict(request.backend))),
        ("options", json.dumps(dict(request.options))),
        ("image", summary.image),
    ]
    if record is not None:
        usage = {
            name: size(value) if name.endswith("_bytes") and value is not None else value
            for name, value in asdict(record.usage).items()
            if name != "sources"
        }
        lines += [
            ("isolation", record.isolation),
            ("node", record.node),
            ("usage", ", ".join(f"{name.removesuffix('_bytes')} {n}" for name, n in usage.items())),
            ("versions", ", ".join(f"{name} {text:.20}" for name, text in record.versions.items())),
            ("result", record.result),
        ]
    click.echo(summary.id)
    for name, value in lines:
        if value:
            text = one_line(str(value))
            click.echo(f"  {name:<10} {text if len(text) <= 400 else text[:400] + ' …'}")
    if record is not None and record.traceback:
        click.echo(quoted(record.traceback), nl=False)


def _show_json(store: Source, job_id: str) -> None:
    from runner.cli.output import write_line

    write_line(store.whole(job_id))


def _for_people(job: str, kind: type[T], *, follow: bool, form: str) -> Iterator[T]:
    """Yield a job's events of one kind; with "json", write them instead."""
    from runner.cli.output import JsonOutput

    for event in _events(job, follow=follow):
        if isinstance(event, kind):
            if form == "json":
                JsonOutput().event(event)
            else:
                yield event


def _events(job: str, *, follow: bool) -> Iterator[Event]:
    """Yield the events of a job so far, or with `follow` until its end."""
    with jobs_anywhere() as store:
        job_id = store.find(job)
        if follow:
            yield from store.open(job_id).events()
            return
        position = 0
        while batch := store.events(job_id, position, _EVENTS_AT_ONCE):
            position += len(batch)
            yield from batch


def _words(outcome: str | None) -> tuple[str, ...]:
    """Return the outcome or status as stored, whatever its case."""
    from runner.store.rows import OUTCOMES

    if outcome is None:
        return ()
    words = (outcome, outcome.lower(), outcome.upper())
    return (next((each for each in words if each in OUTCOMES), outcome),)


def _cells(job: Summary, *, users: bool) -> tuple[str, ...]:
    from runner.display import shortened

    has_times = job.started is not None and job.finished is not None
    return (
        job.id,
        *([shortened(job.user, _MAX_CELL)] * users),
        shortened(job.program, _MAX_CELL),
        job.outcome.value if job.outcome is not None else job.status.value,
        _when(job.created),
        f"{(job.finished or 0) - (job.started or 0):.2f} s" if has_times else "",
        shortened(", ".join(job.tags), _MAX_CELL),
    )


def _when(stamp: float) -> str:
    """Return a time for people, in the local time zone."""
    return datetime.fromtimestamp(stamp).astimezone().strftime("%Y-%m-%d %H:%M:%S")


COMMANDS: Final = (jobs, result, files, logs, messages, cancel, delete, recording, replay)
