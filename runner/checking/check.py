"""`qrunner check`: find programs, run all their cases in parallel, report which ones hold.

Each case runs in a sandbox of its own, and reports come in a stable order, independent of which
case ends first.  The programs are untrusted: nothing of them is executed or imported here, case
files are data, and only the running cases and a bounded report of each case are kept in memory.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
import logging
import math
import os
import threading
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from runner.checking.cases import DEFAULT_CASE, Case, case_files
from runner.checking.report import CaseReport
from runner.display import one_line
from runner.errors import ManifestError, RequestError, RunnerError, our_own
from runner.host.bounded import AbandonedError
from runner.host.files import listings
from runner.job import Job
from runner.job.record import Outcome
from runner.programs import NOT_SOURCES, Program, check_name, find, has_metadata, read_directory
from runner.programs.manifest import DEFAULT_ENTRY, MANIFEST_NAMES
from runner.supervisor import Supervisor

log = logging.getLogger(__name__)

MAX_PROGRAMS: Final = 10_000
MAX_CASES: Final = 100_000
MANIFEST_CASE: Final = "manifest"
"""The case name in the report of a program that cannot be used at all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Planned:
    """One case to be run; `file` is None for the only case of a program without case files.

    If the case cannot be run, `refused` is its report.
    """

    program: str
    case: str
    file: Path | None = None
    refused: CaseReport | None = None


class Deadline:
    """The time by which a whole check must be finished, counted from its creation."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._at = time.monotonic() + seconds

    @property
    def left_s(self) -> float:
        """The seconds left, at most as many as a thread can wait."""
        return min(self._at - time.monotonic(), threading.TIMEOUT_MAX)

    @property
    def missed(self) -> tuple[Outcome, str]:
        """The outcome and the reason for every case that is not finished by the deadline."""
        return Outcome.TIME_LIMIT, f"the whole check took longer than {self._seconds:g} s"


class Observer:
    """Follows a check while it runs; this base class does nothing.

    `began` and `ended` are called from several threads, `report` from one, in the stable order.
    """

    def planned(self, cases: int) -> None:
        """Receive the number of cases."""

    def began(self, case: Planned) -> None:
        """Receive a case that runs now, or waits for its sandbox."""

    def ended(self, case: Planned, report: CaseReport) -> None:
        """Receive a case that has its report, also one that was never begun."""

    def report(self, report: CaseReport) -> None:
        """Receive the report of the next case in order."""


def discover(paths: Iterable[str]) -> Iterator[str]:
    """Yield every program under the paths: names, `.py` files, and what is one in directories.

    A directory with a manifest is one, and, unless a program is around it, one with a `program.py`
    and every file with IBM's metadata beside it.  Links to directories are not followed.  Raises
    RequestError for more than `MAX_PROGRAMS`.
    """
    count = 0
    for text in paths:
        is_tree = os.path.isdir(text) and not _leads_through_link(Path(text))  # noqa: PTH112
        below = _programs_below(Path(text)) if is_tree else iter(())
        found = sorted(itertools.islice(below, MAX_PROGRAMS + 1))
        count += len(found)
        if count > MAX_PROGRAMS:
            msg = f"more than {MAX_PROGRAMS} programs: check fewer at once"
            raise RequestError(msg)
        yield from (str(each) for each in found) if found else (text,)


def _programs_below(top: Path) -> Iterator[Path]:
    """Yield the directories and files that are programs, and directories that cannot be read.

    An unreadable part of a program is reported when that program is read.
    """
    found: set[Path] = set()
    for place, entries in listings(top, without=NOT_SOURCES):
        names = set() if isinstance(entries, OSError) else {each.name for each in entries}
        has_manifest = not names.isdisjoint(MANIFEST_NAMES)
        if not has_manifest and not found.isdisjoint(place.parents):
            continue
        if has_manifest or DEFAULT_ENTRY in names or isinstance(entries, OSError):
            programs = [place]
        else:  # as IBM's clients had them: one in a directory of its own, or several side by side
            described = [place / name for name in sorted(names) if has_metadata(place / name)]
            programs = [place] if len(described) == 1 else described
        found.update(programs)
        yield from programs


def plan(programs: Iterable[str], deadline: Deadline | None = None) -> list[Planned]:
    """Return the cases of the programs, in order; an unusable program gives one refused case.

    After the deadline, if there is one, every program is refused.  Raises RequestError for more
    than `MAX_CASES`.
    """
    found: list[Planned] = []
    for text in programs:
        if deadline is not None and deadline.left_s <= 0:
            planned = Planned(program=text, case=MANIFEST_CASE)
            found.append(dataclasses.replace(planned, refused=_stopped(planned, *deadline.missed)))
            continue
        try:
            files = case_files(_read(text))
        except Exception as error:  # noqa: BLE001  whatever one program does, all get a report
            refused = _not_executed(Planned(program=text, case=MANIFEST_CASE), error)
            found.append(Planned(program=text, case=MANIFEST_CASE, refused=refused))
            continue
        found += [Planned(program=text, case=each.stem, file=each) for each in files] or [
            Planned(program=text, case=DEFAULT_CASE)
        ]
        if len(found) > MAX_CASES:
            msg = f"more than {MAX_CASES} cases: check fewer programs at once"
            raise RequestError(msg)
    return found


class Check:
    """One check: `run` reports every case, `stop` ends it early from any thread.

    Arguments:
        supervisor: executes the jobs; its limits are the upper limits.
        cases: the result of `plan`.
        jobs: how many cases run at once (default: 1).
        observer: told what happens meanwhile.
    """

    def __init__(
        self,
        supervisor: Supervisor,
        cases: list[Planned],
        *,
        jobs: int,
        observer: Observer | None = None,
    ) -> None:
        self._supervisor = supervisor
        self._cases = cases
        self._jobs = jobs
        self._observer = observer or Observer()
        self._lock = threading.Lock()
        self._running: set[Job] = set()
        self._stopped: tuple[Outcome, str] | None = None
        self._abandoned = threading.Event()
        self._read = functools.lru_cache(maxsize=2 * jobs)(_read)

    def stop(self, outcome: Outcome, reason: str) -> None:
        """Cancel the cases that run or are judged, start no more, and report all with `outcome`."""
        with self._lock:
            self._stopped = self._stopped or (outcome, reason)
            running = list(self._running)
        self._abandoned.set()
        for each in running:
            each.cancel()

    def run(self, deadline: Deadline | None = None) -> list[CaseReport]:
        """Run all cases and return their reports in order; stops at the deadline."""
        deadline = deadline or Deadline(math.inf)
        timer = threading.Timer(max(0.0, deadline.left_s), self.stop, deadline.missed)
        timer.daemon = True
        timer.start()
        self._observer.planned(len(self._cases))
        reports = []
        try:
            with ThreadPoolExecutor(self._jobs, "qrunner-check") as pool:
                for future in [pool.submit(self._one, each) for each in self._cases]:
                    reports.append(future.result())
                    self._observer.report(reports[-1])
        except BaseException:
            self.stop(Outcome.CANCELLED, "the check was interrupted")
            raise
        finally:
            timer.cancel()
        return reports

    def _one(self, planned: Planned) -> CaseReport:
        report = planned.refused or self._tried(planned)
        self._observer.ended(planned, report)
        return report

    def _tried(self, planned: Planned) -> CaseReport:
        if self._stopped is not None:
            return self._not_run(planned)
        self._observer.began(planned)
        try:
            return self._execute(planned)
        except Exception as error:  # noqa: BLE001  as above
            return _not_executed(planned, error)

    def _execute(self, planned: Planned) -> CaseReport:
        program = self._read(planned.program)
        case = Case.from_file(planned.file) if planned.file else Case(name=DEFAULT_CASE)
        try:
            job = self._supervisor.run(
                program, case.inputs, backend=case.backend, limits=case.limits
            )
        except RequestError:
            if Outcome.INVALID_INPUTS not in case.expect.outcomes:
                raise
            return _report(planned, Outcome.INVALID_INPUTS)
        with self._lock:
            self._running.add(job)
            stopped = self._stopped is not None
        if stopped:  # `stop` was called after the check at the start
            job.cancel()
        try:
            record = job.wait()
        finally:
            with self._lock:
                self._running.discard(job)
        seconds = record.usage.wall_s or 0.0
        if record.outcome is Outcome.CANCELLED and self._stopped is not None:
            return self._not_run(planned, seconds)
        try:
            return judged(planned, case, job, self._abandoned)
        except AbandonedError:
            return self._not_run(planned, seconds)

    def _not_run(self, planned: Planned, seconds: float = 0.0) -> CaseReport:
        assert self._stopped is not None
        return _stopped(planned, *self._stopped, seconds)


def check(supervisor: Supervisor, paths: Iterable[str], *, jobs: int = 1) -> list[CaseReport]:
    """Run every case of every program under the paths, and return the reports in order."""
    checking = Check(supervisor, plan(discover(paths)), jobs=jobs)
    return checking.run()


def judged(
    planned: Planned, case: Case, job: Job, abandoned: threading.Event | None = None
) -> CaseReport:
    """Return the report of a case whose job has ended.

    Raises AbandonedError soon after `abandoned` is set.
    """
    record = job.wait()
    expected = case.expected_of(record)
    problems = tuple(case.problems(job, abandoned))
    failing = record.outcome.exit_code if record.outcome not in expected.outcomes else 1
    return _report(
        planned,
        record.outcome,
        record.usage.wall_s or 0.0,
        max(1, failing) if problems else 0,
        problems,
        (record.traceback or job.log_tail()) if problems else "",
    )


def _read(text: str) -> Program:
    """Read a discovered program.  Raises RequestError."""
    path = Path(text)
    _check_direct(path)
    if not os.path.isdir(path):  # noqa: PTH112  where that cannot be known, `find` says why
        program = find(text)
        _check_direct(program.path)
        return program
    for each in (path, *path.parents):
        check_name(each)
    return read_directory(path)


def _check_direct(path: Path) -> None:
    if _leads_through_link(path):
        msg = f"{one_line(str(path))}: leads through a symbolic link: give the real path"
        raise ManifestError(msg)


def _leads_through_link(path: Path) -> bool:
    """Return True if a link, which a checkout may contain, leads out of the checkout."""
    steps = (path,) if path.is_absolute() else (path, *path.parents)
    return any(os.path.islink(each) for each in steps)  # noqa: PTH114  no OSError


def _report(
    planned: Planned,
    outcome: Outcome,
    seconds: float = 0.0,
    exit_code: int = 0,
    problems: tuple[str, ...] = (),
    log_tail: str = "",
) -> CaseReport:
    return CaseReport(
        program=planned.program,
        case=planned.case,
        outcome=outcome,
        seconds=seconds,
        exit_code=exit_code,
        problems=problems,
        log_tail=log_tail,
    )


def _stopped(planned: Planned, outcome: Outcome, why: str, seconds: float = 0.0) -> CaseReport:
    """Return the report of a case that was not finished."""
    return _report(planned, outcome, seconds, outcome.exit_code, (f"not finished: {why}",))


def _not_executed(planned: Planned, error: Exception) -> CaseReport:
    """Return the report of a case that an exception prevented: refused, or our fault."""
    if not isinstance(error, RunnerError):
        log.error("the case %s failed inside the check", one_line(planned.case), exc_info=error)
    is_refused = isinstance(error, RequestError)
    outcome = Outcome.INVALID_INPUTS if is_refused else Outcome.SANDBOX_ERROR
    reason = str(error) if isinstance(error, RunnerError) else our_own(error)
    return _report(planned, outcome, 0.0, outcome.exit_code, (reason,))
