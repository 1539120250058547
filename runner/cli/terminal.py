"""The terminal's abilities, and drawing on it: colour, tables, and a live region below the text.

Colours follow NO_COLOR and FORCE_COLOR.  A live region needs a terminal on stderr that can move its
cursor.  rich is imported only where something is drawn, so that a pipe does not wait for it.
Callers escape text from a program before it gets here; nothing is interpreted as markup.
"""

from __future__ import annotations

import contextlib
import os
import sys
import threading
from collections.abc import Callable, Iterable, Sequence
from typing import IO, TYPE_CHECKING, Final, Self, TextIO

import click

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

TICK_S: Final = 0.1
"""Interval at which the live region is redrawn and new lines appear, in seconds."""

_DUMB: Final = frozenset({"", "dumb", "unknown"})
_GAP: Final = "  "


def can_move_cursor(stream: IO[str]) -> bool:
    """Return True if the stream is a terminal that can be redrawn."""
    return stream.isatty() and os.environ.get("TERM", "") not in _DUMB


def wants_colour(stream: IO[str]) -> bool:
    """Return True if colours may be written: NO_COLOR forbids them, FORCE_COLOR demands them."""
    if os.environ.get("NO_COLOR"):
        return False
    return bool(os.environ.get("FORCE_COLOR")) or can_move_cursor(stream)


def styled(text: str, colour: str, stream: IO[str]) -> str:
    """Return the text in one of click's colours, or unchanged if colours are not wanted."""
    return click.style(text, fg=colour) if wants_colour(stream) else text


def write(text: str, stream: IO[str]) -> None:
    """Write text that may contain our colours, which click would remove in a pipe."""
    click.echo(text, file=stream, nl=False, color=wants_colour(stream))


def speaks_unicode(stream: TextIO) -> bool:
    """Return True if bars and spinners may use characters beyond ASCII."""
    return (stream.encoding or "").lower().replace("-", "").startswith("utf")


def columns_of(stream: IO[str]) -> int:
    """Return the width of a terminal in characters, 80 for anything else."""
    with contextlib.suppress(OSError, ValueError):
        return os.get_terminal_size(stream.fileno()).columns or 80
    return 80


def console(stream: IO[str]) -> Console:
    """Return a console that draws on the stream, and interprets nothing as markup."""
    from rich.console import Console

    return Console(
        file=stream,
        force_terminal=wants_colour(stream) or can_move_cursor(stream),
        no_color=not wants_colour(stream),
        markup=False,
        highlight=False,
        emoji=False,
    )


def table(headers: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print a table to stdout: drawn on a terminal, aligned and never cut in a pipe.

    Cells are escaped text on one line each.
    """
    if can_move_cursor(sys.stdout):
        _draw_table(headers, rows)
        return
    lines = [[each.upper() for each in headers], *(list(row) for row in rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for line in lines:
        cells = (cell.ljust(width) for cell, width in zip(line, widths, strict=True))
        click.echo(_GAP.join(cells).rstrip())


def _draw_table(headers: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    drawn = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for each in headers:
        # What the first column has, an id or a name, is copied from there: it stays whole.
        drawn.add_column(Text(each), overflow="fold", no_wrap=each is headers[0])
    for row in rows:
        drawn.add_row(*(Text(cell) for cell in row))
    console(sys.stdout).print(drawn)


class Screen:
    """Draws permanent lines above a region on stderr that is redrawn several times a second.

    `region` returns the content of the region for a number of columns; it is called in a thread of
    the screen.  Lines may be added from any thread at any rate; they are drawn together at the next
    tick.
    """

    def __init__(self, region: Callable[[int], RenderableType]) -> None:
        from rich.live import Live

        self.console = console(sys.stderr)
        self._live = Live(
            get_renderable=lambda: region(self.console.width),
            console=self.console,
            auto_refresh=False,
            transient=True,
            redirect_stdout=False,
            vertical_overflow="crop",
        )
        self._lock = threading.Lock()
        self._lines: list[tuple[str | tuple[str, str], ...]] = []
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="qrunner-screen", daemon=True)

    def __enter__(self) -> Self:
        self._live.start()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Draw the remaining lines, and remove the region; may be called again."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join()
        self._flush()
        self._live.stop()

    def add(self, *parts: str | tuple[str, str]) -> None:
        """Add lines above the region, drawn at the next tick.

        A part is escaped text, or a pair of escaped text and a style; it needs no newline at the
        end.
        """
        with self._lock:
            self._lines.append(parts)

    def _run(self) -> None:
        while not self._stopping.wait(TICK_S):
            try:
                self._flush()
                self._live.refresh()
            except OSError:
                return  # the terminal has gone; the job continues, its end is reported elsewhere

    def _flush(self) -> None:
        from rich.text import Text

        with self._lock:
            lines, self._lines = self._lines, []
        if lines:
            texts = (Text.assemble(*parts) for parts in lines)
            text = Text("\n").join(each[:-1] if each.plain[-1:] == "\n" else each for each in texts)
            self.console.print(text, soft_wrap=True)
