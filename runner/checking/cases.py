"""Cases: what a program is run with to test it, and whether what came of it is as expected.

A case is one JSON file in a program's `cases/`; `case_schema` says what it may hold.  Where
isolations differ, `expect_runsc` (or `expect_runc`) stands beside `expect` and is what is expected
there.  A program without cases is one case: no inputs, expects `completed`.  Nothing of a
program's directory is executed on the host; case files are data, and bounded like everything else
in there.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, TypeAlias

from jsonschema import Draft202012Validator
from jsonschema.exceptions import best_match

from runner.checking.case_schema import CASE, EXPECT, EXPECT_ON, IN_SESSION
from runner.checking.comparison import Tolerance, difference
from runner.checking.distribution import Distribution
from runner.display import one_line
from runner.encoded.counts import counts_of
from runner.encoded.parts import lookup
from runner.errors import ManifestError
from runner.host import files
from runner.job import Job
from runner.job.record import JobRecord, MessageEvent, Outcome
from runner.programs import CASES_DIRECTORY, Program, check_name, reading
from runner.programs.schema import flaw
from runner.programs.schema import problems as schema_problems

MAX_CASE_BYTES: Final = 16 * 1024 * 1024
MAX_CASES: Final = 1000
MAX_CASE_DEPTH: Final = 128
"""How deep lists and objects of a case may be nested; values are no deeper than half of it."""

DEFAULT_CASE: Final = "default"

_UNSET: Final = object()


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """What is expected of one part of messages and result: one of the three after `at`.

    `at` is a JSON Pointer that begins with `/result` or `/messages`.
    """

    at: str
    equals: Any = _UNSET
    schema: Mapping[str, Any] | None = None
    distribution: Distribution | None = None
    tolerance: Tolerance | None = None

    @classmethod
    def from_data(cls, data: Mapping[str, Any]) -> Check:
        """Read a check whose types are right.  Raises ValueError in words for what is not."""
        wanted = data.get("schema")
        if isinstance(wanted, bool):
            wanted = {} if wanted else {"not": {}}
        if wanted is not None and (found := flaw(wanted)):
            msg = f"not a JSON Schema: {found[1]}"
            raise ValueError(msg)
        counts = data.get("distribution")
        return cls(
            at=data["at"],
            equals=data.get("equals", _UNSET),
            schema=wanted,
            distribution=None if counts is None else Distribution.from_data(counts),
            tolerance=_tolerance(data),
        )

    def problems(self, document: Mapping[str, Any]) -> list[str]:
        """Return what is wrong with that part, in words; `document` holds result and messages."""
        name = one_line(self.at)
        try:
            seen = lookup(document, self.at)
        except LookupError as error:
            return [f"nothing at {name}: {error.args[0]}"]
        if self.schema is not None:
            return schema_problems(self.schema, seen, name=name)
        if self.distribution is None:
            return difference(name, seen, self.equals, self.tolerance)
        try:
            problem = self.distribution.problem(counts_of(seen))
        except ValueError as error:
            problem = str(error)
        return [] if problem is None else [f"{name} {problem}"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Expectation:
    """What should come of a case, any of the outcomes; everything else may be left out."""

    outcomes: tuple[Outcome, ...] = (Outcome.COMPLETED,)
    result: Any = _UNSET
    messages: Any = _UNSET
    message_count: int | None = None
    tolerance: Tolerance | None = None
    checks: tuple[Check, ...] = ()

    @classmethod
    def from_data(cls, content: Mapping[str, Any], where: str) -> Expectation:
        """Read what a case expects; `where` names it in errors.  Raises ManifestError."""
        _check(content, EXPECT, where)
        words = content.get("outcome", Outcome.COMPLETED)
        checks = []
        for number, each in enumerate(content.get("checks", ())):
            try:
                checks.append(Check.from_data(each))
            except ValueError as error:
                msg = f"{where}.checks.{number}: {error}"
                raise ManifestError(msg) from error
        return cls(
            outcomes=tuple(map(Outcome, [words] if isinstance(words, str) else words)),
            result=content.get("result", _UNSET),
            messages=content.get("messages", _UNSET),
            message_count=content.get("message_count"),
            tolerance=_tolerance(content),
            checks=tuple(checks),
        )

    def problems(self, result: Any, messages: list[Any], message_count: int | None) -> list[str]:
        """Return how encoded result and messages differ from what is expected, in words."""
        found = []
        if self.result is not _UNSET:
            found += difference("result", result, self.result, self.tolerance)
        if self.messages is not _UNSET:
            found += difference("messages", messages, self.messages, self.tolerance)
        if self.message_count not in {None, message_count}:
            found.append(f"{message_count} messages, expected {self.message_count}")
        document = {"result": result, "messages": messages}
        for each in self.checks:
            found += each.problems(document)
        return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One run of a program and what should come of it, for some isolations something of its own."""

    name: str
    inputs: Mapping[str, Any] = field(default_factory=dict)
    backend: str | Mapping[str, Any] | None = None
    limits: Mapping[str, float] = field(default_factory=dict)
    expect: Expectation = field(default_factory=Expectation)
    expect_on: Mapping[str, Expectation] = field(default_factory=dict)

    @classmethod
    def from_file(cls, path: Path) -> Case:
        """Read a case.  Raises ManifestError that names the key."""
        content = _read_json(path)
        _check(content, CASE, str(path))
        return cls(
            name=path.stem,
            inputs=content.get("inputs", {}),
            backend=_seeded(content.get("backend"), content.get("seed")),
            limits=content.get("limits", {}),
            expect=Expectation.from_data(content.get("expect", {}), f"{path}: expect"),
            expect_on={
                isolation: Expectation.from_data(content[key], f"{path}: {key}")
                for key, isolation in EXPECT_ON.items()
                if key in content
            },
        )

    def expected_of(self, record: JobRecord) -> Expectation:
        """Return what is expected of a job: in a session, on its isolation, or anywhere."""
        expected = self.expect_on.get(record.isolation or "", self.expect)
        if IN_SESSION in record.exceptions:
            return self.expect_on.get(IN_SESSION, expected)
        return expected

    def problems(self, job: Job) -> list[str]:
        """Return what differs from the expectation, in words; empty if the case holds."""
        record = job.wait()
        expected = self.expected_of(record)
        if record.outcome not in expected.outcomes:
            detail = f" ({one_line(record.reason):.500})" if record.reason else ""
            return [f"ended as {record.outcome}{detail}, expected {' or '.join(expected.outcomes)}"]
        result = json.loads(record.result) if record.result is not None else None
        messages = [json.loads(e.body) for e in job.events() if isinstance(e, MessageEvent)]
        try:
            return expected.problems(result, messages, record.usage.messages)
        except Exception as error:  # noqa: BLE001  only values of a program and a case are at work
            words = one_line(f"{type(error).__name__}: {error}")
            return [f"what came of it cannot be compared with what is expected: {words:.500}"]


def case_files(program: Program) -> list[Path]:
    """Return the files of a program's cases, in order.

    Raises ManifestError for too many, and by name for links, special files and odd names among
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
    """Return the cases of a program; one, without inputs, if it has none."""
    return [Case.from_file(each) for each in case_files(program)] or [Case(name=DEFAULT_CASE)]


_Backend: TypeAlias = str | Mapping[str, Any] | None


def _seeded(backend: _Backend, seed: int | None) -> _Backend:
    """Return the backend with a seed for what it draws, unless its options have one."""
    if seed is None:
        return backend
    described: Mapping[str, Any] = {"name": backend} if isinstance(backend, str) else backend or {}
    return {**described, "options": {"seed_simulator": seed, **described.get("options", {})}}


def _tolerance(data: Mapping[str, Any]) -> Tolerance | None:
    return Tolerance(**data["tolerance"]) if "tolerance" in data else None


def _check(content: Mapping[str, Any], known: Mapping[str, Any], where: str) -> None:
    """Raise ManifestError that names the first key that is wrong."""
    error = best_match(Draft202012Validator(known).iter_errors(content))
    if error is None:
        return
    key = ".".join(str(each) for each in error.absolute_path)
    problem = f"{error.message:.300}"
    if error.validator == "additionalProperties":
        known_keys = error.schema["properties"]
        unknown = min(set(error.instance) - set(known_keys))
        names = ", ".join(sorted(each for each in known_keys if each[0] != "$"))
        problem = f"unknown key {unknown!r:.80}; known are {names}"
    msg = f"{where}: {key}: {problem}" if key else f"{where}: {problem}"
    raise ManifestError(msg)


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
    """Raise ManifestError for what is nested deeper than `MAX_CASE_DEPTH`."""
    level: list[Any] = [content]
    for _ in range(MAX_CASE_DEPTH):
        inside = [each.values() if isinstance(each, dict) else each for each in level]
        level = [part for each in inside for part in each if isinstance(part, (dict, list))]
        if not level:
            return
    msg = f"{path}: nested deeper than {MAX_CASE_DEPTH}"
    raise ManifestError(msg)
