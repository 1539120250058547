"""The lines of a `qrunner map`: written in order, and in a file such that a later map can go on.

While a map runs, its lines go to `FILE.part-N`, which takes the place of FILE at the end.  One that
is killed leaves it, and the next one reads them all.  A job is known by a hash of its program,
backend and inputs.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import sys
from collections import defaultdict, deque
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Final, Self

from runner.cli.output import finished_line
from runner.display import inert_json
from runner.errors import InputsError, RequestError
from sandbox.wire.protocol import MAX_RESULT_BYTES

if TYPE_CHECKING:
    from runner.job import Job
    from runner.programs import Program

KEY: Final = "request_sha256"
_MAX_LINE: Final = 2 * MAX_RESULT_BYTES


class Lines:
    """The lines of jobs, to a file or to stdout; knows those of earlier maps if it resumes.

    A context manager: when the block ends, a file that has a line for each row takes its place.
    A terminal gets no lines: the view has some for people.
    """

    def __init__(self, path: Path | None, *, resume: bool) -> None:
        self._path = path
        self._file: IO[bytes] | None = None
        self._part: Path | None = None
        self._is_complete = False
        self._earlier: list[Path] = []
        self._known: defaultdict[str, deque[tuple[Path, int]]] = defaultdict(deque)
        if path is None:
            return
        parts = sorted(path.parent.glob(f"{path.name}.part-*"))
        self._earlier = [each for each in (path, *parts) if each.is_file()]
        if self._earlier and not resume:
            msg = f"{self._earlier[0]} is there already: add --resume to go on, or remove it"
            raise RequestError(msg)
        number = max((int(n) for each in parts if (n := each.suffix[6:]).isdecimal()), default=0)
        self._part = path.with_name(f"{path.name}.part-{number + 1}")

    def __enter__(self) -> Self:
        if self._part is not None:
            try:
                for each in self._earlier:
                    self._read(each)
                self._file = self._part.open("xb")
            except OSError as error:
                msg = f"{error.filename}: cannot be used: {error.strerror}"
                raise RequestError(msg) from error
        return self

    def __exit__(self, *_: object) -> None:
        if self._file is None or self._path is None or self._part is None:
            return
        self._file.close()
        if self._is_complete:
            self._part.replace(self._path)
            for each in self._earlier:
                if each != self._path:
                    each.unlink(missing_ok=True)

    @property
    def has_earlier(self) -> bool:
        """Whether an earlier map has left lines of jobs that completed."""
        return bool(self._known)

    def completed(self, key: str) -> bytes | None:
        """Return the line of an earlier job that completed, once for each; None without one."""
        if not self._known.get(key):
            return None
        path, place = self._known[key].popleft()
        with path.open("rb") as file:
            file.seek(place)
            return file.readline(_MAX_LINE)

    def write(self, line: bytes) -> None:
        """Write a line, at once: whoever reads it, or kills us, has it."""
        if self._file is None and sys.stdout.isatty():
            return
        target = self._file or sys.stdout.buffer
        target.write(line.rstrip(b"\n") + b"\n")
        target.flush()

    def finish(self) -> None:
        """Say that all jobs have their line."""
        self._is_complete = True

    def _read(self, path: Path) -> None:
        with path.open("rb") as file:
            place = 0
            while line := file.readline(_MAX_LINE):
                # What was cut off by the end of a process is no JSON, and is run again.
                with contextlib.suppress(ValueError):
                    event = json.loads(line)
                    if event["outcome"] == "completed":
                        self._known[str(event.get(KEY))].append((path, place))
                place += len(line)


def identity(program: Program, backend: object) -> str:
    """Return what the jobs of a map have in common, beside their inputs."""
    files = {name: hashlib.sha256(each).hexdigest() for name, each in program.files.items()}
    return json.dumps([backend, files, [str(pin) for pin in program.pins]], sort_keys=True)


class Resumed:
    """The rows of a map without those whose jobs have completed before; an iterator.

    Rows are read ahead of the jobs; `write` puts the lines of both kinds into the rows' order.
    `common` is what all the jobs share; `text_of` returns the inputs of a row as a job has them, or
    raises InputsError.
    """

    def __init__(
        self,
        lines: Lines,
        common: str,
        text_of: Callable[[Mapping[str, Any]], str],
        rows: Iterator[Mapping[str, Any] | InputsError],
    ) -> None:
        self._lines = lines
        self._start = hashlib.sha256(common.encode())
        self._text_of = text_of
        self._rows = enumerate(rows)
        self._running: deque[int] = deque()
        self._completed: deque[tuple[int, bytes]] = deque()
        self.again = 0

    def __iter__(self) -> Iterator[Mapping[str, Any] | InputsError]:
        for index, row in self._rows:
            line = None if isinstance(row, InputsError) else self._earlier(row)
            if line is None:
                self._running.append(index)
                yield row
            else:
                self.again += 1
                self._completed.append((index, line))

    def write(self, job: Job) -> int:
        """Write the line of the next job that has ended, and what stands before; its index."""
        index = self._running.popleft()
        self._write_completed(index)
        record, key = job.wait(), self._key(job.request.inputs)
        line = finished_line(record, job.mismatches(), index=index, **{KEY: key})
        self._lines.write(inert_json(line).encode())
        return index

    def finish(self) -> None:
        """Write what stands behind the last job."""
        self._write_completed(None)
        self._lines.finish()

    def _write_completed(self, end: int | None) -> None:
        while self._completed and (end is None or self._completed[0][0] < end):
            index, line = self._completed.popleft()
            event = json.loads(line)
            if event["index"] != index:
                line = json.dumps({**event, "index": index}).encode()
            self._lines.write(line)

    def _earlier(self, row: Mapping[str, Any]) -> bytes | None:
        if not self._lines.has_earlier:
            return None
        try:
            text = self._text_of(row)
        except InputsError:
            return None  # refused again, in its place
        return self._lines.completed(self._key(text))

    def _key(self, inputs: str) -> str:
        digest = self._start.copy()
        digest.update(inputs.encode())
        return digest.hexdigest()
