"""The results of `qrunner check`: as values, and as files and lines for other tools.

JUnit XML, Markdown and JSON, all of bounded size.  The checked programs are untrusted: their output
and their names are escaped for each format here, and only here.
"""

from __future__ import annotations

import json
import os
import stat
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import junitparser

from runner.display import inert_json, one_line, quoted
from runner.errors import RequestError
from runner.host import files
from runner.job.record import Outcome

MAX_PROBLEMS: Final = 20
MAX_PROBLEM: Final = 1000
MAX_LOG_TAIL: Final = 8000
"""How many of the last characters of log or traceback the report of a case keeps."""

MAX_SUMMARY_BYTES: Final = 512 * 1024
"""The longest Markdown summary in bytes; GitHub accepts 1 MiB per step."""

_MARKS: Final = ("ok", "FAIL")
# Jenkins and GitLab take files from paths written in this form.
_ATTACHMENT: Final = ("[[ATTACHMENT|", "\\x5b[ATTACHMENT|")


@dataclass(frozen=True, slots=True, kw_only=True)
class CaseReport:
    """The report of one case; `exit_code` is 0 if it holds.

    `log_tail` is the traceback, or the end of the log, of a case that does not hold.
    """

    program: str
    case: str
    outcome: Outcome
    seconds: float
    exit_code: int
    problems: tuple[str, ...] = ()
    log_tail: str = ""

    def __post_init__(self) -> None:
        problems = tuple(each[:MAX_PROBLEM] for each in self.problems[:MAX_PROBLEMS])
        object.__setattr__(self, "problems", problems)
        object.__setattr__(self, "log_tail", self.log_tail[-MAX_LOG_TAIL:])

    @property
    def holds(self) -> bool:
        """Return True if everything was as expected."""
        return self.exit_code == 0

    @property
    def is_our_fault(self) -> bool:
        """Return True if the program is not to blame: our fault, the engine's, or interrupted."""
        return self.exit_code >= Outcome.SANDBOX_ERROR.exit_code


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """The counts of all reports; `exit_code` is the highest of the cases'."""

    programs: int
    cases: int
    passed: int
    failed: int
    exit_code: int

    @classmethod
    def of(cls, reports: Sequence[CaseReport]) -> Summary:
        """Count the reports."""
        passed = sum(each.holds for each in reports)
        return cls(
            programs=len({each.program for each in reports}),
            cases=len(reports),
            passed=passed,
            failed=len(reports) - passed,
            exit_code=max((each.exit_code for each in reports), default=0),
        )


# --- lines ---------------------------------------------------------------------------------------


def case_line(report: CaseReport) -> str:
    """Return a report as one event of `--format json`: strict JSON in ASCII."""
    content: dict[str, Any] = {"event": "case", **asdict(report), "outcome": report.outcome.value}
    return inert_json(json.dumps(content, allow_nan=False))


def summary_line(summary: Summary, error: str | None = None) -> str:
    """Return the last event of `--format json`; `error` says why cases are missing."""
    return inert_json(json.dumps({"event": "summary", **asdict(summary), "error": error}))


def human_lines(report: CaseReport) -> tuple[str, str]:
    """Return the mark of a report, and its lines; the first one goes beside the mark."""
    lines = [
        f"{one_line(report.program)} :: {one_line(report.case)}"
        f"  ({report.outcome}, {report.seconds:.2f} s)\n"
    ]
    lines += [f"      {one_line(problem)}\n" for problem in report.problems]
    if report.log_tail:
        lines.append(quoted(report.log_tail, "      | "))
    return _MARKS[not report.holds], "".join(lines)


# --- JUnit ---------------------------------------------------------------------------------------


def junit(reports: Iterable[CaseReport]) -> bytes:
    """Return the reports as JUnit XML: a suite per program, a failure for it, an error for us."""
    document = junitparser.JUnitXml("qrunner check")
    suites: dict[str, junitparser.TestSuite] = {}
    for each in reports:
        suite = suites.setdefault(each.program, junitparser.TestSuite(_xml_line(each.program)))
        case = junitparser.TestCase(_xml_line(each.case), _xml_line(each.program), each.seconds)
        if not each.holds:
            kind = junitparser.Error if each.is_our_fault else junitparser.Failure
            problem = kind(_xml_line("; ".join(each.problems)), each.outcome.value)
            problem.text = quoted("\n".join(each.problems), "").replace(*_ATTACHMENT)
            if each.log_tail:
                problem.text += quoted(each.log_tail).replace(*_ATTACHMENT)
            case.result = [problem]
        suite.add_testcase(case)
    for suite in suites.values():
        document.add_testsuite(suite)
    return bytes(document.tostring())  # type: ignore[no-untyped-call]


def _xml_line(text: str) -> str:
    return one_line(text).replace(*_ATTACHMENT)


# --- Markdown ------------------------------------------------------------------------------------


def markdown(reports: Sequence[CaseReport]) -> str:
    """Return the reports as Markdown: a table of programs, then the failed cases."""
    summary = Summary.of(reports)
    parts = [
        f"### qrunner check: {summary.passed} passed, {summary.failed} failed\n\n",
        "| program | passed | failed | outcomes that were not expected |\n|---|---|---|---|\n",
    ]
    suites: dict[str, list[CaseReport]] = {}
    for each in reports:
        suites.setdefault(each.program, []).append(each)
    for program, its in suites.items():
        failing = Counter(each.outcome.value for each in its if not each.holds)
        words = ", ".join(f"{number} {word}" for word, number in sorted(failing.items()))
        passed = len(its) - failing.total()
        parts.append(f"| {_code(program)} | {passed} | {failing.total()} | {words} |\n")
    parts += [_failure(each) for each in reports if not each.holds]
    return _bounded(parts)


def _failure(report: CaseReport) -> str:
    shown = quoted("\n".join(report.problems))
    if report.log_tail:
        shown += quoted(report.log_tail)
    return (
        f"\n#### {_code(report.program)} :: {_code(report.case)}: {report.outcome}\n\n"
        # Each of its lines has a prefix, so none can close the fence.
        f"```text\n{shown}```\n"
    )


def _bounded(parts: Iterable[str]) -> str:
    kept, size, left_out = [], 0, 0
    for part in parts:
        size += len(part.encode())
        if size > MAX_SUMMARY_BYTES:
            left_out += 1
        else:
            kept.append(part)
    if left_out:
        kept.append(f"\n… and {left_out} more, which do not fit into the summary.\n")
    return "".join(kept)


def _code(text: str) -> str:
    """Return text that Markdown shows literally, also in a table."""
    return f"`{one_line(text).replace('`', chr(92) + 'x60').replace('|', chr(92) + 'x7c') or ' '}`"


# --- files ---------------------------------------------------------------------------------------


def check_writable(path: Path) -> None:
    """Refuse a report path that is a link or not a regular file: a checkout may contain one.

    Raises RequestError.
    """
    if os.path.lexists(path) and not stat.S_ISREG(path.lstat().st_mode):
        msg = f"{path}: a report is written to a regular file, not to a link or special file"
        raise RequestError(msg)
    if not path.parent.is_dir():
        msg = f"{path}: there is no directory {path.parent}: make it first"
        raise RequestError(msg)


def write_file(path: Path, content: bytes) -> None:
    """Replace a whole report file atomically.  Raises RequestError."""
    check_writable(path)
    try:
        files.replace(path, content)
    except OSError as error:
        msg = f"{path}: cannot be written: {error.strerror}"
        raise RequestError(msg) from error


def append_file(path: Path, text: str) -> None:
    """Append to a file of a CI system.  Raises RequestError."""
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        with os.fdopen(os.open(path, flags, 0o644), "ab") as file:
            file.write(f"\n{text}".encode())
    except OSError as error:
        msg = f"{path}: the summary cannot be appended: {error.strerror}"
        raise RequestError(msg) from error
