"""Where in a value something is wrong, and in which words it is said.

Shared by both directions of the codec.  Standard library only.
"""

from __future__ import annotations

from typing import Final

TYPE: Final = "__type__"
VALUE: Final = "__value__"
MODULE: Final = "__module__"
CLASS: Final = "__class__"

EXACT: Final = frozenset({str, int, bool, type(None), float})
"""JSON's own scalar types."""

_PATH_STEPS: Final = 16


class PathError(Exception):
    """Collects the steps to the culprit while it passes through the containers around it."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason
        self.steps: list[str] = []

    def describe(self, name: str) -> str:
        steps = self.steps[::-1]
        if len(steps) > _PATH_STEPS:
            steps[_PATH_STEPS:] = ["…"]
        return f"{name}{''.join(steps)}: {self.reason}"


def with_article(noun: str) -> str:
    """Return `a list`, `an object`."""
    return f"{'an' if noun[:1].lower() in tuple('aeiou') else 'a'} {noun:.100}"


def one_line(error: BaseException) -> str:
    """Return the class and the text of an exception."""
    try:
        text = str(error)
    except Exception:  # noqa: BLE001 (the error's class may be the program's own)
        text = "(its text cannot be shown)"
    return f"{type(error).__name__}: {' '.join(text.split()):.300}"
