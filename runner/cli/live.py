"""The live view of `qrunner run` on a terminal: resource use, progress, counts as bars.

Everything is drawn on stderr; only the result goes to stdout, as in a pipe.  A message that is an
object with the key `progress` moves the bar: a number from 0 to 1, or {"done": n, "total": m}.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self

from runner.cli.output import COLOURS, arrow, said_of, show, show_end, write_result
from runner.cli.terminal import Screen, console, speaks_unicode
from runner.cli.text import as_text
from runner.display import LOG_PREFIX, notice, one_line, shortened
from runner.encoded.counts import amount, counts_in_text, largest
from runner.errors import RunnerError
from runner.host.trace import Trace
from runner.job.hints import hint
from runner.job.record import Event, FileEvent, JobRecord, LogEvent, MessageEvent, StartedEvent
from runner.job.words import after
from runner.policy import Limits, size
from sandbox.wire.protocol import JsonText

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.text import Text

MAX_SHOWN: Final = 2000
"""Characters of one message or log line that a terminal shows; a pipe gets all of them."""

MAX_PROGRESS_BYTES: Final = 4096
"""A longer message is not searched for progress."""

MAX_READ: Final = 1 << 16
"""A longer message is cut instead of being read, in characters."""

MAX_BARS: Final = 16
MAX_EXPERIMENTS: Final = 4
MIN_BAR: Final = 4
"""Columns that a bar must have to be worth drawing."""

_MOST: Final = 1 << 63
_SPINNER: Final = ("⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏", "|/-\\")
_BAR: Final = (("█", "░"), ("#", "."))


def _unknown() -> int | None:
    """Return None: a memory use that is not measured."""
    return None


class LiveOutput:
    """Shows messages and log as they arrive, above a line with the job's resource use.

    A context manager: leaving it, or the end of the job, removes the line.
    """

    trace: Trace | None = None

    def __init__(self, program: str, write: Callable[[JsonText], object] | None = None) -> None:
        self._write = write or write_result
        self._named = program
        self._program = one_line(Path(program).name)
        self._limits = Limits()
        self._memory: Callable[[], int | None] = _unknown
        self._doing = "starting a sandbox"
        self._started: float | None = None
        self._messages = 0
        self._progress: float | None = None
        self._unicode = speaks_unicode(sys.stderr)
        self._screen = Screen(self._region)

    def __enter__(self) -> Self:
        self._screen.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self._screen.close()

    def watch(self, limits: Limits, memory: Callable[[], int | None]) -> None:
        """Show the effective limits, and the value of `memory()` in bytes, beside what is used."""
        self._limits, self._memory = limits, memory

    def doing(self, line: str) -> None:
        """Show a step that takes a while before the program starts, such as a build."""
        self._doing = one_line(line)
        self._screen.add((f"qrunner: {notice(line)}", "dim"))

    def event(self, event: Event) -> None:
        """Show one event."""
        match event:
            case StartedEvent():
                self._program, self._started = one_line(event.program), time.monotonic()
            case MessageEvent():
                self._message(event)
            case LogEvent():
                lines = event.text.removesuffix("\n").split("\n")
                shown = "\n".join(LOG_PREFIX + shortened(line, MAX_SHOWN) for line in lines)
                self._screen.add((shown, "dim"))
            case FileEvent():
                self._screen.add(said_of(event))

    def _message(self, event: MessageEvent) -> None:
        self._messages += 1
        fraction, is_all = progress_of(event.body)
        if fraction is not None:
            self._progress = fraction
        if not is_all:
            self._screen.add(f"#{event.seq} {self._shown(event.body)}")

    def _shown(self, body: JsonText) -> str:
        if len(body) > MAX_READ:
            return shortened(body, MAX_SHOWN)
        return as_text(body, columns=self._screen.console.width - len("#0 "))

    def finished(self, record: JobRecord, mismatches: Sequence[str] = ()) -> None:
        """Remove the live line; show how the job ended, its counts as bars, and the result."""
        self._screen.close()
        show_end(record, mismatches, after(record), self._named)
        for name, counts in counts_in_text(record.result, MAX_EXPERIMENTS):
            shown = console(sys.stderr)
            if name:
                show(f"{one_line(name)}\n")
            shown.print(histogram(counts, shown.width, unicode=self._unicode), soft_wrap=True)
        if record.result is not None:
            self._write(record.result)

    def refused(self, error: RunnerError) -> None:
        """Show why nothing was run: the request was refused, or the runner failed."""
        self._screen.close()
        show(f"qrunner: {notice(str(error))}\n", COLOURS[False])
        show(arrow(hint(str(error))))

    # --- the live line --------------------------------------------------------------------------

    def _region(self, columns: int) -> RenderableType:
        from rich.text import Text

        line = Text().append(f"{spinner(unicode=self._unicode)} ", "cyan")
        line.append(self._program, "bold")
        for part in self._parts():
            # Parts that do not fit are left out, the last ones first.
            if line.cell_len + 2 + len(part) > columns - 1:
                break
            line.append(f"  {part}")
        line.truncate(columns - 1, overflow="ellipsis" if self._unicode else "crop")
        if self._progress is not None and columns > len("  100 %") + 8:
            line.append("\n")
            line.append_text(bar(self._progress, min(columns - 9, 50), unicode=self._unicode))
            line.append(f" {self._progress:4.0%}".replace("%", " %"))
        return line

    def _parts(self) -> list[str]:
        if self._started is None:
            return [self._doing]
        elapsed = time.monotonic() - self._started
        parts = [f"{elapsed:.1f} s of {self._limits.timeout_s:g} s"]
        used = self._memory()
        if used is not None:
            parts.append(f"{size(used)} of {size(self._limits.memory_bytes)}")
        if self._messages:
            parts.append(f"{self._messages} message{'s' if self._messages > 1 else ''}")
        return parts


def progress_of(body: JsonText) -> tuple[float | None, bool]:
    """Return the progress that a message reports, and True if it contains nothing else.

    The progress is a number from 0 to 1, None if the message does not report any.
    """
    if len(body) > MAX_PROGRESS_BYTES or '"progress"' not in body:
        return None, False
    content = json.loads(body)
    if not isinstance(content, dict) or "progress" not in content:
        return None, False
    said = content["progress"]
    if isinstance(said, dict) and set(said) == {"done", "total"}:
        done, total = said["done"], said["total"]
        said = done / total if _is_amount(done) and _is_amount(total) and total > 0 else None
    if not _is_amount(said) or said > 1:
        return None, False
    return float(said), set(content) == {"progress"}


def histogram(counts: Mapping[str, float], columns: int, *, unicode: bool = True) -> Text:
    """Return the counts as bars, the most frequent first, the others summed up in one line."""
    from rich.text import Text

    most = largest(counts, MAX_BARS)
    names = [_cut(key, max(columns // 2, 8)) for key, _ in most.rows]
    amounts = [count for _, count in most.rows]
    if most.others:
        names.append(f"{most.others} more")
        amounts.append(most.rest)
    numbers = [amount(each) for each in amounts]
    name_width, number_width = max(map(len, names)), max(map(len, numbers))
    room = min(columns - name_width - number_width - len("   100.0%  "), 40)
    drawn = Text()
    for row, (name, number) in enumerate(zip(names, numbers, strict=True)):
        percent = f"{amounts[row] / most.total:.1%}"
        drawn.append(f"{name:>{name_width}}  {number:>{number_width}} {percent:>6} ")
        if row < len(most.rows) and room >= MIN_BAR:
            share = most.rows[row][1] / most.rows[0][1]
            drawn.append_text(bar(share, room, unicode=unicode, rest=False))
        drawn.rstrip()
        drawn.append("\n" if row < len(names) - 1 else "")
    return drawn


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[: most - 3]}..."


def spinner(*, unicode: bool) -> str:
    """Return the current character of the spinner."""
    frames = _SPINNER[0] if unicode else _SPINNER[1]
    return frames[int(time.monotonic() * 10) % len(frames)]


def bar(fraction: float, columns: int, *, unicode: bool, rest: bool = True) -> Text:
    """Return a bar filled up to `fraction`; `rest` draws the empty part too."""
    from rich.text import Text

    full, empty = _BAR[0] if unicode else _BAR[1]
    filled = round(fraction * columns)
    drawn = Text().append(full * filled, "cyan")
    return drawn.append(empty * (columns - filled), "dim") if rest else drawn


def _is_amount(value: object) -> bool:
    """Return True if the value is a number of bounded size; True and NaN are not."""
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < _MOST
