"""Inputs on the command line: JSON, files, results of kept jobs, and tables for many jobs."""

from __future__ import annotations

import contextlib
import csv
import io
import itertools
import json
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Final

import click

from sandbox.wire.protocol import MAX_INPUTS_BYTES

if TYPE_CHECKING:
    from runner.errors import InputsError

_JOB: Final = "@job:"

pairs_option: Final = click.option(
    "-i",
    "--input",
    "pairs",
    multiple=True,
    metavar="KEY=VALUE",
    help="One input of main; VALUE is JSON if it parses as such, else text. @FILE reads a value "
    "from .json, .qpy, .qasm, .npy, .npz or .txt; @job:JOB is the result of a kept job, "
    "@job:JOB/KEY a part of it.",
)


def inputs_of(text: str | None, pairs: Iterable[str]) -> dict[str, Any]:
    """Return the inputs of `--inputs` and `-i`.  Raises InputsError that names the part."""
    from runner.errors import InputsError
    from runner.programs import given

    inputs: dict[str, Any] = {}
    if text is not None:
        source, content = _content(text)
        try:
            inputs = given.inputs_from_json(content)
        except TypeError as error:
            msg = f"{source}: {error}"
            raise InputsError(msg) from None
        except (ValueError, RecursionError) as error:
            msg = f"{source}: not readable as JSON: {error}{_as_file(text)}"
            raise InputsError(msg) from error
    return {**inputs, **inputs_of_pairs(pairs)}


def inputs_of_pairs(pairs: Iterable[str]) -> dict[str, Any]:
    """Return the inputs of `-i`.  Raises InputsError."""
    from runner.errors import InputsError

    inputs = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals or not key:
            msg = f"-i {pair!r}: write it as KEY=VALUE"
            raise InputsError(msg)
        try:
            inputs[key] = _value(value)
        except InputsError as error:
            msg = f"-i {key}: {error}"
            raise InputsError(msg) from error
    return inputs


def rows_of(text: str) -> Iterator[Mapping[str, Any] | InputsError]:
    """Yield the inputs of each job, or in their place an InputsError that says why there are none.

    `text` is JSON, a file or `-`: lines of JSON, one JSON array, or in a `.csv` file a row for each
    job below a row of names.  Lines are read when they are needed.  Raises InputsError.
    """
    source, stream = _opened(text)
    with contextlib.closing(stream):
        if source.lower().endswith(".csv"):
            yield from _csv_rows(stream, source)
            return
        first = stream.readline(MAX_INPUTS_BYTES + 1)
        if first.lstrip().startswith(b"["):
            yield from _array_rows(first + stream.read(MAX_INPUTS_BYTES + 1), source)
            return
        yield from _line_rows(stream, first)


def _value(text: str) -> Any:
    from runner.programs import given, values

    if text.startswith(_JOB):
        return _result_of(text.removeprefix(_JOB))
    if text.startswith("@"):
        return given.read_value(text[1:])
    try:
        return values.from_json(text)
    except (ValueError, RecursionError):
        return text


def _result_of(named: str) -> Any:
    """Return the result of a kept job, or the part that a JSON Pointer after its name selects."""
    from runner.cli.source import jobs_anywhere
    from runner.encoded.parts import select
    from runner.errors import InputsError
    from runner.programs.values import as_encoded

    job, slash, pointer = named.partition("/")
    with jobs_anywhere() as jobs:
        job_id = jobs.find(job)
        record = jobs.load(job_id).record
    if record is None:
        msg = f"job {job_id} has not ended: `qrunner result {job}` waits for it"
        raise InputsError(msg)
    if record.result is None:
        msg = f"job {job_id} ended as {record.outcome} and has no result"
        raise InputsError(msg)
    try:
        return as_encoded(select(json.loads(record.result), slash + pointer))
    except LookupError as error:
        msg = f"the result of {job_id}: {error}"
        raise InputsError(msg) from None


# --- where the text comes from --------------------------------------------------------------------


def _content(text: str) -> tuple[str, bytes]:
    """Return the name of a source, and the JSON text from it: the option itself, @FILE or `-`."""
    from runner.errors import InputsError

    source = text[1:] if text.startswith("@") else "--inputs"
    try:
        content = text.encode()
        if text == "-":
            content = sys.stdin.buffer.read(MAX_INPUTS_BYTES + 1)
        elif text.startswith("@"):
            with Path(source).open("rb") as file:  # the file may also be a pipe of the shell
                content = file.read(MAX_INPUTS_BYTES + 1)
    except (OSError, ValueError) as error:
        msg = f"{source}: cannot be read: {error}"
        raise InputsError(msg) from error
    if len(content) > MAX_INPUTS_BYTES:
        msg = f"{source}: longer than {MAX_INPUTS_BYTES} bytes, the most a sandbox takes"
        raise InputsError(msg)
    return source, content


def _as_file(text: str) -> str:
    """Return advice if the text is the name of a file."""
    with contextlib.suppress(OSError, ValueError):
        if not text.startswith(("@", "-")) and Path(text).is_file():
            return f"; to read the file write --inputs @{text}"
    return ""


def _opened(text: str) -> tuple[str, BinaryIO]:
    """Return the name of a source, and a stream of its bytes."""
    from runner.errors import InputsError

    if text == "-":
        return "stdin", sys.stdin.buffer
    if text.lstrip().startswith(("{", "[")):
        return "--inputs", io.BytesIO(text.encode())
    source = text.removeprefix("@")
    if not source:
        msg = f"--inputs {text!r} names no file, and is no JSON"
        raise InputsError(msg)
    try:
        return source, Path(source).open("rb")
    except (OSError, ValueError) as error:
        msg = f"{source}: cannot be read: {error}"
        raise InputsError(msg) from error


# --- rows -----------------------------------------------------------------------------------------


def _line_rows(stream: BinaryIO, first: bytes) -> Iterator[Mapping[str, Any] | InputsError]:
    from runner.errors import InputsError

    lines = itertools.chain([first], iter(lambda: stream.readline(MAX_INPUTS_BYTES + 1), b""))
    for number, line in enumerate(lines, 1):
        if len(line) > MAX_INPUTS_BYTES:
            yield InputsError(
                f"line {number} of the inputs is longer than {MAX_INPUTS_BYTES} bytes"
            )
            return  # the next line could be anywhere
        if line.strip():
            yield _row(line, f"line {number} of the inputs")


def _array_rows(content: bytes, source: str) -> Iterator[Mapping[str, Any] | InputsError]:
    from runner.errors import InputsError

    if len(content) > MAX_INPUTS_BYTES:
        msg = f"{source}: an array longer than {MAX_INPUTS_BYTES} bytes: write one object per line"
        raise InputsError(msg)
    try:
        rows = json.loads(content)
    except (ValueError, RecursionError) as error:
        msg = f"{source}: not readable as JSON: {error}"
        raise InputsError(msg) from error
    for number, each in enumerate(rows):
        yield _row(json.dumps(each).encode(), f"item {number} of the inputs")


def _row(text: bytes, where: str) -> Mapping[str, Any] | InputsError:
    from runner.errors import InputsError
    from runner.programs import given

    try:
        return given.inputs_from_json(text)
    except TypeError:
        return InputsError(f"{where} is not an object: {text[:80].decode(errors='replace')}")
    except (ValueError, RecursionError) as error:
        return InputsError(f"{where} is not JSON: {error}")


def _csv_rows(stream: BinaryIO, source: str) -> Iterator[Mapping[str, Any] | InputsError]:
    """Yield a job for each row; a cell is JSON if it parses, else text; empty ones are left out."""
    from runner.errors import InputsError

    with io.TextIOWrapper(stream, encoding="utf-8-sig", newline="") as text:
        reader = csv.DictReader(text, strict=True)
        try:
            names = reader.fieldnames or []
            if not all(names) or len(set(names)) != len(names):
                msg = f"{source}: the first row must name each input once, not {names!r:.200}"
                raise InputsError(msg)
            for row in reader:
                if None in row or None in row.values():
                    where = f"line {reader.line_num} of the inputs"
                    yield InputsError(f"{where} has not {len(names)} cells, as the first row has")
                else:
                    yield {name: _cell(cell) for name, cell in row.items() if cell}
        except (csv.Error, UnicodeDecodeError) as error:
            msg = f"{source}, line {reader.line_num}: not readable as CSV: {error}"
            raise InputsError(msg) from error


def _cell(text: str) -> Any:
    from runner.programs import values

    try:
        return values.from_json(text)
    except (ValueError, RecursionError):
        return text
