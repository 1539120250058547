"""Results on stdout: exact JSON in a pipe, text at a terminal, other forms on request."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from runner.cli.common import say
from runner.cli.output import write_result
from runner.cli.terminal import write
from runner.cli.text import Draw, as_text
from runner.display import one_line
from runner.encoded.circuits import MAX_DRAWN
from runner.job.form import strict
from sandbox.wire.protocol import JsonText

if TYPE_CHECKING:
    from runner.policy.settings import Settings

Write = Callable[[JsonText], object]

FORMS: Final = click.Choice(["json", "npz", "npy", "qpy", "text"])

plain_option: Final = click.option(
    "--plain", is_flag=True, help="Numbers and lists in the place of encoded values, for jq."
)


def writer(*, plain: bool = False, chosen: Settings | None = None) -> Write:
    """Return what writes a result to stdout, in the form that suits its reader.

    With the operator's settings, circuits are drawn at a terminal.
    """
    if plain:
        return _write_plain
    if not sys.stdout.isatty():
        return write_result
    return lambda text: write(f"{as_text(text, draw=_drawing(chosen))}\n", sys.stdout)


def write_as(form: str, text: JsonText, path: Path | None) -> None:
    """Write a result in one of `FORMS` to a file or to stdout.  Raises RequestError."""
    from runner.errors import RequestError

    if form == "json":
        content = f"{strict(text)}\n".encode()
    elif form == "text":
        content = f"{as_text(text, draw=_drawing(None))}\n".encode()
    else:
        content = _exported(form, text)
    try:
        if path is not None:
            path.write_bytes(content)
            return
    except OSError as error:
        msg = f"{path}: cannot be written: {error.strerror}"
        raise RequestError(msg) from error
    if form in {"json", "text"}:
        write(content.decode(), sys.stdout)
        return
    if sys.stdout.isatty():
        msg = f"--as {form} is no text, and stdout is a terminal: add -o FILE"
        raise RequestError(msg)
    sys.stdout.buffer.write(content)
    sys.stdout.buffer.flush()


def _exported(form: str, text: JsonText) -> bytes:
    from runner.encoded import exports
    from runner.errors import RequestError

    data = json.loads(text)
    try:
        if form != "qpy":
            return exports.npy(data) if form == "npy" else exports.npz(data)
        content, dropped = exports.qpy(data)
    except ValueError as error:
        msg = f"--as {form}: the result {error}"
        raise RequestError(msg) from error
    if dropped:
        say(f"QPY does not hold the circuit's {', '.join(map(one_line, dropped))}")
    return content


def _write_plain(text: JsonText) -> None:
    from runner.encoded.plain import plain_json

    data, left = plain_json(json.loads(text))
    write_result(JsonText(json.dumps(data, separators=(",", ":"))))
    for each in left[:MAX_DRAWN]:
        say(f"{one_line(each)} has no plain form, and stays encoded")


# --- circuits -------------------------------------------------------------------------------------


def _drawing(chosen: Settings | None) -> Draw:
    """Return what draws circuits, in a sandbox: Qiskit reads there what a program wrote."""

    def draw(circuits: Sequence[Any], columns: int) -> Sequence[str]:
        import dataclasses

        from runner.cli.common import supervisor
        from runner.errors import RunnerError
        from runner.policy import settings
        from runner.programs import drawing

        here = dataclasses.replace(chosen or settings.load(None), cluster=None)
        inputs = drawing.inputs_for(circuits, columns)
        try:
            with supervisor(here, progress=lambda _: None) as running:
                job = running.run(drawing.PROGRAM, inputs, backend="none")
                return drawing.pictures_of(job.result())
        except RunnerError:
            return []

    return draw
