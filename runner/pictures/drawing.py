"""Draws a job's contents, as the bytes of an SVG or PNG file.

This is the only module that imports matplotlib, and only when it draws.  Names come from the
program: they are escaped, cut, and never read as mathematics.  Equal jobs give equal files.
"""

from __future__ import annotations

import io
import math
import os
import sys
import threading
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from runner.display import one_line, shortened
from runner.encoded.counts import amount, largest
from runner.errors import RequestError
from runner.pictures.contents import Contents, title
from runner.pictures.series import Series

if TYPE_CHECKING:
    from matplotlib.axes import Axes

WITH: Final = "matplotlib>=3.9,<4"
"""What draws, as in pyproject.toml's extra `plot`."""

FORMATS: Final = ("png", "svg")
MAX_POINTS: Final = 2000
MAX_BARS: Final = 128

_WIDTH_IN: Final = 7.2
_SERIES_IN: Final = 2.4
_BAR_IN: Final = 0.21
_FRAME_IN: Final = 0.75  # the height of a panel without its bars
_HEAD_IN: Final = 0.55
_DPI: Final = 150
_SHOWN_DPI: Final = 100
_MARKED: Final = 60  # the most points that get markers
_MAX_TITLE: Final = 60
_MAX_LABEL: Final = 28
_COLOUR: Final = "#3b6fb6"
_FAINT: Final = "#8a8f98"
_FONT: Final = "DejaVu Sans"  # ships with matplotlib, so it is the same everywhere
_SETTINGS: Final[dict[Any, Any]] = {
    "font.family": _FONT,
    "font.size": 9,
    "text.parse_math": False,
    "text.usetex": False,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.formatter.useoffset": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#e4e6ea",
    "svg.hashsalt": "qrunner",
}

_drawing = threading.Lock()
"""Held while matplotlib's settings, which belong to the whole process, are replaced."""


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Picture:
    """A picture of a job, drawn on request; a notebook shows it.

    `heading` and `below` are its texts; `bars` is the most bars drawn for one set of counts.  The
    methods that draw raise RequestError if matplotlib is missing.
    """

    heading: str
    below: str
    contents: Contents
    bars: int

    def drawn(self, form: str) -> bytes:
        """Return the picture as the content of a "png" or "svg" file."""
        check_installed()
        import matplotlib as mpl

        with _drawing, mpl.rc_context():
            mpl.rcdefaults()  # the user's own file may turn on LaTeX, for example
            mpl.rcParams.update(_SETTINGS)
            return _drawn(self, form)

    def save(self, path: str | os.PathLike[str], *, overwrite: bool = False) -> Path:
        """Write the picture to a file whose name ends in .png or .svg, and return its path.

        Raises RequestError if the name ends otherwise, if the file exists and `overwrite` is False,
        or if it cannot be written.
        """
        path = Path(path)
        form = form_of(path)
        content = self.drawn(form)
        try:
            with path.open("wb" if overwrite else "xb") as file:
                file.write(content)
        except FileExistsError as error:
            msg = f"{path} is there already: name another file, or overwrite it (--force)"
            raise RequestError(msg) from error
        except OSError as error:
            msg = f"{path} cannot be written: {error.strerror}"
            raise RequestError(msg) from error
        return path

    def __repr__(self) -> str:
        return f"<Picture of {shortened(self.heading, _MAX_TITLE)}: {one_line(self.below)}>"

    def _repr_png_(self) -> tuple[bytes, dict[str, int]]:
        """Return the PNG for a notebook and its width, because the PNG has a higher resolution."""
        return self.drawn("png"), {"width": round(_WIDTH_IN * _SHOWN_DPI)}


def form_of(path: Path) -> str:
    """Return the format that a file's name asks for.  Raises RequestError for another format."""
    form = path.suffix.lower().removeprefix(".")
    if form not in FORMATS:
        msg = f"a picture cannot be written to {str(path)!r}: its name must end in .png or .svg"
        raise RequestError(msg)
    return form


def check_installed() -> None:
    """Raise RequestError, which says what to install, if matplotlib is missing."""
    try:
        import matplotlib as mpl
    except ImportError as error:
        msg = f"drawing needs matplotlib ({error}): {sys.executable} -m pip install '{WITH}'"
        raise RequestError(msg) from error
    del mpl


def _drawn(picture: Picture, form: str) -> bytes:
    from matplotlib.figure import Figure  # not pyplot, which keeps every figure

    what, bars = picture.contents, max(1, min(picture.bars, MAX_BARS))
    rows = [what.counts[start : start + 2] for start in range(0, len(what.counts), 2)]
    most = [max(min(len(counts), bars + 1) for _, counts in row) for row in rows]
    heights = [_SERIES_IN] * len(what.series) + [_FRAME_IN + _BAR_IN * each for each in most]
    figure = Figure((_WIDTH_IN, _HEAD_IN + sum(heights)), dpi=_DPI, layout="constrained")
    grid = figure.add_gridspec(len(heights), 2, height_ratios=heights)
    for row, series in enumerate(what.series):
        _draw_series(figure.add_subplot(grid[row, :]), series)
    for row, pair in enumerate(rows, start=len(what.series)):
        for column, (name, counts) in enumerate(pair):
            place = grid[row, :] if len(what.counts) == 1 else grid[row, column]
            _draw_counts(figure.add_subplot(place), name, counts, bars)
    figure.suptitle(_text(picture.heading, _MAX_TITLE), fontsize=12, fontweight="bold")
    figure.supxlabel(_text(picture.below, 2 * _MAX_TITLE), fontsize=8, color=_FAINT)
    file = io.BytesIO()
    # No time and no version: pictures of the same job are equal, byte for byte.
    nothing = {"svg": dict.fromkeys(("Creator", "Date")), "png": {"Software": None}}
    figure.savefig(file, format=form, metadata=nothing[form])
    return file.getvalue()


def _draw_series(axes: Axes, series: Series) -> None:
    from matplotlib.ticker import MaxNLocator

    xs, ys, every = thinned(series.xs, series.ys)
    marker = "o" if len(xs) <= _MARKED else ""
    axes.plot(xs, ys, color=_COLOUR, linewidth=1.4, marker=marker, markersize=4)
    name = _text(title(series.name), _MAX_LABEL)
    by = series.unit if series.by is None else _text(title(series.by), _MAX_LABEL)
    axes.set_ylabel(name)
    axes.set_title(f"{name} by {by}", fontsize=10)
    axes.xaxis.set_major_locator(MaxNLocator(integer=all(map(float.is_integer, xs))))
    notes = []
    if every > 1:
        notes.append(f"{len(series.xs)} values: the least and the greatest of each {every}")
    if series.left_out:
        notes.append(f"{series.left_out} more: not finite, too large, or without {by}")
    axes.set_xlabel("\n".join([by, *notes]))


def _draw_counts(axes: Axes, name: str, counts: dict[str, float], bars: int) -> None:
    from matplotlib.ticker import MaxNLocator

    most = largest(counts, bars)
    rest = [(f"{most.others} more", most.rest)] if most.others else []
    labels = [*(_text(_middle_cut(key), _MAX_LABEL) for key, _ in most.rows), *dict(rest)]
    places = range(len(labels))
    # The rest has a number but no bar, which would make all others small.
    lengths = [*(count for _, count in most.rows), *(0 for _ in rest)]
    drawn = axes.barh(places, lengths, color=_COLOUR, height=0.72)
    are_shares = any(type(count) is float for count in counts.values())
    shares = [
        amount(number) if are_shares else f"{number} ({number / most.total:.1%})"
        for _, number in (*most.rows, *rest)
    ]
    axes.bar_label(drawn, shares, padding=3, fontsize=7)
    axes.margins(x=0.28)
    axes.set_yticks(places, labels, fontfamily=f"{_FONT} Mono", fontsize=8)
    axes.set_ylim(len(labels) - 0.4, -0.6)
    axes.grid(visible=False, axis="y")
    axes.xaxis.set_major_locator(MaxNLocator(nbins=5, integer=not are_shares))
    axes.set_xlabel("probability" if are_shares else f"times, of {most.total}")
    what = "probabilities" if are_shares else "counts"
    axes.set_title(f"{what}, {_text(name, _MAX_LABEL)}" if name else what, fontsize=10)


def thinned(
    xs: list[float], ys: list[float], most: int = MAX_POINTS
) -> tuple[list[float], list[float], int]:
    """Return the points to draw, and the number of points in each group.

    Of each group the least and the greatest point are kept, so no peak is lost, however narrow.
    Up to `most` points are all kept, with 1.
    """
    if len(xs) <= most:
        return xs, ys, 1
    every = math.ceil(2 * len(xs) / most)
    kept: list[int] = []
    for start in range(0, len(xs), every):
        group = range(start, min(start + every, len(xs)))
        kept += sorted({min(group, key=ys.__getitem__), max(group, key=ys.__getitem__)})
    return [xs[each] for each in kept], [ys[each] for each in kept], every


def _middle_cut(text: str) -> str:
    """Return a bit string, a long one with its middle cut out: both ends matter."""
    if len(text) <= _MAX_LABEL:
        return text
    end = (_MAX_LABEL - 1) // 2
    return f"{text[:end]}…{text[-end:]}"


def _text(text: str, most: int) -> str:
    """Return the text for one line: escaped, cut, with only characters that the font has."""
    shown = shortened(text, most)
    return "".join(each if ord(each) in _characters() else _escaped(each) for each in shown)


def _escaped(character: str) -> str:
    return character.encode("ascii", "backslashreplace").decode()


@lru_cache(maxsize=1)
def _characters() -> frozenset[int]:
    from matplotlib import font_manager

    path = font_manager.findfont(_FONT, fallback_to_default=False)
    return frozenset(font_manager.get_font(path).get_charmap())
