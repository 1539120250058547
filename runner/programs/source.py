"""A program's source as a tree, parsed on the host: bounded, silent, and nothing of it is run."""

from __future__ import annotations

import ast
import re
import warnings
from typing import Final

MAX_BYTES: Final = 64 << 10
"""More is not looked at: a tree takes several hundred times the memory of its source."""

_NAME: Final = "<a program>"
_SILENCE: Final = ("ignore", None, Warning, re.compile(re.escape(_NAME)), 0)


def parse(source: bytes) -> ast.Module | None:
    """Return the tree of a source, None if it is too long or has none.

    It is taken for UTF-8, whatever it says itself: a codec that a program names has no bounds.
    """
    if len(source) > MAX_BYTES:
        return None
    # The parser warns, in the program's words, of each literal that it finds odd.  This filter
    # fits nothing but our name for the file, so it can stay and needs no lock, whereas
    # `catch_warnings` would take away, and give back, the filters of every thread.
    if tuple(warnings.filters[:1]) != (_SILENCE,):
        warnings.filterwarnings("ignore", module=re.escape(_NAME))
    try:
        text = source.decode("utf-8-sig", errors="replace")
        return ast.parse(text, filename=_NAME)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None  # the sandbox will say so, with the line
