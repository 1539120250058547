"""`qrunner check`: run the cases of programs and report which ones hold.

A case is one JSON file in a program's `cases/`: inputs, backend, limits, and what is expected.
Where isolations differ, `expect_runsc` (or `expect_runc`) stands beside `expect` and is what is
expected there.  A program without cases is one case: no inputs, expects `completed`.  Nothing of a
program's directory is executed on the host; case files are data, and bounded like everything else
in there.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import junitparser
from jsonschema import Draft202012Validator
from jsonschema.exceptions import best_match

from runner.display import escape, one_line
from runner.errors import ManifestError, RequestError
from runner.isolation import Isolation
from runner.job import Job, MessageEvent, Outcome
from runner.manifest import MANIFEST_NAMES
from runner.registry import CASES_DIRECTORY, Program, find, read_directory
from runner.supervisor import Supervisor

MAX_CASE_BYTES: Final = 16 * 1024 * 1024

_EXPECT_ON: Final = {f"expect_{each}": each.value for each in Isolation}
_CASE_KEYS: Final = {"description", "inputs", "backend", "limits", "expect", *_EXPECT_ON}
_EXPECT_KEYS: Final = {"outcome", "result", "messages", "message_count"}
_UNSET: Final = object()

_OUTCOME: Final = {"enum": [each.value for each in Outcome]}
_CASE_SCHEMA: Final = {
    "properties": {
        "inputs": {"type": "object"},
        "backend": {
            "type": ["string", "object", "null"],
            "properties": {"name": {"type": "string"}, "options": {"type": "object"}},
        },
        "limits": {"type": "object", "additionalProperties": {"type": "number"}},
    },
    "patternProperties": {
        "^expect": {
            "type": "object",
            "properties": {
                "outcome": {"anyOf": [_OUTCOME, {"type": "array", "items": _OUTCOME}]},
                "message_count": {"type": "integer"},
            },
        }
    },
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Expectation:
    """What should come of a case, any of the outcomes; the other three may be left out."""

    outcomes: tuple[Outcome, ...] = (Outcome.COMPLETED,)
    result: Any = _UNSET
    messages: Any = _UNSET
    message_count: int | None = None

    @classmethod
    def from_data(cls, content: Mapping[str, Any], where: str) -> Expectation:
        """Read what a case expects; `where` names it in errors.  Raises ManifestError."""
        _check_keys(content, _EXPECT_KEYS, where)
        words = content.get("outcome", Outcome.COMPLETED)
        return cls(
            outcomes=tuple(map(Outcome, [words] if isinstance(words, str) else words)),
            result=content.get("result", _UNSET),
            messages=content.get("messages", _UNSET),
            message_count=content.get("message_count"),
        )


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
        _check_keys(content, _CASE_KEYS, str(path))
        if error := best_match(Draft202012Validator(_CASE_SCHEMA).iter_errors(content)):
            key = ".".join(str(each) for each in error.absolute_path)
            msg = f"{path}: {key}: {error.message:.300}"
            raise ManifestError(msg)
        return cls(
            name=path.stem,
            inputs=content.get("inputs", {}),
            backend=content.get("backend"),
            limits=content.get("limits", {}),
            expect=Expectation.from_data(content.get("expect", {}), f"{path}: expect"),
            expect_on={
                isolation: Expectation.from_data(content[key], f"{path}: {key}")
                for key, isolation in _EXPECT_ON.items()
                if key in content
            },
        )

    def expected_on(self, isolation: str | None) -> Expectation:
        """Return what is expected on one isolation."""
        return self.expect_on.get(isolation or "", self.expect)

    def problems(self, job: Job) -> list[str]:
        """Return what differs from the expectation, in words; empty if the case holds."""
        record = job.wait()
        expected = self.expected_on(record.isolation)
        if record.outcome not in expected.outcomes:
            reason = record.error or record.evidence.detail or ""
            detail = f" ({one_line(reason):.500})" if reason else ""
            return [f"ended as {record.outcome}{detail}, expected {' or '.join(expected.outcomes)}"]
        problems = []
        if expected.result is not _UNSET:
            result = json.loads(record.result) if record.result is not None else None
            problems += _difference("result", result, expected.result)
        if expected.messages is not _UNSET:
            bodies = [json.loads(e.body) for e in job.events() if isinstance(e, MessageEvent)]
            problems += _difference("messages", bodies, expected.messages)
        if expected.message_count not in {None, record.usage.messages}:
            seen = record.usage.messages
            problems.append(f"{seen} messages, expected {expected.message_count}")
        return problems


@dataclass(frozen=True, slots=True, kw_only=True)
class CaseReport:
    """How one case went; `exit_code` is 0 if it holds."""

    program: str
    case: str
    outcome: Outcome
    seconds: float
    exit_code: int
    problems: tuple[str, ...] = ()
    log_tail: str = ""


def discover(paths: Iterable[str]) -> Iterator[str]:
    """Yield every program under the paths: names, `.py` files, and trees with manifests in them."""
    for text in paths:
        path = Path(text)
        if not path.is_dir():
            yield text
            continue
        found = {each.parent for name in MANIFEST_NAMES for each in path.rglob(name)}
        yield from (str(each) for each in sorted(found)) if found else iter([text])


def check(
    supervisor: Supervisor, paths: Iterable[str], report: Callable[[CaseReport], object]
) -> list[CaseReport]:
    """Run every case of every program, one after another, calling `report` after each."""
    reports = []
    for text in discover(paths):
        for each in _check_program(supervisor, text):
            report(each)
            reports.append(each)
    return reports


def _check_program(supervisor: Supervisor, text: str) -> Iterator[CaseReport]:
    try:
        program = read_directory(Path(text)) if Path(text).is_dir() else find(text)
        found = cases(program)
    except RequestError as error:
        yield _refused(text, "program", error)
        return
    for case in found:
        yield _run_case(supervisor, program, case)


def cases(program: Program) -> list[Case]:
    """Return the cases of a program; one, without inputs, if it has none."""
    files = sorted((program.path / CASES_DIRECTORY).glob("*.json"))
    return [Case.from_file(each) for each in files] or [Case(name="default")]


def _run_case(supervisor: Supervisor, program: Program, case: Case) -> CaseReport:
    name = str(program.path)
    try:
        job = supervisor.run(program, case.inputs, backend=case.backend, limits=case.limits)
    except RequestError as error:
        if Outcome.INVALID_INPUTS in case.expect.outcomes:
            outcome = Outcome.INVALID_INPUTS
            return CaseReport(program=name, case=case.name, outcome=outcome, seconds=0, exit_code=0)
        return _refused(name, case.name, error)
    record = job.wait()
    expected = case.expected_on(record.isolation)
    problems = tuple(case.problems(job))
    failing = record.outcome.exit_code if record.outcome not in expected.outcomes else 1
    return CaseReport(
        program=name,
        case=case.name,
        outcome=record.outcome,
        seconds=record.usage.wall_s or 0.0,
        exit_code=max(1, failing) if problems else 0,
        problems=problems,
        log_tail=(record.traceback or job.log_tail()) if problems else "",
    )


def _refused(program: str, case: str, error: RequestError) -> CaseReport:
    return CaseReport(
        program=program,
        case=case,
        outcome=Outcome.INVALID_INPUTS,
        seconds=0.0,
        exit_code=error.exit_code,
        problems=(str(error),),
    )


def write_junit(reports: Iterable[CaseReport], path: Path) -> None:
    """Write the reports as JUnit XML: a suite per program, a failure for it, an error for us."""
    document = junitparser.JUnitXml("qrunner check")
    suites: dict[str, junitparser.TestSuite] = {}
    for each in reports:
        suite = suites.setdefault(each.program, junitparser.TestSuite(escape(each.program)))
        case = junitparser.TestCase(escape(each.case), escape(each.program), each.seconds)
        if each.problems:
            ours = each.exit_code >= Outcome.SANDBOX_ERROR.exit_code
            kind = junitparser.Error if ours else junitparser.Failure
            problem = kind("; ".join(one_line(text) for text in each.problems), each.outcome.value)
            problem.text = escape(each.log_tail)
            case.result = [problem]
        suite.add_testcase(case)
    for suite in suites.values():
        document.add_testsuite(suite)
    document.write(str(path), pretty=True)


def _difference(what: str, seen: Any, expected: Any) -> list[str]:
    if seen == expected:
        return []
    shown = [one_line(json.dumps(each)) for each in (seen, expected)]
    return [f"{what} is {shown[0]:.300}, expected {shown[1]:.300}"]


def _read_json(path: Path) -> dict[str, Any]:
    if path.is_symlink() or not path.is_file():
        msg = f"{path}: a case must be a regular file"
        raise ManifestError(msg)
    if path.stat().st_size > MAX_CASE_BYTES:
        msg = f"{path}: larger than {MAX_CASE_BYTES} bytes"
        raise ManifestError(msg)
    try:
        content = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        msg = f"{path}: not JSON: {error}"
        raise ManifestError(msg) from error
    if not isinstance(content, dict):
        msg = f"{path}: a case is an object with inputs and expect"
        raise ManifestError(msg)
    return content


def _check_keys(content: Mapping[str, Any], known: set[str], where: str) -> None:
    if unknown := sorted(set(content) - known):
        msg = f"{where}: unknown key {unknown[0]!r}; known are {', '.join(sorted(known))}"
        raise ManifestError(msg)
