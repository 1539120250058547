"""`qrunner check`: run the cases of programs and report which ones hold.

A case is one JSON file in a program's `cases/`: inputs, backend, and what is expected.  A program
without cases is one case: no inputs, expects `completed`.  Nothing of a program's directory is
executed on the host; case files are data, and bounded like everything else in there.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import junitparser

from runner.display import escape, one_line
from runner.errors import ManifestError, RequestError
from runner.job import Job, MessageEvent, Outcome
from runner.manifest import MANIFEST_NAME
from runner.registry import CASES_DIRECTORY, Program, find, read_directory
from runner.supervisor import Supervisor

MAX_CASE_BYTES: Final = 16 * 1024 * 1024

_CASE_KEYS: Final = {"description", "inputs", "backend", "limits", "expect"}
_EXPECT_KEYS: Final = {"outcome", "result", "messages", "message_count"}
_UNSET: Final = object()


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One run of a program and what should come of it; `result` and `messages` may be left out."""

    name: str
    inputs: Mapping[str, Any] = field(default_factory=dict)
    backend: str | Mapping[str, Any] | None = None
    limits: Mapping[str, float] = field(default_factory=dict)
    outcome: Outcome = Outcome.COMPLETED
    result: Any = _UNSET
    messages: Any = _UNSET
    message_count: int | None = None

    @classmethod
    def from_file(cls, path: Path) -> Case:
        """Read a case.  Raises ManifestError that names the key."""
        content = _read_json(path)
        expect = content.get("expect", {})
        _check_keys(content, _CASE_KEYS, str(path))
        _check_keys(expect, _EXPECT_KEYS, f"{path}: expect")
        word = expect.get("outcome", Outcome.COMPLETED.value)
        if word not in set(Outcome):
            msg = f"{path}: expect.outcome: unknown {word!r}; known are {', '.join(Outcome)}"
            raise ManifestError(msg)
        return cls(
            name=path.stem,
            inputs=content.get("inputs", {}),
            backend=content.get("backend"),
            limits=content.get("limits", {}),
            outcome=Outcome(word),
            result=expect.get("result", _UNSET),
            messages=expect.get("messages", _UNSET),
            message_count=expect.get("message_count"),
        )

    def problems(self, job: Job) -> list[str]:
        """Return what differs from the expectation, in words; empty if the case holds."""
        record = job.wait()
        if record.outcome is not self.outcome:
            reason = record.error or record.evidence.detail or ""
            detail = f" ({one_line(reason):.500})" if reason else ""
            return [f"ended as {record.outcome}{detail}, expected {self.outcome}"]
        problems = []
        if self.result is not _UNSET:
            result = json.loads(record.result) if record.result is not None else None
            problems += _difference("result", result, self.result)
        if self.messages is not _UNSET:
            bodies = [json.loads(e.body) for e in job.events() if isinstance(e, MessageEvent)]
            problems += _difference("messages", bodies, self.messages)
        if self.message_count is not None and record.usage.messages != self.message_count:
            problems.append(f"{record.usage.messages} messages, expected {self.message_count}")
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
        found = sorted(each.parent for each in path.rglob(MANIFEST_NAME))
        yield from (str(each) for each in found) if found else iter([text])


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
        cases = _cases(program)
    except RequestError as error:
        yield _refused(text, "program", error)
        return
    for case in cases:
        yield _run_case(supervisor, program, case)


def _cases(program: Program) -> list[Case]:
    files = sorted((program.path / CASES_DIRECTORY).glob("*.json"))
    return [Case.from_file(each) for each in files] or [Case(name="default")]


def _run_case(supervisor: Supervisor, program: Program, case: Case) -> CaseReport:
    name = str(program.path)
    try:
        job = supervisor.run(program, case.inputs, backend=case.backend, limits=case.limits)
    except RequestError as error:
        if case.outcome is Outcome.INVALID_INPUTS:
            outcome = Outcome.INVALID_INPUTS
            return CaseReport(program=name, case=case.name, outcome=outcome, seconds=0, exit_code=0)
        return _refused(name, case.name, error)
    record = job.wait()
    problems = tuple(case.problems(job))
    failing = record.outcome.exit_code if record.outcome is not case.outcome else 1
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
    if not isinstance(content, dict) or not isinstance(content.get("expect", {}), dict):
        msg = f"{path}: a case is an object with inputs and expect"
        raise ManifestError(msg)
    return content


def _check_keys(content: Mapping[str, Any], known: set[str], where: str) -> None:
    if unknown := sorted(set(content) - known):
        msg = f"{where}: unknown key {unknown[0]!r}; known are {', '.join(sorted(known))}"
        raise ManifestError(msg)
