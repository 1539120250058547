"""Cases: the inputs that test a program, and the check that the results are as expected.

A case is one JSON file in a program's `cases/`; `case_schema` defines its format.  Where isolations
differ, `expect_runsc` (or `expect_runc`) replaces `expect` on that isolation.  A program without
cases has one case: no inputs, expects `completed`.  Nothing in a program's directory is executed on
the host. Case files are data, bounded like all other files there.
"""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, TypeAlias

from runner.backends.recording import Recording
from runner.checking import judging
from runner.checking.case_schema import EXPECT_ON, IN_SESSION
from runner.checking.expectation import Expectation
from runner.display import one_line
from runner.errors import InputsError, ManifestError, RequestError
from runner.host import files
from runner.job import Job
from runner.job.record import JobRecord, MessageEvent
from runner.programs import CASES_DIRECTORY, Program, check_name, given, reading

MAX_CASE_BYTES: Final = 16 * 1024 * 1024
MAX_CASES: Final = 1000
MAX_CASE_DEPTH: Final = 128
"""The deepest nesting of lists and objects in a case; values are at most half as deep."""

DEFAULT_CASE: Final = "default"


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One run of a program and its expectation, with separate ones for some isolations."""

    name: str
    inputs: Mapping[str, Any] = field(default_factory=dict)
    backend: str | Mapping[str, Any] | Recording | None = None
    limits: Mapping[str, float] = field(default_factory=dict)
    expect: Expectation = field(default_factory=Expectation)
    expect_on: Mapping[str, Expectation] = field(default_factory=dict)

    @classmethod
    def from_file(cls, path: Path) -> Case:
        """Read a case.  Raises ManifestError that names the key."""
        content = _read_json(path)
        judging.check(content, str(path))
        return cls(
            name=path.stem,
            inputs=_inputs(content, path),
            backend=_backend(content, path),
            limits=content.get("limits", {}),
            expect=Expectation.from_data(content.get("expect", {}), f"{path}: expect"),
            expect_on={
                isolation: Expectation.from_data(content[key], f"{path}: {key}")
                for key, isolation in EXPECT_ON.items()
                if key in content
            },
        )

    def expected_of(self, record: JobRecord) -> Expectation:
        """Return the expectation for a job: in a session, on its isolation, or the general one."""
        expected = self.expect_on.get(record.isolation or "", self.expect)
        if IN_SESSION in record.exceptions:
            return self.expect_on.get(IN_SESSION, expected)
        return expected

    def problems(self, job: Job, abandoned: threading.Event | None = None) -> list[str]:
        """Return the differences from the expectation as text; empty if the case holds.

        Raises AbandonedError soon after `abandoned` is set.
        """
        record = job.wait()
        expected = self.expected_of(record)
        if record.outcome not in expected.outcomes:
            detail = f" ({one_line(record.reason):.500})" if record.reason else ""
            return [f"ended as {record.outcome}{detail}, expected {' or '.join(expected.outcomes)}"]
        bodies = [each.body for each in job.events() if isinstance(each, MessageEvent)]
        return judging.problems(
            expected, record.result, bodies, record.usage.messages, abandoned=abandoned
        )


def case_files(program: Program) -> list[Path]:
    """Return the files of a program's cases, in order.

    Raises ManifestError if there are too many, or if a link, special file or invalid name is among
    them.
    """
    directory = program.path / CASES_DIRECTORY
    with reading(directory):
        found = _case_files(directory)
    if len(found) > MAX_CASES:
        msg = f"{directory}: {len(found)} cases: at most {MAX_CASES} are run"
        raise ManifestError(msg)
    return found


def _case_files(directory: Path) -> list[Path]:
    if not os.path.lexists(directory):
        return []
    if directory.is_symlink() or not directory.is_dir():
        msg = f"{directory}: must be a directory, not a link or a file"
        raise ManifestError(msg)
    found = []
    for each in sorted(directory.iterdir()):
        check_name(each)
        if each.is_symlink() or not (each.is_file() or each.is_dir()):
            msg = f"{each}: a symbolic link or special file; a case must be a regular file"
            raise ManifestError(msg)
        if each.suffix == ".json":
            found.append(each)
    return found


def cases(program: Program) -> list[Case]:
    """Return the cases of a program, or one case without inputs if it has none."""
    return [Case.from_file(each) for each in case_files(program)] or [Case(name=DEFAULT_CASE)]


def _inputs(content: dict[str, Any], path: Path) -> dict[str, Any]:
    """Return the inputs of a case, and those that are in files beside it.

    Only beside it: a case may come from a stranger, and what it names reaches the program.
    """
    inputs, room = given.inputs_from_json(json.dumps(content.get("inputs", {}))), MAX_CASE_BYTES
    for name, file in content.get("input_files", {}).items():
        where = f"{path}: input_files.{one_line(name)}"
        if name in inputs:
            msg = f"{where}: {one_line(name)!r:.80} is in inputs as well: name it once"
            raise ManifestError(msg)
        try:
            read = files.read(path.parent / file, most_bytes=room)
            inputs[name] = given.value_of(read, path.parent / file)
        except (OSError, InputsError) as error:
            reason = error.strerror if isinstance(error, OSError) else error
            msg = f"{where}: {one_line(file)}: {reason}"
            raise ManifestError(msg) from error
        room -= len(read)
    return inputs


def _backend(content: dict[str, Any], path: Path) -> str | Mapping[str, Any] | Recording | None:
    """Return the backend of a case, or the recording beside it that stands in its place."""
    if "recording" not in content:
        return _seeded(content.get("backend"), content.get("seed"))
    where = f"{path}: recording"
    if also := sorted({"backend", "seed"} & set(content)):
        msg = f"{where}: it stands in the place of a backend: leave out {also[0]}"
        raise ManifestError(msg)
    file = path.parent / content["recording"]
    try:
        text = files.read(file, most_bytes=MAX_CASE_BYTES).decode()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        msg = f"{where}: {one_line(content['recording'])}: {reason}"
        raise ManifestError(msg) from error
    try:
        return Recording.from_text(text, f"{where}: {one_line(content['recording'])}")
    except RequestError as error:
        raise ManifestError(str(error)) from error


_Backend: TypeAlias = str | Mapping[str, Any] | None


def _seeded(backend: _Backend, seed: int | None) -> _Backend:
    """Return the backend with this seed, unless its options have one."""
    if seed is None:
        return backend
    described: Mapping[str, Any] = {"name": backend} if isinstance(backend, str) else backend or {}
    return {**described, "options": {"seed_simulator": seed, **described.get("options", {})}}


def _read_json(path: Path) -> dict[str, Any]:
    try:
        text = files.read(path, most_bytes=MAX_CASE_BYTES)
    except OSError as error:
        msg = f"{path}: cannot be read, and a case must be a regular file: {error.strerror}"
        raise ManifestError(msg) from error
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        msg = f"{path}: not JSON: {error}"
        raise ManifestError(msg) from error
    if not isinstance(content, dict):
        msg = f"{path}: a case is an object with inputs and expect"
        raise ManifestError(msg)
    _check_depth(content, path)
    return content


def _check_depth(content: dict[str, Any], path: Path) -> None:
    """Raise ManifestError if the content is nested deeper than `MAX_CASE_DEPTH`."""
    level: list[Any] = [content]
    for _ in range(MAX_CASE_DEPTH):
        inside = [each.values() if isinstance(each, dict) else each for each in level]
        level = [part for each in inside for part in each if isinstance(part, (dict, list))]
        if not level:
            return
    msg = f"{path}: nested deeper than {MAX_CASE_DEPTH}"
    raise ManifestError(msg)
