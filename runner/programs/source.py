"""A program's source as a syntax tree: parsed on the host, bounded, silent, never executed."""

from __future__ import annotations

import ast
import contextlib
import re
import warnings
from typing import Final

MAX_BYTES: Final = 64 << 10
"""Longer sources are not parsed: a tree takes several hundred times the memory of its source."""

_NAME: Final = "<a program>"
_SILENCE: Final = ("ignore", None, Warning, re.compile(re.escape(_NAME)), 0)

_ATTEMPTS: Final = 5
"""Up to 3.11.7 and 3.12.1, Python counts the depth of trees once for all threads (gh-106905).  If
two make a tree at the same time, one of them may get a SystemError for a faultless source."""


def parse(source: bytes) -> ast.Module | None:
    """Return the syntax tree of a source, None if the source is too long or invalid.

    The source is read as UTF-8, whatever encoding it declares: a codec that a program names has no
    bounds.
    """
    if len(source) > MAX_BYTES:
        return None
    # The parser warns, in the program's words, of each literal that it finds odd. This filter
    # matches only our name for the file, so it can stay and needs no lock; `catch_warnings` would
    # replace and restore the filters of all threads.
    if tuple(warnings.filters[:1]) != (_SILENCE,):
        warnings.filterwarnings("ignore", module=re.escape(_NAME))
    try:
        text = source.decode("utf-8-sig", errors="replace")
        return _parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None  # the sandbox reports the error, with the line


def _parse(text: str) -> ast.Module:
    """Return the tree, made again if another thread has disturbed it."""
    for _ in range(_ATTEMPTS - 1):
        with contextlib.suppress(SystemError):
            return ast.parse(text, filename=_NAME)
    return ast.parse(text, filename=_NAME)
