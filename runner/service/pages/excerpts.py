"""The lines of an uploaded file around the one that an error names."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Final

_PLACE: Final = re.compile(r"([\w./-]+), line (\d{1,6})\b|\bline (\d{1,6})\b")
_AROUND: Final = 3
_MAX_LINE: Final = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Excerpt:
    """Some lines of a file with their numbers; `line` is the one that is wrong."""

    file: str
    line: int
    lines: list[tuple[int, str]]


def excerpt_at(error: str, files: Mapping[str, bytes]) -> Excerpt | None:
    """Return the lines around the place that an error names, None if it names none of the files."""
    for match in _PLACE.finditer(error):
        number = int(match[2] or match[3])
        named = PurePosixPath(match[1] or _only_source(files)).name
        for file, content in files.items():
            lines = content.decode(errors="replace").splitlines()
            if PurePosixPath(file).name == named and 0 < number <= len(lines):
                first = max(1, number - _AROUND)
                shown = lines[first - 1 : number + _AROUND]
                numbered = [(first + n, text[:_MAX_LINE]) for n, text in enumerate(shown)]
                return Excerpt(file=file, line=number, lines=numbered)
    return None


def _only_source(files: Mapping[str, bytes]) -> str:
    """Return the only Python file, which an error that names no file is about; "" for several."""
    sources = [name for name in files if name.endswith(".py")]
    return sources[0] if len(sources) == 1 else ""
