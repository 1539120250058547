"""The display of a running check: report lines on stdout, and progress on a terminal."""

from __future__ import annotations

import os
import sys
import threading
import time
from typing import TYPE_CHECKING, Final, Self

from runner.checking.check import Observer, Planned
from runner.checking.report import CaseReport, case_line, human_lines
from runner.cli.common import say
from runner.cli.live import bar, spinner
from runner.cli.output import COLOURS
from runner.cli.terminal import Screen, can_move_cursor, speaks_unicode, styled, write
from runner.display import notice, one_line

if TYPE_CHECKING:
    from rich.console import RenderableType

MAX_RUNNING: Final = 4
"""How many of the running cases are named below the bar."""


class Watching(Observer):
    """Prints each report as it comes.  A context manager."""

    def __init__(self, form: str) -> None:
        self._form = form

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def doing(self, line: str) -> None:
        """Show a step that takes a while, such as a build."""
        say(line)

    def report(self, report: CaseReport) -> None:
        """Print the report of the next case in order."""
        if self._form == "json":
            write(f"{case_line(report)}\n", sys.stdout)
            return
        mark, lines = human_lines(report)
        write(f"{styled(mark.ljust(4), COLOURS[report.holds], sys.stdout)}  {lines}", sys.stdout)


class LiveWatching(Watching):
    """Prints each report, above a bar and the names of the running cases."""

    def __init__(self, form: str) -> None:
        super().__init__(form)
        self._shared = _is_one_terminal()
        self._unicode = speaks_unicode(sys.stderr)
        self._lock = threading.Lock()
        self._since: dict[Planned, float] = {}
        self._cases = self._ended = self._failed = 0
        self._screen = Screen(self._region)

    def __enter__(self) -> Self:
        self._screen.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self._screen.close()

    def doing(self, line: str) -> None:
        """Show a step that takes a while, such as a build."""
        self._screen.add((f"qrunner: {notice(line)}", "dim"))

    def planned(self, cases: int) -> None:
        """Set the number of cases."""
        self._cases = cases

    def began(self, case: Planned) -> None:
        """Show the name of a case below the bar from now on."""
        with self._lock:
            self._since[case] = time.monotonic()

    def ended(self, case: Planned, report: CaseReport) -> None:
        """Remove the name of a case, and count it."""
        with self._lock:
            self._ended += 1
            self._failed += not report.holds
            self._since.pop(case, None)

    def report(self, report: CaseReport) -> None:
        """Print the report of the next case to stdout, above the bar if it is the same terminal."""
        if not self._shared:
            super().report(report)
        elif self._form == "json":
            self._screen.add(case_line(report))
        else:
            mark, lines = human_lines(report)
            self._screen.add((mark.ljust(4), COLOURS[report.holds]), f"  {lines}")

    def _region(self, columns: int) -> RenderableType:
        from rich.text import Text

        line = Text().append(spinner(unicode=self._unicode), "cyan")
        words = f" {self._ended} of {self._cases}"
        if self._failed:
            words += f", {self._failed} failed"
        room = min(columns - len(words) - 4, 40)
        if room >= 8 and self._cases:
            line.append(" ")
            line.append_text(bar(self._ended / self._cases, room, unicode=self._unicode))
        line.append(words)
        line.truncate(columns - 1)
        now = time.monotonic()
        with self._lock:
            running = list(self._since.items())[:MAX_RUNNING]
        for case, since in running:
            name = f"{one_line(case.program)} :: {one_line(case.case)}"
            room = max(columns - len("  100.0 s  ") - 1, 0)
            if len(name) > room:  # the end of a name says most
                name = f"...{name[len(name) - max(room - 3, 0) :]}"
            line.append(f"\n  {now - since:5.1f} s  {name}")
        return line


def watching(form: str) -> Watching:
    """Return the display that suits this terminal."""
    return LiveWatching(form) if can_move_cursor(sys.stderr) else Watching(form)


def _is_one_terminal() -> bool:
    """Return True if stdout and stderr are the same terminal."""
    if not (sys.stdout.isatty() and sys.stderr.isatty()):
        return False
    return os.ttyname(sys.stdout.fileno()) == os.ttyname(sys.stderr.fileno())
